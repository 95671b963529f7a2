//! Why a file is not an image that can be booted: one line each, with the
//! remedy, for the person who typed the file's name.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// An image could not be opened.
#[derive(Debug)]
pub struct OpenError {
    /// The file, as its user named it.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: Fault,
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.fault)
    }
}

impl Error for OpenError {
    // The fault is in the text already; the chain goes on with its cause.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.fault.source()
    }
}

/// What is wrong with a file that should be an image.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Nothing has this name.
    #[error("no such file (see the path, or make an image with `shem image build`)")]
    Missing,
    /// The file exists and may not be read.
    #[error("permission denied (this user must be able to read it: `chmod +r`)")]
    Permission,
    /// The system refuses to open it.
    #[error("cannot be opened")]
    Open(#[source] io::Error),
    /// A folder where a file should be.
    #[error("is a folder, not an image (pack it with `shem image build`)")]
    Directory,
    /// A device, a pipe or a socket.
    #[error("is not a regular file (copy the image into a file first)")]
    NotAFile,
    /// The system fails to read it.
    #[error("cannot be read")]
    Read(#[source] io::Error),
    /// Too few bytes to hold a superblock and a trailer.
    #[error(
        "not a gvmi image: {found}, {len} bytes long (fetch it again, or make one with `shem image build`)"
    )]
    TooShort {
        /// Bytes in the file.
        len: u64,
        /// What it looks like.
        found: Found,
    },
    /// The file does not end in eight digits.
    #[error("not a gvmi image: {found}, and without the length that ends an image ({})", found.remedy())]
    NoLength {
        /// What it looks like.
        found: Found,
    },
    /// The digits point before the start of the file.
    #[error(
        "not a whole gvmi image: it ends in a configuration of {len} bytes and is {file_len} bytes long (fetch it again, or make one with `shem image build`)"
    )]
    LengthOutside {
        /// Length of the configuration, by the last digits.
        len: u64,
        /// Bytes in the file.
        file_len: u64,
    },
    /// The configuration is longer than is read.
    #[error(
        "its configuration takes {len} bytes, more than the {max} that are accepted (rebuild it with less in its labels and environment)"
    )]
    ConfigTooLong {
        /// Length of the configuration.
        len: u64,
        /// Longest that is accepted.
        max: u64,
    },
    /// The configuration is not what its maker wrote.
    #[error(
        "damaged: the checksum of its configuration is {computed:08x} and should be {stored:08x} (fetch it again)"
    )]
    Checksum {
        /// The one in the file.
        stored: u32,
        /// The one of the bytes in the file.
        computed: u32,
    },
    /// The configuration is not Docker's.
    #[error("its configuration is not that of a container (rebuild it with `shem image build`)")]
    Config(#[source] serde_json::Error),
    /// The trailer is an image's, what precedes it is not a squashfs.
    #[error(
        "has the trailer of a gvmi image behind {found} instead of a squashfs (rebuild it with `shem image build`)"
    )]
    NoMagic {
        /// What it looks like.
        found: Found,
    },
    /// Another version of squashfs.
    #[error(
        "holds a squashfs of version {major}.{minor}, only 4.0 can be mounted (rebuild it with `shem image build`)"
    )]
    Version {
        /// Major number.
        major: u16,
        /// Minor number.
        minor: u16,
    },
    /// The one compressor of squashfs that Linux never could mount.
    #[error(
        "its squashfs is compressed with lzma, which no kernel mounts (rebuild it with gzip, lzo, xz, lz4 or zstd)"
    )]
    Lzma,
    /// No compressor of squashfs 4.0.
    #[error(
        "its squashfs names compressor {id}, known are gzip, lzo, xz, lz4 and zstd (rebuild it with one of them)"
    )]
    Compressor {
        /// The number found.
        id: u16,
    },
    /// The block size is none of squashfs.
    #[error(
        "damaged: its squashfs names blocks of {size} bytes, or 2 to the {log} (fetch it again)"
    )]
    BlockSize {
        /// In bytes.
        size: u32,
        /// As a power of two.
        log: u16,
    },
    /// The file system is longer than what the file has of it.
    #[error(
        "cut short: its squashfs takes {needs} bytes and the file has {has} of them (fetch it again)"
    )]
    Truncated {
        /// Bytes of the file system.
        needs: u64,
        /// Bytes of the file before its trailer.
        has: u64,
    },
    /// A file system with no inode or no owner.
    #[error("damaged: its squashfs has no root folder (fetch it again)")]
    NoInodes,
    /// A table's offset is outside the file system or out of order.
    #[error(
        "damaged: the {table} table of its squashfs is at {offset}, outside {from}..{to} (fetch it again)"
    )]
    Table {
        /// Which table.
        table: &'static str,
        /// Where it should be.
        offset: u64,
        /// First byte it may take.
        from: u64,
        /// First byte that it may not.
        to: u64,
    },
    /// The root folder is outside of the inode table.
    #[error(
        "damaged: the root folder of its squashfs is at {reference:#x}, outside the inode table (fetch it again)"
    )]
    Root {
        /// The reference found.
        reference: u64,
    },
}

