//! Guest memory as the source or the destination of one transfer with a file.

use std::io;
use std::os::fd::BorrowedFd;

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
    /// Returns the bytes read: fewer than asked for at the end of the file.
    pub fn read_from(&self, file: BorrowedFd<'_>, offset: u64) -> io::Result<usize> {
        let mut bytes = vec![0; self.len()];
        let read = rustix::io::pread(file, &mut bytes, offset)?;
        let mut rest = bytes.get(..read).unwrap_or_default();
        for piece in &self.pieces {
            let (now, later) = rest.split_at(rest.len().min(piece.len()));
            piece.copy_from(now);
            rest = later;
        }
        Ok(read)
    }

    /// Stores the memory in `file` at `offset`, or at the file's end when it
    /// was opened with `O_APPEND`. Returns the bytes written.
    pub fn write_to(&self, file: BorrowedFd<'_>, offset: u64) -> io::Result<usize> {
        let mut bytes = Vec::with_capacity(self.len());
        for piece in &self.pieces {
            let mut copy = vec![0; piece.len()];
            piece.copy_to(&mut copy[..]);
            bytes.extend(copy);
        }
        Ok(rustix::io::pwrite(file, &bytes, offset)?)
    }
}
