//! Guest memory as the kernel's vectored calls take it, with what is left to
//! transfer. Points at memory and does not touch it.

use crate::backend::Slice;

/// Most pieces that Linux takes in one vectored call (`UIO_MAXIOV`).
const MAX_PIECES: usize = 1024;

/// The pieces of a transfer that are still to do.
pub(crate) struct Pieces {
    list: Vec<libc::iovec>,
    done: usize,
}

impl Pieces {
    /// All of `slices`, without the empty ones: a call for nothing would look
    /// like the end of the file.
    pub(crate) fn of(slices: &[Slice<'_>]) -> Self {
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
    pub(crate) fn left(&self) -> &[libc::iovec] {
        let left = self.list.get(self.done..).unwrap_or_default();
        &left[..left.len().min(MAX_PIECES)]
    }

    /// Takes off the first `moved` bytes of what is left.
    pub(crate) fn advance(&mut self, mut moved: usize) {
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
