//! A token bucket: bytes per second, and how many at once.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

const NANOSECONDS: i128 = 1_000_000_000;

/// What may pass in one direction. A frame may pass while there is anything left,
/// and what it is too long by is owed: so the longest frame passes through the
/// smallest bucket, and on the average nothing passes too fast.
#[derive(Debug)]
pub(crate) struct Bucket {
    /// Bytes per second.
    rate: NonZeroU64,
    /// Most that is left: in billionths of a byte, as all levels are.
    full: i128,
    level: i128,
    filled: Instant,
}

impl Bucket {
    /// A full one, of `burst` bytes, at the time `now`.
    pub(crate) fn new(rate: NonZeroU64, burst: NonZeroU64, now: Instant) -> Self {
        let full = i128::from(burst.get()) * NANOSECONDS;
        Bucket {
            rate,
            full,
            level: full,
            filled: now,
        }
    }

    /// Adds what has come in until `now`.
    pub(crate) fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled).as_nanos();
        let passed = i128::try_from(passed).unwrap_or(i128::MAX);
        let came = passed.saturating_mul(self.rate.get().into());
        self.level = self.full.min(self.level.saturating_add(came));
        self.filled = now;
    }

    /// Nothing may pass.
    pub(crate) fn is_empty(&self) -> bool {
        self.level <= 0
    }

    /// A frame of `bytes` passes.
    pub(crate) fn take(&mut self, bytes: usize) {
        self.level -= bytes as i128 * NANOSECONDS;
    }

    /// How long it stays empty.
    pub(crate) fn wait(&self) -> Duration {
        let nanoseconds = (-self.level).max(0) / i128::from(self.rate.get()) + 1;
        Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;