/// What the first bytes of a file look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No bytes at all.
    Empty,
    /// A squashfs 4.0.
    Squashfs,
    /// A squashfs of before version 4, in big-endian form.
    OldSquashfs,
    /// A tar archive.
    Tar,
    /// A compressed file; the program that unpacks it.
    Compressed(&'static str),
    /// An image of something else, by name.
    Other(&'static str),
    /// Something that is not known here.
    Unknown,
}

/// Bytes from the start of a file that [`Found::sniff`] looks at: as far as
/// the mark of an ISO 9660.
pub(crate) const SNIFF_LEN: usize = 32774;

impl Found {
    /// Judges a file by its first bytes; `head` has up to [`SNIFF_LEN`].
    pub(crate) fn sniff(head: &[u8]) -> Self {
        let has =
            |at: usize, mark: &[u8]| head.get(at..).is_some_and(|rest| rest.starts_with(mark));
        match () {
            _ if head.is_empty() => Self::Empty,
            _ if has(0, b"hsqs") => Self::Squashfs,
            _ if has(0, b"sqsh") => Self::OldSquashfs,
            _ if has(257, b"ustar") => Self::Tar,
            _ if has(0, b"\x1f\x8b") => Self::Compressed("gzip"),
            _ if has(0, b"\x28\xb5\x2f\xfd") => Self::Compressed("zstd"),
            _ if has(0, b"\xfd7zXZ\0") => Self::Compressed("xz"),
            _ if has(0, b"BZh") => Self::Compressed("bzip2"),
            _ if has(0, b"QFI\xfb") => Self::Other("a qcow2 disk"),
            _ if has(0, b"KDMV") => Self::Other("a VMDK disk"),
            _ if has(0, b"\x7fELF") => Self::Other("an ELF program"),
            _ if has(0, b"PK\x03\x04") => Self::Other("a zip archive"),
            _ if has(32769, b"CD001") => Self::Other("an ISO 9660 image"),
            _ if has(1080, b"\x53\xef") => Self::Other("an ext4 file system"),
            _ if has(510, b"\x55\xaa") => Self::Other("a partitioned disk"),
            _ if has(0, b"<") => Self::Other("a web page"),
            _ if has(0, b"{") => Self::Other("JSON text"),
            _ => Self::Unknown,
        }
    }

    /// What to do with it where a tar archive should be.
    pub(crate) fn instead_of_tar(self) -> &'static str {
        match self {
            Self::Empty => "see that what should write it did not fail",
            Self::Squashfs => "a gvmi image is one already, and need not be built",
            _ => "see the path",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Squashfs => {
                "cut short, or not yet an image: fetch it again, or repack its tree with `shem image build`"
            }
            Self::Tar => "turn it into one with `shem image build`",
            Self::Compressed(_) => {
                "unpack it; a tar in it becomes an image with `shem image build`"
            }
            _ => "see the path, or make one with `shem image build`",
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("an empty file"),
            Self::Squashfs => f.write_str("a squashfs"),
            Self::OldSquashfs => f.write_str("a big-endian squashfs of before version 4"),
            Self::Tar => f.write_str("a tar archive"),
            Self::Compressed(by) => write!(f, "a file compressed with {by}"),
            Self::Other(what) => f.write_str(what),
            Self::Unknown => f.write_str("a file of unknown format"),
        }
    }
}
