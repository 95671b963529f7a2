//! Files made for the guest: folders, links, special and regular ones, with or
//! without a name. What cannot be finished is undone.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, makedev};
use rustix::io::Errno;

use super::HostFs;
use super::data;
use super::inodes::Held;
use super::names::{Found, lookup};
use super::ownership::Plan;
use super::stat::{Stat, decode_dev};
use crate::fs::{Caller, Entry, Handle, Name, Node, OpenFlags};

/// What to make that is not opened at once.
pub(super) enum New<'t> {
    /// With these permissions.
    Folder(u32),
    /// To this target.
    Link(&'t CStr),
    /// With this type and these permissions, and for a device node this number.
    File(u32, u32),
}

/// Makes `new` as `name` in `parent`.
pub(super) fn make(
    fs: &HostFs,
    by: Caller,
    parent: Node,
    name: Name<'_>,
    new: &New<'_>,
) -> Result<Entry, Errno> {
    let (mode, rdev) = match *new {
        New::Folder(mode) => (FileType::Directory.as_raw_mode() | mode & 0o7777, 0),
        New::Link(_) => (FileType::Symlink.as_raw_mode() | 0o777, 0),
        New::File(mode, rdev) => (file_mode(mode)?, rdev),
    };
    let folder = fs.folder(parent)?;
    let plan = fs.ownership.plan(by, folder.as_fd(), mode, rdev)?;
    let identity = fs.ownership.act_as(by, &fs.own)?;
    let permissions = Mode::from_raw_mode(plan.mode & 0o7777);
    let at = name.as_c_str();
    match *new {
        New::Folder(_) => rustix::fs::mkdirat(folder.as_fd(), at, permissions)?,
        New::Link(target) => rustix::fs::symlinkat(target, folder.as_fd(), at)?,
        New::File(..) => {
            let (major, minor) = decode_dev(plan.rdev);
            let kind = FileType::from_raw_mode(plan.mode);
            let device = makedev(major, minor);
            rustix::fs::mknodat(folder.as_fd(), at, kind, permissions, device)?;
        }
    }
    drop(identity);
    let found = fs.inodes.resolver().find(folder.as_fd(), at)?;
    if let Err(error) = finish(fs, found.fd.as_fd(), &plan) {
        undo(&folder, name, &found.stat);
        return Err(error);
    }
    let entry = fs.enter(Found::of(found.fd)?, Some((parent, name)))?;
    own_link(fs, entry, &plan)
}

/// Makes `name` in `parent` and opens it, or opens what is there.
pub(super) fn create(
    fs: &HostFs,
    by: Caller,
    parent: Node,
    name: Name<'_>,
    mode: u32,
    how: OpenFlags,
) -> Result<(Entry, Handle), Errno> {
    let flags = data::host_flags(how.flags, fs.read_only)?;
    fs.handles.room()?;
    if fs.read_only {
        return open_existing(fs, parent, name, how).map_err(|error| match error {
            Errno::NOENT => Errno::ROFS,
            error => error,
        });
    }
    let folder = fs.folder(parent)?;
    let mode = FileType::RegularFile.as_raw_mode() | mode & 0o7777;
    let plan = fs.ownership.plan(by, folder.as_fd(), mode, 0)?;
    let exclusive = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
    let file = match open_new(fs, by, &folder, name.as_c_str(), flags | exclusive, &plan) {
        Err(Errno::EXIST) if how.flags & OFlags::EXCL.bits() == 0 => {
            return open_existing(fs, parent, name, how);
        }
        outcome => outcome?,
    };
    if let Err(error) = finish(fs, file.as_fd(), &plan) {
        undo(&folder, name, &Stat::of(file.as_fd())?);
        return Err(error);
    }
    enter_open(fs, file, flags, Some((parent, name)))
}

/// Makes a file without a name in the file system of `parent` and opens it.
pub(super) fn tmpfile(
    fs: &HostFs,
    by: Caller,
    parent: Node,
    mode: u32,
    how: OpenFlags,
) -> Result<(Entry, Handle), Errno> {
    let flags = data::host_flags(how.flags, fs.read_only)?;
    fs.handles.room()?;
    let folder = fs.folder(parent)?;
    let mode = FileType::RegularFile.as_raw_mode() | mode & 0o7777;
    let plan = fs.ownership.plan(by, folder.as_fd(), mode, 0)?;
    let file = open_new(fs, by, &folder, c".", flags | OFlags::TMPFILE, &plan)?;
    finish(fs, file.as_fd(), &plan)?;
    enter_open(fs, file, flags, None)
}

