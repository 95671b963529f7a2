//! Reads the tree of an image: a squashfs 4.0, as Linux documents it in
//! `Documentation/filesystems/squashfs.rst`, in any of its five compressors.
//! Nothing here writes, and nothing is taken on trust: an image comes from
//! somewhere else.

mod cache;
mod directory;
mod error;
mod file;
mod inode;
mod lookup;
mod metadata;
mod options;
mod table;
mod tree;
mod unpack;
mod walk;
mod xattr;

pub use directory::Directory;
pub use error::{Damage, TreeError, TreeFault, What};
pub use file::{FileData, FileReader};
pub use inode::{Device, Inode, Kind};
pub use tree::Tree;
pub use walk::{Entry, Walk};
pub use xattr::Xattr;

pub(crate) use file::Piece;
pub(crate) use walk::{Inodes, MAX_DEPTH};
pub(crate) use xattr::{MAX_XATTR_NAME, MAX_XATTR_TOTAL, MAX_XATTR_VALUE};

#[cfg(test)]
mod tests;
