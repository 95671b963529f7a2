//! How registries are spoken to, and as whom.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::DockerConfig;

/// How registries are spoken to.
#[derive(Clone, Debug)]
pub struct Options {
    /// Plain HTTP for every registry. Without, it is used for loopback hosts
    /// alone, and TLS for the others.
    pub insecure: bool,
    /// Certificates in PEM that are trusted beside the system's. With such a
    /// file, loopback hosts are spoken to by TLS too.
    pub ca_file: Option<PathBuf>,
    /// As whom, where a registry asks.
    pub credentials: Credentials,
    /// Longest time until a connection stands.
    pub connect_timeout: Duration,
    /// Longest time without a byte from or to the registry.
    pub idle_timeout: Duration,
    /// How often more a request is made that met a fault which may pass. One
    /// that had moved [`crate::Progress`] on by a mebibyte starts to count anew.
    pub retries: u32,
    /// Time before the first of them; doubled for each, up to half a minute.
    pub first_delay: Duration,
    /// Blobs that are fetched at the same time, at least 1.
    pub jobs: usize,
    /// Bytes that the blobs of one image may have together, those in the cache
    /// among them.
    pub max_size: u64,
}

impl Options {
    /// [`Self::max_size`] if nobody says otherwise: 64 GiB.
    pub const DEFAULT_MAX_SIZE: u64 = 64 << 30;
}

impl Default for Options {
    fn default() -> Self {
        Self {
            insecure: false,
            ca_file: None,
            credentials: Credentials::Anonymous,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(30),
            retries: 4,
            first_delay: Duration::from_secs(1),
            jobs: 4,
            max_size: Self::DEFAULT_MAX_SIZE,
        }
    }
}

/// As whom we come. It is told to a registry only when that asks.
#[derive(Clone, Default)]
pub enum Credentials {
    /// As nobody.
    #[default]
    Anonymous,
    /// As Docker's configuration says for the registry.
    Docker(DockerConfig),
    /// As this user, whichever registry asks.
    Password {
        /// Name.
        user: String,
        /// Password, or what the registry takes in its place.
        password: String,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => f.write_str("Anonymous"),
            Self::Docker(config) => f.debug_tuple("Docker").field(config).finish(),
            Self::Password { user, .. } => f.debug_tuple("Password").field(user).finish(),
        }
    }
}
