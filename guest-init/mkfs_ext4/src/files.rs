//! The inodes that every file system has: the root folder, `lost+found` and
//! the journal.
//!
//! `Documentation/filesystems/ext4`: inodes, ifork, directory, journal.

use std::io;

use crate::Options;
use crate::checksum::Checksum;
use crate::device::{Device, put};
use crate::geometry::{BLOCK, FIRST_INODES, Geometry, INODE, LOST_FOUND_BLOCKS};

const ROOT: u32 = 2;
/// The inode of the journal.
pub const JOURNAL: u32 = 8;
const LOST_FOUND: u32 = FIRST_INODES;

const FOLDER: u16 = 0o040_000;
const REGULAR: u16 = 0o100_000;
/// Directory entries say what they lead to.
const ENTRY_FOLDER: u8 = 2;
/// The entry without a name that holds a block's checksum.
const ENTRY_CHECKSUM: u8 = 0xde;
const CHECKSUM_ENTRY: usize = 12;

/// The inode's blocks are an extent tree.
const EXTENTS_FLAG: u32 = 0x8_0000;
/// Bytes of an inode beyond the first 128 that have a meaning.
pub const EXTRA: u16 = 32;

/// What a copy of the journal's inode in the superblock is made of: the extent
/// tree and the size in bytes.
#[derive(Clone, Copy)]
pub struct Journal {
    pub tree: [u8; 60],
    pub size: u64,
}

/// Writes an empty journal. `None` when the device is too small for one.
pub fn write_journal(device: &mut Device<'_>, geometry: &Geometry) -> io::Result<Option<Journal>> {
    let (start, blocks) = (geometry.journal(), geometry.journal_blocks);
    if blocks == 0 {
        return Ok(None);
    }
    // What an older journal left here could be taken for this one's.
    if !device.zero(start, blocks)? {
        device.write_zeroes(start, blocks)?;
    }
    // jbd2 is big-endian.
    let mut superblock = [0; 1024];
    for (at, value) in [
        (0x00, 0xc03b_3998),   // magic
        (0x04, 4),             // kind: superblock, version 2
        (0x0c, BLOCK as u32),  // block size
        (0x10, blocks as u32), // blocks
        (0x14, 1),             // first block of the log
        (0x18, 1),             // first transaction
        (0x40, 1),             // file systems that use it
    ] {
        put(&mut superblock, at, u32::to_be_bytes(value));
    }
    device.write(start, &superblock)?;
    Ok(Some(Journal {
        tree: extent(start, blocks),
        size: blocks * BLOCK,
    }))
}

/// Writes the two folders and the inodes of all three files.
pub fn write_folders(
    device: &mut Device<'_>,
    geometry: &Geometry,
    seed: Checksum,
    options: &Options<'_>,
    journal: Option<Journal>,
) -> io::Result<()> {
    let (root, lost_found) = (geometry.root_folder(), geometry.lost_found());
    let entries = [(ROOT, "."), (ROOT, ".."), (LOST_FOUND, "lost+found")];
    device.write(root, &folder_block(seed, ROOT, &entries))?;
    let entries = [(LOST_FOUND, "."), (ROOT, "..")];
    device.write(lost_found, &folder_block(seed, LOST_FOUND, &entries))?;
    for block in 1..LOST_FOUND_BLOCKS {
        device.write(lost_found + block, &folder_block(seed, LOST_FOUND, &[]))?;
    }

    let mut inodes = [0; BLOCK as usize];
    let mut add = |number: u32, inode: &Inode| {
        let at = (number as usize - 1) * INODE as usize;
        put(&mut inodes, at, inode.encode(seed, number, options.now));
    };
    add(
        ROOT,
        &Inode {
            mode: FOLDER | options.root_mode & 0o7777,
            owner: options.root_owner,
            links: 3,
            size: BLOCK,
            tree: extent(root, 1),
        },
    );
    add(
        LOST_FOUND,
        &Inode {
            mode: FOLDER | 0o700,
            owner: (0, 0),
            links: 2,
            size: LOST_FOUND_BLOCKS * BLOCK,
            tree: extent(lost_found, LOST_FOUND_BLOCKS),
        },
    );
    if let Some(Journal { tree, size }) = journal {
        add(
            JOURNAL,
            &Inode {
                mode: REGULAR | 0o600,
                owner: (0, 0),
                links: 1,
                size,
                tree,
            },
        );
    }
    device.write(geometry.places(0).inode_table, &inodes)
}

