//! The open file system: what everything else reads through, and the limits
//! on memory and time that hold for all of it.
//!
//! Memory of a tree: 64 metadata blocks (512 KiB), 4 blocks of tails (4 MiB at
//! the largest block size), up to 65535 owners (256 KiB).

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io;
use std::rc::Rc;

use super::cache::Cache;
use super::error::{Damage, TreeError, TreeFault, What};
use super::inode::Inode;
use super::metadata::{Block, Cursor};
use super::options;
use super::table::Table;
use super::unpack::Unpacker;
use super::xattr::Xattrs;
use crate::image::{Contents, Image, Source};
use crate::superblock::{LEN, Superblock};

/// Metadata blocks that are kept unpacked.
const BLOCKS: usize = 64;
/// Blocks of tails that are kept unpacked: neighbours in a folder share one.
const TAILS: usize = 4;
/// Bytes that a name or a hole counts for: it takes no memory, but time.
const ITEM: u64 = 4096;
/// Owners in a full metadata block.
const IDS_PER_BLOCK: usize = 2048;
/// Most inodes that a tree may have; 2 MiB of bits say which were seen.
const MAX_INODES: u32 = 1 << 24;
/// What [`Tree::set_data_limit`] sets, until then: 256 GiB.
const DATA_LIMIT: u64 = 1 << 38;

/// The tree of files in an image. It is read where it lies: nothing is
/// mounted, and nothing is written.
///
/// Whatever bytes the image has, reading ends, in bounded memory, with what is
/// there or a [`TreeError`].
pub struct Tree<'a> {
    file: Bytes<'a>,
    pub(crate) superblock: Superblock,
    pub(crate) blocks: RefCell<Cache<Block>>,
    pub(crate) tails: RefCell<Cache<Vec<u8>>>,
    unpacker: RefCell<Unpacker>,
    /// The block that is being unpacked.
    packed: RefCell<Vec<u8>>,
    ids: Vec<u32>,
    pub(crate) fragments: Option<Table>,
    pub(crate) exports: Option<Table>,
    pub(crate) xattrs: Option<Xattrs>,
    limit: u64,
    /// What of the limit is left.
    left: Cell<u64>,
}

