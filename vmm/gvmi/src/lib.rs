//! Golem images (`.gvmi`): a squashfs 4.0, padded to 4 KiB, and behind it how
//! a container of it runs:
//!
//! ```text
//! squashfs | CRC-32 of the JSON, u32 LE | JSON (ContainerConfig) | its length, 8 digits
//! ```
//!
//! [`Image`] opens and checks one; [`Builder`] makes one. No file system is
//! mounted or unpacked on the host, only the superblock and the trailer are
//! parsed.

mod blob;
mod builder;
mod compression;
mod config;
mod decode;
mod digest;
mod draft;
mod fault;
mod image;
mod layer;
mod limits;
mod merge;
mod mksquashfs;
mod owners;
mod progress;
mod superblock;
mod tap;
mod tar;
mod trailer;
mod warnings;

pub use blob::{Blob, BlobReader};
pub use builder::{BuildError, Builder, Built};
pub use compression::{Compression, CompressionError};
pub use config::ContainerConfig;
pub use digest::{Digest, DigestError};
pub use fault::{Fault, Found, OpenError};
pub use image::{Contents, Image};
pub use layer::Layer;
pub use limits::Limits;
pub use merge::LayerError;
#[doc(hidden)]
pub use merge::merge_layers;
pub use progress::{Pass, Progress};
pub use superblock::{Compressor, Superblock};
pub use tar::{EntryError, TarError};
pub use trailer::MAX_CONFIG_LEN;

#[cfg(test)]
mod tests;
