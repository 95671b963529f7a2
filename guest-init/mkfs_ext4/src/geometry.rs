//! Where everything lies. Pure arithmetic on block numbers.
//!
//! Groups of 128 MiB; the bitmaps and inode tables of sixteen of them lie
//! together at the start of the first (`flex_bg`). So what is in use at first
//! is a prefix of its group, everywhere.

use crate::{LARGEST, SMALLEST};

/// Bytes of a block.
pub const BLOCK: u64 = 4096;
/// Blocks of a group: as many as the bits of a bitmap.
pub const GROUP: u64 = 8 * BLOCK;
/// Logarithm of the number of groups whose bitmaps and tables lie together.
pub const LOG_FLEX: u8 = 4;
const FLEX: u64 = 1 << LOG_FLEX;
/// Bytes of an inode.
pub const INODE: u64 = 256;
/// Bytes of a group descriptor.
pub const DESCRIPTOR: u64 = 64;
/// Inodes that have a meaning or are kept for one, `lost+found` the last.
pub const FIRST_INODES: u32 = 11;
/// Blocks of `lost+found`, so that repairs need none.
pub const LOST_FOUND_BLOCKS: u64 = 4;
/// Blocks that a last group must have left for files, or it is not made.
const USEFUL: u64 = 50;

/// Bytes for each of which there is an inode. Small volumes are full of small files.
const SMALL_RATIO: u64 = 8 << 10;
const RATIO: u64 = 16 << 10;
const SMALL: u64 = 512 << 20;

/// The shape of one file system.
#[derive(Debug)]
pub struct Geometry {
    /// All blocks, of which the last group may have fewer than [`GROUP`].
    pub blocks: u64,
    /// Number of groups.
    pub groups: u64,
    /// Inodes of each group: whole blocks of them.
    pub inodes_per_group: u64,
    /// Blocks of the journal, 0 for none.
    pub journal_blocks: u64,
}

/// What a group descriptor points at: block numbers.
pub struct Places {
    pub block_bitmap: u64,
    pub inode_bitmap: u64,
    pub inode_table: u64,
}

impl Geometry {
    /// The shape for a device of `size` bytes; `None` when that is out of range.
    pub fn of(size: u64) -> Option<Self> {
        if !(SMALLEST..=LARGEST).contains(&size) {
            return None;
        }
        let mut blocks = size / BLOCK;
        loop {
            let groups = blocks.div_ceil(GROUP);
            let ratio = if size < SMALL { SMALL_RATIO } else { RATIO };
            let inodes = blocks * BLOCK / ratio;
            let geometry = Geometry {
                blocks,
                groups,
                inodes_per_group: inodes.div_ceil(groups).next_multiple_of(BLOCK / INODE),
                journal_blocks: journal_blocks(size),
            };
            let last = groups - 1;
            let overhead = geometry.copies(last) + 2 + geometry.table_blocks() + USEFUL;
            if last == 0 || geometry.group_blocks(last) >= overhead {
                return Some(geometry);
            }
            blocks = last * GROUP;
        }
    }

    /// Blocks of one group's inode table.
    pub fn table_blocks(&self) -> u64 {
        self.inodes_per_group * INODE / BLOCK
    }

    /// Blocks of the table of group descriptors.
    pub fn descriptor_blocks(&self) -> u64 {
        (self.groups * DESCRIPTOR).div_ceil(BLOCK)
    }

    /// Blocks of `group`.
    pub fn group_blocks(&self, group: u64) -> u64 {
        GROUP.min(self.blocks - group * GROUP)
    }

    /// Whether `group` starts with a superblock and the descriptors (`sparse_super`).
    pub fn has_copy(group: u64) -> bool {
        let power_of = |base: u64| {
            let mut power = base;
            while power < group {
                power *= base;
            }
            power == group
        };
        group < 2 || power_of(3) || power_of(5) || power_of(7)
    }

    /// Blocks of superblock and descriptors in `group`.
    pub fn copies(&self, group: u64) -> u64 {
        if Self::has_copy(group) {
            1 + self.descriptor_blocks()
        } else {
            0
        }
    }

    /// The first inode table of the groups that share a place with `first`, and
    /// the blocks of all of these tables.
    pub fn shared_tables(&self, first: u64) -> (u64, u64) {
        let count = self.sharing(first);
        let table = self.places(first).inode_table;
        (table, count * self.table_blocks())
    }

    /// First groups of those that share a place.
    pub fn firsts(&self) -> impl Iterator<Item = u64> {
        (0..self.groups).step_by(FLEX as usize)
    }

    /// Where the bitmaps and the inode table of `group` are.
    pub fn places(&self, group: u64) -> Places {
        let (first, index) = (group / FLEX * FLEX, group % FLEX);
        let count = self.sharing(first);
        let start = first * GROUP + self.copies(first);
        Places {
            block_bitmap: start + index,
            inode_bitmap: start + count + index,
            inode_table: start + 2 * count + index * self.table_blocks(),
        }
    }

    /// Blocks from the start of `group` on that are in use.
    pub fn used(&self, group: u64) -> u64 {
        let mut used = self.copies(group);
        if group.is_multiple_of(FLEX) {
            used += self.sharing(group) * (2 + self.table_blocks());
        }
        if group == 0 {
            used += 1 + LOST_FOUND_BLOCKS + self.journal_blocks;
        }
        used
    }

    /// The block of the root folder; that of `lost+found` follows, then the journal.
    pub fn root_folder(&self) -> u64 {
        let (tables, blocks) = self.shared_tables(0);
        tables + blocks
    }

    /// The first block of `lost+found`.
    pub fn lost_found(&self) -> u64 {
        self.root_folder() + 1
    }

    /// The first block of the journal.
    pub fn journal(&self) -> u64 {
        self.lost_found() + LOST_FOUND_BLOCKS
    }

    /// How many groups share a place with `first`, itself included.
    fn sharing(&self, first: u64) -> u64 {
        FLEX.min(self.groups - first)
    }
}

/// Follows what is usual for a size, up to 64 MiB: then it fits into the first
/// group in one piece, whatever the size of the disk.
fn journal_blocks(size: u64) -> u64 {
    match size >> 20 {
        0..16 => 0,
        16..128 => 1024,
        128..1024 => 4096,
        1024..2048 => 8192,
        _ => 16384,
    }
}
