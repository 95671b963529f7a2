//! The lab: a machine emulated in software that has real KVM (AMD SVM), over
//! this machine's root file system. It runs one command and passes its
//! streams and its exit status on. `tests/lab/README.md` tells why and how.

mod files;
mod relay;
mod script;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::process;
use relay::{Event, Relay};
pub use script::shell_word;

/// Emulated processors when the caller does not say. With more than one, each
/// on a thread of its own, QEMU 7.2 has hung now and then while guests ran in
/// it, under our VMM and under QEMU's own; with one it has not.
const DEFAULT_CPUS: usize = 1;
const DEFAULT_MEMORY: &str = "6G";
/// Room for translated code in MiB. QEMU would take 1 GiB and forget nothing, but
/// memory that holds code which was translated is slow to overwrite: a guest that
/// got the memory of one before it waited half a second for the clearing of it.
const TRANSLATIONS_MIB: u32 = 64;
/// Longest time from QEMU's start to the command's; 5 seconds are usual.
const BOOT_LIMIT: Duration = Duration::from_secs(180);
/// How often the machine is woken. QEMU 7.2 now and then loses the timer of a processor that
/// runs guests, after which the machine sleeps until a device interrupts it: without this, for
/// hours. A key on the console interrupts.
const WAKE: Duration = Duration::from_secs(2);
/// What each stream's name is to the lab's init, with the direction seen
/// from the lab.
const PORTS: [&str; 4] = ["stdin", "stdout", "stderr", "status"];

/// One boot of the lab.
pub struct Lab {
    /// The command and its arguments.
    pub argv: Vec<OsString>,
    /// Variables beside those of ours that are passed on.
    pub env: Vec<(OsString, OsString)>,
    /// Number of emulated processors.
    pub cpus: usize,
    /// The machine's memory in QEMU's form, such as `6G`.
    pub memory: String,
    /// Words for QEMU's command line.
    pub qemu_args: Vec<OsString>,
    /// Folders that the lab may write to, at the same path.
    pub shares: Vec<PathBuf>,
    /// Whether our standard input is the command's. Otherwise it is empty.
    pub stdin: bool,
    /// Longest time from the command's start to its end.
    pub limit: Option<Duration>,
}

impl Lab {
    /// A boot of `argv` with everything else as usual.
    pub fn new(argv: Vec<OsString>) -> Self {
        Self {
            argv,
            env: Vec::new(),
            cpus: DEFAULT_CPUS,
            memory: DEFAULT_MEMORY.to_owned(),
            qemu_args: Vec::new(),
            shares: Vec::new(),
            stdin: false,
            limit: None,
        }
    }

    /// Boots, runs the command and gives its exit status. An error means that
    /// there is none: the machine died, hung, or could not start.
    pub fn run(
        &self,
        stdout: &mut (dyn Write + Send),
        stderr: &mut (dyn Write + Send),
    ) -> Result<i32> {
        let files = files::ensure()?;
        let script =
            memory_file(&script::write(self, &files)?).context("write the lab's script")?;
        let mut qemu = process::command("qemu-system-x86_64");
        self.describe_machine(&mut qemu, &files);
        let script_path = format!("/proc/self/fd/{}", script.as_raw_fd());
        qemu.args([
            "-fw_cfg",
            &format!("name=opt/shem/script,file={script_path}"),
        ]);

        let (serial, their_serial) = UnixStream::pair()?;
        let mut inherited: Vec<OwnedFd> = vec![script, their_serial.into()];
        let serial_fd = inherited[1].as_raw_fd();
        qemu.args(["-chardev", &format!("socket,id=serial,fd={serial_fd}")]);
        qemu.args(["-serial", "chardev:serial"]);
        let mut ours = Vec::new();
        for name in PORTS {
            let (mine, theirs) = UnixStream::pair()?;
            qemu.args([
                "-chardev",
                &format!("socket,id={name},fd={}", theirs.as_raw_fd()),
            ]);
            qemu.args([
                "-device",
                &format!("virtserialport,chardev={name},name={name}"),
            ]);
            inherited.push(theirs.into());
            ours.push(mine);
        }
        let [stdin, out, err, status] =
            <[UnixStream; 4]>::try_from(ours).expect("one stream for each port");
        process::inherit(&mut qemu, inherited);
        let mut machine = qemu
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start qemu-system-x86_64")?;
        // With it go our copies of QEMU's ends, so that a dead QEMU is an end
        // of file to us.
        drop(qemu);
        let complaints = machine.stderr.take().expect("stderr is piped");

        if self.stdin {
            // Not joined: it may sit in a read of our standard input, which
            // only the end of this process interrupts.
            std::thread::spawn(move || relay::forward_stdin(stdin));
        } else {
            stdin.shutdown(Shutdown::Write)?;
        }
        std::thread::scope(|scope| {
            let relay = Relay::start(scope, &serial, complaints, status);
            relay.copy(scope, out, stdout);
            relay.copy(scope, err, stderr);
            let outcome = self.follow(&relay, &serial);
            // The status is the last thing that the lab sends, so nothing is
            // lost; every stream ends with QEMU, and with it every thread.
            stop(&mut machine);
            outcome.map_err(|error| anyhow!("{error:#}; {}", relay.last_words()))
        })
    }

