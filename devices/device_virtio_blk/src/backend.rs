//! What a disk needs of the thing that keeps its bytes.

use std::io;
use std::os::fd::BorrowedFd;

use vm_memory::VolatileSlice;

/// A piece of guest memory. The guest may change it at any time.
pub type Slice<'m> = VolatileSlice<'m>;

/// Keeps the bytes of a disk.
///
/// Called from several threads at once, one for each queue; calls may block.
/// Every range is within [`BlockBackend::size`]: the disk has checked it. The
/// order of calls that overlap in time is not defined.
pub trait BlockBackend: Send + Sync {
    /// Bytes that can be addressed. Does not change.
    fn size(&self) -> u64;

    /// Whether the calls that change bytes are refused, by the host and not
    /// only by this process.
    fn read_only(&self) -> bool;

    /// Fills `to`, one slice after the other, with the bytes from `offset` on.
    /// Fails when that cannot be done in full.
    fn read_at(&self, to: &[Slice<'_>], offset: u64) -> io::Result<()>;

    /// Stores the bytes of `from`, one slice after the other, at `offset`.
    /// Fails when that cannot be done in full; then some may be stored.
    fn write_at(&self, from: &[Slice<'_>], offset: u64) -> io::Result<()>;

    /// Returns when everything written before is on stable storage.
    fn flush(&self) -> io::Result<()>;

    /// The `length` bytes at `offset` are not needed any more and may become
    /// anything. Gives their storage back if it can.
    fn discard(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Makes `length` bytes at `offset` zero; gives their storage back if it
    /// can and `unmap` is set, and keeps it otherwise.
    fn write_zeroes(&self, offset: u64, length: u64, unmap: bool) -> io::Result<()>;

    /// The open file to which a read or write of `slices` can be passed as it
    /// is, offsets being those of the disk; and flushes and changes of ranges
    /// in any case. `None` where the calls above have more to do than that.
    fn file_for(&self, _slices: &[Slice<'_>]) -> Option<BorrowedFd<'_>> {
        None
    }
}
