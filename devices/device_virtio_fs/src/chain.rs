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

/// What most requests have: a header, arguments and a name, and both parts of a reply.
const USUAL_DESCRIPTORS: usize = 5;

/// The chain is not a request followed by room for its reply, in guest memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The guest memory of one chain.
pub(crate) struct Chain<'m> {
    /// What the driver sends, and after it what it wants filled.
    pieces: Vec<VolatileSlice<'m>>,
    /// Bytes of the former, and of both.
    sent: usize,
    all: usize,
    /// Where the header of the reply goes; `None` when there is not room for it.
    header: Option<HeaderPlace>,
}

impl<'m> Chain<'m> {
    /// Takes a chain in, without reading its bytes.
    pub(crate) fn new(
        memory: &'m GuestMemory,
        chain: DescriptorChain<&'m GuestMemory>,
    ) -> Result<Self, Malformed> {
        let mut pieces = Vec::with_capacity(USUAL_DESCRIPTORS);
        // Cannot overflow: there are at most `MAX_DESCRIPTORS` times 4 GiB.
        let (mut sent, mut all) = (0, 0);
        let mut place = HeaderPlace(Vec::new());
        let mut complete = false;
        for descriptor in chain.take(MAX_DESCRIPTORS) {
            complete = !descriptor.has_next();
            let len = descriptor.len() as usize;
            if len == 0 {
                continue;
            }
            let access = if descriptor.is_write_only() {
                let piece = len.min(size_of::<OutHeader>() - place.len());
                place
                    .0
                    .extend((piece > 0).then_some((descriptor.addr(), piece)));
                Permissions::Write
            } else if sent == all {
                sent += len;
                Permissions::Read
            } else {
                // All that is sent has to come before all that is wanted.
                return Err(Malformed);
            };
            all += len;
            let slices = memory
                .get_slices(descriptor.addr(), len, access)
                .map_err(|_| Malformed)?;
            for slice in slices {
                pieces.push(slice.map_err(|_| Malformed)?);
            }
        }
        if !complete {
            return Err(Malformed);
        }
        Ok(Chain {
            pieces,
            sent,
            all,
            header: (place.len() == size_of::<OutHeader>()).then_some(place),
        })
    }

    /// What the driver sends.
    pub(crate) fn sent(&self) -> Stream<'_> {
        Stream {
            pieces: &self.pieces,
            start: 0,
            len: self.sent,
        }
    }

    /// What the driver wants filled after the header of the reply; `None` when there
    /// is not room for that.
    pub(crate) fn room(&self) -> Option<Stream<'_>> {
        let start = self.sent + size_of::<OutHeader>();
        self.header.as_ref().map(|_| Stream {
            pieces: &self.pieces,
            start,
            len: self.all - start,
        })
    }

    /// Where the header of the reply goes.
    pub(crate) fn into_header(self) -> Option<HeaderPlace> {
        self.header
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

/// A range of bytes in pieces of guest memory that lie one after the other.
#[derive(Clone, Copy, Default)]
pub(crate) struct Stream<'m> {
    pieces: &'m [VolatileSlice<'m>],
    /// How many bytes of the pieces come before.
    start: usize,
    /// How many there are, at the most as many as the pieces have after `start`.
    len: usize,
}

impl<'m> Stream<'m> {
    /// Bytes in all pieces.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The pieces, none of them empty.
    pub(crate) fn pieces(self) -> impl Iterator<Item = VolatileSlice<'m>> {
        let (mut before, mut left) = (self.start, self.len);
        let pieces = self.pieces.iter().map_while(move |piece| {
            let skipped = before.min(piece.len());
            before -= skipped;
            let taken = left.min(piece.len() - skipped);
            let ended = left == 0;
            left -= taken;
            // Within the piece, so that there is such a part of it.
            (!ended).then(|| piece.subslice(skipped, taken).ok())
        });
        pieces.flatten().filter(|piece| !piece.is_empty())
    }

    /// Takes the first `count` bytes off and gives them; fewer when there are
    /// no more.
    pub(crate) fn split_off_front(&mut self, count: usize) -> Stream<'m> {
        let len = count.min(self.len);
        let front = Stream { len, ..*self };
        self.start += len;
        self.len -= len;
        front
    }

    /// Takes a structure off the front, as a copy; `None` when it is not all there.
    pub(crate) fn take<T: FromBytes + IntoBytes>(&mut self) -> Option<T> {
        let front = self.split_off_front(size_of::<T>());
        let mut taken = T::new_zeroed();
        (front.len == size_of::<T>()).then(|| {
            front.copy_to(taken.as_mut_bytes());
            taken
        })
    }

    /// A copy of the bytes. The caller has limited how many there are.
    pub(crate) fn copy(self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.copy_to(&mut bytes);
        bytes
    }

    /// Copies to `bytes`, which are as many.
    fn copy_to(self, bytes: &mut [u8]) {
        let mut at = 0;
        for piece in self.pieces() {
            at += piece.copy_to(&mut bytes[at..]);
        }
    }

    /// Fills the front with `bytes`; as many as there is room for.
    pub(crate) fn fill(self, mut bytes: &[u8]) {
        for piece in self.pieces() {
            if bytes.is_empty() {
                break;
            }
            let (now, later) = bytes.split_at(bytes.len().min(piece.len()));
            piece.copy_from(now);
            bytes = later;
        }
    }
}