    /// Waits for the exit status, or for a reason why it will never come.
    fn follow(&self, relay: &Relay<'_>, mut serial: &UnixStream) -> Result<i32> {
        let mut deadline = Some(Instant::now() + BOOT_LIMIT);
        let mut up = false;
        loop {
            let now = Instant::now();
            let wake = now + WAKE;
            match relay.next(deadline.map_or(wake, |deadline| deadline.min(wake))) {
                Some(Event::Up) => {
                    up = true;
                    deadline = self.limit.map(|limit| Instant::now() + limit);
                }
                Some(Event::Exit(code)) => return Ok(code),
                Some(Event::OutputClosed(error)) => bail!("lab: pass the output on: {error}"),
                Some(Event::MachineGone) if up => {
                    bail!("lab: the emulated machine died while the command ran")
                }
                Some(Event::MachineGone) => bail!("lab: the emulated machine did not come up"),
                None if deadline.is_none_or(|deadline| now < deadline) => {
                    // A machine that is gone is told of by its own event.
                    let _ = serial.write_all(b"\n");
                }
                None if up => bail!(
                    "lab: the command took longer than its limit of {} s",
                    self.limit.unwrap_or_default().as_secs()
                ),
                None => bail!(
                    "lab: the emulated machine was not up after {} s",
                    BOOT_LIMIT.as_secs()
                ),
            }
        }
    }

    fn describe_machine(&self, qemu: &mut Command, files: &files::Files) {
        qemu.args([
            "-name",
            "shem-lab",
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
        ]);
        qemu.args(["-display", "none", "-machine", "q35,kernel-irqchip=off"]);
        let tcg = format!("tcg,thread=multi,tb-size={TRANSLATIONS_MIB}");
        qemu.args(["-accel", &tcg, "-cpu", "EPYC,+svm,+npt"]);
        qemu.args(["-smp", &self.cpus.to_string(), "-m", &self.memory]);
        qemu.args(["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"]);
        // Host devices must not share inode numbers: overlayfs compares them.
        let root = "local,id=root,path=/,security_model=none,readonly=on,multidevs=remap";
        qemu.args([
            "-fsdev",
            root,
            "-device",
            "virtio-9p-pci,fsdev=root,mount_tag=hostroot",
        ]);
        for (number, folder) in self.shares.iter().enumerate() {
            let mut share = OsString::from(format!("local,id=share{number},path="));
            // A comma ends a value; two stand for one.
            share.push(folder.to_string_lossy().replace(',', ",,"));
            share.push(",security_model=none,multidevs=remap");
            qemu.arg("-fsdev").arg(share);
            let tag = format!("virtio-9p-pci,fsdev=share{number},mount_tag=share{number}");
            qemu.args(["-device", &tag]);
        }
        qemu.arg("-kernel")
            .arg(&files.kernel)
            .arg("-initrd")
            .arg(&files.initramfs);
        // Mitigations cost time and guard nothing in an emulated machine.
        qemu.args(["-append", "console=ttyS0 panic=-1 quiet mitigations=off"]);
        qemu.args(&self.qemu_args);
    }
}

/// A file without a name, so that nothing has to be cleaned up after a kill.
fn memory_file(content: &[u8]) -> io::Result<OwnedFd> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let mut file = File::from(memfd_create(c"lab-script", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(content)?;
    Ok(file.into())
}

fn stop(machine: &mut Child) {
    // A machine that has ended by itself cannot be killed, which is fine.
    let _ = machine.kill();
    let _ = machine.wait();
}
