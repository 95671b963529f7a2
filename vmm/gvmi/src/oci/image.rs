//! An image that is ready to be merged: its layers, where they lie, and how it
//! runs.

use std::io;

use super::choose::{Choice, MAX_INDEX_DEPTH, choose};
use super::config::ImageConfig;
use super::error::OciFault;
use super::input::DEFAULT_UNPACKED_LIMIT;
use super::json;
use super::manifest::{Descriptor, Manifest};
use super::platform::Platform;
use crate::blob::Blob;
use crate::config::ContainerConfig;
use crate::digest::Digest;
use crate::layer::Layer;

/// A container image.
///
/// ```no_run
/// use gvmi::{Input, OciImage, OpenOptions};
///
/// let input = Input::File("demo.tar".into());
/// let image = OciImage::open_docker_archive(&input, None, &OpenOptions::default())?;
/// println!("{} has {} layers", image.name, image.layers.len());
/// # Ok::<(), gvmi::OciError>(())
/// ```
#[derive(Clone, Debug)]
pub struct OciImage {
    /// By what it was asked for, or what its archive calls it; may be empty.
    /// Free text of others.
    pub name: String,
    /// What its manifest hashes to; `None` for an archive of `docker save`,
    /// which has none.
    pub digest: Option<Digest>,
    /// What it is for, where it says so.
    pub platform: Option<Platform>,
    /// When it was made, in seconds since 1970, where it says so.
    pub created: Option<u64>,
    /// How a container of it runs.
    pub config: ContainerConfig,
    /// Its layers, bottom first. Their sizes have been checked, their bytes
    /// have not.
    pub layers: Vec<Layer>,
}

/// How to open an image.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// What it must be for.
    pub platform: Platform,
    /// Most bytes of a compressed archive, unpacked, or of one that comes
    /// through a pipe; they are kept in a temporary file.
    pub unpacked_limit: u64,
}

impl Default for OpenOptions {
    /// For `linux/amd64`, with [`DEFAULT_UNPACKED_LIMIT`].
    fn default() -> Self {
        Self {
            platform: Platform::default(),
            unpacked_limit: DEFAULT_UNPACKED_LIMIT,
        }
    }
}

impl OciImage {
    /// The image of `manifest`, which must be for `platform`, with its blobs
    /// from `blob`, which fails with [`io::ErrorKind::NotFound`] for one that
    /// is not there. The configuration is verified by its digest.
    pub fn from_blobs(
        name: &str,
        manifest: &Manifest,
        platform: &Platform,
        blob: impl Fn(&Digest) -> io::Result<Blob>,
    ) -> Result<Self, OciFault> {
        Self::assemble(name, manifest, platform, |digest| {
            let what = digest.to_string();
            match blob(digest) {
                Ok(blob) => Ok(Some(blob)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(OciFault::Read { what, source }),
            }
        })
    }

    /// The image that `first`, a document of an OCI layout, leads to.
    pub(crate) fn from_layout(
        name: &str,
        first: Descriptor,
        platform: &Platform,
        blob: impl Fn(&Digest) -> Result<Option<Blob>, OciFault>,
    ) -> Result<Self, OciFault> {
        let mut next = first;
        for _ in 0..MAX_INDEX_DEPTH {
            let bytes = read_verified("its manifest", &next, &blob)?;
            match choose(&bytes, Some(&next.media_type), platform)? {
                Choice::Next(chosen) => next = chosen,
                Choice::Image(manifest) => {
                    return Self::assemble(name, &manifest, platform, blob);
                }
            }
        }
        Err(OciFault::TooDeep {
            max: MAX_INDEX_DEPTH,
        })
    }

    fn assemble(
        name: &str,
        manifest: &Manifest,
        platform: &Platform,
        blob: impl Fn(&Digest) -> Result<Option<Blob>, OciFault>,
    ) -> Result<Self, OciFault> {
        let config = read_verified("its configuration", &manifest.config, &blob)?;
        let config = ImageConfig::parse(&config)?;
        config.check_platform(platform)?;
        let diff_ids = config.layers(manifest.layers.len())?;
        let layers = manifest.layers.iter().zip(diff_ids);
        let layers = layers.map(|(layer, diff_id)| {
            let name = layer.digest.to_string();
            Ok(Layer {
                blob: find(&format!("layer {name}"), layer, &blob)?,
                name,
                digest: Some(layer.digest),
                diff_id,
            })
        });
        let layers = layers.collect::<Result<_, OciFault>>()?;
        Ok(Self::new(
            name.to_owned(),
            Some(manifest.digest),
            config,
            layers,
        ))
    }

    pub(crate) fn new(
        name: String,
        digest: Option<Digest>,
        config: ImageConfig,
        layers: Vec<Layer>,
    ) -> Self {
        Self {
            name,
            digest,
            platform: config.platform,
            created: config.created,
            config: config.container,
            layers,
        }
    }
}

/// The blob that `descriptor` describes, of the size that it says.
fn find(
    what: &str,
    descriptor: &Descriptor,
    blob: impl Fn(&Digest) -> Result<Option<Blob>, OciFault>,
) -> Result<Blob, OciFault> {
    let digest = descriptor.digest;
    let blob = blob(&digest)?.ok_or(OciFault::MissingBlob { digest })?;
    descriptor.verify_len(what, blob.len())?;
    Ok(blob)
}

fn read_verified(
    what: &str,
    descriptor: &Descriptor,
    blob: impl Fn(&Digest) -> Result<Option<Blob>, OciFault>,
) -> Result<Vec<u8>, OciFault> {
    let bytes = json::read(what, &find(what, descriptor, blob)?)?;
    descriptor.verify(what, &bytes)?;
    Ok(bytes)
}
