//! OCI image layouts (OCI image specification 1.1, "Image Layout"), as a
//! folder or as an archive of one. A blob is only ever looked for by a digest
//! that has been parsed.

use std::collections::BTreeSet;
use std::path::Path;

use super::archive::Archive;
use super::choose::choose_of;
use super::error::{OciError, OciFault};
use super::folder::Folder;
use super::image::{OciImage, OpenOptions};
use super::input::Input;
use super::json;
use super::manifest::{Descriptor, Document, RawDescriptor};
use super::media::DocumentType;
use super::platform::Platform;
use crate::blob::Blob;
use crate::digest::Digest;
use crate::display::shown;

/// What an image is called in a layout: mostly its tag alone.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// What containerd and Docker add: its whole name.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

const INDEX: &str = "index.json";

/// Where a layout's files are.
enum Files {
    Folder(Folder),
    Archive(Archive),
}

impl OciImage {
    /// The image called `tag`, or the only one, in the OCI layout in `dir`.
    pub fn open_oci_dir(
        dir: &Path,
        tag: Option<&str>,
        options: &OpenOptions,
    ) -> Result<Self, OciError> {
        let open = || {
            let files = Files::Folder(Folder::open(dir)?);
            from_files(&files, tag, &options.platform)
        };
        open().map_err(|fault| fault.of(dir.display().to_string()))
    }

    /// The image called `tag`, or the only one, in a tar archive, plain or
    /// compressed, of an OCI layout. Layers are read where they lie, unless
    /// the archive is compressed or comes through a pipe.
    pub fn open_oci_archive(
        input: &Input,
        tag: Option<&str>,
        options: &OpenOptions,
    ) -> Result<Self, OciError> {
        let open = || {
            let blob = input.open_unpacked(options.unpacked_limit)?;
            let files = Files::Archive(Archive::open(blob)?);
            from_files(&files, tag, &options.platform)
        };
        open().map_err(|fault| fault.of(input.subject()))
    }
}

impl Files {
    fn get(&self, name: &str) -> Result<Option<Blob>, OciFault> {
        match self {
            Self::Folder(folder) => folder.get(name),
            Self::Archive(archive) => archive.get(name),
        }
    }

    fn blob(&self, digest: &Digest) -> Result<Option<Blob>, OciFault> {
        self.get(&format!("blobs/sha256/{}", digest.hex()))
    }

    /// What to do without an index.
    fn remedy(&self) -> &'static str {
        match self {
            Self::Folder(_) => "dir:PATH packs a folder that is a root file system",
            Self::Archive(archive) if archive.has("manifest.json") => {
                "docker-archive:FILE reads what `docker save` wrote"
            }
            Self::Archive(_) => "tar:FILE packs an archive of a root file system",
        }
    }
}

fn from_files(files: &Files, tag: Option<&str>, platform: &Platform) -> Result<OciImage, OciFault> {
    let index = files.get(INDEX)?.ok_or_else(|| OciFault::NoIndexJson {
        remedy: files.remedy(),
    })?;
    let index: Document = json::parse(INDEX, &json::read(INDEX, &index)?)?;
    let manifests = match index.document_type(None)? {
        DocumentType::Index => index.into_manifests(),
        DocumentType::Image => {
            return Err(OciFault::MediaType {
                media_type: "an image manifest in index.json".to_owned(),
            });
        }
    };
    let (name, first) = select(manifests, tag, platform)?;
    OciImage::from_layout(&name, first, platform, |digest| files.blob(digest))
}

/// The manifest or index for `tag`, and what it is called.
fn select(
    mut manifests: Vec<RawDescriptor>,
    tag: Option<&str>,
    platform: &Platform,
) -> Result<(String, Descriptor), OciFault> {
    if manifests.is_empty() {
        return Err(OciFault::NoImage);
    }
    let names: BTreeSet<_> = manifests
        .iter()
        .filter_map(name)
        .map(str::to_owned)
        .collect();
    if let Some(tag) = tag {
        manifests.retain(|manifest| is_called(manifest, tag));
    }
    // One image may have several names.
    let mut seen = BTreeSet::new();
    manifests.retain(|manifest| seen.insert(manifest.digest().to_owned()));
    if tag.is_none() && names.len() > 1 && manifests.len() > 1 {
        return Err(OciFault::Several {
            there: names.into_iter().collect(),
        });
    }
    if manifests.is_empty() {
        return Err(OciFault::NoSuchImage {
            wanted: shown(tag.unwrap_or_default()),
            there: names.into_iter().collect(),
        });
    }
    let name = tag
        .or(names.first().map(String::as_str))
        .unwrap_or_default();
    // Alone it need not say what it is for; its configuration does.
    let chosen = match &manifests[..] {
        [only] => only.checked()?,
        several => choose_of(several, platform)?,
    };
    Ok((name.to_owned(), chosen))
}

fn name(manifest: &RawDescriptor) -> Option<&str> {
    let names = [REF_NAME, CONTAINERD_NAME].map(|key| manifest.annotation(key));
    names.into_iter().flatten().next()
}

fn is_called(manifest: &RawDescriptor, tag: &str) -> bool {
    [REF_NAME, CONTAINERD_NAME]
        .iter()
        .any(|key| manifest.annotation(key) == Some(tag))
}
