//! What is measured: the ways by which a guest gets files of the host.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use shem::KERNEL_CMDLINE;

use super::Rows;
use super::host::{Running, Setup, format_disk};
use super::table::ROWS;

/// RAM of each guest, and of the disks.
const MEMORY: &str = "1g";
const DISK: u64 = 1 << 30;
/// Where Debian puts the C virtiofsd of QEMU 7.2.
const VIRTIOFSD: &str = "/usr/lib/qemu/virtiofsd";
/// Name of the folder on the bus.
const TAG: &str = "share";
/// What the workload prints last where it is the first process.
const END: &str = "bench: end";
/// Longest time that one row may take.
const LIMIT: Duration = Duration::from_secs(1200);

/// One way.
pub struct Candidate {
    /// For the table.
    pub name: &'static str,
    way: Way,
}

enum Way {
    /// `shem run -v` with these options.
    Shem(&'static str),
    ShemDisk,
    /// virtiofsd with these words after `-o`.
    Virtiofsd(&'static str),
    NineP,
    QemuDisk,
}

/// All of them. What is kept in the guest: between calls nothing by `coherent`,
/// `none` and 9p (and by `none` not even pages), names and attributes for a
/// second by `auto`, all by `exclusive` and by `always` with its write-back.
pub const CANDIDATES: &[Candidate] = &[
    Candidate {
        name: "shem coherent",
        way: Way::Shem("cache=coherent,owner=as-is"),
    },
    Candidate {
        name: "virtiofsd auto",
        way: Way::Virtiofsd("cache=auto"),
    },
    Candidate {
        name: "virtiofsd none",
        way: Way::Virtiofsd("cache=none"),
    },
    Candidate {
        name: "shem exclusive",
        way: Way::Shem("cache=exclusive,owner=as-is"),
    },
    Candidate {
        name: "virtiofsd always",
        way: Way::Virtiofsd("cache=always,writeback"),
    },
    Candidate {
        name: "9p",
        way: Way::NineP,
    },
    Candidate {
        name: "shem mapped",
        way: Way::Shem("cache=coherent,owner=mapped"),
    },
    Candidate {
        name: "shem disk",
        way: Way::ShemDisk,
    },
    Candidate {
        name: "QEMU disk",
        way: Way::QemuDisk,
    },
];

impl Candidate {
    /// Runs the workload in a new guest on a new folder.
    pub fn measure(&self, setup: &Setup) -> Result<Rows> {
        setup.with_folder(|folder| match self.way {
            Way::Shem(options) => {
                let volume = format!("{}:/mnt,{options}", folder.display());
                rows(shem(setup, &["-v", &volume]))
            }
            Way::ShemDisk => {
                let disk = disk_in(folder)?;
                let mount = format!("type=disk,src={},dst=/mnt", disk.display());
                rows(shem(setup, &["--mount", &mount]))
            }
            Way::Virtiofsd(options) => {
                let socket = folder.with_extension("socket");
                let _server = Running(virtiofsd(folder, &socket, options)?);
                let mut qemu = qemu(setup, &["type=virtiofs", "source=share", "options="]);
                let memory = format!("memory-backend-memfd,id=memory,share=on,size={MEMORY}");
                let device = format!("vhost-user-fs-device,chardev=server,tag={TAG}");
                let server = format!("socket,id=server,path={}", socket.display());
                qemu.args(["-object", &memory, "-machine", "memory-backend=memory"])
                    .args(["-chardev", &server, "-device", &device]);
                let rows = rows(qemu);
                std::fs::remove_file(socket)?;
                rows
            }
            Way::NineP => {
                // The largest messages that the transport has.
                let options = "options=trans=virtio,version=9p2000.L,msize=512000,cache=none";
                let mut qemu = qemu(setup, &["type=9p", "source=share", options]);
                let folder = format!(
                    "local,id=folder,security_model=none,path={}",
                    folder.display()
                );
                let device = format!("virtio-9p-device,fsdev=folder,mount_tag={TAG}");
                qemu.args(["-fsdev", &folder, "-device", &device]);
                rows(qemu)
            }
            Way::QemuDisk => {
                let disk = disk_in(folder)?;
                let mut qemu = qemu(setup, &["type=ext4", "source=/dev/vda", "options="]);
                let drive = format!("id=disk,if=none,format=raw,file={}", disk.display());
                qemu.args(["-drive", &drive, "-device", "virtio-blk-device,drive=disk"]);
                rows(qemu)
            }
        })
    }
}

fn disk_in(folder: &Path) -> Result<PathBuf> {
    let disk = folder.join("disk");
    format_disk(&disk, DISK)?;
    Ok(disk)
}

fn shem(setup: &Setup, options: &[&str]) -> Command {
    let mut command = Command::new(&setup.shem);
    command
        .args(["run", "--kernel", "bench", "--memory", MEMORY])
        .args(options)
        .arg(&setup.image)
        .args(["--", "/workload", "folder=/mnt"])
        .args(&setup.amounts);
    command
}

/// QEMU's leanest machine, with the workload as the guest's first process. Its
/// words come after `--` on the kernel's command line.
fn qemu(setup: &Setup, mount: &[&str]) -> Command {
    let words = [mount.join(" "), setup.amounts.join(" ")].join(" ");
    let modules = &setup.modules;
    let line = format!("{KERNEL_CMDLINE} -- folder=/mnt modules={modules} {words}");
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-M", "microvm,pit=off,pic=off,rtc=off,isa-serial=on"])
        .args(["-accel", "kvm", "-cpu", "host", "-smp", "1", "-m", MEMORY])
        .args(["-nodefaults", "-no-user-config", "-no-reboot"])
        // As ours is, and as vhost-user has to be.
        .args(["-global", "virtio-mmio.force-legacy=false"])
        .args(["-display", "none", "-serial", "stdio", "-append", &line])
        .arg("-kernel")
        .arg(setup.kernel.vmlinux())
        .arg("-initrd")
        .arg(&setup.initramfs);
    command
}

/// Serves one connection to `socket`. It gets the socket listening, so that
/// QEMU need not wait for it to come.
fn virtiofsd(folder: &Path, socket: &Path, options: &str) -> Result<std::process::Child> {
    let listener =
        UnixListener::bind(socket).with_context(|| format!("listen at {}", socket.display()))?;
    let mut command = Command::new(VIRTIOFSD);
    command
        .args(["-f", "--fd=0", "-o"])
        .arg(format!(
            "source={},log_level=err,{options}",
            folder.display()
        ))
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)));
    command
        .spawn()
        .with_context(|| format!("start {VIRTIOFSD}"))
}

