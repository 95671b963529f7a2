//! The provider owns every file, and what the guest thinks of it is recorded.
//!
//! Special files are empty regular ones with a record. Symbolic links cannot
//! have one: the guest's owner of a link is kept while the guest knows the link,
//! and is the default later. Attributes that only a privileged process may set
//! are kept under a name of ours. Permissions that the host changes later on a
//! file with a record are not seen by the guest.

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::super::proc::{self, Proc};
use super::super::stat::{Shown, Stat};
use super::record::{self, Record};
use super::{Attribute, Plan, SETGID, provider_mode, without_privileges};
use crate::fs::Caller;

/// Before the names of privileged attributes on the host.
const PREFIX: &[u8] = b"user.shem.";

/// The file capabilities that the guest has set.
const CAPABILITY: &CStr = c"user.shem.security.capability";

pub(super) fn shown(fd: BorrowedFd<'_>, stat: &Stat, default: (u32, u32)) -> Result<Shown, Errno> {
    let real = stat.shown();
    Ok(match Record::load(fd, stat)? {
        Some(record) => record.shown(real.mode),
        None => Shown {
            uid: default.0,
            gid: default.1,
            ..real
        },
    })
}

/// As Linux makes files: in a folder with the setgid bit for the folder's group,
/// and folders there with the bit too.
pub(super) fn plan(by: Caller, folder: Shown, mode: u32, rdev: u32) -> Plan {
    let kind = FileType::from_raw_mode(mode);
    let inherits = folder.mode & SETGID != 0;
    let shown = Shown {
        mode: match kind {
            FileType::Directory if inherits => mode | SETGID,
            _ => mode,
        },
        uid: by.uid,
        gid: if inherits { folder.gid } else { by.gid },
        rdev,
    };
    let real = match kind {
        FileType::Directory | FileType::Symlink => kind,
        _ => FileType::RegularFile,
    };
    Plan {
        mode: real.as_raw_mode() | provider_mode(mode),
        rdev: 0,
        record: Some(Record::new(shown)),
    }
}

pub(super) fn chown(
    fd: BorrowedFd<'_>,
    uid: Option<u32>,
    gid: Option<u32>,
    default: (u32, u32),
) -> Result<(), Errno> {
    let shown = shown(fd, &Stat::of(fd)?, default)?;
    let changed = Shown {
        // A file given away keeps no privileges of its former owner's.
        mode: without_privileges(shown.mode),
        uid: uid.unwrap_or(shown.uid),
        gid: gid.unwrap_or(shown.gid),
        ..shown
    };
    drop_capability_of_file(fd, changed.mode)?;
    Record::new(changed).store(fd)
}

pub(super) fn chmod(
    proc: &Proc,
    fd: BorrowedFd<'_>,
    mode: u32,
    default: (u32, u32),
) -> Result<(), Errno> {
    let stat = Stat::of(fd)?;
    let shown = shown(fd, &stat, default)?;
    let kind = stat.mode() & !0o7777;
    // First what the host may refuse.
    proc.chmod(fd, provider_mode(kind | mode))?;
    let mode = shown.mode & !0o7777 | mode & 0o7777;
    Record::new(Shown { mode, ..shown }).store(fd)
}

pub(super) fn kill_privileges(
    proc: &Proc,
    fd: BorrowedFd<'_>,
    default: (u32, u32),
) -> Result<(), Errno> {
    let stat = Stat::of(fd)?;
    let shown = shown(fd, &stat, default)?;
    drop_capability_of_file(fd, shown.mode)?;
    let less = without_privileges(shown.mode);
    if less == shown.mode {
        return Ok(());
    }
    chmod(proc, fd, less, default)
}

pub(super) fn attribute(name: &CStr) -> Attribute<'_> {
    let bytes = name.to_bytes();
    if is_ours(bytes) {
        return Attribute::Hidden;
    }
    if !is_privileged(bytes) {
        return Attribute::Real(Cow::Borrowed(name));
    }
    match CString::new([PREFIX, bytes].concat()) {
        Ok(name) => Attribute::Real(Cow::Owned(name)),
        Err(_) => Attribute::Unsupported,
    }
}

/// Privileged attributes are shown if they are the guest's and not the host's.
pub(super) fn attribute_shown(name: &[u8]) -> Option<&[u8]> {
    match name.strip_prefix(PREFIX) {
        Some(inner) => is_privileged(inner).then_some(inner),
        None => (name.starts_with(b"user.") && !is_ours(name)).then_some(name),
    }
}

/// Whether the host keeps something of ours there.
pub(super) fn is_ours(name: &[u8]) -> bool {
    name == record::NAME.to_bytes() || name.starts_with(PREFIX)
}

/// Whether only a privileged process may set it.
pub(super) fn is_privileged(name: &[u8]) -> bool {
    name.starts_with(b"security.") || name.starts_with(b"trusted.")
}

fn drop_capability_of_file(fd: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => drop_capability(fd),
        _ => Ok(()),
    }
}

/// Of a regular file.
pub(super) fn drop_capability(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    match proc::remove_xattr(fd, CAPABILITY) {
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        outcome => outcome,
    }
}
