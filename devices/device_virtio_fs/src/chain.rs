//! From a descriptor chain to the bytes of a request and the room for its
//! reply: VIRTIO 1.2 section 5.11.6.
//!
//! A chain is two byte streams, one that the driver sends and one that it wants
//! filled, however they are cut into descriptors. Knows nothing of FUSE but the
//! length of a reply's header.

use std::mem::size_of;

use device_model::GuestMemory;
use virtio_queue::DescriptorChain;
use vm_memory::{Bytes, GuestAddress, GuestMemory as _, Permissions, VolatileSlice};
use zerocopy::{FromBytes, IntoBytes};

use crate::wire::OutHeader;

/// Most descriptors of a chain: a chain cannot be longer than its queue.
const MAX_DESCRIPTORS: usize = crate::device::REQUEST_QUEUE_SIZE as usize;

/// The chain is not a request followed by room for its reply, in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The guest memory of one chain.
pub(crate) struct Chain<'m> {
    /// What the driver sends.
    pub(crate) sent: Stream<'m>,
    /// Where the header of the reply goes; `None` when there is not room for it.
    pub(crate) header: Option<HeaderPlace>,
    /// What the driver wants filled after that.
    pub(crate) room: Stream<'m>,
}

impl<'m> Chain<'m> {
    /// Takes a chain in, without reading its bytes.
    pub(crate) fn new(
        memory: &'m GuestMemory,
        chain: DescriptorChain<&'m GuestMemory>,
    ) -> Result<Self, Malformed> {
        let mut sent = Vec::new();
        let mut wanted = Vec::new();
        let mut place = HeaderPlace(Vec::new());
        let mut complete = false;
        for descriptor in chain.take(MAX_DESCRIPTORS) {
            complete = !descriptor.has_next();
            let len = descriptor.len() as usize;
            if len == 0 {
                continue;
            }
            let (to, access) = if descriptor.is_write_only() {
                let piece = len.min(size_of::<OutHeader>() - place.len());
                place.0.push((descriptor.addr(), piece));
                (&mut wanted, Permissions::Write)
            } else if wanted.is_empty() {
                (&mut sent, Permissions::Read)
            } else {
                // All that is sent has to come before all that is wanted.
                return Err(Malformed);
            };
            let slices = memory
                .get_slices(descriptor.addr(), len, access)
                .map_err(|_| Malformed)?;
            for slice in slices {
                to.push(slice.map_err(|_| Malformed)?);
            }
        }
        if !complete {
            return Err(Malformed);
        }
        let header = (place.len() == size_of::<OutHeader>()).then_some(place);
        let mut room = Stream(wanted);
        if header.is_some() {
            room.split_off_front(size_of::<OutHeader>());
        }
        Ok(Chain {
            sent: Stream(sent),
            header,
            room,
        })
    }
}

/// Where the header of a reply goes: by address, as the reply may come when
/// nobody borrows guest memory any more.
pub(crate) struct HeaderPlace(Vec<(GuestAddress, usize)>);

impl HeaderPlace {
    fn len(&self) -> usize {
        self.0.iter().map(|(_, len)| len).sum()
    }

    /// Writes the header. The pieces were in guest memory when the chain was
    /// taken in, and guest memory does not shrink.
    pub(crate) fn put(&self, memory: &GuestMemory, header: OutHeader) {
        let mut bytes = header.as_bytes();
        for (address, len) in &self.0 {
            let (now, later) = bytes.split_at(*len);
            let _ = memory.write_slice(now, *address);
            bytes = later;
        }
    }
}

/// Pieces of guest memory, one after the other.
#[derive(Clone, Default)]
pub(crate) struct Stream<'m>(Vec<VolatileSlice<'m>>);

impl<'m> Stream<'m> {
    /// Bytes in all pieces. Cannot overflow: there are at most
    /// `MAX_DESCRIPTORS` times 4 GiB.
    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(VolatileSlice::len).sum()
    }

    /// The pieces.
    pub(crate) fn into_pieces(self) -> Vec<VolatileSlice<'m>> {
        self.0
    }

    /// Takes the first `count` bytes off and gives them; fewer when there are
    /// no more.
    pub(crate) fn split_off_front(&mut self, count: usize) -> Stream<'m> {
        let mut left = count;
        let mut front = Vec::new();
        let mut back = Vec::new();
        for piece in self.0.drain(..) {
            let step = left.min(piece.len());
            left -= step;
            // The cut is inside of the piece, so that both halves exist.
            if let Ok((now, later)) = piece.split_at(step) {
                front.extend((!now.is_empty()).then_some(now));
                back.extend((!later.is_empty()).then_some(later));
            }
        }
        self.0 = back;
        Stream(front)
    }

    /// Takes a structure off the front, as a copy; `None` when it is not all there.
    pub(crate) fn take<T: FromBytes>(&mut self) -> Option<T> {
        let bytes = self.split_off_front(size_of::<T>()).copy();
        T::read_from_bytes(&bytes).ok()
    }

    /// A copy of the bytes. The caller has limited how many there are.
    pub(crate) fn copy(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        let mut at = 0;
        for piece in &self.0 {
            at += piece.copy_to(&mut bytes[at..]);
        }
        bytes
    }

    /// Fills the front with `bytes`; as many as there is room for.
    pub(crate) fn fill(&self, mut bytes: &[u8]) {
        for piece in &self.0 {
            let (now, later) = bytes.split_at(bytes.len().min(piece.len()));
            piece.copy_from(now);
            bytes = later;
        }
    }
}
