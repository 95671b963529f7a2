//! What is measured: the ways by which a guest gets files of the host.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use shem::KERNEL_CMDLINE;

use super::ROWS;
use super::host::{Setup, format_disk};
use crate::compare::Candidate;
use crate::guest;
use crate::rows::{self, Rows};
use crate::run::Running;

/// RAM of each guest, and of the disks.
const MEMORY: &str = "1g";
const DISK: u64 = 1 << 30;
/// Where Debian puts the C virtiofsd of QEMU 7.2.
const VIRTIOFSD: &str = "/usr/lib/qemu/virtiofsd";
/// Name of the folder on the bus.
const TAG: &str = "share";

/// One way.
pub enum Way {
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
pub const CANDIDATES: &[Candidate<Way>] = &[
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

impl Way {
    /// Runs the workload in a new guest on a new folder.
    pub fn measure(&self, setup: &Setup) -> Result<Rows> {
        setup.with_folder(|folder| match self {
            Way::Shem(options) => {
                let volume = format!("{}:/mnt,{options}", folder.display());
                rows::of_guest(shem(setup, &["-v", &volume]), ROWS)
            }
            Way::ShemDisk => {
                let disk = disk_in(folder)?;
                let mount = format!("type=disk,src={},dst=/mnt", disk.display());
                rows::of_guest(shem(setup, &["--mount", &mount]), ROWS)
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
                let rows = rows::of_guest(qemu, ROWS);
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
                rows::of_guest(qemu, ROWS)
            }
            Way::QemuDisk => {
                let disk = disk_in(folder)?;
                let mut qemu = qemu(setup, &["type=ext4", "source=/dev/vda", "options="]);
                let drive = format!("id=disk,if=none,format=raw,file={}", disk.display());
                qemu.args(["-drive", &drive, "-device", "virtio-blk-device,drive=disk"]);
                rows::of_guest(qemu, ROWS)
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
    let mut command = setup.shem.run(&setup.kernel, MEMORY, options, &setup.image);
    command
        .args(["/workload", "folder=/mnt"])
        .args(&setup.amounts);
    command
}

/// QEMU's machine, with the workload as the guest's first process. Its words come
/// after `--` on the kernel's command line.
fn qemu(setup: &Setup, mount: &[&str]) -> Command {
    let words = [mount.join(" "), setup.amounts.join(" ")].join(" ");
    let modules = &setup.modules;
    let line = format!("{KERNEL_CMDLINE} -- folder=/mnt modules={modules} {words}");
    let mut command = guest::microvm(&setup.kernel, &setup.initramfs, MEMORY, &line);
    // vhost-user has to be so as well.
    command.args(guest::LIKE_OURS);
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
