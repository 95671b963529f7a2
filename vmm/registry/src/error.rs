//! What goes wrong between us and a registry, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gvmi::{Digest, DigestError, Fault};
use oci_client::ParseError;
use thiserror::Error;

use crate::DockerConfigError;
use crate::retry::{Again, MAX_RETRY_AFTER};

/// The text of a library's error that lies deepest, which says what happened
/// instead of who noticed.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Cause(pub(crate) String);

/// Why something was not fetched, pushed or stored. `what` is a reference, or
/// a blob of one; `registry` is a host, with a port where one was given.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// No event loop.
    #[error("cannot prepare to speak to registries")]
    Prepare {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file of certificates is not read.
    #[error("cannot read the certificates of {}", path.display())]
    ReadCa {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file of certificates has none.
    #[error("{} has no certificate of a CA in PEM", path.display())]
    NotCa {
        /// The file.
        path: PathBuf,
    },
    /// TLS without any certificates to trust.
    #[error(
        "{registry} cannot be trusted, as this system has no certificates of CAs; install its package ca-certificates, or name a file with the registry's CA"
    )]
    NoCas {
        /// Where.
        registry: String,
    },
    /// Not the address of a registry.
    #[error("`{registry}` is not the address of a registry, which is HOST or HOST:PORT")]
    Address {
        /// What was given.
        registry: String,
    },
    /// Not the name of an image.
    #[error(
        "`{text}` does not name an image in a registry (as REGISTRY/NAME:TAG or NAME@sha256:HEX)"
    )]
    Name {
        /// What was given.
        text: String,
        /// Why.
        #[source]
        source: ParseError,
    },
    /// The name of an image that is in no registry.
    #[error(
        "`{text}` is not in a registry, and a name as REGISTRY/NAME:TAG is needed here; if it is one, write `docker://{text}`"
    )]
    Elsewhere {
        /// What was given.
        text: String,
    },
    /// A digest that we cannot check.
    #[error("{what} is named by a digest that is not read here")]
    Digest {
        /// What was asked for.
        what: String,
        /// The digest.
        #[source]
        source: DigestError,
    },
    /// No connection.
    #[error(
        "cannot connect to registry {registry}; check its name and port, and that it and the network are up"
    )]
    Connect {
        /// Where.
        registry: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The other end is not trusted, or does not agree on how to speak.
    #[error(
        "cannot speak TLS with registry {registry}; if a CA of its own has signed its certificate, name that CA's file"
    )]
    Tls {
        /// Where.
        registry: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The other end speaks something else than TLS.
    #[error(
        "registry {registry} does not speak TLS; if it has plain HTTP only and you trust the network, use --insecure"
    )]
    NotTls {
        /// Where.
        registry: String,
    },
    /// The other end speaks TLS, and we did not.
    #[error(
        "registry {registry} speaks TLS, and was spoken to by plain HTTP; name the file with its CA by --ca-file, without --insecure"
    )]
    NotPlain {
        /// Where.
        registry: String,
    },
    /// Nothing came, or nothing was taken, for too long.
    #[error("{what}: registry {registry} has been silent for {} s; try again later", waited.as_secs())]
    Silent {
        /// What was asked for.
        what: String,
        /// Where.
        registry: String,
        /// How long.
        waited: Duration,
    },
    /// The connection broke before there was an answer.
    #[error("{what}: the connection to registry {registry} broke; try again")]
    Broken {
        /// What was asked for.
        what: String,
        /// Where.
        registry: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The connection broke within a blob.
    #[error(
        "{what}: the connection to registry {registry} ended after {got} of {size} bytes; try again, which goes on from there"
    )]
    Truncated {
        /// The blob.
        what: String,
        /// Where.
        registry: String,
        /// Bytes that came.
        got: u64,
        /// Bytes there should be.
        size: u64,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The registry wants to know who we are, or does not like who we are.
    #[error(
        "{what}: registry {registry} refuses access ({status}); check the name, and log in by `shem image login {registry}` as somebody who may"
    )]
    Denied {
        /// What was asked for.
        what: String,
        /// Where.
        registry: String,
        /// 401 or 403.
        status: u16,
    },
    /// User or password is wrong.
    #[error("registry {registry} does not accept this user and password")]
    Login {
        /// Where.
        registry: String,
    },
    /// A user whom no request can name (RFC 7617, section 2).
    #[error("the user name `{user}` has a colon, which cannot be sent; check it")]
    User {
        /// As given.
        user: String,
    },
    /// 404.
    #[error("{what}: registry {registry} does not have it; check the name and the tag")]
    NotFound {
        /// What was asked for.
        what: String,
        /// Where.
        registry: String,
    },
    /// 429.
    #[error(
        "{what}: registry {registry} has had too many requests from here{}; wait, or log in by `shem image login {registry}` for a higher limit",
        until(*after)
    )]
    RateLimit {
        /// What was asked for.
        what: String,
        /// Where.
        registry: String,
        /// When to come again, if it said so.
        after: Option<Duration>,
    },
    /// Any other answer that is not success.
    #[error("{what}: registry {registry} answers {status}{detail}")]
    Status {
        /// What was asked for.
        what: String,
        /// Where.
        registry: String,
        /// Of HTTP.
        status: u16,
        /// Its own words after a colon, cut short, or nothing.
        detail: String,
    },
    /// The registry does not keep to the specification.
    #[error("{what}: registry {registry} {fault}")]
    Protocol {
        /// What was asked for.
        what: String,
        /// Where.
        registry: String,
        /// What it does.
        fault: String,
    },
    /// Bytes that are not what their name says.
    #[error(
        "{what}: registry {registry} sent something else, whose digest is {found}; it was thrown away"
    )]
    WrongDigest {
        /// What was asked for.
        what: String,
        /// Where.
        registry: String,
        /// Of what came.
        found: Digest,
    },
    /// A blob of another size than the manifest says.
    #[error(
        "{what}: registry {registry} has another size of it than the {size} bytes of its manifest"
    )]
    WrongSize {
        /// The blob.
        what: String,
        /// Where.
        registry: String,
        /// What the manifest says.
        size: u64,
    },
    /// More bytes than [`crate::Options::max_size`].
    #[error(
        "{reference} needs {size} bytes by its manifest, and no more than {max} are fetched; if it is to be trusted, allow more by --max-size"
    )]
    TooLarge {
        /// What was asked for.
        reference: String,
        /// Bytes of all its blobs.
        size: u64,
        /// Most that are fetched.
        max: u64,
    },
    /// A manifest of a type that nobody reads.
    #[error(
        "{what} is of the type `{found}`, and no image of OCI or of Docker's schema 2; push it anew with a current tool"
    )]
    MediaType {
        /// What was asked for.
        what: String,
        /// Its type.
        found: String,
    },
    /// An image, but no `.gvmi`.
    #[error(
        "{reference} is no gvmi image; if it is a container image, use `shem image build docker://{reference}`"
    )]
    NotGvmi {
        /// What was asked for.
        reference: String,
    },
    /// It is called a gvmi and cannot be used as one.
    #[error("{reference} is damaged")]
    Damaged {
        /// What was asked for.
        reference: String,
        /// What is wrong with it.
        #[source]
        source: Fault,
    },
    /// A push to a digest.
    #[error("{reference}: a push needs a tag and no digest")]
    PushToDigest {
        /// Where it should go.
        reference: String,
    },
    /// A file of ours is not read or written.
    #[error("cannot read or write {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file system with this file or folder is full.
    #[error(
        "no space is left for {}; free some, also by `shem image prune`, or choose another folder",
        path.display()
    )]
    Full {
        /// What should have been written.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process fetches the same blob and does not come to an end.
    #[error(
        "{what}: another process has been fetching it for {} s; end that process, and try again",
        waited.as_secs()
    )]
    Busy {
        /// The blob.
        what: String,
        /// How long we waited.
        waited: Duration,
    },
    /// Docker's configuration.
    #[error(transparent)]
    Docker(#[from] DockerConfigError),
}

impl Error {
    pub(crate) fn file(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { path, source }
            }
            _ => Self::File { path, source },
        }
    }

    pub(crate) fn again(&self) -> Again {
        match self {
            Self::Silent { .. } | Self::Broken { .. } | Self::Truncated { .. } => Again::Soon,
            Self::RateLimit { after: None, .. } => Again::Soon,
            Self::RateLimit {
                after: Some(after), ..
            } => Again::After(*after),
            Self::Status {
                status: 408 | 500 | 502..=504,
                ..
            } => Again::Soon,
            _ => Again::Never,
        }
    }
}

fn until(after: Option<Duration>) -> String {
    match after {
        Some(after) if after > MAX_RETRY_AFTER => {
            format!(" and asks to come again in {} s", after.as_secs())
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_disk_says_so() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            let error = Error::file(Path::new("/cache/x"), kind.into());
            let text = error.to_string();
            assert!(text.starts_with("no space is left for /cache/x"), "{text}");
        }
    }
}
