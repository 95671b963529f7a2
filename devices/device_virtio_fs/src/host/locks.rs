//! POSIX locks of the guest's processes and `flock`s of its open files, held on
//! the host, so that other guests and programs of the host meet them.
//!
//! The host knows one process. To it each owner in the guest is an open file
//! description of its own, whose locks conflict with all others'
//! (`F_OFD_SETLK`, fcntl(2)); it is closed when the owner closes the file.
//!
//! An owner may also be an open file of the guest (`F_OFD_SETLK` there), which
//! Linux never says to be closed by a FLUSH of that owner. Its locks end with the
//! handle that they were taken by: an owner that is a process has flushed before.
//!
//! What each owner has is noted here as well. The host takes an owner that waits
//! for another in a circle for unrelated programs, and Linux cannot kill a process
//! that waits for a lock of a virtio file system; and it would hold any number.

mod held;

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;

use self::held::Ranges;
use super::HostFs;
use super::handles::OpenFile;
use crate::fs::{Handle, Lock, LockKind, Node, Owner};

/// The end of all files (`OFFSET_MAX`).
const OFFSET_MAX: u64 = u64::MAX >> 1;

/// Most ranges that one owner may have locked in one file: what the host's
/// kernel keeps of each is some 200 bytes.
const MAX_RANGES: usize = 4096;

/// Descriptors of the owners of locks.
pub(super) struct Locks {
    /// Most owners at a time, give or take the calls that are under way.
    limit: usize,
    owners: Mutex<HashMap<(Node, Owner), Own>>,
    /// What is waited for. Taken before `owners`.
    waits: Mutex<Vec<Wait>>,
}

/// An owner that waits.
#[derive(Clone, Copy, PartialEq)]
struct Wait {
    node: Node,
    owner: Owner,
    lock: Lock,
}

/// What an owner has on the host.
struct Own {
    fd: Arc<OwnedFd>,
    /// By which the first lock was taken.
    handle: Handle,
    /// The process in the guest that took it.
    pid: u32,
    held: Ranges,
}

impl Locks {
    pub(super) fn new(limit: usize) -> Self {
        Locks {
            limit,
            owners: Mutex::default(),
            waits: Mutex::default(),
        }
    }

    /// Gives all locks back.
    pub(super) fn clear(&self) {
        self.owners().clear();
    }

    fn get(&self, node: Node, owner: Owner) -> Option<Arc<OwnedFd>> {
        let owners = self.owners();
        owners.get(&(node, owner)).map(|own| Arc::clone(&own.fd))
    }

    /// The process in the guest that has exactly the lock `found`, which is in
    /// the way of another: the one owner in whose way nothing is there. 0 when
    /// it is another guest's, or several share the range.
    fn process_of(&self, node: Node, found: Lock) -> u32 {
        let Ok(probe) = flock(Lock {
            kind: LockKind::Write,
            ..found
        }) else {
            return 0;
        };
        let owners = self.owners();
        let mut ours = owners.iter().filter(|((of, _), _)| *of == node);
        let holder = ours.find(|(_, own)| {
            let mut asked = probe;
            let told = control(own.fd.as_fd(), FcntlArg::F_OFD_GETLK(&mut asked));
            told.is_ok() && i32::from(asked.l_type) == libc::F_UNLCK
        });
        holder.map_or(0, |(_, own)| own.pid)
    }

    /// Notes that `owner` has `lock` now, or nothing there any more.
    fn note(&self, node: Node, owner: Owner, lock: Lock) {
        if let Some(own) = self.owners().get_mut(&(node, owner)) {
            own.held.set(lock);
        }
    }

