//! From a descriptor chain to a block request: VIRTIO 1.2 section 5.2.6.
//!
//! A chain is two byte streams, one that the driver sends and one that it wants
//! filled, however they are cut into descriptors: the first 16 bytes sent are
//! the header, the last byte wanted is the status. The header is copied out of
//! guest memory once. Nothing here reads or writes a disk.

use device_model::GuestMemory;
use virtio_queue::DescriptorChain;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{GuestMemory as _, Permissions};

use crate::backend::Slice;

/// Most descriptors of a chain that are looked at. A chain cannot be longer
/// than its queue; a table of indirect descriptors, which is not offered, could
/// be.
pub(crate) const MAX_DESCRIPTORS: usize = crate::device::QUEUE_SIZE as usize;

const HEADER: usize = 16;

/// The chain is not a block request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What the driver asks for.
pub(crate) struct Request<'s, 'm> {
    /// `VIRTIO_BLK_T_*`, unchecked.
    pub(crate) kind: u32,
    /// In units of 512 bytes, unchecked.
    pub(crate) sector: u64,
    /// What the driver sent after the header.
    pub(crate) sent: &'s [Slice<'m>],
    /// What the driver wants filled, without the status byte.
    pub(crate) wanted: &'s [Slice<'m>],
}

/// The guest memory of one chain. Used again for each chain, to keep the
/// allocations.
#[derive(Default)]
pub(crate) struct Segments<'m> {
    sent: Vec<Slice<'m>>,
    wanted: Vec<Slice<'m>>,
}

impl<'m> Segments<'m> {
    /// Takes in the next chain. Gives the place for its status byte, where
    /// there is one, and whether the rest can be a request.
    pub(crate) fn collect(
        &mut self,
        memory: &'m GuestMemory,
        chain: DescriptorChain<&'m GuestMemory>,
    ) -> (Option<Slice<'m>>, Result<(), Malformed>) {
        self.sent.clear();
        self.wanted.clear();
        let mut sound = Ok(());
        let mut complete = false;
        let mut status_mapped = false;
        for descriptor in chain.take(MAX_DESCRIPTORS) {
            complete = !descriptor.has_next();
            if descriptor.len() == 0 {
                continue;
            }
            let mapped = if descriptor.is_write_only() {
                status_mapped = map(&mut self.wanted, memory, descriptor, Permissions::Write);
                status_mapped
            } else {
                // All that is sent has to come before all that is wanted.
                self.wanted.is_empty() && map(&mut self.sent, memory, descriptor, Permissions::Read)
            };
            if !mapped {
                sound = Err(Malformed);
            }
        }
        // Without the chain's true end its last byte is not the status.
        if !complete || !status_mapped {
            return (None, Err(Malformed));
        }
        (self.take_status(), sound)
    }

    fn take_status(&mut self) -> Option<Slice<'m>> {
        let last = self.wanted.pop()?;
        let (before, status) = last.split_at(last.len().checked_sub(1)?).ok()?;
        if !before.is_empty() {
            self.wanted.push(before);
        }
        Some(status)
    }

    /// The chain that was taken in last, as a request.
    pub(crate) fn request(&mut self) -> Result<Request<'_, 'm>, Malformed> {
        let mut header = [0; HEADER];
        let copied = gather(&self.sent, &mut header);
        if copied < HEADER {
            return Err(Malformed);
        }
        let mut skip = HEADER;
        let mut whole = 0;
        for slice in &mut self.sent {
            if skip < slice.len() {
                *slice = slice.offset(skip).map_err(|_| Malformed)?;
                break;
            }
            skip -= slice.len();
            whole += 1;
        }
        let [kind, _, sector_low, sector_high] = words(header);
        Ok(Request {
            kind,
            sector: u64::from(sector_high) << 32 | u64::from(sector_low),
            sent: self.sent.get(whole..).unwrap_or_default(),
            wanted: &self.wanted,
        })
    }
}

/// Adds the memory of `descriptor` to `to`. False when it is not all guest memory.
fn map<'m>(
    to: &mut Vec<Slice<'m>>,
    memory: &'m GuestMemory,
    descriptor: Descriptor,
    access: Permissions,
) -> bool {
    let Ok(slices) = memory.get_slices(descriptor.addr(), descriptor.len() as usize, access) else {
        return false;
    };
    for slice in slices {
        match slice {
            Ok(slice) => to.push(slice),
            Err(_) => return false,
        }
    }
    true
}

/// The four little-endian words of `bytes`.
pub(crate) fn words(bytes: [u8; 16]) -> [u32; 4] {
    let value = u128::from_le_bytes(bytes);
    [0, 32, 64, 96].map(|shift| (value >> shift) as u32)
}

/// Sum of the lengths. Cannot overflow: a chain has at most `MAX_DESCRIPTORS`
/// times 4 GiB.
pub(crate) fn length(slices: &[Slice<'_>]) -> u64 {
    slices.iter().map(|slice| slice.len() as u64).sum()
}

/// Copies from the start of `slices` to `to` and says how many bytes.
pub(crate) fn gather(slices: &[Slice<'_>], to: &mut [u8]) -> usize {
    let mut copied = 0;
    for slice in slices {
        copied += slice.copy_to(&mut to[copied..]);
    }
    copied
}

/// Copies `from` to the start of `slices` and says how many bytes had room.
pub(crate) fn scatter(slices: &[Slice<'_>], from: &[u8]) -> usize {
    let mut copied = 0;
    for slice in slices {
        let step = slice.len().min(from.len() - copied);
        slice.copy_from(&from[copied..copied + step]);
        copied += step;
    }
    copied
}
