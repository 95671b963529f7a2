//! The registries, for programs that wait: each call runs to its end on the
//! caller's thread.

use std::path::Path;

use gvmi::Digest;
use tokio::runtime::{Builder, Runtime};

use crate::login::canonical;
use crate::transport::Transport;
use crate::{
    Cache, Credentials, DockerConfig, Error, Manifest, Options, Progress, Reference, StoredIn,
};

/// Speaks to registries. Each reference says to which, so one value serves them
/// all; it remembers what they have granted.
///
/// Calls block, and must not be made by a thread of a tokio runtime. A process
/// that ends in the midst of one leaves nothing but parts in the [`Cache`],
/// which the next goes on from.
pub struct Registry {
    transport: Transport,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Registry {
    /// Reads certificates, and connects to nothing.
    pub fn new(options: Options) -> Result<Self, Error> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|source| Error::Prepare { source })?;
        Ok(Self {
            transport: Transport::new(options)?,
            runtime: Some(runtime),
        })
    }

    /// The manifest or index that `reference` names, checked by its digest.
    pub fn manifest(&self, reference: &Reference) -> Result<Manifest, Error> {
        self.wait(self.transport.manifest(reference))
    }

    /// Brings `blobs`, each with its size in bytes, from the repository of
    /// `reference` to `cache`, unless they are there. Afterwards
    /// [`Cache::blob`] has them. Refuses more than [`Options::max_size`].
    pub fn fetch(
        &self,
        reference: &Reference,
        blobs: &[(Digest, u64)],
        cache: &Cache,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), Error> {
        self.wait(self.transport.fetch(reference, blobs, cache, progress))
    }

    /// Pushes a `.gvmi` image as an artifact, and returns the digest of its
    /// manifest. What the file holds is not looked at.
    pub fn push_image(
        &self,
        reference: &Reference,
        file: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Digest, Error> {
        self.wait(self.transport.push_image(reference, file, progress))
    }

    /// Pulls what [`Self::push_image`] has pushed. The file `to` appears, or is
    /// replaced, when all of it is there and right; what it holds is not looked
    /// at. Refuses more than [`Options::max_size`]. Returns the digest of the
    /// manifest.
    pub fn pull_image(
        &self,
        reference: &Reference,
        to: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Digest, Error> {
        self.wait(self.transport.pull_image(reference, to, progress))
    }

    /// Checks user and password with a registry (`docker.io`, `HOST:PORT`, or a
    /// URL with these), and keeps them in `config`. Of `options`, the
    /// credentials are not used.
    pub fn login(
        options: Options,
        registry: &str,
        user: &str,
        password: &str,
        config: &DockerConfig,
    ) -> Result<StoredIn, Error> {
        let registry = canonical(registry)?;
        if user.contains(':') {
            return Err(Error::User {
                user: user.escape_debug().to_string(),
            });
        }
        let this = Self::new(Options {
            credentials: Credentials::Password {
                user: user.to_owned(),
                password: password.to_owned(),
            },
            ..options
        })?;
        this.wait(this.transport.check_login(registry))?;
        Ok(config.store(registry, user, password)?)
    }

    /// Forgets what `config` keeps for a registry, named as for
    /// [`Self::login`]. `false` when there was nothing.
    pub fn logout(registry: &str, config: &DockerConfig) -> Result<bool, Error> {
        Ok(config.erase(canonical(registry)?)?)
    }

    fn wait<T>(&self, future: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let runtime = self.runtime.as_ref().expect("it is not being dropped");
        runtime.block_on(future)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A thread may be waiting for another process to release a blob.
            runtime.shutdown_background();
        }
    }
}
