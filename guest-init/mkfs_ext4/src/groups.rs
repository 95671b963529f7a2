//! Group descriptors, and the bitmaps and inode tables they point at.
//!
//! `Documentation/filesystems/ext4`: group_descr, bitmaps, ifork.

use std::io;

use crate::checksum::Checksum;
use crate::device::{Device, put};
use crate::geometry::{BLOCK, DESCRIPTOR, FIRST_INODES, Geometry};

/// The inode table has no inode in use and its bitmap is not written.
const INODE_UNINIT: u16 = 1;
/// Nothing but copies of the superblock and the descriptors is in the group,
/// and its bitmap is not written.
const BLOCK_UNINIT: u16 = 2;
/// The inode table is zero, as far as it is not in use.
const INODE_ZEROED: u16 = 4;

/// Makes every inode table zero. False when that is left to the kernel, which
/// then does it in the background after the first mount.
pub fn zero_inode_tables(device: &Device<'_>, geometry: &Geometry) -> io::Result<bool> {
    for first in geometry.firsts() {
        let (block, count) = geometry.shared_tables(first);
        if !device.zero(block, count)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Writes the bitmaps that the kernel cannot make up itself. Gives the table
/// of descriptors, in whole blocks.
pub fn write_bitmaps(
    device: &mut Device<'_>,
    geometry: &Geometry,
    seed: Checksum,
    tables_zeroed: bool,
) -> io::Result<Vec<u8>> {
    let mut table = vec![0; (geometry.descriptor_blocks() * BLOCK) as usize];
    let (descriptors, _) = table.as_chunks_mut::<{ DESCRIPTOR as usize }>();
    for (group, descriptor) in (0..geometry.groups).zip(descriptors) {
        let first_inodes = if group == 0 {
            u64::from(FIRST_INODES)
        } else {
            0
        };
        let used = geometry.used(group);
        let mut flags = if tables_zeroed { INODE_ZEROED } else { 0 };
        let places = geometry.places(group);

        let untouched = used == geometry.copies(group);
        if untouched && group != 0 && group + 1 != geometry.groups {
            flags |= BLOCK_UNINIT;
        } else {
            let bitmap = bitmap(used, geometry.group_blocks(group));
            device.write(places.block_bitmap, &bitmap)?;
            let checksum = seed.add(&bitmap);
            put(descriptor, 0x18, checksum.low().to_le_bytes());
            put(descriptor, 0x38, checksum.high().to_le_bytes());
        }
        if first_inodes == 0 {
            flags |= INODE_UNINIT;
        } else {
            let bitmap = bitmap(first_inodes, geometry.inodes_per_group);
            device.write(places.inode_bitmap, &bitmap)?;
            let checksum = seed.add(&bitmap[..geometry.inodes_per_group as usize / 8]);
            put(descriptor, 0x1a, checksum.low().to_le_bytes());
            put(descriptor, 0x3a, checksum.high().to_le_bytes());
        }

        let free_blocks = geometry.group_blocks(group) - used;
        let free_inodes = geometry.inodes_per_group - first_inodes;
        let folders = if group == 0 { 2_u16 } else { 0 };
        split32(descriptor, 0x00, 0x20, places.block_bitmap);
        split32(descriptor, 0x04, 0x24, places.inode_bitmap);
        split32(descriptor, 0x08, 0x28, places.inode_table);
        // These are at most 32768, so their upper halves stay zero.
        put(descriptor, 0x0c, (free_blocks as u16).to_le_bytes());
        put(descriptor, 0x0e, (free_inodes as u16).to_le_bytes());
        put(descriptor, 0x10, folders.to_le_bytes());
        put(descriptor, 0x12, flags.to_le_bytes());
        put(descriptor, 0x1c, (free_inodes as u16).to_le_bytes());
        // The checksum covers its own field as zero, which it still is.
        let checksum = seed.add(&(group as u32).to_le_bytes()).add(descriptor);
        put(descriptor, 0x1e, checksum.low().to_le_bytes());
    }
    Ok(table)
}

fn split32(to: &mut [u8], low: usize, high: usize, value: u64) {
    put(to, low, (value as u32).to_le_bytes());
    put(to, high, ((value >> 32) as u32).to_le_bytes());
}

/// A block of bits of which the first `used` are set, and those beyond `size`
/// as well.
fn bitmap(used: u64, size: u64) -> Vec<u8> {
    (0..BLOCK)
        .map(|byte| {
            (0..8).fold(0, |bits, bit| {
                let at = byte * 8 + bit;
                bits | u8::from(at < used || at >= size) << bit
            })
        })
        .collect()
}
