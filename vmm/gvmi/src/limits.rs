//! What an image may take before building it is given up: archives and layers
//! come from anywhere, and a few kilobytes can unpack to anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::tar::TarError;

/// How much a source may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most entries in all layers together, and most names in the tree that
    /// they make. The index of the layers takes up to 80 bytes for each; the
    /// bytes of all names are limited to 64 for each, and those of folders'
    /// extended attributes to 16 (either is at least 1 MiB).
    pub max_entries: u32,
    /// Most bytes of all archives together, unpacked, with the holes of their
    /// sparse files.
    pub max_size: u64,
}

/// Bytes of names for each entry, and at least.
const NAMES_PER_ENTRY: u64 = 64;
const MIN_NAMES: u64 = 1 << 20;
/// Bytes of folders' extended attributes for each entry, and at least.
const XATTRS_PER_ENTRY: u64 = 16;
const MIN_XATTRS: u64 = 1 << 20;

impl Limits {
    /// Most bytes of all names together.
    pub(crate) fn max_names(&self) -> u64 {
        (u64::from(self.max_entries) * NAMES_PER_ENTRY).max(MIN_NAMES)
    }

    /// Most bytes of the extended attributes of all folders together, with
    /// their lengths.
    pub(crate) fn max_xattrs(&self) -> u64 {
        (u64::from(self.max_entries) * XATTRS_PER_ENTRY).max(MIN_XATTRS)
    }
}

impl Default for Limits {
    /// 500 000 entries and 64 GiB: several times the largest common images.
    fn default() -> Self {
        Self {
            max_entries: 500_000,
            max_size: 64 << 30,
        }
    }
}

/// What is left of [`Limits::max_size`], for archives that are read at the
/// same time.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    max: u64,
    used: Arc<AtomicU64>,
}

impl Budget {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            max: limits.max_size,
            used: Arc::default(),
        }
    }

    /// Takes `bytes` of it.
    pub(crate) fn take(&self, bytes: u64) -> Result<(), TarError> {
        let take = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.max);
        self.used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .map(drop)
            .map_err(|_| TarError::TooLarge { max: self.max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_ends_at_its_limit_however_much_is_asked_for() {
        let budget = Budget::new(&Limits {
            max_size: 10,
            ..Default::default()
        });
        let shared = budget.clone();
        assert!(budget.take(6).is_ok());
        assert!(shared.take(u64::MAX).is_err());
        assert!(shared.take(5).is_err());
        assert!(shared.take(4).is_ok());
        assert!(budget.take(1).is_err());
    }
}
