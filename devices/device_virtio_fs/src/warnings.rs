//! A log that the guest cannot flood.

use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts things that should not happen, from several threads, and logs the
/// first, second, fourth, eighth and so on: at most 64 lines.
pub(crate) struct Warnings {
    tag: String,
    count: AtomicU64,
}

impl Warnings {
    /// For the file system with this tag.
    pub(crate) fn new(tag: &str) -> Self {
        Warnings {
            tag: tag.escape_debug().to_string(),
            count: AtomicU64::new(0),
        }
    }

    /// Notes that `what` happened.
    pub(crate) fn note(&self, what: impl Display) {
        let count = self.count.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        if count.is_power_of_two() {
            log::warn!("file system \"{}\": {what} (warning {count})", self.tag);
        }
    }
}
