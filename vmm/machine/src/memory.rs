//! Guest RAM: anonymous memory around the hole below 4 GiB.
//!
//! Not a memfd: hosts give transparent huge pages to anonymous memory, and a
//! guest starts a third faster on them. Whoever will share guest RAM with
//! another process needs a descriptor, and has to weigh that.

use vm_memory::mmap::FromRangesError;
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::layout::{MMIO_HOLE, MMIO_HOLE_END};
use device_model::GuestMemory;

/// The least RAM that a guest can have: kernel, agent and initramfs fill half of it.
pub const MIN_MEMORY: u64 = 64 << 20;

const PAGE: u64 = 4096;

/// Why there is no guest RAM.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// Below [`MIN_MEMORY`].
    #[error("{} MiB of memory is too little for a guest; give it at least {} MiB", bytes >> 20, MIN_MEMORY >> 20)]
    TooLittle {
        /// What was asked for, in bytes.
        bytes: u64,
    },
    /// More than the host has.
    #[error("{} MiB of memory is more than the {} MiB of this host", bytes >> 20, host >> 20)]
    TooMuch {
        /// What was asked for, in bytes.
        bytes: u64,
        /// The host's RAM, in bytes.
        host: u64,
    },
    /// Mapping the memory failed.
    #[error("map {} MiB of guest memory", bytes >> 20)]
    Map {
        /// What was asked for, in bytes.
        bytes: u64,
        /// What the kernel said.
        source: FromRangesError,
    },
}

/// Where `bytes` of RAM lie: `(start, length)` in ascending order.
pub fn ranges(bytes: u64) -> Vec<(u64, u64)> {
    let low = bytes.min(MMIO_HOLE);
    let mut ranges = vec![(0, low)];
    if bytes > low {
        ranges.push((MMIO_HOLE_END, bytes - low));
    }
    ranges
}

/// Makes `bytes` of guest RAM (rounded up to whole pages), all zero. Pages cost
/// the host memory when the guest first touches them.
pub fn create(bytes: u64) -> Result<GuestMemory, MemoryError> {
    if bytes < MIN_MEMORY {
        return Err(MemoryError::TooLittle { bytes });
    }
    let host = host_memory();
    if bytes > host {
        return Err(MemoryError::TooMuch { bytes, host });
    }
    let bytes = bytes.next_multiple_of(PAGE);
    let ranges = ranges(bytes);
    let ranges: Vec<_> = ranges
        .into_iter()
        .map(|(start, len)| (GuestAddress(start), len as usize))
        .collect();
    GuestMemoryMmap::from_ranges(&ranges).map_err(|source| MemoryError::Map { bytes, source })
}

/// RAM of this host in bytes.
fn host_memory() -> u64 {
    let pages = nix::unistd::sysconf(nix::unistd::SysconfVar::_PHYS_PAGES);
    pages
        .ok()
        .flatten()
        .and_then(|pages| u64::try_from(pages).ok())
        .map_or(u64::MAX, |pages| pages.saturating_mul(PAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_below_the_hole_is_one_range() {
        assert_eq!(ranges(512 << 20), [(0, 512 << 20)]);
    }

    #[test]
    fn ram_above_the_hole_goes_on_at_4_gib() {
        assert_eq!(ranges(4 << 30), [(0, 3 << 30), (4 << 30, 1 << 30)]);
    }

    #[test]
    fn too_little_and_too_much_are_refused() {
        assert!(matches!(
            create(MIN_MEMORY - 1),
            Err(MemoryError::TooLittle { .. })
        ));
        assert!(matches!(create(u64::MAX), Err(MemoryError::TooMuch { .. })));
    }
}
