//! What an `O_PATH` descriptor cannot do itself: to be opened for reading and
//! writing, to change permissions and times, to get another name, to have
//! extended attributes. All of it goes over the descriptor's link in
//! `/proc/self/fd`, which leads to the file itself and resolves no name. proc(5).

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timestamps, XattrFlags};
use rustix::io::Errno;
use rustix::path::DecInt;

/// The folder of the process's descriptors, opened once.
const DESCRIPTORS: &str = "/proc/self/fd";

/// Most bytes of an extended attribute, and of all names of a file's
/// (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const XATTR_MAX: usize = 64 << 10;

/// Bytes that most attributes fit in: the first try.
const XATTR_USUAL: usize = 256;

/// The links to the process's own descriptors.
pub(super) struct Proc {
    folder: OwnedFd,
    /// Whether reading is to leave no trace in the access times.
    no_atime: bool,
}

impl Proc {
    /// Opens [`DESCRIPTORS`].
    pub(super) fn open(no_atime: bool) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, DESCRIPTORS, flags, Mode::empty())?;
        Ok(Proc { folder, no_atime })
    }

    /// Opens the file of `fd` anew. The caller knows that it is a regular file or
    /// a folder: to open anything else may act on a device, or wait for a peer.
    pub(super) fn reopen(&self, fd: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let open = |flags| rustix::fs::openat(&self.folder, link(fd), flags, Mode::empty());
        if self.no_atime && !flags.contains(OFlags::PATH) {
            match open(flags | OFlags::NOATIME) {
                // Only the owner of a file may read it without a trace.
                Err(Errno::PERM) => {}
                outcome => return outcome,
            }
        }
        open(flags)
    }

    /// Sets the lower 12 bits of the mode.
    pub(super) fn chmod(&self, fd: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(mode & 0o7777);
        rustix::fs::chmodat(&self.folder, link(fd), mode, AtFlags::empty())
    }

    /// Sets access and modification times.
    pub(super) fn set_times(&self, fd: BorrowedFd<'_>, times: &Timestamps) -> Result<(), Errno> {
        rustix::fs::utimensat(&self.folder, link(fd), times, AtFlags::empty())
    }

    /// Gives the file of `fd` the name `name` in `folder` too.
    pub(super) fn link(
        &self,
        fd: BorrowedFd<'_>,
        folder: BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<(), Errno> {
        let follow = AtFlags::SYMLINK_FOLLOW;
        rustix::fs::linkat(&self.folder, link(fd), folder, name, follow)
    }

    /// Where the file of `fd` is now, as the kernel tells it: `ENAMETOOLONG`
    /// when that is too long to tell.
    pub(super) fn location(&self, fd: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
        let location = rustix::fs::readlinkat(&self.folder, link(fd), Vec::new())?;
        Ok(location.into_bytes())
    }
}

/// Value of the extended attribute `name` of the file of `fd`.
pub(super) fn get_xattr(fd: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>, Errno> {
    let link = path(fd);
    read_whole(|buffer| rustix::fs::getxattr(&link, name, spare_capacity(buffer)))
}

/// Names of the extended attributes of the file of `fd`, each with a final zero.
pub(super) fn list_xattrs(fd: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    let link = path(fd);
    read_whole(|buffer| rustix::fs::listxattr(&link, spare_capacity(buffer)))
}

/// Sets the extended attribute `name` of the file of `fd`.
pub(super) fn set_xattr(
    fd: BorrowedFd<'_>,
    name: &CStr,
    value: &[u8],
    flags: XattrFlags,
) -> Result<(), Errno> {
    rustix::fs::setxattr(path(fd), name, value, flags)
}

/// Removes the extended attribute `name` of the file of `fd`.
pub(super) fn remove_xattr(fd: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    rustix::fs::removexattr(path(fd), name)
}

/// The permissions that the process takes away from what it creates.
pub(super) fn umask() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(line.trim(), 8).ok()
}

/// Calls `read` with room for what is usual, and for the most there can be if
/// that was not enough.
fn read_whole(read: impl Fn(&mut Vec<u8>) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = Vec::with_capacity(XATTR_USUAL);
    match read(&mut buffer) {
        Err(Errno::RANGE) => {
            buffer.reserve_exact(XATTR_MAX);
            read(&mut buffer)?;
        }
        outcome => drop(outcome?),
    }
    Ok(buffer)
}

/// The name of `fd` in [`DESCRIPTORS`].
fn link(fd: BorrowedFd<'_>) -> DecInt {
    DecInt::from_fd(fd)
}

/// For calls that take no folder.
fn path(fd: BorrowedFd<'_>) -> String {
    format!("{DESCRIPTORS}/{}", fd.as_raw_fd())
}
