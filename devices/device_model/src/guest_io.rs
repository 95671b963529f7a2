//! Reads and writes between a file and guest memory, without a copy in between.
//!
//! Knows neither virtqueues nor who chose the file. Not for sockets and pipes:
//! every transfer has an offset in the file.

// UNSAFETY: preadv and pwritev between a file and guest memory, which has no
// safe slices because the guest writes to it at the same time.
#![expect(unsafe_code, reason = "vectored reads and writes of guest memory")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use vm_memory::VolatileSlice;

/// Most pieces that Linux takes in one vectored call (`UIO_MAXIOV`).
const MAX_PIECES: usize = 1024;

/// What a transfer did.
#[derive(Debug)]
#[must_use]
pub struct Moved {
    /// Bytes moved, from the start of the memory on.
    pub bytes: usize,
    /// Why the transfer ended: `Ok` when the memory was used up or the file
    /// takes or gives no more, else what the system said about the byte after
    /// the last one moved.
    pub end: io::Result<()>,
}

impl Moved {
    /// As `read(2)` and `write(2)` tell it: an error after some bytes is their
    /// number, and comes again with the next call.
    pub fn or_partial(self) -> io::Result<usize> {
        match self {
            Moved { bytes: 0, end } => end.map(|()| 0),
            Moved { bytes, .. } => Ok(bytes),
        }
    }
}

/// Fills `memory`, one piece after the other, with the bytes of `file` from
/// `offset` on, until it is full or the file ends.
pub fn read_at(file: BorrowedFd<'_>, memory: &[VolatileSlice<'_>], offset: u64) -> Moved {
    let file = file.as_raw_fd();
    transfer(memory, offset, |pieces, count, offset| {
        // SAFETY: `transfer` passes `count` pieces of mapped guest memory. It
        // is volatile memory: no reference to it exists anywhere.
        unsafe { libc::preadv(file, pieces, count, offset) }
    })
}

/// Stores the bytes of `memory`, one piece after the other, in `file` at
/// `offset`; at its end, whatever `offset` is, if it was opened with `O_APPEND`.
pub fn write_at(file: BorrowedFd<'_>, memory: &[VolatileSlice<'_>], offset: u64) -> Moved {
    let file = file.as_raw_fd();
    transfer(memory, offset, |pieces, count, offset| {
        // SAFETY: `transfer` passes `count` pieces of mapped guest memory,
        // which the call only reads.
        unsafe { libc::pwritev(file, pieces, count, offset) }
    })
}

/// Calls `once` with what is left of `memory` and the offset of that in the
/// file until nothing is left. Goes on after an interruption and a short count.
fn transfer(
    memory: &[VolatileSlice<'_>],
    offset: u64,
    once: impl Fn(*const libc::iovec, libc::c_int, libc::off_t) -> isize,
) -> Moved {
    let mut pieces = Pieces::of(memory);
    let mut bytes = 0;
    let end = loop {
        let left = pieces.left();
        if left.is_empty() {
            break Ok(());
        }
        let at = offset
            .checked_add(bytes as u64)
            .and_then(|at| libc::off_t::try_from(at).ok());
        let Some(at) = at else {
            break Err(io::ErrorKind::InvalidInput.into());
        };
        match once(left.as_ptr(), left.len() as libc::c_int, at) {
            0 => break Ok(()),
            moved if moved > 0 => {
                bytes += moved as usize;
                pieces.advance(moved as usize);
            }
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error => break Err(error),
            },
        }
    };
    Moved { bytes, end }
}

/// Guest memory as the kernel's vectored calls take it, with what is left to
/// transfer. Points at memory and does not touch it.
pub struct Pieces {
    list: Vec<libc::iovec>,
    done: usize,
}

impl Pieces {
    /// All of `slices`, without the empty ones: a call for nothing would look
    /// like the end of the file.
    pub fn of(slices: &[VolatileSlice<'_>]) -> Self {
        let list = slices
            .iter()
            .filter(|slice| !slice.is_empty())
            .map(|slice| libc::iovec {
                iov_base: slice.ptr_guard_mut().as_ptr().cast(),
                iov_len: slice.len(),
            })
            .collect();
        Pieces { list, done: 0 }
    }

    /// As many as one call takes; none when all is done.
    pub fn left(&self) -> &[libc::iovec] {
        let left = self.list.get(self.done..).unwrap_or_default();
        &left[..left.len().min(MAX_PIECES)]
    }

    /// Takes off the first `moved` bytes of what is left.
    pub fn advance(&mut self, mut moved: usize) {
        for piece in self.list.iter_mut().skip(self.done) {
            let step = moved.min(piece.iov_len);
            piece.iov_base = piece.iov_base.cast::<u8>().wrapping_add(step).cast();
            piece.iov_len -= step;
            moved -= step;
            if piece.iov_len > 0 {
                return;
            }
            self.done += 1;
        }
    }
}

#[cfg(test)]
mod tests;
