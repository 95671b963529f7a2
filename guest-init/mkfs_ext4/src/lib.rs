//! Formats a block device or file as ext4, as a guest needs it for a volume.
//!
//! One shape only: 4 KiB blocks, 256-byte inodes, checksums, a journal inside.
//! Reads no existing file system, resizes none and repairs none. The on-disk
//! format is that of the kernel's `Documentation/filesystems/ext4`.
//!
//! Little is written, so that a sparse file of 100 GiB takes milliseconds: the
//! bitmaps of groups without anything in them are left to the kernel, and what
//! has to be zero is made so by punching holes. The superblock comes last, when
//! the rest is on stable storage: a run that was cut short leaves the first
//! [`HEAD`] bytes as they were.
#![forbid(unsafe_code)]

mod checksum;
mod device;
mod files;
mod geometry;
mod groups;
mod superblock;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;

use crate::checksum::Checksum;
use crate::device::Device;
use crate::geometry::Geometry;

/// Bytes at the start that are written last, in one piece.
pub const HEAD: usize = 64 << 10;

/// Smallest size in bytes that is formatted. From 16 MiB on there is a journal.
pub const SMALLEST: u64 = 1 << 20;

/// Largest size in bytes that is formatted.
pub const LARGEST: u64 = 16 << 40;

/// Bytes of a label.
pub const MAX_LABEL: usize = 16;

/// What is the caller's choice in a new file system.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// Name of the volume, at most [`MAX_LABEL`] bytes.
    pub label: &'a str,
    /// Its identity: random, never zero.
    pub uuid: [u8; 16],
    /// Secret of the hashes that index folders: random.
    pub hash_seed: [u8; 16],
    /// Permission bits of the root folder.
    pub root_mode: u16,
    /// User and group that own the root folder.
    pub root_owner: (u32, u32),
    /// Seconds since 1970, for all times in it.
    pub now: u64,
}

/// Why a device was not formatted. After `Write` it holds nothing of use.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// Its size cannot be told.
    #[error("determine the size of the device")]
    Size(#[source] io::Error),
    /// It is too small or too large.
    #[error("{size} bytes are not between {SMALLEST} and {LARGEST}")]
    OutOfRange {
        /// Bytes that it has.
        size: u64,
    },
    /// The label does not fit.
    #[error("label {label:?} is longer than {MAX_LABEL} bytes")]
    Label {
        /// As given.
        label: String,
    },
    /// The device failed.
    #[error("write {what}")]
    Write {
        /// Part of the file system.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Makes all of `device` one ext4 file system with an empty root folder and
/// `lost+found` in it, and returns when that is on stable storage.
///
/// # Errors
/// See [`FormatError`].
pub fn format(device: &File, options: &Options<'_>) -> Result<(), FormatError> {
    if options.label.len() > MAX_LABEL {
        return Err(FormatError::Label {
            label: options.label.into(),
        });
    }
    let size = device::size(device).map_err(FormatError::Size)?;
    let geometry = Geometry::of(size).ok_or(FormatError::OutOfRange { size })?;
    let seed = Checksum::NEW.add(&options.uuid);
    let attempt = |what| move |source| FormatError::Write { what, source };

    let mut device = Device::new(device);
    let zeroed = groups::zero_inode_tables(&device, &geometry).map_err(attempt("inode tables"))?;
    let journal = files::write_journal(&mut device, &geometry).map_err(attempt("the journal"))?;
    files::write_folders(&mut device, &geometry, seed, options, journal)
        .map_err(attempt("the root folder"))?;
    let descriptors = groups::write_bitmaps(&mut device, &geometry, seed, zeroed)
        .map_err(attempt("the bitmaps"))?;
    superblock::write(&mut device, &geometry, options, journal, &descriptors)
        .map_err(attempt("the group descriptors"))?;
    device.finish().map_err(attempt("the superblock"))
}
