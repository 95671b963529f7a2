//! The first 96 bytes of a squashfs 4.0: what the kernel would check of them
//! before it mounts, checked against the file first, so that a damaged image
//! is named here and not by a guest that cannot find its root. What lies behind
//! the superblock is read by [`crate::squashfs`].

use crate::fault::Fault;

/// Bytes of the superblock.
pub const LEN: usize = 96;
/// "hsqs", the little-endian form; squashfs 4 has no other.
pub const MAGIC: u32 = 0x7371_7368;
/// In place of a table's offset: there is no such table.
const NO_TABLE: u64 = u64::MAX;
/// Largest block of squashfs; the smallest is a page.
const BLOCK_LOGS: std::ops::RangeInclusive<u16> = 12..=20;
/// A reference into a table counts bytes of its unpacked 8 KiB blocks.
const METADATA_BLOCK: u64 = 8192;

/// How the blocks of a squashfs are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compressor {
    /// zlib.
    Gzip,
    /// LZO.
    Lzo,
    /// xz.
    Xz,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compressor {
    /// The name that `mksquashfs -comp` takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Lzo => "lzo",
            Self::Xz => "xz",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    fn from_id(id: u16) -> Result<Self, Fault> {
        match id {
            1 => Ok(Self::Gzip),
            2 => Err(Fault::Lzma),
            3 => Ok(Self::Lzo),
            4 => Ok(Self::Xz),
            5 => Ok(Self::Lz4),
            6 => Ok(Self::Zstd),
            _ => Err(Fault::Compressor { id }),
        }
    }
}

/// What a checked superblock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// How its blocks are compressed.
    pub compressor: Compressor,
    /// Largest data block, in bytes; a power of two from 4 KiB to 1 MiB.
    pub block_size: u32,
    /// Number of inodes.
    pub inodes: u32,
    /// When it was made, in seconds since 1970.
    pub mkfs_time: u32,
    /// The format's flag bits, as they stand.
    pub flags: u16,
    /// Length of the file system in bytes; padding follows it.
    pub bytes_used: u64,
    /// Number of distinct owners and groups.
    pub(crate) ids: u16,
    /// Number of blocks that hold files' tails.
    pub(crate) fragments: u32,
    /// The root folder's inode, as folders refer to one.
    pub(crate) root: u64,
    /// Offset of the id table's index, which the writer edits.
    pub(crate) id_table: u64,
    /// Offset of the first inode.
    pub(crate) inode_table: u64,
    /// Offset of the first folder's names.
    pub(crate) directory_table: u64,
    /// Offset of the fragment table's index.
    pub(crate) fragment_table: Option<u64>,
    /// Offset of the index of inodes by number.
    pub(crate) export_table: Option<u64>,
    /// Offset of the header of the extended attributes.
    pub(crate) xattr_table: Option<u64>,
}

impl Superblock {
    /// Parses and checks `bytes`; the file system may take up to `area` bytes
    /// of its file.
    pub(crate) fn parse(bytes: &[u8; LEN], area: u64) -> Result<Self, Fault> {
        let u16_at = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;

        let (major, minor) = (u16_at(28), u16_at(30));
        if (major, minor) != (4, 0) {
            return Err(Fault::Version { major, minor });
        }
        let compressor = Compressor::from_id(u16_at(20))?;
        let (block_size, block_log) = (u32_at(12), u16_at(22));
        if !BLOCK_LOGS.contains(&block_log) || block_size != 1 << block_log {
            return Err(Fault::BlockSize {
                size: block_size,
                log: block_log,
            });
        }
        let bytes_used = u64_at(40);
        if bytes_used > area {
            return Err(Fault::Truncated {
                needs: bytes_used,
                has: area,
            });
        }
        let (inodes, ids) = (u32_at(4), u16_at(26));
        if inodes == 0 || ids == 0 {
            return Err(Fault::NoInodes);
        }
        let superblock = Self {
            compressor,
            block_size,
            inodes,
            mkfs_time: u32_at(8),
            flags: u16_at(24),
            bytes_used,
            ids,
            fragments: u32_at(16),
            root: u64_at(32),
            id_table: u64_at(48),
            inode_table: u64_at(64),
            directory_table: u64_at(72),
            fragment_table: table(u64_at(80)),
            export_table: table(u64_at(88)),
            xattr_table: table(u64_at(56)),
        };
        check_tables(bytes_used, u64_at(32), &u64_at)?;
        Ok(superblock)
    }
}

fn table(offset: u64) -> Option<u64> {
    (offset != NO_TABLE).then_some(offset)
}

/// The tables follow each other in one order, which is also how the kernel
/// knows where each ends; so one pass from the superblock to the end of the
/// file system bounds them all.
fn check_tables(bytes_used: u64, root: u64, offset: &dyn Fn(usize) -> u64) -> Result<(), Fault> {
    const TABLES: [(&str, usize, bool); 6] = [
        ("inode", 64, false),
        ("directory", 72, false),
        ("fragment", 80, true),
        ("export", 88, true),
        ("id", 48, false),
        ("xattr", 56, true),
    ];
    let mut start = LEN as u64;
    for (table, at, optional) in TABLES {
        let offset = offset(at);
        if optional && offset == NO_TABLE {
            continue;
        }
        if offset < start || offset >= bytes_used {
            return Err(Fault::Table {
                table,
                offset,
                from: start,
                to: bytes_used,
            });
        }
        start = offset;
    }
    let inode_table = offset(64);
    let directory_table = offset(72);
    let block = inode_table.saturating_add(root >> 16);
    if root & 0xffff >= METADATA_BLOCK || block >= directory_table {
        return Err(Fault::Root { reference: root });
    }
    Ok(())
}
