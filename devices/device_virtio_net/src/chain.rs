//! A descriptor chain as pieces of guest memory, wherever the driver cut it.
//! VIRTIO 1.2 section 2.7.5.

use device_model::GuestMemory;
use device_model::net::MAX_FRAME_PIECES;
use virtio_queue::DescriptorChain;
use vm_memory::{GuestAddress, GuestMemoryBackend, VolatileSlice};

/// The most descriptors that a chain may have. Linux drivers use up to 19.
const MAX_DESCRIPTORS: usize = MAX_FRAME_PIECES;

/// Which descriptors of a chain to take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Those that the device reads.
    Readable,
    /// Those that the device writes.
    Writable,
}

/// Gives the memory of one side of `chain` to `take`, piece by piece with its
/// address in the guest, and returns the sum of the lengths. `None` when the chain
/// does not end, has too many descriptors, or points outside of guest memory;
/// then some pieces may have been given.
pub(crate) fn walk<'m>(
    memory: &'m GuestMemory,
    chain: DescriptorChain<&'m GuestMemory>,
    side: Side,
    mut take: impl FnMut(GuestAddress, VolatileSlice<'m>),
) -> Option<usize> {
    let mut total = 0;
    let mut complete = false;
    for (index, descriptor) in chain.enumerate() {
        if index >= MAX_DESCRIPTORS {
            return None;
        }
        complete = !descriptor.has_next();
        if descriptor.is_write_only() != (side == Side::Writable) {
            continue;
        }
        let mut address = descriptor.addr();
        let len = descriptor.len() as usize;
        for slice in GuestMemoryBackend::get_slices(memory, address, len) {
            let slice = slice.ok()?;
            total += slice.len();
            take(address, slice);
            // Cannot overflow: the slice lies in guest memory.
            address = GuestAddress(address.0 + slice.len() as u64);
        }
    }
    complete.then_some(total)
}
