//! Guest RAM: anonymous memory around the hole below 4 GiB.
//!
//! Not a memfd: hosts give transparent huge pages to anonymous memory, and on
//! them a guest takes one fault where it took 512. Whoever will share guest RAM
//! with another process needs a descriptor, and has to weigh that.

// UNSAFETY: vm-memory maps where the kernel likes, and huge pages need a place
// of our choice.
#![expect(unsafe_code, reason = "maps guest RAM at addresses for huge pages")]

use std::{io, ptr};

use device_model::{GuestMemory, Keeper};
use vm_memory::mmap::{FromRangesError, MmapRegionBuilder, MmapRegionError};
use vm_memory::{GuestAddress, GuestRegionMmap, MmapRegion};

use crate::layout::{MMIO_HOLE, MMIO_HOLE_END};

/// The least RAM that a guest can have: kernel, agent and initramfs fill half of it.
pub const MIN_MEMORY: u64 = 64 << 20;

const PAGE: u64 = 4096;

/// KVM maps a huge page of the host into the guest only when both addresses of
/// it are multiples of its size. Ranges of guest RAM begin at such addresses.
const HUGE_PAGE: usize = 2 << 20;

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
    let map = || {
        let regions = ranges(bytes).into_iter().map(|(start, len)| {
            let region = map_aligned(len as usize)?;
            GuestRegionMmap::new(region, GuestAddress(start))
                .ok_or(FromRangesError::InvalidGuestRegion)
        });
        let regions = regions.collect::<Result<Vec<_>, FromRangesError>>()?;
        Ok(GuestMemory::from_regions(regions)?)
    };
    map().map_err(|source| MemoryError::Map { bytes, source })
}

/// Anonymous memory, removed when dropped.
struct Mapping {
    start: *mut libc::c_void,
    len: usize,
}

// SAFETY: it is an address range and nothing that belongs to a thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; it has no method that takes a shared reference.
unsafe impl Sync for Mapping {}

impl Mapping {
    const PROTECTION: libc::c_int = libc::PROT_READ | libc::PROT_WRITE;
    const FLAGS: libc::c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;

    fn new(len: usize) -> Result<Self, MmapRegionError> {
        // SAFETY: a mapping at an address that the kernel chooses touches nothing of ours.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), len, Self::PROTECTION, Self::FLAGS, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(MmapRegionError::Mmap(io::Error::last_os_error()));
        }
        Ok(Mapping { start, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new`, and whoever uses it holds the
        // keeper that holds this.
        unsafe { libc::munmap(self.start, self.len) };
    }
}

/// Maps `len` bytes at a multiple of [`HUGE_PAGE`], out of a mapping that is
/// larger by one: Linux before 6.7 places mappings at any page.
fn map_aligned(len: usize) -> Result<MmapRegion<Keeper>, MmapRegionError> {
    let mapping = Mapping::new(len + HUGE_PAGE)?;
    let ahead = mapping.start.align_offset(HUGE_PAGE);
    let start = mapping.start.wrapping_byte_add(ahead);
    // For hosts that give huge pages only on request. Others, and those without
    // any, lose nothing.
    // SAFETY: the range lies in our mapping, whose contents do not change by this.
    unsafe { libc::madvise(start, len, libc::MADV_HUGEPAGE) };
    let builder = MmapRegionBuilder::new_with_bitmap(len, Keeper::of(mapping))
        .with_mmap_prot(Mapping::PROTECTION)
        .with_mmap_flags(Mapping::FLAGS);
    // SAFETY: `len` bytes from `start` lie in the mapping, as `ahead` is below
    // the huge page that it has in excess. The region owns its keeper, so the
    // mapping lives as long.
    unsafe { builder.with_raw_mmap_pointer(start.cast()) }.build()
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
    use vm_memory::GuestMemoryBackend;

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
    fn every_range_can_be_mapped_with_huge_pages() {
        for bytes in [64 << 20, (100 << 20) + PAGE, (3 << 30) + (64 << 20)] {
            let memory = create(bytes).unwrap();
            for region in memory.iter() {
                assert_eq!(region.as_ptr() as usize % HUGE_PAGE, 0);
            }
        }
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
