//! What is measured: the commands, and the files that both machines start from.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use guest_client::initramfs;
use guest_protocol::{BootConfig, Upper};
use shem::{DEFAULT_HOSTNAME, KERNEL_CMDLINE, KernelPack, Store};
use tempfile::TempDir;

/// What the guest's init writes to the console before anything else.
pub const INIT_LINE: &str = "shem-init: start";

/// RAM of each guest in MiB, Firecracker's default.
const MEMORY: &str = "128";

/// Programs and files for the measurements.
pub struct Setup {
    shem: PathBuf,
    image: PathBuf,
    kernel: KernelPack,
    /// Holds the initramfs that shem would build in memory.
    folder: TempDir,
}

impl Setup {
    /// Finds them where `cargo xtask bench` has put them.
    pub fn new() -> Result<Self> {
        let variable = |name: &str| {
            let value = env::var_os(name).map(PathBuf::from);
            value.with_context(|| format!("{name} is not set: run `cargo xtask bench`"))
        };
        let store = Store::discover();
        let kernel = store.kernel(Some("tuned"))?;
        let boot = BootConfig {
            hostname: DEFAULT_HOSTNAME.into(),
            layers: vec!["layer0".into()],
            upper: Upper::Tmpfs { size: None },
            mounts: Vec::new(),
            modules: Vec::new(),
        };
        let init = store.guest_init()?;
        let init = fs::read(&init).with_context(|| format!("read {}", init.display()))?;
        let parts = [initramfs::base(&init, &[]), initramfs::boot_part(&boot)?];
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("initramfs"), parts.concat())?;
        Ok(Setup {
            shem: variable("SHEM_BIN")?,
            image: variable("SHEM_DEMO_IMAGE")?,
            kernel,
            folder,
        })
    }

    /// Name and version of the kernel that both boot.
    pub fn kernel(&self) -> String {
        format!("{} {}", self.kernel.name(), self.kernel.version())
    }

    /// A guest whose console is shown.
    pub fn shem_boot(&self) -> Command {
        let mut command = self.shem_run(&["--console"]);
        command.args(["--", "sleep", "60"]);
        command
    }

    /// A guest that runs `echo`.
    pub fn shem_echo(&self) -> Command {
        let mut command = self.shem_run(&[]);
        command.args(["--", "echo", "hello"]);
        command
    }

    fn shem_run(&self, options: &[&str]) -> Command {
        let mut command = Command::new(&self.shem);
        command
            .args(["run", "--kernel", "tuned"])
            .args(["--memory", &format!("{MEMORY}m")])
            .args(options)
            .arg(&self.image);
        command
    }

    /// The same guest in QEMU's leanest machine, with the devices that its
    /// documentation (system/i386/microvm) advises to leave out left out.
    pub fn qemu_boot(&self) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-M", "microvm,pit=off,pic=off,rtc=off,isa-serial=on"])
            .args(["-accel", "kvm", "-cpu", "host", "-smp", "1", "-m", MEMORY])
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
            ])
            .args(["-serial", "stdio", "-append", KERNEL_CMDLINE])
            .arg("-kernel")
            .arg(self.kernel.vmlinux())
            .arg("-initrd")
            .arg(self.folder.path().join("initramfs"))
            .arg("-drive")
            .arg(format!(
                "id=layer0,if=none,format=raw,readonly=on,file={}",
                self.image.display()
            ))
            .args(["-device", "virtio-blk-device,drive=layer0,serial=layer0"]);
        command
    }
}
