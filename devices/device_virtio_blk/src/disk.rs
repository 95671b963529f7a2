//! The rules of a disk: which requests it takes, within which bounds, and what
//! status each ends with. VIRTIO 1.2 section 5.2.6.
//!
//! Knows no queue and no file; requests come parsed and bytes go to a backend.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use virtio_bindings::bindings::virtio_blk as spec;

use crate::backend::{BlockBackend, Slice};
use crate::request::{Request, gather, length, scatter, words};

/// Unit of addresses and lengths in the protocol, whatever the storage has.
pub(crate) const SECTOR: u64 = 512;

/// Bytes of the disk's name for the driver.
pub(crate) const SERIAL_LENGTH: usize = spec::VIRTIO_BLK_ID_BYTES as usize;

/// Bytes of one data segment, and segments of one read or write: together they
/// bound what a request can make the host do before it looks at the next.
pub(crate) const MAX_SEGMENT: u32 = 1 << 20;
pub(crate) const MAX_SEGMENTS: u32 = 126;
const MAX_TRANSFER: u64 = MAX_SEGMENT as u64 * MAX_SEGMENTS as u64;

/// Ranges of one discard, and sectors of one range (1 GiB): giving storage
/// back is work on metadata.
pub(crate) const MAX_DISCARD_RANGES: u32 = 32;
pub(crate) const MAX_DISCARD_SECTORS: u32 = 1 << 21;

/// The same for write-zeroes, 16 MiB: the zeros may have to be written.
pub(crate) const MAX_ZERO_RANGES: u32 = 1;
pub(crate) const MAX_ZERO_SECTORS: u32 = 1 << 15;

/// Bytes of a range in a discard or write-zeroes request.
const RANGE: usize = 16;

/// A driver can cause errors at any rate. The log gets the first ones.
const LOGGED_FAILURES: u32 = 8;

/// How a request ended, and the bytes written to what the driver wanted filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done(u32),
    Failed,
    Unsupported,
}

impl Outcome {
    pub(crate) fn status(self) -> u8 {
        (match self {
            Outcome::Done(_) => spec::VIRTIO_BLK_S_OK,
            Outcome::Failed => spec::VIRTIO_BLK_S_IOERR,
            Outcome::Unsupported => spec::VIRTIO_BLK_S_UNSUPP,
        }) as u8
    }

    pub(crate) fn written(self) -> u32 {
        match self {
            Outcome::Done(written) => written,
            Outcome::Failed | Outcome::Unsupported => 0,
        }
    }
}

/// A checked request: what is left is to do it.
pub(crate) enum Task {
    /// Nothing is left to do.
    Ended(Outcome),
    /// Fill what the request wants, `length` bytes, from `offset` on.
    Read {
        offset: u64,
        length: u32,
    },
    /// Store what the request sent.
    Write {
        offset: u64,
    },
    Flush,
    Discard(Vec<Range>),
    WriteZeroes(Vec<Range>),
}

/// A checked range of bytes of a discard or write-zeroes request.
#[derive(Clone, Copy)]
pub(crate) struct Range {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// The storage of zeros is to be given back.
    pub(crate) unmap: bool,
}

/// A disk as all its queues share it.
pub struct Disk {
    backend: Box<dyn BlockBackend>,
    /// A multiple of [`SECTOR`].
    capacity: u64,
    read_only: bool,
    serial: [u8; SERIAL_LENGTH],
    failures: AtomicU32,
}

impl Disk {
    /// A disk of all whole sectors of `backend`. `serial`, padded with zeros, is
    /// what the driver knows it by (`/sys/block/vda/serial`).
    pub fn new(backend: Box<dyn BlockBackend>, serial: [u8; SERIAL_LENGTH]) -> Self {
        Disk {
            capacity: backend.size() / SECTOR * SECTOR,
            read_only: backend.read_only(),
            backend,
            serial,
            failures: AtomicU32::new(0),
        }
    }

    /// Size in sectors of 512 bytes.
    pub fn sectors(&self) -> u64 {
        self.capacity / SECTOR
    }

    /// Whether requests that change bytes are refused.
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// What `request` comes down to, once everything about it is checked.
    /// Touches no storage.
    pub(crate) fn task(&self, request: &Request<'_, '_>) -> Task {
        match request.kind {
            spec::VIRTIO_BLK_T_IN => match self.extent(request.sector, request.wanted) {
                Some((offset, length)) => Task::Read { offset, length },
                None => Task::Ended(Outcome::Failed),
            },
            spec::VIRTIO_BLK_T_OUT => match self.extent(request.sector, request.sent) {
                Some((offset, _)) if !self.read_only => Task::Write { offset },
                _ => Task::Ended(Outcome::Failed),
            },
            spec::VIRTIO_BLK_T_FLUSH => Task::Flush,
            spec::VIRTIO_BLK_T_GET_ID => {
                let written = scatter(request.wanted, &self.serial);
                Task::Ended(Outcome::Done(written as u32))
            }
            spec::VIRTIO_BLK_T_DISCARD => {
                let limits = (MAX_DISCARD_RANGES, MAX_DISCARD_SECTORS);
                match self.ranges(request.sent, limits, 0) {
                    Ok(ranges) => Task::Discard(ranges),
                    Err(refusal) => Task::Ended(refusal),
                }
            }
            spec::VIRTIO_BLK_T_WRITE_ZEROES => {
                let limits = (MAX_ZERO_RANGES, MAX_ZERO_SECTORS);
                let unmap = spec::VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
                match self.ranges(request.sent, limits, unmap) {
                    Ok(ranges) => Task::WriteZeroes(ranges),
                    Err(refusal) => Task::Ended(refusal),
                }
            }
            _ => Task::Ended(Outcome::Unsupported),
        }
    }

