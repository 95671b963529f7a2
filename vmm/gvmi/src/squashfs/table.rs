//! The tables that are found by an index of offsets: owners, blocks of files'
//! tails, lists of extended attributes, and inodes by number. The index is not
//! compressed; the entries are in metadata blocks, each full but for the last.

use super::error::{Damage, TreeFault, What};
use super::metadata::{BLOCK, Cursor};
use super::tree::Tree;

/// A table of `count` entries of `entry` bytes, a divisor of 8192.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    what: What,
    index: u64,
    count: u64,
    entry: u64,
}

impl Table {
    /// With its index at byte `index`; that must lie before byte `end`.
    pub(crate) fn new(
        what: What,
        index: u64,
        count: u64,
        entry: u64,
        end: u64,
    ) -> Result<Self, Damage> {
        // A count has 32 bits and an entry 16 bytes at most.
        let len = (count * entry).div_ceil(BLOCK as u64) * 8;
        if index.checked_add(len).is_none_or(|to| to > end) {
            return Err(Damage::Outside {
                what,
                at: index,
                end,
            });
        }
        Ok(Self {
            what,
            index,
            count,
            entry,
        })
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Where entry `number` is.
    pub(crate) fn entry(&self, tree: &Tree<'_>, number: u64) -> Result<Cursor, TreeFault> {
        if number >= self.count {
            return Err(Damage::NoSuch {
                what: self.what,
                number,
                count: self.count,
            }
            .into());
        }
        let at = number * self.entry;
        let mut pointer = [0; 8];
        tree.read_at(&mut pointer, self.index + at / BLOCK as u64 * 8)?;
        let block = u64::from_le_bytes(pointer);
        Ok(Cursor::new(self.what, block, at % BLOCK as u64, self.index))
    }
}
