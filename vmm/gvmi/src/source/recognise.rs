//! Tells what a text without a kind in front of it means, by what is on the
//! file system.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use thiserror::Error;

use super::{RegistryName, Source, SourceArg};
use crate::blob::Blob;
use crate::oci::{ArchiveKind, Input, OciError, archive_kind};

/// Ends of files' names that no image's name has.
const FILE_ENDINGS: [&str; 7] = [
    ".tar", ".tar.gz", ".tgz", ".tar.zst", ".tzst", ".tar.xz", ".gvmi",
];

/// Why it is not known what a text means.
#[derive(Debug, Error)]
pub enum RecogniseError {
    /// It is a path that does not exist.
    #[error("{0}: no such file or folder (see the path; an image's name has no such form)")]
    Missing(String),
    /// It is neither a path that exists nor the name of an image.
    #[error(
        "{0}: no such file or folder, and not the name of an image (as alpine:3.20 or ghcr.io/OWNER/NAME)"
    )]
    Neither(String),
    /// The path may not be looked at.
    #[error("{0}: cannot be looked at (this user must be able to read it)")]
    Look(String, #[source] io::Error),
    /// A pipe or a device, whose start can be read only once.
    #[error(
        "{0}: is not a regular file, so what it holds must be said: docker-archive:{0}, oci-archive:{0} or tar:{0}"
    )]
    NotAFile(String),
    /// It is no archive, or a damaged one.
    #[error(transparent)]
    Archive(#[from] OciError),
}

impl SourceArg {
    /// What it means. Without a kind in front: a folder is an OCI layout when
    /// it has a file `oci-layout`, and else a root file system; a file is told
    /// by what is in it; and what does not exist, and does not look like a
    /// path, is a name in a registry. To tell, a compressed archive is
    /// unpacked (to nowhere) up to `limit` bytes.
    pub fn recognise(self, limit: u64) -> Result<Source, RecogniseError> {
        let text = match self {
            Self::Named(source) => return Ok(source),
            Self::Bare(text) => text,
        };
        let path = Path::new(&text);
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if is_missing(&error) => return missing(text),
            Err(error) => return Err(RecogniseError::Look(text, error)),
        };
        if metadata.is_dir() {
            return Ok(if path.join("oci-layout").is_file() {
                Source::OciDir {
                    dir: path.to_path_buf(),
                    tag: None,
                }
            } else {
                Source::Dir(path.to_path_buf())
            });
        }
        if !metadata.is_file() {
            return Err(RecogniseError::NotAFile(text));
        }
        recognise_file(text, limit)
    }
}

fn recognise_file(text: String, limit: u64) -> Result<Source, RecogniseError> {
    let blob = match File::open(&text).and_then(Blob::whole) {
        Ok(blob) => blob,
        Err(error) => return Err(RecogniseError::Look(text, error)),
    };
    let input = Input::File(text.clone().into());
    match archive_kind(&blob, limit) {
        Ok(ArchiveKind::Docker) => Ok(Source::DockerArchive { input, image: None }),
        Ok(ArchiveKind::Oci) => Ok(Source::OciArchive { input, tag: None }),
        Ok(ArchiveKind::Other) => Ok(Source::Tar(input)),
        Err(fault) => Err(fault.of(text).into()),
    }
}

/// Whether nothing has, or can have, that name.
fn is_missing(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound};
    matches!(
        error.kind(),
        NotFound | NotADirectory | InvalidFilename | InvalidInput
    )
}

fn missing(text: String) -> Result<Source, RecogniseError> {
    if looks_like_path(&text) {
        return Err(RecogniseError::Missing(text));
    }
    match text.parse::<RegistryName>() {
        Ok(name) => Ok(Source::Registry(name)),
        Err(_) => Err(RecogniseError::Neither(text)),
    }
}

fn looks_like_path(text: &str) -> bool {
    let first = text.split('/').next().unwrap_or_default();
    matches!(first, "" | "." | ".." | "~")
        || text.ends_with('/')
        || FILE_ENDINGS.iter().any(|ending| text.ends_with(ending))
}
