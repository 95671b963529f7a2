//! A regular file's content: blocks of the block size, each compressed by
//! itself, and the rest in a block that it shares with other files' tails.

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;
use std::rc::Rc;

use super::error::{Damage, TreeFault, What};
use super::inode::{Inode, Kind};
use super::metadata::Cursor;
use super::tree::Tree;

/// In place of the number of a block of tails: the file has no tail.
const NO_FRAGMENT: u32 = u32::MAX;
/// In a data block's length: it is not compressed.
const UNCOMPRESSED: u32 = 1 << 24;

/// Where a regular file's content is.
#[derive(Clone, Debug)]
pub struct FileData {
    size: u64,
    /// Offset of the first block in the file.
    start: u64,
    tail: Option<Tail>,
    /// Where the blocks' lengths are.
    lengths: Cursor,
}

/// A part of a block of tails.
#[derive(Clone, Copy, Debug)]
struct Tail {
    /// The block's number.
    fragment: u32,
    /// Place in the block.
    offset: u32,
}

impl FileData {
    /// The lengths of the blocks follow the inode, which ends at `cursor`.
    pub(crate) fn new(size: u64, start: u64, tail: (u32, u32), cursor: &Cursor) -> Self {
        let (fragment, offset) = tail;
        Self {
            size,
            start,
            tail: (fragment != NO_FRAGMENT).then_some(Tail { fragment, offset }),
            lengths: cursor.clone(),
        }
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// Reads a file of a [`Tree`] from its start to its end.
pub struct FileReader<'t> {
    tree: &'t Tree<'t>,
    /// Bytes of the file behind the current piece.
    left: u64,
    /// Blocks of its own behind the current piece.
    blocks: u64,
    lengths: Cursor,
    /// Offset of the next block in the file.
    at: u64,
    tail: Option<Tail>,
    block: Vec<u8>,
    piece: Held,
}

/// What is left of the current piece.
enum Held {
    /// A part of the reader's block.
    Block(Range<usize>),
    Tail(Rc<Vec<u8>>, Range<usize>),
    Hole(u64),
}

/// A piece of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'p> {
    /// Some bytes, at least one.
    Data(&'p [u8]),
    /// So many zeros, at least one.
    Hole(u64),
}

impl Piece<'_> {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Data(bytes) => bytes.len() as u64,
            Self::Hole(len) => *len,
        }
    }
}

impl Tree<'_> {
    /// Reads the content of `inode`, a regular file.
    pub fn file(&self, inode: &Inode) -> Result<FileReader<'_>, TreeFault> {
        let Kind::File(data) = &inode.kind else {
            return Err(TreeFault::NotAFile);
        };
        let block_size = u64::from(self.superblock.block_size);
        Ok(FileReader {
            tree: self,
            left: data.size,
            blocks: match data.tail {
                Some(_) => data.size / block_size,
                None => data.size.div_ceil(block_size),
            },
            lengths: data.lengths.clone(),
            at: data.start,
            tail: data.tail,
            block: Vec::new(),
            piece: Held::Hole(0),
        })
    }
}

impl FileReader<'_> {
    /// What comes next; `None` at the end. The same until [`Self::consume`].
    pub(crate) fn piece(&mut self) -> Result<Option<Piece<'_>>, TreeFault> {
        if self.held() == 0 {
            if self.left == 0 {
                return Ok(None);
            }
            let len = self.left.min(self.tree.superblock.block_size.into());
            // Behind a piece that cannot be read there is nothing.
            let left = std::mem::take(&mut self.left);
            self.piece = self.next(len as usize)?;
            self.left = left - len;
        }
        Ok(Some(match &self.piece {
            Held::Block(range) => Piece::Data(&self.block[range.clone()]),
            Held::Tail(block, range) => Piece::Data(&block[range.clone()]),
            Held::Hole(len) => Piece::Hole(*len),
        }))
    }

    /// Goes on by `len` bytes, at most the length of the current piece.
    pub(crate) fn consume(&mut self, len: u64) {
        match &mut self.piece {
            // The piece is memory, and so is its length.
            Held::Block(range) | Held::Tail(_, range) => range.start += len as usize,
            Held::Hole(left) => *left -= len,
        }
    }

    fn held(&self) -> u64 {
        match &self.piece {
            Held::Block(range) | Held::Tail(_, range) => range.len() as u64,
            Held::Hole(left) => *left,
        }
    }

    /// The next piece, which is `len` bytes long.
    fn next(&mut self, len: usize) -> Result<Held, TreeFault> {
        if let Some(blocks) = self.blocks.checked_sub(1) {
            self.blocks = blocks;
            return self.next_block(len);
        }
        // Without a tail there is a block for every byte.
        let tail = self.tail.ok_or(Damage::List)?;
        let mut entry = match &self.tree.fragments {
            Some(table) => table.entry(self.tree, tail.fragment.into())?,
            None => {
                return Err(Damage::NoSuch {
                    what: What::Fragments,
                    number: tail.fragment.into(),
                    count: 0,
                }
                .into());
            }
        };
        let at = entry.u64(self.tree)?;
        let stored = entry.u32(self.tree)?;
        let place = (at, stored & !UNCOMPRESSED, stored & UNCOMPRESSED == 0);
        let block = self.tree.tails_block(place)?;
        let start = tail.offset as usize;
        let end = start.saturating_add(len);
        check(What::Tails, at, block.len() >= end, block.len(), end)?;
        self.tree.charge(len as u64)?;
        Ok(Held::Tail(block, start..end))
    }

    fn next_block(&mut self, len: usize) -> Result<Held, TreeFault> {
        let stored = self.lengths.u32(self.tree)?;
        if stored == 0 {
            self.tree.charge_item()?;
            return Ok(Held::Hole(len as u64));
        }
        let at = self.at;
        let place = (at, stored & !UNCOMPRESSED, stored & UNCOMPRESSED == 0);
        self.tree.data_block(What::Data, place, &mut self.block)?;
        // It lies in the file, so the sum does too.
        self.at += u64::from(place.1);
        check(
            What::Data,
            at,
            self.block.len() == len,
            self.block.len(),
            len,
        )?;
        Ok(Held::Block(0..len))
    }
}

fn check(what: What, at: u64, is_right: bool, len: usize, expected: usize) -> Result<(), Damage> {
    if is_right {
        return Ok(());
    }
    Err(Damage::Length {
        what,
        at,
        len: len as u64,
        expected: expected as u64,
    })
}

impl Read for FileReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let tree = self.tree;
        let len = match self.piece().map_err(io::Error::other)? {
            None => 0,
            Some(Piece::Data(bytes)) => {
                let len = bytes.len().min(buf.len());
                buf[..len].copy_from_slice(&bytes[..len]);
                len
            }
            Some(Piece::Hole(left)) => {
                let len = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                tree.charge(len as u64).map_err(io::Error::other)?;
                buf[..len].fill(0);
                len
            }
        };
        self.consume(len as u64);
        Ok(len)
    }
}

impl fmt::Debug for FileReader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.left + self.held();
        f.debug_struct("FileReader")
            .field("left", &left)
            .finish_non_exhaustive()
    }
}
