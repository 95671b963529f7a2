//! Writes to the device, of which those to its head wait until the end.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use crate::HEAD;
use crate::geometry::BLOCK;

/// Bytes written at a time where zeros have to be.
const ZEROES: usize = 256 << 10;

/// Bytes of a regular file or block device.
pub fn size(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

/// The device with the part that is held back.
pub struct Device<'a> {
    file: &'a File,
    head: Vec<u8>,
}

impl<'a> Device<'a> {
    pub fn new(file: &'a File) -> Self {
        Device {
            file,
            head: vec![0; HEAD],
        }
    }

    /// Writes `bytes` at the start of `block`.
    pub fn write(&mut self, block: u64, bytes: &[u8]) -> io::Result<()> {
        let at = block * BLOCK;
        let held = self.head.get_mut(at as usize..).unwrap_or_default();
        let (early, late) = bytes.split_at(bytes.len().min(held.len()));
        held[..early.len()].copy_from_slice(early);
        self.file.write_all_at(late, at + early.len() as u64)
    }

    /// Makes blocks zero without writing them. False where that is not possible.
    pub fn zero(&self, block: u64, count: u64) -> io::Result<bool> {
        let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let (at, length) = (block * BLOCK, count * BLOCK);
        loop {
            // Both are within the largest size, far below the limit of off_t.
            match fallocate(self.file, mode, at as i64, length as i64) {
                Ok(()) => return Ok(true),
                Err(Errno::EINTR) => {}
                Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENODEV) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes blocks zero by writing them.
    pub fn write_zeroes(&self, block: u64, count: u64) -> io::Result<()> {
        let zeroes = vec![0; ZEROES];
        let (mut at, end) = (block * BLOCK, (block + count) * BLOCK);
        while at < end {
            let step = (end - at).min(ZEROES as u64);
            self.file.write_all_at(&zeroes[..step as usize], at)?;
            at += step;
        }
        Ok(())
    }

    /// Makes the device a file system: from here on it has a superblock.
    pub fn finish(self) -> io::Result<()> {
        self.file.sync_all()?;
        self.file.write_all_at(&self.head, 0)?;
        self.file.sync_all()
    }
}

/// Puts little-endian numbers into a structure.
pub fn put<const N: usize>(to: &mut [u8], at: usize, bytes: [u8; N]) {
    to[at..at + N].copy_from_slice(&bytes);
}
