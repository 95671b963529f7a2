//! The guest's users are the host's. What is made is made as the caller, by the
//! calling thread's file system user and group (setfsuid(2), credentials(7)), so
//! that it never belongs to anybody else and the host's rules for folders with
//! the setgid bit and for quotas hold.

use std::os::fd::BorrowedFd;

use nix::unistd::{setfsgid, setfsuid};
use rustix::fs::{AtFlags, Gid, Uid};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, capabilities, set_capabilities, set_thread_groups};

use crate::fs::Caller;

/// The groups of the process itself, which is root.
#[derive(Clone)]
pub(in super::super) struct Own {
    group: Gid,
    groups: Vec<Gid>,
}

impl Own {
    /// Those of now.
    pub(in super::super) fn read() -> Result<Self, Errno> {
        Ok(Own {
            group: rustix::process::getegid(),
            groups: rustix::process::getgroups()?,
        })
    }
}

/// The calling thread acts as a user of the guest; as root again when dropped.
pub(in super::super) struct Identity {
    own: Own,
}

impl Identity {
    /// None for root, as which the thread acts anyway. `EPERM` for users that
    /// this process cannot act as, because they are none of its user namespace.
    pub(super) fn assume(by: Caller, own: &Own) -> Result<Option<Self>, Errno> {
        if (by.uid, by.gid, by.group) == (0, 0, None) {
            return Ok(None);
        }
        let groups = by.group.map(group).transpose()?;
        user(by.uid)?;
        group(by.gid)?;
        // From here on a failure sets all back.
        let identity = Identity { own: own.clone() };
        set_thread_groups(groups.as_slice())?;
        let gid = nix::unistd::Gid::from_raw(by.gid);
        setfsgid(gid);
        let uid = nix::unistd::Uid::from_raw(by.uid);
        setfsuid(uid);
        // These calls tell no error, only what was there before.
        if setfsgid(gid) != gid || setfsuid(uid) != uid {
            return Err(Errno::PERM);
        }
        keep_access()?;
        Ok(Some(identity))
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        // The way back is always allowed, and gives the capabilities back.
        setfsuid(nix::unistd::ROOT);
        setfsgid(nix::unistd::Gid::from_raw(self.own.group.as_raw()));
        if let Err(error) = set_thread_groups(&self.own.groups) {
            log::error!("supplementary groups of a file server are not restored: {error}");
        }
    }
}

/// The guest's kernel has checked permissions, by capabilities of the guest too,
/// which the host must not refuse by the user's number.
fn keep_access() -> Result<(), Errno> {
    let mut sets = capabilities(None)?;
    sets.effective |= sets.permitted & CapabilitySet::DAC_OVERRIDE;
    set_capabilities(None, sets)
}

pub(super) fn chown(fd: BorrowedFd<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    let (uid, gid) = (uid.map(user).transpose()?, gid.map(group).transpose()?);
    rustix::fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH)
}

/// -1 is no user but a way to say none.
fn user(uid: u32) -> Result<Uid, Errno> {
    if uid == u32::MAX {
        return Err(Errno::INVAL);
    }
    Ok(Uid::from_raw(uid))
}

fn group(gid: u32) -> Result<Gid, Errno> {
    if gid == u32::MAX {
        return Err(Errno::INVAL);
    }
    Ok(Gid::from_raw(gid))
}
