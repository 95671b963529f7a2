//! The superblock, and its copies with the descriptors all over the device.
//!
//! `Documentation/filesystems/ext4`: super.

use std::io;

use crate::Options;
use crate::checksum::Checksum;
use crate::device::{Device, put};
use crate::files::{self, Journal};
use crate::geometry::{BLOCK, DESCRIPTOR, FIRST_INODES, GROUP, Geometry, INODE, LOG_FLEX};

const BYTES: usize = 1024;
/// Where it lies in the first block of the device; copies lie at the start of theirs.
const OFFSET: usize = 1024;
const MAGIC: u16 = 0xef53;

/// has_journal, ext_attr and dir_index; the first only with a journal.
const COMPATIBLE: u32 = 0x8 | 0x20;
const HAS_JOURNAL: u32 = 0x4;
/// filetype, extents, 64bit, flex_bg.
const INCOMPATIBLE: u32 = 0x2 | 0x40 | 0x80 | 0x200;
/// sparse_super, large_file, huge_file, dir_nlink, extra_isize, metadata_csum.
const READ_ONLY_COMPATIBLE: u32 = 0x1 | 0x2 | 0x8 | 0x20 | 0x40 | 0x400;

/// Writes the superblock and the table of descriptors wherever they belong.
pub fn write(
    device: &mut Device<'_>,
    geometry: &Geometry,
    options: &Options<'_>,
    journal: Option<Journal>,
    descriptors: &[u8],
) -> io::Result<()> {
    let template = superblock(geometry, options, journal);
    for group in (0..geometry.groups).filter(|group| Geometry::has_copy(*group)) {
        let start = group * GROUP;
        let at = if group == 0 { OFFSET } else { 0 };
        let mut block = [0; BLOCK as usize];
        put(&mut block, at, for_group(template, group));
        device.write(start, &block)?;
        device.write(start + 1, descriptors)?;
    }
    Ok(())
}

/// The copy that lies in `group`, with its checksum.
fn for_group(mut bytes: [u8; BYTES], group: u64) -> [u8; BYTES] {
    // There is no room for more bits.
    put(&mut bytes, 0x5a, (group as u16).to_le_bytes());
    let checksum = Checksum::NEW.add(&bytes[..0x3fc]);
    put(&mut bytes, 0x3fc, checksum.0.to_le_bytes());
    bytes
}

fn superblock(geometry: &Geometry, options: &Options<'_>, journal: Option<Journal>) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    let used: u64 = (0..geometry.groups).map(|group| geometry.used(group)).sum();
    let free = geometry.blocks - used;
    // At most 2^30: one for every 16 KiB of 16 TiB.
    let inodes = (geometry.inodes_per_group * geometry.groups) as u32;
    let now = options.now as u32;
    for (at, value) in [
        (0x00, inodes),
        (0x04, geometry.blocks as u32),
        (0x0c, free as u32),
        (0x10, inodes - FIRST_INODES),
        (0x18, 2), // block size: 1024 << 2
        (0x1c, 2),
        (0x20, GROUP as u32),
        (0x24, GROUP as u32),
        (0x28, geometry.inodes_per_group as u32),
        (0x30, now), // written
        (0x40, now), // checked
        (0x4c, 1),   // revision with features
        (0x54, FIRST_INODES),
        (0x5c, COMPATIBLE),
        (0x60, INCOMPATIBLE),
        (0x64, READ_ONLY_COMPATIBLE),
        (0x100, 0xc), // mounted with user_xattr and acl
        (0x108, now), // made
        (0x150, (geometry.blocks >> 32) as u32),
        (0x158, (free >> 32) as u32),
        (0x160, 1), // hashes are of signed characters
    ] {
        put(&mut bytes, at, value.to_le_bytes());
    }
    for (at, value) in [
        (0x36, u16::MAX), // no check after a number of mounts
        (0x38, MAGIC),
        (0x3a, 1), // clean
        (0x3c, 1), // go on after errors, unless a mount says otherwise
        (0x58, INODE as u16),
        (0xfe, DESCRIPTOR as u16),
        (0x15c, files::EXTRA),
        (0x15e, files::EXTRA),
    ] {
        put(&mut bytes, at, value.to_le_bytes());
    }
    put(&mut bytes, 0x68, options.uuid);
    bytes[0x78..0x78 + options.label.len()].copy_from_slice(options.label.as_bytes());
    put(&mut bytes, 0xec, options.hash_seed);
    bytes[0xfc] = 1; // half MD4
    bytes[0x174] = LOG_FLEX;
    bytes[0x175] = 1; // CRC-32C
    // Upper bits of written, made, checked.
    for at in [0x274, 0x276, 0x277] {
        bytes[at] = (options.now >> 32) as u8;
    }
    if let Some(Journal { tree, size }) = journal {
        put(&mut bytes, 0x5c, (COMPATIBLE | HAS_JOURNAL).to_le_bytes());
        put(&mut bytes, 0xe0, files::JOURNAL.to_le_bytes());
        // A copy of the journal's inode, for repairs.
        bytes[0xfd] = 1;
        put(&mut bytes, 0x10c, tree);
        put(&mut bytes, 0x148, ((size >> 32) as u32).to_le_bytes());
        put(&mut bytes, 0x14c, (size as u32).to_le_bytes());
    }
    bytes
}
