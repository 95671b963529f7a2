//! Image manifests and the descriptors in them (OCI image specification 1.1,
//! "Image Manifest", "Content Descriptors"; Docker's image manifest version 2
//! schema 2, which has the same fields).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::error::OciFault;
use super::media::{DocumentType, check_image, check_layer};
use super::platform::Platform;
use crate::digest::Digest;
use crate::display::shown;

/// What a blob is, and how it can be checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// What kind of thing, as its maker says; may be empty.
    pub media_type: String,
    /// What its bytes must hash to.
    pub digest: Digest,
    /// Bytes in it.
    pub size: u64,
}

/// The manifest of one container image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What its own bytes hash to: what the image is pulled by.
    pub digest: Digest,
    /// The image's configuration, at most [`super::MAX_JSON_LEN`] bytes.
    pub config: Descriptor,
    /// Its layers, bottom first; each a tar archive, plain or compressed with
    /// gzip or zstd.
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    /// All that has to be there to read the image: the configuration, then
    /// the layers, bottom first. An image may have one layer twice.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.config).chain(&self.layers)
    }
}

impl Descriptor {
    /// That `bytes` are what this describes; they are `what` in the error.
    pub fn verify(&self, what: &str, bytes: &[u8]) -> Result<(), OciFault> {
        self.verify_len(what, bytes.len() as u64)?;
        verify_digest(what, bytes, self.digest)
    }

    /// That a blob of `len` bytes can be what this describes.
    pub(crate) fn verify_len(&self, what: &str, len: u64) -> Result<(), OciFault> {
        if len == self.size {
            return Ok(());
        }
        Err(OciFault::Size {
            what: what.to_owned(),
            len,
            expected: self.size,
        })
    }
}

/// That `bytes`, which are `what` in the error, hash to `expected`.
pub(crate) fn verify_digest(what: &str, bytes: &[u8], expected: Digest) -> Result<(), OciFault> {
    let found = Digest::of(bytes);
    if found == expected {
        return Ok(());
    }
    Err(OciFault::Digest {
        what: what.to_owned(),
        found,
        expected,
    })
}

/// A manifest or an index, before it is known which.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Document {
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<RawDescriptor>,
    layers: Option<Vec<RawDescriptor>>,
    manifests: Option<Vec<RawDescriptor>>,
    /// Of schema 1.
    fs_layers: Option<IgnoredAny>,
}

/// A descriptor as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RawDescriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
    annotations: Option<BTreeMap<String, String>>,
}

impl RawDescriptor {
    /// What it is for, if it says so.
    pub(crate) fn platform(&self) -> Option<&Platform> {
        self.platform.as_ref().filter(|platform| platform.is_said())
    }

    /// As it is written, which may be no digest.
    pub(crate) fn digest(&self) -> &str {
        &self.digest
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    pub(crate) fn checked(&self) -> Result<Descriptor, OciFault> {
        let digest = shown(&self.digest).parse();
        Ok(Descriptor {
            media_type: self.media_type.clone(),
            digest: digest.map_err(OciFault::DigestText)?,
            size: self.size,
        })
    }
}

impl Document {
    /// What it is. What it was sent as, what it says and what it holds must
    /// not contradict each other: a reader that believes another of them would
    /// see another image under the same digest.
    pub(crate) fn document_type(&self, sent_as: Option<&str>) -> Result<DocumentType, OciFault> {
        let sent = DocumentType::of(sent_as.unwrap_or_default())?;
        let said = DocumentType::of(self.media_type.as_deref().unwrap_or_default())?;
        let held = self.held_type()?;
        for told in [sent, said].into_iter().flatten() {
            if told != held {
                return Err(OciFault::Ambiguous {
                    first: told.name().to_owned(),
                    second: held.name().to_owned(),
                });
            }
        }
        Ok(held)
    }

    fn held_type(&self) -> Result<DocumentType, OciFault> {
        let image = self.config.is_some() || self.layers.is_some();
        match (self.manifests.is_some(), image) {
            (true, false) => Ok(DocumentType::Index),
            (false, true) => Ok(DocumentType::Image),
            (true, true) => Err(OciFault::Ambiguous {
                first: DocumentType::Index.name().to_owned(),
                second: DocumentType::Image.name().to_owned(),
            }),
            (false, false) if self.fs_layers.is_some() => Err(OciFault::Schema1),
            (false, false) => Err(OciFault::MediaType {
                media_type: "JSON with neither layers nor manifests".to_owned(),
            }),
        }
    }

    /// The manifests of an index.
    pub(crate) fn into_manifests(self) -> Vec<RawDescriptor> {
        self.manifests.unwrap_or_default()
    }

    /// The image whose manifest `bytes` are.
    pub(crate) fn into_manifest(self, bytes: &[u8]) -> Result<Manifest, OciFault> {
        let layers = self.layers.unwrap_or_default();
        let config = self.config.ok_or_else(|| OciFault::MediaType {
            media_type: "an image manifest without a configuration".to_owned(),
        })?;
        check_image(
            &config.media_type,
            self.artifact_type.as_deref(),
            layers.iter().map(|layer| layer.media_type.as_str()),
        )?;
        let layers = layers.iter().map(|layer| {
            let layer = layer.checked()?;
            check_layer(&layer.media_type, layer.digest)?;
            Ok(layer)
        });
        Ok(Manifest {
            digest: Digest::of(bytes),
            config: config.checked()?,
            layers: layers.collect::<Result<_, OciFault>>()?,
        })
    }
}
