//! A disk in a file or block device of the host, through the page cache or past it.
//!
//! Past it (O_DIRECT), memory and lengths have to be aligned. What the guest
//! sends otherwise goes through a buffer, never through the page cache: the two
//! ways would not see the same bytes at the same time.
//!
//! Opened once, by a name that the machine's owner chose; the guest has no way
//! to name anything. No locking against other users of the file.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use device_model::guest_io::{self, Moved};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, FcntlArg, OFlag, fallocate, fcntl};

use crate::backend::{BlockBackend, Slice};
use crate::request::{gather, length, scatter};

/// Bytes of zeros written at a time where the file system cannot make zeros itself.
const ZEROES: usize = 64 << 10;

/// What memory and lengths are multiples of on the way past the page cache: a
/// sector. Storage that asks for more is used through the page cache.
const ALIGNMENT: usize = 512;

/// Bytes moved at a time between guest memory that is not aligned and the file.
const BOUNCE: usize = 256 << 10;

/// Why a file cannot be a disk.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It does not exist, or not with the needed permissions.
    #[error("open {path} for {access}", path = path.display())]
    Open {
        /// As given.
        path: PathBuf,
        /// `reading` or `reading and writing`.
        access: &'static str,
        /// Why.
        source: io::Error,
    },
    /// It is open and does not tell what it is.
    #[error("examine {path}", path = path.display())]
    Examine {
        /// As given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder, pipe, socket or terminal.
    #[error("{path} is neither a regular file nor a block device", path = path.display())]
    NotADisk {
        /// As given.
        path: PathBuf,
    },
    /// Its file system or its hardware cannot be used past the page cache.
    #[error("{path} cannot be used with `direct`", path = path.display())]
    NotDirect {
        /// As given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The asked size is more than there is.
    #[error("{path} has {actual} bytes, not the {size} asked for", path = path.display())]
    TooShort {
        /// As given.
        path: PathBuf,
        /// Bytes that it has.
        actual: u64,
        /// Bytes that it should have.
        size: u64,
    },
}

/// A raw disk in a regular file or block device.
pub struct FileBackend {
    file: File,
    size: u64,
    read_only: bool,
    /// Past the page cache.
    direct: bool,
}

impl FileBackend {
    /// Opens `path`, for reading only when `read_only` says so. The disk is the
    /// first `size` bytes of the file, or the whole file.
    pub fn open(path: &Path, read_only: bool, size: Option<u64>) -> Result<Self, OpenError> {
        Self::from_file(open_file(path, read_only)?, path, read_only, size)
    }

    /// As [`FileBackend::open`], of a file that its owner has opened already,
    /// with at least the access that `read_only` asks for. `path` is for errors.
    pub fn from_file(
        mut file: File,
        path: &Path,
        read_only: bool,
        size: Option<u64>,
    ) -> Result<Self, OpenError> {
        let examine = |source| OpenError::Examine {
            path: path.into(),
            source,
        };
        let kind = file.metadata().map_err(examine)?.file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(OpenError::NotADisk { path: path.into() });
        }
        // A block device has no length in its metadata.
        let actual = file.seek(SeekFrom::End(0)).map_err(examine)?;
        let size = size.unwrap_or(actual);
        if size > actual {
            return Err(OpenError::TooShort {
                path: path.into(),
                actual,
                size,
            });
        }
        // Engines would be told to try again.
        set_flags(&file, |flags| flags - OFlag::O_NONBLOCK).map_err(examine)?;
        Ok(FileBackend {
            file,
            size,
            read_only,
            direct: false,
        })
    }

    /// Goes past the page cache from here on. `path` is for errors, after which
    /// all is as it was.
    pub fn use_direct(&mut self, path: &Path) -> Result<(), OpenError> {
        let attempt = set_flags(&self.file, |flags| flags | OFlag::O_DIRECT)
            // Some only tell when they are used.
            .and_then(|()| self.file.read_at(aligned(&mut [0; 2 * ALIGNMENT]), 0));
        if let Err(source) = attempt {
            let path = path.into();
            return match set_flags(&self.file, |flags| flags - OFlag::O_DIRECT) {
                Ok(()) => Err(OpenError::NotDirect { path, source }),
                Err(source) => Err(OpenError::Examine { path, source }),
            };
        }
        self.direct = true;
        Ok(())
    }

    /// Whether the page cache is not used.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// Whether the kernel takes `slices` as they are.
    fn takes(&self, slices: &[Slice<'_>]) -> bool {
        let is_aligned = |slice: &Slice<'_>| {
            let start = slice.ptr_guard().as_ptr().addr();
            start.is_multiple_of(ALIGNMENT) && slice.len().is_multiple_of(ALIGNMENT)
        };
        !self.direct || slices.iter().all(is_aligned)
    }

    /// Moves `slices` through a buffer that the kernel takes; `step` reads or
    /// writes one buffer at an offset of the file.
    fn bounce(
        &self,
        slices: &[Slice<'_>],
        offset: u64,
        step: impl Fn(&[Slice<'_>], &mut [u8], u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; BOUNCE + ALIGNMENT];
        let buffer = aligned(&mut buffer);
        let length: usize = slices.iter().map(Slice::len).sum();
        let mut moved = 0;
        while moved < length {
            let count = buffer.len().min(length - moved);
            let part = part(slices, moved, count);
            step(&part, &mut buffer[..count], offset + moved as u64)?;
            moved += count;
        }
        Ok(())
    }

    fn allocate(&self, mode: FallocateFlags, offset: u64, length: u64) -> Result<(), Errno> {
        let (Ok(offset), Ok(length)) = (offset.try_into(), length.try_into()) else {
            return Err(Errno::EFBIG);
        };
        if length == 0 {
            return Ok(());
        }
        loop {
            match fallocate(
                &self.file,
                mode | FallocateFlags::FALLOC_FL_KEEP_SIZE,
                offset,
                length,
            ) {
                Err(Errno::EINTR) => {}
                outcome => return outcome,
            }
        }
    }

    fn store_zeroes(&self, mut offset: u64, mut length: u64) -> io::Result<()> {
        let mut zeroes = vec![0; ZEROES + ALIGNMENT];
        let zeroes = aligned(&mut zeroes);
        while length > 0 {
            let step = length.min(ZEROES as u64);
            self.file.write_all_at(&zeroes[..step as usize], offset)?;
            offset += step;
            length -= step;
        }
        Ok(())
    }
}

impl BlockBackend for FileBackend {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read_at(&self, to: &[Slice<'_>], offset: u64) -> io::Result<()> {
        if !self.takes(to) {
            return self.bounce(to, offset, |part, buffer, at| {
                self.file.read_exact_at(buffer, at)?;
                scatter(part, buffer);
                Ok(())
            });
        }
        in_full(to, guest_io::read_at(self.file.as_fd(), to, offset))
    }

    fn write_at(&self, from: &[Slice<'_>], offset: u64) -> io::Result<()> {
        if !self.takes(from) {
            return self.bounce(from, offset, |part, buffer, at| {
                gather(part, buffer);
                self.file.write_all_at(buffer, at)
            });
        }
        in_full(from, guest_io::write_at(self.file.as_fd(), from, offset))
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        match self.allocate(FallocateFlags::FALLOC_FL_PUNCH_HOLE, offset, length) {
            // It was only a hint, and this storage cannot take it.
            Err(Errno::EOPNOTSUPP | Errno::EINVAL) => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    fn write_zeroes(&self, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
        let mode = if unmap {
            FallocateFlags::FALLOC_FL_PUNCH_HOLE
        } else {
            FallocateFlags::FALLOC_FL_ZERO_RANGE
        };
        match self.allocate(mode, offset, length) {
            Err(Errno::EOPNOTSUPP | Errno::EINVAL) => self.store_zeroes(offset, length),
            outcome => Ok(outcome?),
        }
    }

    fn file_for(&self, slices: &[Slice<'_>]) -> Option<BorrowedFd<'_>> {
        self.takes(slices).then(|| self.file.as_fd())
    }
}

/// Opens what may be a disk. `O_NONBLOCK` is left set.
pub(crate) fn open_file(path: &Path, read_only: bool) -> Result<File, OpenError> {
    OpenOptions::new()
        .read(true)
        .write(!read_only)
        // A pipe is refused later; its open must not wait for a writer first.
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(|source| OpenError::Open {
            path: path.into(),
            access: if read_only {
                "reading"
            } else {
                "reading and writing"
            },
            source,
        })
}

/// A disk has no less than it was asked for: the file must have shrunk.
fn in_full(slices: &[Slice<'_>], moved: Moved) -> io::Result<()> {
    moved.end?;
    if moved.bytes as u64 == length(slices) {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Bytes `from` to `from + length` of `slices`.
fn part<'m>(slices: &[Slice<'m>], mut from: usize, mut length: usize) -> Vec<Slice<'m>> {
    let mut part = Vec::new();
    for slice in slices {
        let start = from.min(slice.len());
        let count = length.min(slice.len() - start);
        if let Ok(piece) = slice.subslice(start, count) {
            part.push(piece);
        }
        from -= start;
        length -= count;
    }
    part
}

/// As much of `buffer` as starts where the kernel takes it, which is all but
/// `ALIGNMENT` bytes.
fn aligned(buffer: &mut [u8]) -> &mut [u8] {
    let skip = buffer.as_ptr().align_offset(ALIGNMENT);
    let length = buffer.len() - ALIGNMENT;
    &mut buffer[skip..skip + length]
}

/// Changes the status flags of an open file.
pub(crate) fn set_flags(file: &File, change: impl Fn(OFlag) -> OFlag) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    fcntl(file, FcntlArg::F_SETFL(change(flags)))?;
    Ok(())
}

#[cfg(test)]
mod tests;
