//! The compressor's options, a metadata block behind the superblock that is
//! there when a flag says so. File data is found by its offset, so nothing is
//! skipped; but a kernel refuses to mount what is checked here.

use super::error::{Damage, TreeFault, What};
use super::metadata::Cursor;
use super::tree::Tree;
use crate::superblock::{Compressor, LEN};

/// In the superblock's flags: the options are there.
const PRESENT: u16 = 0x400;
/// The only form of LZ4 that there is.
const LZ4_LEGACY: u32 = 1;

pub(crate) fn check(tree: &Tree<'_>) -> Result<(), TreeFault> {
    let superblock = &tree.superblock;
    let present = superblock.flags & PRESENT != 0;
    let mut cursor = Cursor::new(What::Options, LEN as u64, 0, superblock.inode_table);
    let accepted = match superblock.compressor {
        Compressor::Lz4 if present => cursor.u32(tree)? == LZ4_LEGACY,
        Compressor::Lz4 => false,
        Compressor::Xz if present => {
            // A power of two, or one and the next together.
            let size = cursor.u32(tree)?;
            size != 0 && matches!(size >> size.trailing_zeros(), 1 | 3)
        }
        // Of the others no kernel looks at them.
        _ => true,
    };
    if accepted {
        Ok(())
    } else {
        Err(Damage::Options.into())
    }
}
