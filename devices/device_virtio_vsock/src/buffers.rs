//! A run of guest memory in pieces, used as one sequence of bytes wherever the
//! driver cut it. Copies only what its callers name.

use virtio_queue::DescriptorChain;
use vm_memory::{GuestMemoryBackend, VolatileSlice};

use device_model::GuestMemory;

use crate::packet::HEADER_LEN;

/// The most descriptors a chain may have, and pieces of memory it may cover.
/// Linux drivers use up to 19; the cap bounds the work for one chain and one
/// vectored system call.
const MAX_PIECES: usize = 64;

/// Which descriptors of a chain to take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Those that the device reads.
    Readable,
    /// Those that the device writes.
    Writable,
}

/// Pieces of guest memory, none of them empty.
#[derive(Default)]
pub struct Buffers<'m> {
    pieces: Vec<VolatileSlice<'m>>,
    len: usize,
}

impl<'m> Buffers<'m> {
    /// The bytes of one side of `chain`. Empty when a descriptor points outside
    /// guest memory or there are more than `MAX_PIECES`.
    pub fn of_chain(
        memory: &'m GuestMemory,
        chain: DescriptorChain<&'m GuestMemory>,
        side: Side,
    ) -> Self {
        let mut buffers = Buffers::default();
        for (index, descriptor) in chain.enumerate() {
            if index >= MAX_PIECES {
                return Buffers::default();
            }
            if descriptor.is_write_only() != (side == Side::Writable) {
                continue;
            }
            let len = descriptor.len() as usize;
            for piece in GuestMemoryBackend::get_slices(memory, descriptor.addr(), len) {
                match piece {
                    Ok(piece) if buffers.pieces.len() < MAX_PIECES => buffers.push(piece),
                    _ => return Buffers::default(),
                }
            }
        }
        buffers
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The pieces in order.
    pub fn pieces(&self) -> &[VolatileSlice<'m>] {
        &self.pieces
    }

    /// Adds the bytes of `other` at the end.
    pub fn append(&mut self, other: Buffers<'m>) {
        self.pieces.extend(other.pieces);
        self.len += other.len;
    }

    /// Takes off and returns the first `mid` bytes, or all if there are fewer.
    pub fn split_to(&mut self, mid: usize) -> Buffers<'m> {
        let mut head = Buffers::default();
        let mut tail = Buffers::default();
        for piece in self.pieces.drain(..) {
            let cut = piece.len().min(mid - head.len);
            let (left, right) = piece
                .split_at(cut)
                .expect("the cut is within the piece's length");
            head.push(left);
            tail.push(right);
        }
        *self = tail;
        head
    }

    /// Keeps the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            *self = self.split_to(len);
        }
    }

    /// Takes off the first bytes, as those of a header. `None` when there are
    /// too few.
    pub fn read_header(&mut self) -> Option<[u8; HEADER_LEN]> {
        if self.len < HEADER_LEN {
            return None;
        }
        let mut bytes = [0; HEADER_LEN];
        let mut rest = bytes.as_mut_slice();
        for piece in self.split_to(HEADER_LEN).pieces {
            let copied = piece.copy_to(rest);
            rest = rest.get_mut(copied..).unwrap_or_default();
        }
        Some(bytes)
    }

    /// Writes `bytes` at the front, as many as there is room for.
    pub fn write(&self, mut bytes: &[u8]) {
        for piece in &self.pieces {
            let len = piece.len().min(bytes.len());
            let (now, later) = bytes.split_at(len);
            piece.copy_from(now);
            bytes = later;
        }
    }

    /// Copies the bytes from `skip` on to the end of `out`.
    pub fn copy_tail(&self, mut skip: usize, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            let cut = piece.len().min(skip);
            skip -= cut;
            let rest = piece
                .offset(cut)
                .expect("the cut is within the piece's length");
            let start = out.len();
            out.resize(start + rest.len(), 0);
            rest.copy_to(out.get_mut(start..).unwrap_or_default());
        }
    }

    fn push(&mut self, piece: VolatileSlice<'m>) {
        if !piece.is_empty() {
            self.len += piece.len();
            self.pieces.push(piece);
        }
    }
}
