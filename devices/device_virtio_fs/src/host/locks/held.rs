//! The ranges of a file that one owner has locked, as fcntl(2) makes one of
//! several: a lock takes the place of what it covers, and joins its like.

use crate::fs::{Lock, LockKind};

/// Ranges without overlap, in no order. None is an unlocked one.
#[derive(Clone, Default)]
pub(super) struct Ranges(Vec<Lock>);

impl Ranges {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Locks or unlocks what `lock` says.
    pub(super) fn set(&mut self, lock: Lock) {
        let mut new = lock;
        let mut rest = Vec::with_capacity(self.0.len() + 2);
        for old in self.0.drain(..) {
            let like = old.kind == lock.kind;
            let touches =
                old.start <= lock.end.saturating_add(1) && lock.start <= old.end.saturating_add(1);
            if like && touches {
                new.start = new.start.min(old.start);
                new.end = new.end.max(old.end);
                continue;
            }
            if !overlap(old, lock) {
                rest.push(old);
                continue;
            }
            if old.start < lock.start {
                let end = lock.start - 1;
                rest.push(Lock { end, ..old });
            }
            if lock.end < old.end {
                let start = lock.end + 1;
                rest.push(Lock { start, ..old });
            }
        }
        if lock.kind != LockKind::Unlock {
            rest.push(new);
        }
        self.0 = rest;
    }

    /// Whether another owner may not have `wanted` meanwhile.
    pub(super) fn conflict(&self, wanted: Lock) -> bool {
        let write = |lock: Lock| lock.kind == LockKind::Write;
        let mut held = self.0.iter();
        held.any(|held| overlap(*held, wanted) && (write(*held) || write(wanted)))
    }
}

fn overlap(one: Lock, other: Lock) -> bool {
    one.start <= other.end && other.start <= one.end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(kind: LockKind, start: u64, end: u64) -> Lock {
        Lock {
            kind,
            start,
            end,
            pid: 1,
        }
    }

    fn ranges(locks: &[(LockKind, u64, u64)]) -> Vec<(u64, u64, bool)> {
        let mut ranges = Ranges::default();
        for (kind, start, end) in locks {
            ranges.set(lock(*kind, *start, *end));
        }
        let mut told: Vec<_> = ranges
            .0
            .iter()
            .map(|one| (one.start, one.end, one.kind == LockKind::Write))
            .collect();
        told.sort_unstable();
        told
    }

    #[test]
    fn locks_replace_what_they_cover_and_join_their_like() {
        use LockKind::{Read, Unlock, Write};
        let end = u64::MAX >> 1;
        assert_eq!(ranges(&[(Write, 0, 4), (Write, 5, 9)]), [(0, 9, true)]);
        assert_eq!(
            ranges(&[(Read, 0, end), (Write, 5, 9)]),
            [(0, 4, false), (5, 9, true), (10, end, false)]
        );
        assert_eq!(
            ranges(&[(Write, 0, end), (Unlock, 3, 3)]),
            [(0, 2, true), (4, end, true)]
        );
        assert_eq!(ranges(&[(Write, 2, 8), (Read, 2, 8)]), [(2, 8, false)]);
        assert_eq!(ranges(&[(Write, 2, 8), (Unlock, 0, end)]), []);
    }

    #[test]
    fn readers_are_in_the_way_of_writers_alone() {
        let mut held = Ranges::default();
        held.set(lock(LockKind::Read, 5, 9));
        assert!(held.conflict(lock(LockKind::Write, 9, 9)));
        assert!(!held.conflict(lock(LockKind::Read, 9, 9)));
        assert!(!held.conflict(lock(LockKind::Write, 10, 20)));
        held.set(lock(LockKind::Write, 5, 9));
        assert!(held.conflict(lock(LockKind::Read, 9, 9)));
    }
}
