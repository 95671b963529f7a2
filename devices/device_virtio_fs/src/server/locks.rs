//! File locks: POSIX ones by owner, `flock(2)` by open file.

use zerocopy::IntoBytes;

use super::{Call, Done};
use crate::fs::{Errno, FileSystem, Handle, Lock, LockKind, Node, Owner};
use crate::wire::{LK_FLOCK, LkIn, LkOut, LockFields};

/// A lock to take or to give back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LockRequest {
    node: Node,
    handle: Handle,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Posix { owner: Owner, lock: Lock },
    Flock(LockKind),
}

impl LockRequest {
    /// Asks `fs`, which with `wait` blocks until the lock is free.
    pub(super) fn ask(&self, fs: &dyn FileSystem, wait: bool) -> Result<(), Errno> {
        match self.what {
            What::Posix { owner, lock } => fs.setlk(self.node, self.handle, owner, lock, wait),
            What::Flock(kind) => fs.flock(self.node, self.handle, kind, wait),
        }
    }
}

impl Call<'_> {
    pub(super) fn getlk(mut self) -> Result<usize, Errno> {
        let asked: LkIn = self.arguments.take()?;
        let found = self.fs().getlk(
            self.node(),
            Handle(asked.fh),
            Owner(asked.owner),
            lock(asked.lk)?,
        )?;
        let lk = LockFields {
            start: found.start,
            end: found.end,
            kind: number(found.kind),
            pid: found.pid,
        };
        self.put(LkOut { lk }.as_bytes())
    }

    pub(super) fn setlk(mut self) -> Result<usize, Errno> {
        self.lock_request()?.ask(self.fs(), false)?;
        Ok(0)
    }

    /// Without waiting first: most locks are free.
    pub(super) fn setlkw(mut self) -> Result<Done, Errno> {
        let request = self.lock_request()?;
        match request.ask(self.fs(), false) {
            Ok(()) => Ok(Done::Put(0)),
            Err(Errno::AGAIN) => Ok(Done::Waits(request)),
            Err(errno) => Err(errno),
        }
    }

    fn lock_request(&mut self) -> Result<LockRequest, Errno> {
        let asked: LkIn = self.arguments.take()?;
        let what = if asked.lk_flags & LK_FLOCK != 0 {
            What::Flock(kind(asked.lk.kind)?)
        } else {
            What::Posix {
                owner: Owner(asked.owner),
                lock: lock(asked.lk)?,
            }
        };
        Ok(LockRequest {
            node: self.node(),
            handle: Handle(asked.fh),
            what,
        })
    }
}

/// `EINVAL` for a range that ends before it starts or beyond the longest file.
fn lock(fields: LockFields) -> Result<Lock, Errno> {
    if fields.end < fields.start || fields.end > u64::MAX >> 1 {
        return Err(Errno::INVAL);
    }
    Ok(Lock {
        kind: kind(fields.kind)?,
        start: fields.start,
        end: fields.end,
        pid: fields.pid,
    })
}

fn kind(number: u32) -> Result<LockKind, Errno> {
    [LockKind::Read, LockKind::Write, LockKind::Unlock]
        .into_iter()
        .find(|kind| self::number(*kind) == number)
        .ok_or(Errno::INVAL)
}

fn number(kind: LockKind) -> u32 {
    match kind {
        LockKind::Read => libc::F_RDLCK as u32,
        LockKind::Write => libc::F_WRLCK as u32,
        LockKind::Unlock => libc::F_UNLCK as u32,
    }
}
