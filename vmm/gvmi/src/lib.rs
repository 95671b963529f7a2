//! Golem images (`.gvmi`): a squashfs 4.0, padded to 4 KiB, and behind it how
//! a container of it runs:
//!
//! ```text
//! squashfs | CRC-32 of the JSON, u32 LE | JSON (ContainerConfig) | its length, 8 digits
//! ```
//!
//! [`Image`] opens and checks one, [`Tree`] reads what is in it; [`Builder`]
//! makes one. What one can be made of is named by a [`Source`]; [`OciImage`] is a
//! container image as a list of layers. No file system is mounted or unpacked on
//! the host.

mod blob;
mod builder;
mod compression;
mod config;
mod decode;
mod diff;
mod digest;
mod display;
mod draft;
mod export;
mod fault;
mod hashes;
mod image;
mod layer;
mod limits;
mod merge;
mod mksquashfs;
mod oci;
mod owners;
mod progress;
mod source;
mod squashfs;
mod superblock;
mod tap;
mod tar;
mod trailer;
mod verify;
mod warnings;

pub use blob::{Blob, BlobReader};
pub use builder::{BuildError, Builder, Built};
pub use compression::{Compression, CompressionError};
pub use config::{ContainerConfig, RootFs};
pub use diff::{Aspect, Change, Diff, DiffError};
pub use digest::{Digest, DigestError};
pub use display::display_path;
pub use draft::Draft;
pub use export::{ExportError, Exported};
pub use fault::{Fault, Found, OpenError};
pub use hashes::Hashes;
pub use image::{Contents, Image};
pub use layer::Layer;
pub use limits::Limits;
pub use merge::LayerError;
#[doc(hidden)]
pub use merge::merge_layers;
pub use oci::{
    Choice, DEFAULT_UNPACKED_LIMIT, Descriptor, ImageName, Input, MANIFEST_TYPES, MAX_INDEX_DEPTH,
    MAX_JSON_LEN, Manifest, OciError, OciFault, OciImage, OpenOptions, Platform, PlatformError,
    choose,
};
pub use progress::{Pass, Progress};
pub use source::{RecogniseError, RegistryName, Source, SourceArg, SourceError};
pub use squashfs::{
    Damage, Device, Directory, Entry, FileData, FileReader, Inode, Kind, Tree, TreeError,
    TreeFault, Walk, What, Xattr,
};
pub use superblock::{Compressor, Superblock};
pub use tar::{EntryError, TarError};
pub use trailer::MAX_CONFIG_LEN;
pub use verify::{Counts, Verification};

#[cfg(test)]
mod tests;
