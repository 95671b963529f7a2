//! What `docker save` and `podman save` write (Docker's image specification
//! 1.2, "Combined Image JSON + Filesystem Changeset Format"): a tar archive with
//! a `manifest.json` that names each image's configuration and layers. Up to
//! Docker 24 layers are `ID/layer.tar`, some of them links to others; since
//! Docker 25 they are blobs of an OCI layout.

use std::fmt;

use oci_spec::distribution::Reference;
use serde::Deserialize;

use super::archive::Archive;
use super::config::ImageConfig;
use super::error::{OciError, OciFault};
use super::image::{OciImage, OpenOptions};
use super::input::Input;
use super::json;
use super::manifest::verify_digest;
use super::platform::Platform;
use crate::digest::Digest;
use crate::display::shown;
use crate::layer::Layer;

const MANIFEST: &str = "manifest.json";
const BLOBS: &str = "blobs/sha256/";

/// Which image of an archive. As text: `NAME[:TAG]` or `@INDEX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageName {
    /// The one with this name, by Docker's rules: `alpine` is
    /// `docker.io/library/alpine:latest`.
    Named(String),
    /// The one with this number, from 0.
    At(usize),
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::At(index) => write!(f, "@{index}"),
        }
    }
}

/// One image in `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

impl OciImage {
    /// The image `image`, or the only one, in what `docker save` wrote, plain
    /// or compressed. Layers are read where they lie, unless the archive is
    /// compressed or comes through a pipe.
    pub fn open_docker_archive(
        input: &Input,
        image: Option<&ImageName>,
        options: &OpenOptions,
    ) -> Result<Self, OciError> {
        let open = || {
            let blob = input.open_unpacked(options.unpacked_limit)?;
            from_archive(&Archive::open(blob)?, image, &options.platform)
        };
        open().map_err(|fault| fault.of(input.subject()))
    }
}

fn from_archive(
    archive: &Archive,
    image: Option<&ImageName>,
    platform: &Platform,
) -> Result<OciImage, OciFault> {
    let manifest = archive
        .get(MANIFEST)?
        .ok_or_else(|| OciFault::NoManifestJson {
            remedy: remedy(archive),
        })?;
    let items: Vec<Item> = json::parse(MANIFEST, &json::read(MANIFEST, &manifest)?)?;
    let item = select(&items, image)?;
    let config = read_config(archive, &item.config)?;
    config.check_platform(platform)?;
    let names = item.layers.as_deref().unwrap_or_default();
    let diff_ids = config.layers(names.len())?;
    let layers = names.iter().zip(diff_ids).map(|(name, diff_id)| {
        Ok(Layer {
            name: shown(name),
            blob: archive.get(name)?.ok_or_else(|| missing(name))?,
            digest: named_digest(name, BLOBS, ""),
            diff_id,
        })
    });
    let layers = layers.collect::<Result<_, OciFault>>()?;
    let name = match image {
        Some(ImageName::Named(name)) => name.clone(),
        _ => item.tags().first().cloned().unwrap_or_default(),
    };
    Ok(OciImage::new(name, None, config, layers))
}

impl Item {
    fn tags(&self) -> &[String] {
        self.repo_tags.as_deref().unwrap_or_default()
    }

    fn is_called(&self, name: &str) -> bool {
        let full = |name: &str| name.parse::<Reference>().map(|full| full.whole());
        let wanted = full(name);
        self.tags()
            .iter()
            .any(|tag| tag == name || wanted.is_ok() && full(tag) == wanted)
    }
}

fn select<'a>(items: &'a [Item], image: Option<&ImageName>) -> Result<&'a Item, OciFault> {
    let found: Vec<_> = match image {
        None => items.iter().collect(),
        Some(ImageName::Named(name)) => items.iter().filter(|i| i.is_called(name)).collect(),
        Some(ImageName::At(index)) => items.get(*index).into_iter().collect(),
    };
    let there = || {
        let names = items.iter().enumerate().map(|(index, item)| {
            let tags = item.tags();
            match tags {
                [] => format!("@{index}"),
                tags => tags.join(" or "),
            }
        });
        names.collect()
    };
    match (&found[..], image) {
        ([only], _) => Ok(only),
        ([], _) if items.is_empty() => Err(OciFault::NoImage),
        ([], image) => Err(OciFault::NoSuchImage {
            wanted: shown(image.map(ImageName::to_string).unwrap_or_default()),
            there: there(),
        }),
        (_, None) => Err(OciFault::Several { there: there() }),
        // Platforms of one image. The number tells them apart.
        (several, Some(_)) => Err(OciFault::Several {
            there: (0..items.len())
                .filter(|index| {
                    several
                        .iter()
                        .any(|item| std::ptr::eq(*item, &items[*index]))
                })
                .map(|index| format!("@{index}"))
                .collect(),
        }),
    }
}

/// Reads an image's configuration, and verifies it where it is named by its
/// digest, as it is but for archives that some builders write.
fn read_config(archive: &Archive, name: &str) -> Result<ImageConfig, OciFault> {
    const WHAT: &str = "its configuration";
    let blob = archive.get(name)?.ok_or_else(|| missing(name))?;
    let bytes = json::read(WHAT, &blob)?;
    let digest = named_digest(name, BLOBS, "").or_else(|| named_digest(name, "", ".json"));
    if let Some(digest) = digest {
        verify_digest(WHAT, &bytes, digest)?;
    }
    ImageConfig::parse(&bytes)
}

/// The digest whose digits stand between `before` and `after` in `name`.
fn named_digest(name: &str, before: &str, after: &str) -> Option<Digest> {
    let hex = name.strip_prefix(before)?.strip_suffix(after)?;
    format!("sha256:{hex}").parse().ok()
}

fn missing(name: &str) -> OciFault {
    OciFault::MissingEntry { name: shown(name) }
}

fn remedy(archive: &Archive) -> &'static str {
    match () {
        () if archive.has("index.json") => "oci-archive:FILE reads an OCI layout",
        () if archive.has("repositories") => {
            "it is of before Docker 1.10: `docker load` and `docker save` it again"
        }
        () => "tar:FILE packs an archive of a root file system",
    }
}