    /// `ENOLCK` when the owner has so much that `lock` may not make it more. To
    /// give back a part of a range makes two of it.
    fn room(&self, node: Node, owner: Owner, lock: Lock) -> Result<(), Errno> {
        match self.owners().get(&(node, owner)) {
            Some(Own { held, .. }) if held.len() >= MAX_RANGES => {
                let mut then = held.clone();
                then.set(lock);
                if then.len() > held.len() {
                    return Err(Errno::NOLCK);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// `wait` begins, unless nobody could end it: `EDEADLK` when the owner would
    /// wait for one that waits for it, perhaps over others.
    fn begin(&self, wait: Wait) -> Result<(), Errno> {
        let mut waits = self.waits();
        let owners = self.owners();
        let mut seen = vec![wait];
        let mut at = 0;
        while let Some(waits_for) = seen.get(at).copied() {
            at += 1;
            let in_the_way = owners.iter().filter(|((node, owner), own)| {
                (*node, *owner) != (waits_for.node, waits_for.owner)
                    && *node == waits_for.node
                    && own.held.conflict(waits_for.lock)
            });
            for ((_, holder), _) in in_the_way {
                if *holder == wait.owner {
                    return Err(Errno::DEADLK);
                }
                let next = waits.iter().filter(|next| next.owner == *holder);
                let new: Vec<Wait> = next.filter(|next| !seen.contains(next)).copied().collect();
                seen.extend(new);
            }
        }
        waits.push(wait);
        Ok(())
    }

    fn end(&self, wait: Wait) {
        let mut waits = self.waits();
        if let Some(at) = waits.iter().position(|one| *one == wait) {
            waits.swap_remove(at);
        }
    }

    fn waits(&self) -> MutexGuard<'_, Vec<Wait>> {
        self.waits.lock().expect("no holder of this lock panics")
    }

    /// How many calls wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waits().len()
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<(Node, Owner), Own>> {
        self.owners.lock().expect("no holder of this lock panics")
    }
}

pub(super) fn get(
    fs: &HostFs,
    node: Node,
    file: &OpenFile,
    owner: Owner,
    lock: Lock,
) -> Result<Lock, Errno> {
    let mut wanted = flock(lock)?;
    // Without a descriptor the owner has no locks, so all are another's.
    match fs.locks.get(node, owner) {
        Some(own) => control(own.as_fd(), FcntlArg::F_OFD_GETLK(&mut wanted))?,
        None => control(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut wanted))?,
    }
    let kind = match i32::from(wanted.l_type) {
        libc::F_RDLCK => LockKind::Read,
        libc::F_WRLCK => LockKind::Write,
        _ => {
            return Ok(Lock {
                kind: LockKind::Unlock,
                ..lock
            });
        }
    };
    let start = u64::try_from(wanted.l_start).map_err(|_| Errno::IO)?;
    let found = Lock {
        kind,
        start,
        end: match u64::try_from(wanted.l_len) {
            Ok(0) | Err(_) => OFFSET_MAX,
            Ok(len) => start.saturating_add(len - 1),
        },
        // The host tells of a process of its own, if of any.
        pid: 0,
    };
    Ok(Lock {
        pid: fs.locks.process_of(node, found),
        ..found
    })
}

pub(super) fn set(
    fs: &HostFs,
    (node, handle): (Node, Handle),
    owner: Owner,
    lock: Lock,
    wait: bool,
) -> Result<(), Errno> {
    let wanted = flock(lock)?;
    let own = match fs.locks.get(node, owner) {
        Some(own) => own,
        None if lock.kind == LockKind::Unlock => return Ok(()),
        None => open_for(fs, (node, handle), owner, lock.pid)?,
    };
    fs.locks.room(node, owner, lock)?;
    if wait {
        let wait = Wait { node, owner, lock };
        fs.locks.begin(wait)?;
        let outcome = control(own.as_fd(), FcntlArg::F_OFD_SETLKW(&wanted));
        fs.locks.end(wait);
        outcome?;
    } else {
        control(own.as_fd(), FcntlArg::F_OFD_SETLK(&wanted))?;
    }
    fs.locks.note(node, owner, lock);
    Ok(())
}

/// Gives the locks of `owner` back.
pub(super) fn drop_owner(fs: &HostFs, node: Node, owner: Owner) -> Result<(), Errno> {
    let own = fs.locks.owners().remove(&(node, owner));
    own.map_or(Ok(()), |own| unlock_all(&own))
}

/// Gives back the locks that were taken by `handle`, which is closed.
pub(super) fn drop_handle(fs: &HostFs, node: Node, handle: Handle) -> Result<(), Errno> {
    let gone: Vec<Own> = {
        let mut owners = fs.locks.owners();
        let its = owners.extract_if(|(of, _), own| *of == node && own.handle == handle);
        its.map(|(_, own)| own).collect()
    };
    gone.iter().try_for_each(unlock_all)
}

fn unlock_all(own: &Own) -> Result<(), Errno> {
    // Closing would do, but for a call that waits for a lock meanwhile.
    let all = flock(Lock {
        kind: LockKind::Unlock,
        start: 0,
        end: OFFSET_MAX,
        pid: 0,
    })?;
    control(own.fd.as_fd(), FcntlArg::F_OFD_SETLK(&all))
}

pub(super) fn flock_file(file: &OpenFile, kind: LockKind, wait: bool) -> Result<(), Errno> {
    let operation = match (kind, wait) {
        (LockKind::Read, true) => FlockOperation::LockShared,
        (LockKind::Read, false) => FlockOperation::NonBlockingLockShared,
        (LockKind::Write, true) => FlockOperation::LockExclusive,
        (LockKind::Write, false) => FlockOperation::NonBlockingLockExclusive,
        (LockKind::Unlock, _) => FlockOperation::Unlock,
    };
    rustix::fs::flock(file, operation)
}

/// A descriptor for an owner's first lock. Its access is the most that there is,
/// since the owner's own descriptors may differ in theirs; the guest's kernel
/// holds each lock against the descriptor that it was asked for with.
fn open_for(
    fs: &HostFs,
    (node, handle): (Node, Handle),
    owner: Owner,
    pid: u32,
) -> Result<Arc<OwnedFd>, Errno> {
    if fs.locks.owners().len() >= fs.locks.limit {
        return Err(Errno::NOLCK);
    }
    let file = fs.regular(node)?;
    let ways: &[OFlags] = if fs.read_only {
        &[OFlags::RDONLY]
    } else {
        &[OFlags::RDWR, OFlags::RDONLY, OFlags::WRONLY]
    };
    let mut refusal = Errno::ACCESS;
    for way in ways {
        match fs.proc.reopen(file.as_fd(), *way) {
            Ok(fd) => {
                let mut owners = fs.locks.owners();
                let own = owners.entry((node, owner)).or_insert_with(|| Own {
                    fd: Arc::new(fd),
                    handle,
                    pid,
                    held: Ranges::default(),
                });
                return Ok(Arc::clone(&own.fd));
            }
            Err(error @ (Errno::ACCESS | Errno::ROFS | Errno::TXTBSY | Errno::PERM)) => {
                refusal = error;
            }
            Err(error) => return Err(error),
        }
    }
    Err(refusal)
}

/// For fcntl(2). `EINVAL` if it ends before it starts or after all files.
fn flock(lock: Lock) -> Result<libc::flock, Errno> {
    if lock.start > lock.end || lock.end > OFFSET_MAX {
        return Err(Errno::INVAL);
    }
    let len = match lock.end {
        // To the end, wherever that will be.
        OFFSET_MAX => 0,
        end => end - lock.start + 1,
    };
    let kind = match lock.kind {
        LockKind::Read => libc::F_RDLCK,
        LockKind::Write => libc::F_WRLCK,
        LockKind::Unlock => libc::F_UNLCK,
    };
    Ok(libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        // Both are at most OFFSET_MAX.
        l_start: lock.start as libc::off_t,
        l_len: len as libc::off_t,
        l_pid: 0,
    })
}

fn control(fd: BorrowedFd<'_>, command: FcntlArg<'_>) -> Result<(), Errno> {
    match fcntl(fd, command) {
        Ok(_) => Ok(()),
        Err(error) => Err(Errno::from_raw_os_error(error as i32)),
    }
}
