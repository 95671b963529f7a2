//! Who owns what the guest makes on the host, and what the guest sees of it.
//!
//! | mode | a file of the guest's belongs to | `chown`, `chmod`, `mknod` |
//! | --- | --- | --- |
//! | `as-is` | the user of the same number; needs root | done on the host |
//! | `mapped` | the provider | recorded beside the file, see `record` |
//! | `squash` | the provider | refused, but for permissions |
//!
//! In the last two the provider can read and write whatever the guest makes.

mod as_is;
mod mapped;
mod record;
mod squash;

use std::borrow::Cow;
use std::ffi::CStr;
use std::fmt;
use std::os::fd::BorrowedFd;
use std::str::FromStr;

use rustix::fs::{FileType, RenameFlags};
use rustix::io::Errno;

use super::proc::Proc;
use super::stat::{Shown, Stat};
use crate::fs::Caller;

pub(super) use as_is::{Identity, Own};
pub(super) use record::Record;

/// Set-user-id, and set-group-id with the group's right to execute, without
/// which it does not mean that.
const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;
const GROUP_EXECUTE: u32 = 0o0010;

/// Whose files are whose. Read and shown as `as-is`, `mapped`, `squash`, the last
/// two with root as the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// Users and groups of the guest are those of the host: for a process with
    /// root's capabilities.
    AsIs,
    /// Every file belongs to the process. Owner, group, permissions and the type
    /// of special files are recorded in an extended attribute, which other
    /// programs for containers know too.
    Mapped {
        /// User and group in the guest of files that have no record.
        default: (u32, u32),
    },
    /// Every file belongs to the process and appears to belong to one owner.
    Squash {
        /// User in the guest.
        uid: u32,
        /// Group in the guest.
        gid: u32,
    },
}

/// The text is not an [`Ownership`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown ownership {0:?}: use as-is, mapped or squash")]
pub struct UnknownOwnership(pub String);

impl FromStr for Ownership {
    type Err = UnknownOwnership;

    fn from_str(text: &str) -> Result<Self, UnknownOwnership> {
        match text {
            "as-is" => Ok(Ownership::AsIs),
            "mapped" => Ok(Ownership::Mapped { default: (0, 0) }),
            "squash" => Ok(Ownership::Squash { uid: 0, gid: 0 }),
            _ => Err(UnknownOwnership(text.to_owned())),
        }
    }
}

impl fmt::Display for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ownership::AsIs => "as-is",
            Ownership::Mapped { .. } => "mapped",
            Ownership::Squash { .. } => "squash",
        })
    }
}

/// How a new file is made on the host.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Type and permissions of the host's file.
    pub(super) mode: u32,
    /// Of a device node of the host's, in the guest's form.
    pub(super) rdev: u32,
    /// What is recorded of it.
    pub(super) record: Option<Record>,
}

/// What the guest's name of an extended attribute stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Attribute<'n> {
    /// This one of the host's.
    Real(Cow<'n, CStr>),
    /// Ours, and so none of the guest's.
    Hidden,
    /// Nothing.
    Unsupported,
}

impl Ownership {
    /// This mode, or the nearest to it that the file system of `folder` can do.
    pub(super) fn supported(self, folder: BorrowedFd<'_>) -> Self {
        match self {
            Ownership::Mapped {
                default: (uid, gid),
            } if !record::can_be_kept(folder) => Ownership::Squash { uid, gid },
            mode => mode,
        }
    }

    /// Whether special files of the guest are regular ones of the host.
    pub(super) fn records(&self) -> bool {
        matches!(self, Ownership::Mapped { .. })
    }

    /// What the guest sees of the file of `fd`.
    pub(super) fn shown(&self, fd: BorrowedFd<'_>, stat: &Stat) -> Result<Shown, Errno> {
        match *self {
            Ownership::AsIs => Ok(stat.shown()),
            Ownership::Mapped { default } => mapped::shown(fd, stat, default),
            Ownership::Squash { uid, gid } => Ok(squash::shown(stat, uid, gid)),
        }
    }

    /// How to make a file of type and permissions `mode` in `folder` for `by`.
    pub(super) fn plan(
        &self,
        by: Caller,
        folder: BorrowedFd<'_>,
        mode: u32,
        rdev: u32,
    ) -> Result<Plan, Errno> {
        match *self {
            Ownership::AsIs => Ok(Plan {
                mode,
                rdev,
                record: None,
            }),
            Ownership::Mapped { default } => {
                let folder = mapped::shown(folder, &Stat::of(folder)?, default)?;
                Ok(mapped::plan(by, folder, mode, rdev))
            }
            Ownership::Squash { .. } => squash::plan(mode),
        }
    }

    /// Makes the calling thread act as `by` until the answer is dropped.
    pub(super) fn act_as(&self, by: Caller, own: &Own) -> Result<Option<Identity>, Errno> {
        match self {
            Ownership::AsIs => Identity::assume(by, own),
            Ownership::Mapped { .. } | Ownership::Squash { .. } => Ok(None),
        }
    }

