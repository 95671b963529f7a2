//! `shem doctor`: what running an image needs, one line each, with what to do
//! about what is missing.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use shem::Store;

use crate::args::DoctorArgs;
use crate::status;

const KVM: &str = "/dev/kvm";
/// RAM for a VM of default size and its VMM, in KiB.
const COMFORTABLE_KIB: u64 = 640 << 10;
/// RAM with which the smallest VM starts, in KiB.
const LEAST_KIB: u64 = 128 << 10;

/// Something that was looked at.
struct Check {
    what: &'static str,
    state: State,
    /// What was found.
    found: String,
    /// What to do about it; empty when it is fine.
    remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Fine,
    /// Images run, something beside it does not.
    Lacking,
    /// Images do not run.
    Broken,
}

/// `shem doctor`.
pub fn run(args: &DoctorArgs) -> Result<u8> {
    if args.probe {
        return Ok(probe());
    }
    let checks = checks();
    let healthy = checks.iter().all(|check| check.state != State::Broken);
    let mut stdout = io::stdout().lock();
    if args.json {
        let checks: Vec<Value> = checks.iter().map(Check::as_json).collect();
        let report = json!({ "healthy": healthy, "checks": checks });
        writeln!(stdout, "{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        for check in &checks {
            writeln!(stdout, "{check}")?;
        }
    }
    Ok(if healthy {
        status::SUCCESS
    } else {
        status::UNHEALTHY
    })
}

fn probe() -> u8 {
    match shem::probe_kvm() {
        Ok(()) => {
            println!("ok: KVM runs a guest");
            status::SUCCESS
        }
        Err(error) => {
            println!("fail: {}", chain(error));
            status::UNHEALTHY
        }
    }
}

fn checks() -> Vec<Check> {
    let device = kvm_device();
    let mut checks = Vec::new();
    // Without the device the probe would only say so again.
    let probe = (device.state == State::Fine).then(kvm_probe);
    checks.push(device);
    checks.extend(probe);
    let store = Store::discover();
    checks.extend(kernel_packs(&store));
    checks.push(guest_init(&store));
    checks.push(memory(
        &fs::read_to_string("/proc/meminfo").unwrap_or_default(),
    ));
    checks.push(mksquashfs(
        std::env::var_os("PATH").unwrap_or_default().as_ref(),
    ));
    checks
}

fn kvm_device() -> Check {
    match OpenOptions::new().read(true).write(true).open(KVM) {
        Ok(_) => fine("KVM", format!("{KVM} can be opened")),
        Err(error) => kvm_device_refused(&error),
    }
}

fn kvm_device_refused(error: &io::Error) -> Check {
    let remedy = match error.kind() {
        ErrorKind::NotFound => {
            "switch virtualisation on in the firmware, or nested virtualisation where this is a \
             VM itself, and load the module: sudo modprobe kvm_intel (or kvm_amd)"
        }
        ErrorKind::PermissionDenied => {
            "join the group that may: sudo usermod -aG kvm $USER, and log in again"
        }
        _ => "see the kernel's log: sudo dmesg | grep -i kvm",
    };
    broken("KVM", format!("{KVM} cannot be opened: {error}"), remedy)
}

fn kvm_probe() -> Check {
    match shem::probe_kvm() {
        Ok(()) => fine("KVM probe", "a guest runs as stock kernels need it".into()),
        Err(error) => broken(
            "KVM probe",
            chain(error),
            "run in an emulated machine, slowly: cargo xtask run, in a checkout of shem",
        ),
    }
}

fn kernel_packs(store: &Store) -> Vec<Check> {
    const WHAT: &str = "kernel";
    const REMEDY: &str = "make it: cargo xtask kernel stock, in a checkout of shem";
    let mut checks: Vec<Check> = store
        .kernels()
        .into_iter()
        .map(|(name, pack)| match pack {
            Ok(pack) => fine(
                WHAT,
                format!("{name}: {} from {}", pack.version(), pack.origin()),
            ),
            Err(error) => lacking(WHAT, chain(error), "make it again: cargo xtask kernel"),
        })
        .collect();
    if let Err(error) = store.kernel(None) {
        checks.push(broken(WHAT, chain(error), REMEDY));
    }
    checks
}

