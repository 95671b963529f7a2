//! Container images, up to a list of layers and a configuration: what
//! `docker save` wrote, OCI layouts (as a folder or an archive) and the blobs
//! of registries. Follows the OCI image specification 1.1, Docker's image
//! manifest version 2 schema 2 and Docker's image specification 1.2. No layer
//! is read here and nothing is fetched; layers' bytes are checked against
//! their digests by who reads them.

mod archive;
mod choose;
mod config;
mod docker;
mod error;
mod folder;
mod forward;
mod image;
mod input;
mod json;
mod layout;
mod manifest;
mod media;
mod platform;
mod text;
mod walk;

pub(crate) use archive::{ArchiveKind, archive_kind};
pub use choose::{Choice, MAX_INDEX_DEPTH, choose};
pub use docker::ImageName;
pub use error::{OciError, OciFault};
pub use image::{OciImage, OpenOptions};
pub(crate) use input::spool;
pub use input::{DEFAULT_UNPACKED_LIMIT, Input};
pub use json::MAX_JSON_LEN;
pub use manifest::{Descriptor, Manifest};
pub use media::MANIFEST_TYPES;
pub use platform::{Platform, PlatformError};

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;
