//! Why a tree cannot be read: where in the tree, and what is wrong there.

use std::error::Error;
use std::fmt;
use std::io;

use thiserror::Error;

use crate::display::display_path;
use crate::superblock::Compressor;

/// Something in an image's tree could not be read.
#[derive(Debug)]
pub struct TreeError {
    /// The entry's path from the root, without a leading slash; empty for the
    /// root and for what belongs to no entry.
    pub path: Vec<u8>,
    /// What is wrong with it.
    pub fault: TreeFault,
}

impl TreeError {
    pub(crate) fn new(path: &[u8], fault: impl Into<TreeFault>) -> Self {
        Self {
            path: path.to_vec(),
            fault: fault.into(),
        }
    }
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}: {}", display_path(&self.path), self.fault)
    }
}

impl Error for TreeError {
    // The fault is in the text already; the chain goes on with its cause.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.fault.source()
    }
}

/// What is wrong with an entry, or with what was asked of it.
#[derive(Debug, Error)]
pub enum TreeFault {
    /// The system fails to read the image.
    #[error("the image cannot be read at byte {at}")]
    Read {
        /// Where in the file.
        at: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file system contradicts itself.
    #[error("damaged: {0} (fetch the image again)")]
    Damaged(Damage),
    /// There is more than is read.
    #[error(
        "more than {max} {what}, the most that is read (raise the limit if the image is yours)"
    )]
    Limit {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// No entry has this path.
    #[error("no such entry in the image (`shem image ls` lists them)")]
    NotFound,
    /// A path goes on behind something that is no folder.
    #[error("not a folder")]
    NotADirectory,
    /// Its content was asked for, and it has none.
    #[error("not a regular file")]
    NotAFile,
    /// Symbolic links that never end.
    #[error("more than {max} symbolic links lead on from one to the next")]
    TooManyLinks {
        /// Most that are followed.
        max: u32,
    },
}

impl From<Damage> for TreeFault {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

/// How a squashfs contradicts itself.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Damage {
    /// Something reaches past its end.
    #[error("{what} at byte {at} reach past byte {end}")]
    Outside {
        /// Of what kind.
        what: What,
        /// Offset in the file.
        at: u64,
        /// First byte that they may not take.
        end: u64,
    },
    /// A block is longer, packed or unpacked, than any may be.
    #[error("{what} at byte {at} take {len} bytes, at most {max} may be")]
    TooLong {
        /// Of what kind.
        what: What,
        /// Offset in the file.
        at: u64,
        /// The length that it names.
        len: u64,
        /// The longest.
        max: u64,
    },
    /// A compressed block is not what its compressor wrote.
    #[error("{what} at byte {at} do not unpack with {}: {cause}", compressor.name())]
    Unpack {
        /// Of what kind.
        what: What,
        /// Offset in the file.
        at: u64,
        /// What should have packed it.
        compressor: Compressor,
        /// The decompressor's words.
        cause: String,
    },
    /// A block unpacks to another length than it should.
    #[error("{what} at byte {at} are {len} bytes long and should be {expected}")]
    Length {
        /// Of what kind.
        what: What,
        /// Offset in the file.
        at: u64,
        /// Bytes in it.
        len: u64,
        /// Bytes that should be.
        expected: u64,
    },
    /// A reference into a table that has fewer entries.
    #[error("{what} have no number {number}, only {count} of them")]
    NoSuch {
        /// Of what kind.
        what: What,
        /// The number, from 0.
        number: u64,
        /// How many there are.
        count: u64,
    },
    /// An inode of a type that is none.
    #[error("an inode has type {0}")]
    Type(u16),
    /// The root is of another type than a folder.
    #[error("the root folder is none, its inode has type {0}")]
    Root(u16),
    /// An inode's number is 0 or above their count.
    #[error("an inode has number {number} of {count}")]
    Number {
        /// The number found.
        number: u32,
        /// Number of inodes.
        count: u32,
    },
    /// A name leads to another inode than it says.
    #[error(
        "its name says inode {expected} of type {expected_type}, which is {number} of type {kind}"
    )]
    Mismatch {
        /// What the folder says.
        expected: u32,
        /// What the folder says.
        expected_type: u16,
        /// What the inode says.
        number: u32,
        /// What the inode says.
        kind: u16,
    },
    /// A folder's list ends within an entry, or has a run of a wrong length.
    #[error("a folder's list of names is cut or has a wrong count")]
    List,
    /// A name that no entry may have.
    #[error("a folder has an entry called \"{}\"", display_path(.0))]
    Name(Vec<u8>),
    /// Names are not in order, or there twice.
    #[error("a folder has an entry \"{}\" out of order or twice", display_path(.0))]
    Order(Vec<u8>),
    /// A folder that is in two places or in itself.
    #[error("folder {0} is in more than one place")]
    Loop(u32),
    /// The index of inodes by number names another one.
    #[error("the index of inodes says {number} of inode {found}")]
    Export {
        /// By the index.
        number: u32,
        /// By the inode.
        found: u32,
    },
    /// A symbolic link without a target, or with one that is too long.
    #[error("a symbolic link of {0} bytes")]
    Target(u32),
    /// An extended attribute that Linux could not have.
    #[error(
        "an extended attribute of type {kind} with a name of {name_len} and a value of {value_len} bytes"
    )]
    Xattr {
        /// The prefix's number.
        kind: u16,
        /// Length of its name without the prefix.
        name_len: u16,
        /// Length of its value.
        value_len: u32,
    },
    /// The compressor's options are not ones that a kernel takes.
    #[error("the compressor's options are not ones that a kernel accepts")]
    Options,
}

/// What something in the file is for; in the plural.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Inodes.
    Inodes,
    /// Lists of names.
    Directories,
    /// The table of owners.
    Ids,
    /// The table of blocks of tails.
    Fragments,
    /// Extended attributes.
    Xattrs,
    /// The index of inodes by number.
    Exports,
    /// The compressor's options.
    Options,
    /// A file's blocks.
    Data,
    /// Blocks of several files' tails.
    Tails,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inodes => "inodes",
            Self::Directories => "folders' names",
            Self::Ids => "owners",
            Self::Fragments => "entries for files' tails",
            Self::Xattrs => "extended attributes",
            Self::Exports => "inodes' references",
            Self::Options => "the compressor's options",
            Self::Data => "file data",
            Self::Tails => "files' tails",
        })
    }
}