/// Opens a new file as its owner.
fn open_new(
    fs: &HostFs,
    by: Caller,
    folder: &Held,
    name: &CStr,
    flags: OFlags,
    plan: &Plan,
) -> Result<OwnedFd, Errno> {
    let _identity = fs.ownership.act_as(by, &fs.own)?;
    // Nothing is there to be truncated.
    let flags = flags.difference(OFlags::TRUNC) | OFlags::CLOEXEC | OFlags::NOCTTY;
    let mode = Mode::from_raw_mode(plan.mode & 0o7777);
    rustix::fs::openat(folder.as_fd(), name, flags, mode)
}

/// Another made it first.
fn open_existing(
    fs: &HostFs,
    parent: Node,
    name: Name<'_>,
    how: OpenFlags,
) -> Result<(Entry, Handle), Errno> {
    let entry = lookup(fs, parent, name)?;
    match data::open(fs, entry.node, how) {
        Ok(handle) => Ok((entry, handle)),
        Err(error) => {
            fs.inodes.forget(entry.node, 1);
            Err(error)
        }
    }
}

/// The inode and the handle of a file that was opened by making it.
fn enter_open(
    fs: &HostFs,
    file: OwnedFd,
    flags: OFlags,
    place: Option<(Node, Name<'_>)>,
) -> Result<(Entry, Handle), Errno> {
    // Over the descriptor: the name may lead elsewhere already.
    let fd = fs.proc.reopen(file.as_fd(), OFlags::PATH)?;
    let entry = fs.enter(Found::of(fd)?, place)?;
    let handle = fs.handles.add_file(entry.node, file, flags);
    Ok((entry, handle))
}

/// Records what is to be recorded, and gives the permissions that the process's
/// umask took: the guest has a umask of its own.
fn finish(fs: &HostFs, fd: BorrowedFd<'_>, plan: &Plan) -> Result<(), Errno> {
    if FileType::from_raw_mode(plan.mode) == FileType::Symlink {
        return Ok(());
    }
    if plan.mode & 0o777 & fs.umask != 0 {
        let mode = Stat::of(fd)?.mode();
        // Otherwise a default access control list decided, not the umask.
        if mode & 0o777 == plan.mode & 0o777 & !fs.umask {
            fs.proc.chmod(fd, mode | plan.mode & 0o777)?;
        }
    }
    match plan.record {
        Some(record) => record.store(fd),
        None => Ok(()),
    }
}

/// Removes what was made, unless something else has its name by now.
fn undo(folder: &Held, name: Name<'_>, made: &Stat) {
    let at = name.as_c_str();
    let same =
        Stat::of_name(folder.as_fd(), at).is_ok_and(|there| there.identity() == made.identity());
    if same {
        let flags = match made.kind() {
            FileType::Directory => AtFlags::REMOVEDIR,
            _ => AtFlags::empty(),
        };
        if let Err(error) = rustix::fs::unlinkat(folder.as_fd(), at, flags) {
            log::warn!("a file without its record stays in a shared folder: {error}");
        }
    }
}

/// Keeps the owner of a symbolic link, which has no record.
fn own_link(fs: &HostFs, mut entry: Entry, plan: &Plan) -> Result<Entry, Errno> {
    if let Some(record) = plan.record
        && FileType::from_raw_mode(plan.mode) == FileType::Symlink
    {
        fs.inodes.set_link_owner(entry.node, record.owner());
        (entry.attr.uid, entry.attr.gid) = record.owner();
    }
    Ok(entry)
}

/// Type and permissions of a file that is no folder and no link.
fn file_mode(mode: u32) -> Result<u32, Errno> {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice => Ok(mode & 0o17_7777),
        FileType::Unknown if mode & 0o17_0000 == 0 => {
            Ok(FileType::RegularFile.as_raw_mode() | mode & 0o7777)
        }
        _ => Err(Errno::INVAL),
    }
}
