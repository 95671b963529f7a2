//! Writes images byte by byte, uncompressed, so that a test can put into them
//! what no packer would.

use crate::{ContainerConfig, trailer};

/// Bytes of a full metadata block.
const BLOCK: usize = 8192;
pub(super) const BLOCK_SIZE: u32 = 4096;
pub(super) const NO_FRAGMENT: u32 = u32::MAX;
pub(super) const DIR: u16 = 1;
pub(super) const FILE: u16 = 2;
pub(super) const SYMLINK: u16 = 3;
pub(super) const LONG_FILE: u16 = 9;

/// An image in the making, children before their folders.
#[derive(Default)]
pub(super) struct Maker {
    /// File data, behind the superblock.
    pub(super) data: Vec<u8>,
    pub(super) inodes: Vec<u8>,
    pub(super) names: Vec<u8>,
    pub(super) count: u32,
    /// Start, stored length.
    pub(super) fragments: Vec<(u64, u32)>,
    /// Places of the inodes by number, if they are there.
    pub(super) exports: Vec<u64>,
    /// Names and values, and lists of them.
    pub(super) xattrs: Vec<u8>,
    pub(super) xattr_lists: Vec<u8>,
}

/// A name, its inode's place, number and type.
pub(super) type Name<'a> = (&'a [u8], u64, u32, u16);

/// Where byte `at` of some metadata will be.
pub(super) fn reference(at: usize) -> u64 {
    let block = at / BLOCK * (BLOCK + 2);
    ((block << 16) + at % BLOCK) as u64
}

fn blocks(metadata: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for block in metadata.chunks(BLOCK) {
        out.extend((block.len() as u16 | 0x8000).to_le_bytes());
        out.extend(block);
    }
    out
}

impl Maker {
    /// Adds an inode with the next number; returns its place and that.
    pub(super) fn inode(&mut self, kind: u16, rest: &[u8]) -> (u64, u32) {
        self.count += 1;
        let at = reference(self.inodes.len());
        let header = [kind, 0o755, 0, 0].map(u16::to_le_bytes).concat();
        self.inodes.extend(header);
        self.inodes.extend(7u32.to_le_bytes());
        self.inodes.extend(self.count.to_le_bytes());
        self.inodes.extend(rest);
        (at, self.count)
    }

    pub(super) fn symlink(&mut self, target: &[u8]) -> (u64, u32) {
        let lengths = [1, target.len() as u32].map(u32::to_le_bytes).concat();
        self.inode(SYMLINK, &[&lengths, target].concat())
    }

    /// A file with data at `start`, a tail, and blocks of the given lengths.
    pub(super) fn file(
        &mut self,
        size: u32,
        start: u32,
        tail: (u32, u32),
        lengths: &[u32],
    ) -> (u64, u32) {
        let fields = [&[start, tail.0, tail.1, size], lengths].concat();
        let fields: Vec<u8> = fields
            .iter()
            .flat_map(|field| field.to_le_bytes())
            .collect();
        self.inode(FILE, &fields)
    }

    /// A folder with a list whose length is put as `size`, or the right one.
    pub(super) fn dir(&mut self, names: &[Name<'_>], size: Option<u16>) -> (u64, u32) {
        let at = reference(self.names.len());
        let start = self.names.len();
        for (name, reference, number, kind) in names {
            self.names.extend(0u32.to_le_bytes());
            self.names.extend(((reference >> 16) as u32).to_le_bytes());
            self.names.extend(number.to_le_bytes());
            self.names.extend((*reference as u16).to_le_bytes());
            self.names.extend(0u16.to_le_bytes());
            self.names.extend(kind.to_le_bytes());
            self.names.extend((name.len() as u16 - 1).to_le_bytes());
            self.names.extend(*name);
        }
        let size = size.unwrap_or((self.names.len() - start + 3) as u16);
        let mut rest = ((at >> 16) as u32).to_le_bytes().to_vec();
        rest.extend(2u32.to_le_bytes());
        rest.extend(size.to_le_bytes());
        rest.extend((at as u16).to_le_bytes());
        rest.extend(0u32.to_le_bytes());
        self.inode(DIR, &rest)
    }

    pub(super) fn image(self, root: u64) -> Vec<u8> {
        let mut bytes = vec![0; 96];
        bytes.extend(&self.data);
        let inode_table = bytes.len() as u64;
        bytes.extend(blocks(&self.inodes));
        let directory_table = bytes.len() as u64;
        // A table of names is there even if no folder has any.
        bytes.extend(blocks(&[&self.names[..], &[0; 3]].concat()));
        let fragments = bytes.len() as u64;
        let entries = self
            .fragments
            .iter()
            .flat_map(|(at, len)| [&at.to_le_bytes()[..], &len.to_le_bytes(), &[0; 4]].concat());
        bytes.extend(blocks(&entries.collect::<Vec<_>>()));
        let fragment_table = bytes.len() as u64;
        bytes.extend(fragments.to_le_bytes());
        let mut export_table = u64::MAX;
        if !self.exports.is_empty() {
            let exports = bytes.len() as u64;
            let places = self.exports.iter().flat_map(|place| place.to_le_bytes());
            bytes.extend(blocks(&places.collect::<Vec<_>>()));
            export_table = bytes.len() as u64;
            bytes.extend(exports.to_le_bytes());
        }
        let ids = bytes.len() as u64;
        bytes.extend(blocks(&1000u32.to_le_bytes()));
        let id_table = bytes.len() as u64;
        bytes.extend(ids.to_le_bytes());
        let mut xattr_table = u64::MAX;
        if !self.xattr_lists.is_empty() {
            let start = bytes.len() as u64;
            bytes.extend(blocks(&self.xattrs));
            let lists = bytes.len() as u64;
            bytes.extend(blocks(&self.xattr_lists));
            xattr_table = bytes.len() as u64;
            bytes.extend(start.to_le_bytes());
            bytes.extend((self.xattr_lists.len() as u32 / 16).to_le_bytes());
            bytes.extend(0u32.to_le_bytes());
            bytes.extend(lists.to_le_bytes());
        }
        let used = bytes.len() as u64;
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, b"hsqs");
        put(4, &self.count.to_le_bytes());
        put(12, &BLOCK_SIZE.to_le_bytes());
        put(16, &(self.fragments.len() as u32).to_le_bytes());
        put(20, &1u16.to_le_bytes());
        put(22, &12u16.to_le_bytes());
        put(26, &1u16.to_le_bytes());
        put(28, &4u16.to_le_bytes());
        put(32, &root.to_le_bytes());
        let tables = [
            used,
            id_table,
            xattr_table,
            inode_table,
            directory_table,
            fragment_table,
        ];
        for (table, offset) in tables.iter().enumerate() {
            put(40 + table * 8, &offset.to_le_bytes());
        }
        put(88, &export_table.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
        bytes.extend(trailer::encode(&ContainerConfig::default()).unwrap());
        bytes
    }

    /// The image with a root folder of `names`.
    pub(super) fn rooted(mut self, names: &[Name<'_>]) -> Vec<u8> {
        let (root, _) = self.dir(names, None);
        self.image(root)
    }
}
