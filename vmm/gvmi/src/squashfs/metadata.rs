//! Metadata blocks: up to 8 KiB each, compressed one by one, and read as if
//! they were one after the other. Everything but file data is in them.

use std::rc::Rc;

use super::error::{Damage, TreeFault, What};
use super::tree::Tree;

/// Longest that a metadata block is when unpacked.
pub(crate) const BLOCK: usize = 8192;
/// In a metadata block's length: it is not compressed.
const UNCOMPRESSED: u16 = 0x8000;

/// An unpacked metadata block.
pub(crate) struct Block {
    bytes: Box<[u8]>,
    /// Where the next one starts.
    next: u64,
}

/// A place in some metadata, from which it is read on.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    what: What,
    /// Offset of the block in the file.
    block: u64,
    /// Where in the unpacked block.
    at: usize,
    /// First byte of the file that no block may take.
    end: u64,
}

impl Cursor {
    /// The place that `reference` names: the block's offset from `start` and,
    /// in the lowest 16 bits, the place in it.
    pub(crate) fn new(what: What, start: u64, reference: u64, end: u64) -> Self {
        Self {
            what,
            block: start.saturating_add(reference >> 16),
            at: (reference & 0xffff) as usize,
            end,
        }
    }

    /// Fills `buf` and goes on behind it.
    pub(crate) fn read(&mut self, tree: &Tree<'_>, mut buf: &mut [u8]) -> Result<(), TreeFault> {
        while !buf.is_empty() {
            let block = tree.metadata_block(self)?;
            let Some(bytes) = block.bytes.get(self.at..).filter(|rest| !rest.is_empty()) else {
                // The end of a block may be named as such or as the start of
                // the next; nothing else lies beyond.
                self.at = match self.at.checked_sub(block.bytes.len()) {
                    Some(0) => 0,
                    _ => return Err(self.outside()),
                };
                self.block = block.next;
                continue;
            };
            let len = bytes.len().min(buf.len());
            buf[..len].copy_from_slice(&bytes[..len]);
            buf = &mut buf[len..];
            self.at += len;
        }
        Ok(())
    }

    pub(crate) fn array<const N: usize>(&mut self, tree: &Tree<'_>) -> Result<[u8; N], TreeFault> {
        let mut bytes = [0; N];
        self.read(tree, &mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn u16(&mut self, tree: &Tree<'_>) -> Result<u16, TreeFault> {
        self.array(tree).map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self, tree: &Tree<'_>) -> Result<u32, TreeFault> {
        self.array(tree).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, tree: &Tree<'_>) -> Result<u64, TreeFault> {
        self.array(tree).map(u64::from_le_bytes)
    }

    /// The next `len` bytes, of which the caller knows a bound.
    pub(crate) fn bytes(&mut self, tree: &Tree<'_>, len: usize) -> Result<Vec<u8>, TreeFault> {
        let mut bytes = vec![0; len];
        self.read(tree, &mut bytes)?;
        Ok(bytes)
    }

    fn outside(&self) -> TreeFault {
        Damage::Outside {
            what: self.what,
            at: self.block,
            end: self.end,
        }
        .into()
    }
}

impl Tree<'_> {
    /// The block that `cursor` is in, from the cache or the file. No block is
    /// empty, so who reads on gets on.
    fn metadata_block(&self, cursor: &Cursor) -> Result<Rc<Block>, TreeFault> {
        let cached = self.blocks.borrow_mut().get(cursor.block);
        if let Some(block) = cached.filter(|block| block.next <= cursor.end) {
            return Ok(block);
        }
        let what = cursor.what;
        let data = cursor.block.saturating_add(2);
        if data > cursor.end {
            return Err(cursor.outside());
        }
        let mut header = [0; 2];
        self.read_at(&mut header, cursor.block)?;
        let header = u16::from_le_bytes(header);
        let len = header & !UNCOMPRESSED;
        if !(1..=BLOCK).contains(&usize::from(len)) {
            return Err(Damage::TooLong {
                what,
                at: cursor.block,
                len: len.into(),
                max: BLOCK as u64,
            }
            .into());
        }
        let next = data + u64::from(len);
        if next > cursor.end {
            return Err(cursor.outside());
        }
        let mut bytes = vec![0; len.into()];
        self.read_at(&mut bytes, data)?;
        if header & UNCOMPRESSED == 0 {
            let mut unpacked = vec![0; BLOCK];
            let filled = self.unpack(what, cursor.block, &bytes, &mut unpacked)?;
            unpacked.truncate(filled);
            bytes = unpacked;
        }
        if bytes.is_empty() {
            return Err(Damage::Length {
                what,
                at: cursor.block,
                len: 0,
                expected: BLOCK as u64,
            }
            .into());
        }
        self.charge(bytes.len() as u64)?;
        let block = Rc::new(Block {
            bytes: bytes.into(),
            next,
        });
        self.blocks.borrow_mut().insert(cursor.block, block.clone());
        Ok(block)
    }
}