/// The rows that a guest prints. The guest is killed after its last line.
fn rows(mut command: Command) -> Result<Rows> {
    let name = format!("{command:?}");
    let (reader, writer) = std::io::pipe()?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer);
    let running = Running(command.spawn().with_context(|| format!("start {name}"))?);
    // It holds the other ends of the pipe, and the reader would wait for them.
    drop(command);
    let (lines, printed) = mpsc::channel();
    let watcher = std::thread::spawn(move || follow(reader, &lines));
    let mut rows = Rows::new();
    let mut seen = String::new();
    let ended = loop {
        match printed.recv_timeout(LIMIT) {
            Ok(line) if line.contains(END) => break true,
            Ok(line) => {
                if let Some((row, time)) = parse(&line) {
                    rows.entry(row).or_default().push(time);
                }
                seen += &line;
                seen.push('\n');
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break rows.len() == ROWS.len(),
            Err(mpsc::RecvTimeoutError::Timeout) => break false,
        }
    };
    drop(running);
    let _ = watcher.join();
    if !ended || rows.len() != ROWS.len() {
        bail!("not all rows came from {name}, but:\n{seen}");
    }
    Ok(rows)
}

fn follow(reader: impl Read, lines: &mpsc::Sender<String>) {
    for line in BufReader::new(reader).lines().map_while(Result::ok) {
        if lines.send(line).is_err() {
            return;
        }
    }
}

/// `row NANOSECONDS COUNT NAME`: the name, and the seconds for one.
fn parse(line: &str) -> Option<(String, f64)> {
    let (_, row) = line.split_once("row ")?;
    let mut words = row.trim_end().splitn(3, ' ');
    let nanoseconds: f64 = words.next()?.parse().ok()?;
    let count: f64 = words.next()?.parse().ok()?;
    Some((words.next()?.to_owned(), nanoseconds / 1e9 / count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_is_read_behind_whatever_the_console_says_before_it() {
        let (name, time) = parse("[    1.0] row 3000000000 1500 random read\r").unwrap();
        assert_eq!((&*name, time), ("random read", 0.002));
        for line in ["", "row", "row 1 2", "row one 2 read"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
