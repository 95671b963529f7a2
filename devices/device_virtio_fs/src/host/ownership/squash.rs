//! The provider owns every file, and the guest sees one owner. For file systems
//! that cannot keep a record, and guests that are not to have one.
//!
//! Permissions are the host's. The owner keeps access whatever the guest sets,
//! as root in the guest expects; setuid and setgid bits are not set.

use std::borrow::Cow;
use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::super::proc::Proc;
use super::super::stat::{Shown, Stat};
use super::mapped::{is_ours, is_privileged};
use super::{Attribute, Plan, provider_mode};

/// Only owners remove what is in the folder.
const STICKY: u32 = 0o1000;

pub(super) fn shown(stat: &Stat, uid: u32, gid: u32) -> Shown {
    Shown {
        uid,
        gid,
        ..stat.shown()
    }
}

pub(super) fn plan(mode: u32) -> Result<Plan, Errno> {
    let kind = FileType::from_raw_mode(mode);
    match kind {
        FileType::RegularFile | FileType::Directory | FileType::Symlink => Ok(Plan {
            mode: kind.as_raw_mode() | permissions(mode),
            rdev: 0,
            record: None,
        }),
        _ => Err(Errno::PERM),
    }
}

/// Accepts what changes nothing.
pub(super) fn chown(same: bool) -> Result<(), Errno> {
    if same { Ok(()) } else { Err(Errno::PERM) }
}

pub(super) fn chmod(proc: &Proc, fd: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
    let kind = Stat::of(fd)?.mode() & !0o7777;
    proc.chmod(fd, permissions(kind | mode & 0o7777))
}

pub(super) fn attribute(name: &CStr) -> Attribute<'_> {
    let bytes = name.to_bytes();
    if is_ours(bytes) {
        Attribute::Hidden
    } else if is_privileged(bytes) {
        Attribute::Unsupported
    } else {
        Attribute::Real(Cow::Borrowed(name))
    }
}

pub(super) fn attribute_shown(name: &[u8]) -> Option<&[u8]> {
    (name.starts_with(b"user.") && !is_ours(name)).then_some(name)
}

fn permissions(mode: u32) -> u32 {
    mode & STICKY | provider_mode(mode)
}
