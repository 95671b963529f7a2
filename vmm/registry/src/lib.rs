//! Registries of container images: manifests and blobs are fetched and pushed
//! (OCI distribution specification 1.1), and `.gvmi` images are kept there as
//! OCI artifacts.
//!
//! [`Registry`] speaks to them, [`Cache`] keeps the blobs, [`DockerConfig`]
//! holds who we are there. What a manifest says is not understood here, but for
//! those of our own artifacts.
//!
//! References, the model of manifests and that of a registry's errors are
//! `oci-client`'s. Its requests are not used: they read answers of any length
//! into memory, panic on a token that is no header, and keep neither media type
//! nor `Retry-After`. A registry is not trusted with any of this.

mod artifact;
mod auth;
mod cache;
mod docker;
mod download;
mod error;
mod fault;
mod fetch;
mod http;
mod login;
mod manifest;
mod options;
mod progress;
mod reference;
mod registry;
mod retry;
mod transport;
mod upload;

pub use artifact::GVMI_MEDIA_TYPE;
pub use cache::{Cache, Freed, Usage};
pub use docker::{DockerConfig, DockerConfigError, HelperError, StoredIn};
pub use error::{Cause, Error};
pub use manifest::{MAX_MANIFEST_LEN, Manifest};
pub use oci_client::{ParseError, Reference};
pub use options::{Credentials, Options};
pub use progress::Progress;
pub use reference::parse_reference;
pub use registry::Registry;