struct Inode {
    mode: u16,
    owner: (u32, u32),
    links: u16,
    /// In bytes; all of them have blocks.
    size: u64,
    tree: [u8; 60],
}

impl Inode {
    fn encode(&self, seed: Checksum, number: u32, now: u64) -> [u8; INODE as usize] {
        let mut bytes = [0; INODE as usize];
        let (uid, gid) = self.owner;
        put(&mut bytes, 0x00, self.mode.to_le_bytes());
        put(&mut bytes, 0x02, (uid as u16).to_le_bytes());
        put(&mut bytes, 0x18, (gid as u16).to_le_bytes());
        put(&mut bytes, 0x78, ((uid >> 16) as u16).to_le_bytes());
        put(&mut bytes, 0x7a, ((gid >> 16) as u16).to_le_bytes());
        put(&mut bytes, 0x1a, self.links.to_le_bytes());
        put(&mut bytes, 0x20, EXTENTS_FLAG.to_le_bytes());
        put(&mut bytes, 0x28, self.tree);
        put(&mut bytes, 0x80, EXTRA.to_le_bytes());
        // Below 4 GiB and 2 TiB: neither has an upper half. Blocks are of 512 bytes.
        put(&mut bytes, 0x04, (self.size as u32).to_le_bytes());
        put(&mut bytes, 0x1c, ((self.size / 512) as u32).to_le_bytes());
        let (seconds, epoch) = time(now);
        // Access, change, modification, creation.
        for (at, extra) in [(0x08, 0x8c), (0x0c, 0x84), (0x10, 0x88), (0x90, 0x94)] {
            put(&mut bytes, at, seconds.to_le_bytes());
            put(&mut bytes, extra, epoch.to_le_bytes());
        }
        // Over the number, the generation, and the inode without its checksum.
        let checksum = seed.add(&number.to_le_bytes()).add(&[0; 4]).add(&bytes);
        put(&mut bytes, 0x7c, checksum.low().to_le_bytes());
        put(&mut bytes, 0x82, checksum.high().to_le_bytes());
        bytes
    }
}

/// Seconds as a signed number of 32 bits, and how often that has wrapped.
fn time(now: u64) -> (u32, u32) {
    let seconds = now as u32;
    let signed = i64::from(seconds.cast_signed());
    let epoch = (now.cast_signed() - signed) >> 32 & 3;
    (seconds, epoch as u32)
}

/// A tree of one extent: `blocks` from `start` on, at most 32768.
fn extent(start: u64, blocks: u64) -> [u8; 60] {
    let mut tree = [0; 60];
    put(&mut tree, 0, 0xf30a_u16.to_le_bytes()); // magic
    put(&mut tree, 2, 1_u16.to_le_bytes()); // entries
    put(&mut tree, 4, 4_u16.to_le_bytes()); // room for entries
    put(&mut tree, 16, (blocks as u16).to_le_bytes());
    put(&mut tree, 18, ((start >> 32) as u16).to_le_bytes());
    put(&mut tree, 20, (start as u32).to_le_bytes());
    tree
}

/// A block of `folder` with these entries, all of which are folders. The last
/// one takes what room is left; without any there is an unused one.
fn folder_block(seed: Checksum, folder: u32, entries: &[(u32, &str)]) -> [u8; BLOCK as usize] {
    let mut block = [0; BLOCK as usize];
    let end = block.len() - CHECKSUM_ENTRY;
    let entries = if entries.is_empty() {
        &[(0, "")]
    } else {
        entries
    };
    let mut at = 0;
    for (index, (inode, name)) in entries.iter().enumerate() {
        let length = if index + 1 == entries.len() {
            end - at
        } else {
            8 + name.len().next_multiple_of(4)
        };
        let kind = if *inode == 0 { 0 } else { ENTRY_FOLDER };
        put(&mut block, at, inode.to_le_bytes());
        put(&mut block, at + 4, (length as u16).to_le_bytes());
        put(&mut block, at + 6, [name.len() as u8, kind]);
        block[at + 8..at + 8 + name.len()].copy_from_slice(name.as_bytes());
        at += length;
    }
    // Over the folder's number and generation, and the block up to here.
    let checksum = seed.add(&folder.to_le_bytes()).add(&[0; 4]);
    let checksum = checksum.add(&block[..end]);
    put(&mut block, end + 4, (CHECKSUM_ENTRY as u16).to_le_bytes());
    block[end + 7] = ENTRY_CHECKSUM;
    put(&mut block, end + 8, checksum.0.to_le_bytes());
    block
}