fn guest_init(store: &Store) -> Check {
    const WHAT: &str = "guest-init";
    match store.guest_init() {
        Ok(path) => fine(WHAT, path.display().to_string()),
        Err(error) => broken(
            WHAT,
            chain(error),
            "build it: cargo xtask run, in a checkout of shem",
        ),
    }
}

/// `meminfo` is the text of `/proc/meminfo`.
fn memory(meminfo: &str) -> Check {
    const WHAT: &str = "memory";
    const REMEDY: &str = "end something, or give VMs less with --memory";
    let available = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse::<u64>().ok());
    let Some(kib) = available else {
        return lacking(
            WHAT,
            "/proc/meminfo does not say what is available".into(),
            REMEDY,
        );
    };
    let found = format!("{} MiB available", kib >> 10);
    match kib {
        COMFORTABLE_KIB.. => fine(WHAT, found),
        LEAST_KIB.. => lacking(WHAT, found, REMEDY),
        _ => broken(WHAT, found, REMEDY),
    }
}

/// `path` is the variable `PATH`.
fn mksquashfs(path: &std::ffi::OsStr) -> Check {
    const WHAT: &str = "mksquashfs";
    let found = std::env::split_paths(path)
        .map(|folder| folder.join(WHAT))
        .find(|program| Path::is_file(program));
    match found {
        Some(program) => fine(WHAT, program.display().to_string()),
        None => lacking(
            WHAT,
            "not installed, `shem image build` needs it".into(),
            "sudo apt-get install squashfs-tools",
        ),
    }
}

/// An error with its causes, on one line.
fn chain(error: impl std::error::Error + Send + Sync + 'static) -> String {
    format!("{:#}", anyhow::Error::from(error))
}

fn fine(what: &'static str, found: String) -> Check {
    Check {
        what,
        state: State::Fine,
        found,
        remedy: String::new(),
    }
}

fn lacking(what: &'static str, found: String, remedy: &str) -> Check {
    Check {
        what,
        state: State::Lacking,
        found,
        remedy: remedy.to_owned(),
    }
}

fn broken(what: &'static str, found: String, remedy: &str) -> Check {
    Check {
        state: State::Broken,
        ..lacking(what, found, remedy)
    }
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Fine => "ok",
            State::Lacking => "warn",
            State::Broken => "fail",
        }
    }
}

impl Check {
    fn as_json(&self) -> Value {
        json!({
            "what": self.what,
            "state": self.state.word(),
            "found": self.found,
            "remedy": self.remedy,
        })
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<5} {}: {}", self.state.word(), self.what, self.found)?;
        if self.remedy.is_empty() {
            return Ok(());
        }
        write!(f, " → {}", self.remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_of_kvm_has_its_own_remedy() {
        let remedy = |kind: ErrorKind| {
            let check = kvm_device_refused(&kind.into());
            assert_eq!(check.state, State::Broken);
            check.remedy
        };
        assert!(remedy(ErrorKind::PermissionDenied).contains("usermod -aG kvm"));
        assert!(remedy(ErrorKind::NotFound).contains("modprobe"));
        assert!(remedy(ErrorKind::Other).contains("dmesg"));
    }

    #[test]
    fn memory_is_judged_by_what_is_available() {
        let judge = |mib: u64| {
            let kib = mib << 10;
            memory(&format!("MemTotal: 9999999 kB\nMemAvailable:   {kib} kB\n")).state
        };
        assert_eq!(judge(4096), State::Fine);
        assert_eq!(judge(300), State::Lacking);
        assert_eq!(judge(64), State::Broken);
        assert_eq!(memory("").state, State::Lacking);
    }

    #[test]
    fn lines_begin_with_the_verdict_and_end_with_what_to_do() {
        let line = broken("KVM", "no device".into(), "load the module").to_string();
        assert_eq!(line, "fail  KVM: no device → load the module");
        assert_eq!(fine("KVM", "there".into()).to_string(), "ok    KVM: there");
    }

    #[test]
    fn missing_mksquashfs_is_no_reason_to_fail() {
        let check = mksquashfs("/nonexistent".as_ref());
        assert_eq!(check.state, State::Lacking);
        assert!(check.remedy.contains("squashfs-tools"));
    }
}