    /// Does what [`Disk::task`] found and returns when it has ended. With
    /// `write_through` a write ends when its bytes are on stable storage.
    pub(crate) fn perform(
        &self,
        task: Task,
        request: &Request<'_, '_>,
        write_through: bool,
    ) -> Outcome {
        let backend = &self.backend;
        let settle = |outcome: io::Result<()>| {
            if write_through {
                outcome.and_then(|()| backend.flush())
            } else {
                outcome
            }
        };
        match task {
            Task::Ended(outcome) => outcome,
            Task::Read { offset, length } => {
                self.finish("read", length, backend.read_at(request.wanted, offset))
            }
            Task::Write { offset } => {
                let outcome = settle(backend.write_at(request.sent, offset));
                self.finish("write", 0, outcome)
            }
            Task::Flush => self.finish("flush", 0, backend.flush()),
            Task::Discard(ranges) => {
                let outcome = ranges
                    .iter()
                    .try_for_each(|range| backend.discard(range.offset, range.length));
                self.finish("discard", 0, settle(outcome))
            }
            Task::WriteZeroes(ranges) => {
                let outcome = ranges.iter().try_for_each(|range| {
                    backend.write_zeroes(range.offset, range.length, range.unmap)
                });
                self.finish("write zeroes", 0, settle(outcome))
            }
        }
    }

    /// What keeps the bytes.
    pub(crate) fn backend(&self) -> &dyn BlockBackend {
        &*self.backend
    }

    /// Offset and length in bytes of a transfer, when it has whole sectors, is
    /// not too long and lies on the disk.
    fn extent(&self, sector: u64, slices: &[Slice<'_>]) -> Option<(u64, u32)> {
        let length = length(slices);
        if !length.is_multiple_of(SECTOR) || length > MAX_TRANSFER {
            return None;
        }
        let offset = self.within(sector, length)?;
        Some((offset, length as u32))
    }

    /// Where `length` bytes from `sector` on begin, when all of them exist.
    fn within(&self, sector: u64, length: u64) -> Option<u64> {
        let offset = sector.checked_mul(SECTOR)?;
        let end = offset.checked_add(length)?;
        (end <= self.capacity).then_some(offset)
    }

    /// The ranges of a discard or write-zeroes request, of which there are at
    /// most `limits.0`, each of at most `limits.1` sectors. All are checked
    /// before the first is acted on.
    fn ranges(
        &self,
        sent: &[Slice<'_>],
        limits: (u32, u32),
        known_flags: u32,
    ) -> Result<Vec<Range>, Outcome> {
        let (most, longest) = limits;
        let bytes = length(sent);
        let count = bytes / RANGE as u64;
        if self.read_only || !bytes.is_multiple_of(RANGE as u64) || count > u64::from(most) {
            return Err(Outcome::Failed);
        }
        let mut copy = vec![0; bytes as usize];
        gather(sent, &mut copy);
        let (raw, _) = copy.as_chunks::<RANGE>();
        raw.iter()
            .map(|raw| {
                let [sector_low, sector_high, sectors, flags] = words(*raw);
                if flags & !known_flags != 0 {
                    return Err(Outcome::Unsupported);
                }
                if sectors > longest {
                    return Err(Outcome::Failed);
                }
                let sector = u64::from(sector_high) << 32 | u64::from(sector_low);
                let length = u64::from(sectors) * SECTOR;
                let offset = self.within(sector, length).ok_or(Outcome::Failed)?;
                let unmap = flags & spec::VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0;
                Ok(Range {
                    offset,
                    length,
                    unmap,
                })
            })
            .collect()
    }

    /// How something that was asked of the backend ends the request. `written`
    /// is what a success is told with.
    pub(crate) fn finish(&self, what: &str, written: u32, outcome: io::Result<()>) -> Outcome {
        match outcome {
            Ok(()) => Outcome::Done(written),
            Err(error) => {
                self.complain(format_args!("{what} failed: {error}"));
                Outcome::Failed
            }
        }
    }

    /// Logs a line, unless there have been many for this disk.
    pub(crate) fn complain(&self, line: fmt::Arguments<'_>) {
        let before = self
            .failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_add(1));
        let name = self.serial.split(|byte| *byte == 0).next();
        let name = name.unwrap_or_default().escape_ascii();
        match before {
            Ok(n) if n < LOGGED_FAILURES => log::warn!("disk \"{name}\": {line}"),
            Ok(LOGGED_FAILURES) => log::warn!("disk \"{name}\": more failures, not shown"),
            _ => {}
        }
    }
}
