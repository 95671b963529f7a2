//! Guest memory as the source or the destination of one transfer with a file.

use std::io;
use std::os::fd::BorrowedFd;

use device_model::guest_io;
use vm_memory::VolatileSlice;

/// Pieces of guest memory, in order. The guest may change them at any time.
pub struct Memory<'m> {
    pieces: Vec<VolatileSlice<'m>>,
}

impl<'m> Memory<'m> {
    /// These pieces, one after the other.
    pub fn new(pieces: Vec<VolatileSlice<'m>>) -> Self {
        Memory { pieces }
    }

    /// Bytes in all pieces.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(VolatileSlice::len).sum()
    }

    /// Whether there is not a byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills the memory from `file` at `offset`, without a copy in between.
    /// Returns the bytes read: fewer than asked for at the end of the file, or
    /// when an error came after some.
    pub fn read_from(&self, file: BorrowedFd<'_>, offset: u64) -> io::Result<usize> {
        guest_io::read_at(file, &self.pieces, offset).or_partial()
    }

    /// Stores the memory in `file` at `offset`, or at the file's end when it
    /// was opened with `O_APPEND`. Returns the bytes written: fewer than there
    /// are when an error came after some.
    pub fn write_to(&self, file: BorrowedFd<'_>, offset: u64) -> io::Result<usize> {
        guest_io::write_at(file, &self.pieces, offset).or_partial()
    }

    /// Fills the memory with `bytes`, as many as there is room for, and says
    /// how many: for file systems that have no file behind them.
    pub fn fill_from(&self, mut bytes: &[u8]) -> usize {
        let mut filled = 0;
        for piece in &self.pieces {
            let (now, later) = bytes.split_at(bytes.len().min(piece.len()));
            piece.copy_from(now);
            filled += now.len();
            bytes = later;
        }
        filled
    }

    /// A copy of the memory. Its length is at most that of one request.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len()];
        let mut rest = bytes.as_mut_slice();
        for piece in &self.pieces {
            let copied = piece.copy_to(rest);
            rest = &mut rest[copied..];
        }
        bytes
    }
}
