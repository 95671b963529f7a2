//! Attributes: what the guest sees of a file, and what it changes.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::fs::{FileType, OFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use super::HostFs;
use super::handles::OpenFile;
use super::inodes::Held;
use super::stat::Stat;
use crate::fs::{Attr, Handle, Node, SetAttr, SetTime, StatFs};

/// A file by the guest's handle, or else by its inode.
enum Target {
    Open(Arc<OpenFile>),
    Held(Held),
}

impl AsFd for Target {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Target::Open(file) => file.as_fd(),
            Target::Held(held) => held.as_fd(),
        }
    }
}

pub(super) fn get(fs: &HostFs, node: Node, handle: Option<Handle>) -> Result<Attr, Errno> {
    let target = match handle {
        Some(handle) => Target::Open(fs.handles.file(node, handle)?),
        None => Target::Held(fs.inodes.get(node)?),
    };
    let stat = Stat::of(target.as_fd())?;
    shown(fs, node, target.as_fd(), &stat)
}

/// What the guest sees of the file of `fd`, of which the host tells `stat`.
pub(super) fn shown(
    fs: &HostFs,
    node: Node,
    fd: BorrowedFd<'_>,
    stat: &Stat,
) -> Result<Attr, Errno> {
    let mut shown = fs.ownership.shown(fd, stat)?;
    if fs.ownership.records()
        && stat.kind() == FileType::Symlink
        && let Some(owner) = fs.inodes.link_owner(node)
    {
        (shown.uid, shown.gid) = owner;
    }
    Ok(stat.attr(fs.numbers.guest(stat.identity().key), shown))
}

pub(super) fn set(
    fs: &HostFs,
    node: Node,
    handle: Option<Handle>,
    set: &SetAttr,
) -> Result<Attr, Errno> {
    let target = match handle {
        Some(handle) => Target::Open(fs.handles.file(node, handle)?),
        None => Target::Held(fs.changeable(node)?),
    };
    if set.kill_privileges {
        fs.ownership.kill_privileges(&fs.proc, target.as_fd())?;
    }
    if let Some(size) = set.size {
        resize(fs, node, &target, size)?;
    }
    if set.uid.is_some() || set.gid.is_some() {
        chown(fs, node, target.as_fd(), set)?;
    }
    if let Some(mode) = set.mode {
        fs.ownership.chmod(&fs.proc, target.as_fd(), mode)?;
    }
    if set.atime.is_some() || set.mtime.is_some() {
        let times = Timestamps {
            last_access: timespec(set.atime),
            last_modification: timespec(set.mtime),
        };
        fs.proc.set_times(target.as_fd(), &times)?;
    }
    let stat = Stat::of(target.as_fd())?;
    shown(fs, node, target.as_fd(), &stat)
}

fn resize(fs: &HostFs, node: Node, target: &Target, size: u64) -> Result<(), Errno> {
    match target {
        Target::Open(file) => rustix::fs::ftruncate(file.as_fd(), size),
        Target::Held(_) => {
            let file = fs.regular(node)?;
            let file = fs.proc.reopen(file.as_fd(), OFlags::WRONLY)?;
            rustix::fs::ftruncate(file, size)
        }
    }
}

fn chown(fs: &HostFs, node: Node, fd: BorrowedFd<'_>, set: &SetAttr) -> Result<(), Errno> {
    let stat = Stat::of(fd)?;
    if fs.ownership.records() && stat.kind() == FileType::Symlink {
        let now = shown(fs, node, fd, &stat)?;
        let owner = (set.uid.unwrap_or(now.uid), set.gid.unwrap_or(now.gid));
        fs.inodes.set_link_owner(node, owner);
        return Ok(());
    }
    fs.ownership.chown(fd, set.uid, set.gid)
}

fn timespec(time: Option<SetTime>) -> Timespec {
    let special = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    match time {
        None => special(UTIME_OMIT),
        Some(SetTime::Now) => special(UTIME_NOW),
        Some(SetTime::At(time)) => Timespec {
            tv_sec: time.sec,
            tv_nsec: time.nsec.into(),
        },
    }
}

pub(super) fn readlink(fs: &HostFs, node: Node) -> Result<Vec<u8>, Errno> {
    let link = fs.inodes.get(node)?;
    if link.kind != FileType::Symlink {
        return Err(Errno::INVAL);
    }
    let target = rustix::fs::readlinkat(link.as_fd(), c"", Vec::new())?;
    Ok(target.into_bytes())
}

pub(super) fn statfs(fs: &HostFs, node: Node) -> Result<StatFs, Errno> {
    let told = rustix::fs::fstatfs(fs.inodes.get(node)?)?;
    let small = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(StatFs {
        blocks: told.f_blocks,
        bfree: told.f_bfree,
        bavail: told.f_bavail,
        files: told.f_files,
        ffree: told.f_ffree,
        bsize: small(told.f_bsize),
        namelen: small(told.f_namelen),
        frsize: small(told.f_frsize),
    })
}

/// Makes the file system of `node` stable, or the root's if `node` cannot be opened.
pub(super) fn syncfs(fs: &HostFs, node: Node) -> Result<(), Errno> {
    let held = fs.inodes.get(node)?;
    let held = match held.kind {
        FileType::Directory | FileType::RegularFile => &held,
        _ => fs.inodes.root(),
    };
    let open = fs.proc.reopen(held.as_fd(), OFlags::RDONLY)?;
    rustix::fs::syncfs(open)
}