    /// Sets user and group, each if given. Not of symbolic links where
    /// [`Ownership::records`]: nothing can be recorded beside them.
    pub(super) fn chown(
        &self,
        fd: BorrowedFd<'_>,
        uid: Option<u32>,
        gid: Option<u32>,
    ) -> Result<(), Errno> {
        match *self {
            Ownership::AsIs => as_is::chown(fd, uid, gid),
            Ownership::Mapped { default } => mapped::chown(fd, uid, gid, default),
            Ownership::Squash {
                uid: user,
                gid: group,
            } => squash::chown(uid.unwrap_or(user) == user && gid.unwrap_or(group) == group),
        }
    }

    /// Sets the lower 12 bits of the mode.
    pub(super) fn chmod(&self, proc: &Proc, fd: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
        match *self {
            Ownership::AsIs => proc.chmod(fd, mode),
            Ownership::Mapped { default } => mapped::chmod(proc, fd, mode, default),
            Ownership::Squash { .. } => squash::chmod(proc, fd, mode),
        }
    }

    /// Takes the capabilities of a regular file away, as every write and truncate does, root's
    /// too. The host's kernel does so for those that it knows itself.
    pub(super) fn drop_capability(&self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        match self {
            Ownership::Mapped { .. } => mapped::drop_capability(fd),
            Ownership::AsIs | Ownership::Squash { .. } => Ok(()),
        }
    }

    /// Takes setuid and setgid bits and capabilities away, before a write. The
    /// host's kernel does so for the capabilities that it knows itself.
    pub(super) fn kill_privileges(&self, proc: &Proc, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        if let Ownership::Mapped { default } = *self {
            return mapped::kill_privileges(proc, fd, default);
        }
        let mode = Stat::of(fd)?.mode();
        match without_privileges(mode) {
            less if less == mode => Ok(()),
            less => proc.chmod(fd, less),
        }
    }

    /// The flags of renameat2(2) that can be done. A whiteout is a device node,
    /// which the other modes could not make in the same step.
    pub(super) fn rename_flags(&self) -> RenameFlags {
        let all = RenameFlags::NOREPLACE | RenameFlags::EXCHANGE;
        match self {
            Ownership::AsIs => all | RenameFlags::WHITEOUT,
            Ownership::Mapped { .. } | Ownership::Squash { .. } => all,
        }
    }

    /// What the guest's attribute `name` is on the host. Access control lists
    /// are not offered: the guest's kernel checks permissions by mode alone.
    pub(super) fn attribute<'n>(&self, name: &'n CStr) -> Attribute<'n> {
        let bytes = name.to_bytes();
        if bytes.starts_with(b"system.") {
            return Attribute::Unsupported;
        }
        match self {
            Ownership::AsIs => Attribute::Real(Cow::Borrowed(name)),
            Ownership::Mapped { .. } => mapped::attribute(name),
            Ownership::Squash { .. } => squash::attribute(name),
        }
    }

    /// The guest's name of the host's attribute `name`, if it is the guest's.
    pub(super) fn attribute_shown<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        match self {
            Ownership::AsIs => (!name.starts_with(b"system.")).then_some(name),
            Ownership::Mapped { .. } => mapped::attribute_shown(name),
            Ownership::Squash { .. } => squash::attribute_shown(name),
        }
    }
}

/// `mode` as an unprivileged write leaves it.
fn without_privileges(mode: u32) -> u32 {
    let kind = FileType::from_raw_mode(mode);
    match mode & (SETGID | GROUP_EXECUTE) {
        _ if kind != FileType::RegularFile => mode,
        bits if bits == SETGID | GROUP_EXECUTE => mode & !(SETUID | SETGID),
        _ => mode & !SETUID,
    }
}

/// The host's permissions of the provider's own file for the guest's `mode`:
/// without privileges, and always with the owner's access.
fn provider_mode(mode: u32) -> u32 {
    match FileType::from_raw_mode(mode) {
        FileType::Directory => mode & 0o777 | 0o700,
        _ => mode & 0o777 | 0o600,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_they_are_shown() {
        for text in ["as-is", "mapped", "squash"] {
            assert_eq!(text.parse::<Ownership>().unwrap().to_string(), text);
        }
        let error = "root".parse::<Ownership>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown ownership \"root\": use as-is, mapped or squash"
        );
    }

    #[test]
    fn setgid_without_execution_is_no_privilege() {
        for (mode, left) in [
            (0o10_6755, 0o10_0755),
            (0o10_6745, 0o10_2745),
            (0o10_2644, 0o10_2644),
            (0o4_2755, 0o4_2755),
        ] {
            assert_eq!(without_privileges(mode), left, "{mode:o}");
        }
    }
}