/// Where the file is.
enum Bytes<'a> {
    File(&'a File),
    Memory(&'a [u8]),
}

impl<'a> Tree<'a> {
    /// The tree of an image.
    pub fn open(image: &'a Image) -> Result<Self, TreeError> {
        Self::new(Bytes::File(image.file()), image.contents())
    }

    /// The tree of an image held in memory, of which `contents` were read.
    pub fn from_bytes(bytes: &'a [u8], contents: &Contents) -> Result<Self, TreeError> {
        Self::new(Bytes::Memory(bytes), contents)
    }

    fn new(file: Bytes<'a>, contents: &Contents) -> Result<Self, TreeError> {
        Self::read(file, &contents.superblock).map_err(|fault| TreeError::new(b"", fault))
    }

    fn read(file: Bytes<'a>, superblock: &Superblock) -> Result<Self, TreeFault> {
        if superblock.inodes > MAX_INODES {
            return Err(TreeFault::Limit {
                what: "inodes",
                max: MAX_INODES.into(),
            });
        }
        let unpacker = Unpacker::new(superblock.compressor, superblock.block_size)
            .map_err(|source| TreeFault::Read { at: 0, source })?;
        let mut tree = Self {
            file,
            superblock: superblock.clone(),
            blocks: RefCell::new(Cache::new(BLOCKS)),
            tails: RefCell::new(Cache::new(TAILS)),
            unpacker: RefCell::new(unpacker),
            packed: RefCell::default(),
            ids: Vec::new(),
            fragments: None,
            exports: None,
            xattrs: None,
            limit: DATA_LIMIT,
            left: Cell::new(DATA_LIMIT),
        };
        tree.read_tables()?;
        options::check(&tree)?;
        Ok(tree)
    }

    fn read_tables(&mut self) -> Result<(), TreeFault> {
        let superblock = &self.superblock;
        let end = superblock.bytes_used;
        let inodes = superblock.inodes.into();
        let ids = Table::new(
            What::Ids,
            superblock.id_table,
            superblock.ids.into(),
            4,
            end,
        )?;
        // A kernel does not look for a table of nothing either.
        let fragments = superblock
            .fragment_table
            .filter(|_| superblock.fragments > 0);
        if let Some(index) = fragments {
            let count = superblock.fragments.into();
            self.fragments = Some(Table::new(What::Fragments, index, count, 16, end)?);
        }
        if let Some(index) = superblock.export_table {
            self.exports = Some(Table::new(What::Exports, index, inodes, 8, end)?);
        }
        if let Some(header) = superblock.xattr_table {
            self.xattrs = Some(self.xattr_table(header, end)?);
        }
        for first in (0..ids.count()).step_by(IDS_PER_BLOCK) {
            let mut cursor = ids.entry(self, first)?;
            for _ in first..ids.count().min(first + IDS_PER_BLOCK as u64) {
                let id = cursor.u32(self)?;
                self.ids.push(id);
            }
        }
        Ok(())
    }

    /// Sets how many bytes may be unpacked or read from this tree from now on,
    /// in all: a small image can hold nearly any amount, in as many names. A
    /// name counts as 4 KiB more, and so does a hole, until it is read as bytes.
    pub fn set_data_limit(&mut self, limit: u64) {
        self.limit = limit;
        self.left.set(limit);
    }

    /// The root folder.
    pub fn root(&self) -> Result<Inode, TreeError> {
        let root = self.inode(self.superblock.root);
        root.and_then(|root| match root.is_dir() {
            true => Ok(root),
            false => Err(Damage::Root(root.kind.basic_type()).into()),
        })
        .map_err(|fault| TreeError::new(b"", fault))
    }

    /// Takes a name or a hole off the limit.
    pub(crate) fn charge_item(&self) -> Result<(), TreeFault> {
        self.charge(ITEM)
    }

    /// Takes `len` bytes off the limit.
    pub(crate) fn charge(&self, len: u64) -> Result<(), TreeFault> {
        match self.left.get().checked_sub(len) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(TreeFault::Limit {
                what: "bytes of data",
                max: self.limit,
            }),
        }
    }

    /// The number of owner `index`.
    pub(crate) fn id(&self, index: u16) -> Result<u32, Damage> {
        let id = self.ids.get(usize::from(index)).copied();
        id.ok_or(Damage::NoSuch {
            what: What::Ids,
            number: index.into(),
            count: self.ids.len() as u64,
        })
    }

    pub(crate) fn read_at(&self, buf: &mut [u8], at: u64) -> Result<(), TreeFault> {
        self.file
            .read_exact_at(buf, at)
            .map_err(|source| TreeFault::Read { at, source })
    }

    /// Unpacks what was read at byte `at` into the start of `out`.
    pub(crate) fn unpack(
        &self,
        what: What,
        at: u64,
        packed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, Damage> {
        let unpacked = self.unpacker.borrow_mut().unpack(packed, out);
        unpacked.map_err(|cause| Damage::Unpack {
            what,
            at,
            compressor: self.superblock.compressor,
            cause,
        })
    }

    /// Reads the `len` bytes at `at`, a block of at most the block size, into
    /// `out`, whose length becomes the block's. `packed` says whether it is
    /// compressed.
    pub(crate) fn data_block(
        &self,
        what: What,
        (at, len, packed): (u64, u32, bool),
        out: &mut Vec<u8>,
    ) -> Result<(), TreeFault> {
        let size = self.superblock.block_size;
        if len > size {
            return Err(Damage::TooLong {
                what,
                at,
                len: len.into(),
                max: size.into(),
            }
            .into());
        }
        let end = self.superblock.bytes_used;
        if at < LEN as u64 || at.checked_add(len.into()).is_none_or(|to| to > end) {
            return Err(Damage::Outside { what, at, end }.into());
        }
        if packed {
            let mut bytes = self.packed.borrow_mut();
            bytes.resize(len as usize, 0);
            self.read_at(&mut bytes, at)?;
            out.resize(size as usize, 0);
            let filled = self.unpack(what, at, &bytes, out)?;
            out.truncate(filled);
        } else {
            out.resize(len as usize, 0);
            self.read_at(out, at)?;
        }
        self.charge(out.len() as u64)
    }

    /// The block of tails at `at`.
    pub(crate) fn tails_block(&self, place: (u64, u32, bool)) -> Result<Rc<Vec<u8>>, TreeFault> {
        if let Some(block) = self.tails.borrow_mut().get(place.0) {
            return Ok(block);
        }
        let mut block = Vec::new();
        self.data_block(What::Tails, place, &mut block)?;
        let block = Rc::new(block);
        self.tails.borrow_mut().insert(place.0, block.clone());
        Ok(block)
    }

    /// The metadata at `reference` into the inode table.
    pub(crate) fn inode_cursor(&self, reference: u64) -> Cursor {
        let superblock = &self.superblock;
        Cursor::new(
            What::Inodes,
            superblock.inode_table,
            reference,
            superblock.directory_table,
        )
    }
}

impl Source for Bytes<'_> {
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        match self {
            Self::File(file) => Source::read_exact_at(*file, buf, at),
            Self::Memory(bytes) => bytes.read_exact_at(buf, at),
        }
    }
}
