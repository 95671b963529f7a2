//! What a process holds of its host.

use std::fs;

/// Counts of what must not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: usize,
    /// Entries in the folder for temporary files.
    pub temporary_files: usize,
    /// Mapped regions of memory.
    pub mappings: usize,
}

impl Resources {
    /// Of this process.
    pub fn now() -> Self {
        let entries = |path: &str| fs::read_dir(path).map_or(0, Iterator::count);
        let temporary = std::env::temp_dir();
        Resources {
            descriptors: entries("/proc/self/fd"),
            threads: entries("/proc/self/task"),
            temporary_files: entries(&temporary.to_string_lossy()),
            mappings: fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count()),
        }
    }
}
