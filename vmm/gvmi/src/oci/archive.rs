//! A tar archive that holds images: its files are found by name and read where
//! they lie. Nothing is unpacked.

use std::collections::HashMap;

use super::error::OciFault;
use super::forward::Forward;
use super::input::unpacked;
use super::walk::{Entry, Kind, Walker};
use crate::blob::Blob;
use crate::decode::Decoder;
use crate::display::shown;

/// Most bytes that the list of entries may take: names, links and
/// [`ENTRY_LEN`] for each.
const MAX_LIST_LEN: usize = 16 << 20;
/// What an entry takes beside its names.
const ENTRY_LEN: usize = 128;
/// Links that may follow one another.
const MAX_LINKS: usize = 8;

/// An archive and the list of what is in it.
pub(crate) struct Archive {
    blob: Blob,
    entries: HashMap<Vec<u8>, Found>,
}

/// What has a name in it.
enum Found {
    File {
        start: u64,
        len: u64,
    },
    /// To an entry of this name.
    Link(Vec<u8>),
    /// To nothing that can be in it.
    DeadLink,
    Other,
}

impl Archive {
    /// Lists what is in the uncompressed archive `blob`. Of entries with one
    /// name the last counts, as when it is unpacked.
    pub(crate) fn open(blob: Blob) -> Result<Self, OciFault> {
        let mut entries = HashMap::new();
        let mut left = MAX_LIST_LEN;
        let mut walker = Walker::new(blob.reader(), u64::MAX);
        while let Some(entry) = walker.next()? {
            let Some(name) = normal(&[], &entry.name) else {
                continue;
            };
            let link = match &entry.kind {
                Kind::HardLink(to) | Kind::Symlink(to) => to.len(),
                _ => 0,
            };
            left = left
                .checked_sub(ENTRY_LEN + name.len() + link)
                .ok_or(OciFault::TooManyEntries)?;
            let found = Found::new(entry, &name);
            entries.insert(name, found);
        }
        Ok(Self { blob, entries })
    }

    /// Whether something has that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name.as_bytes())
    }

    /// The file `name`, through links; `None` where there is none.
    pub(crate) fn get(&self, name: &str) -> Result<Option<Blob>, OciFault> {
        let shown = || shown(name);
        let Some(mut at) = normal(&[], name.as_bytes()) else {
            return Ok(None);
        };
        for followed in 0..=MAX_LINKS {
            match self.entries.get(&at) {
                Some(Found::File { start, len }) => {
                    let truncated = OciFault::Truncated {
                        offset: self.blob.len(),
                    };
                    return self.blob.slice(*start, *len).map(Some).ok_or(truncated);
                }
                Some(Found::Link(to)) => at.clone_from(to),
                Some(Found::Other) => return Err(OciFault::NotAFile { name: shown() }),
                None if followed == 0 => return Ok(None),
                Some(Found::DeadLink) | None => break,
            }
        }
        Err(OciFault::Link { name: shown() })
    }
}

impl Found {
    fn new(entry: Entry, name: &[u8]) -> Self {
        let to = match &entry.kind {
            Kind::File => {
                return Self::File {
                    start: entry.start,
                    len: entry.len,
                };
            }
            Kind::Other => return Self::Other,
            Kind::HardLink(to) => normal(&[], to),
            Kind::Symlink(to) if to.starts_with(b"/") => None,
            Kind::Symlink(to) => {
                let folder = name.iter().rposition(|byte| *byte == b'/');
                normal(&name[..folder.unwrap_or_default()], to)
            }
        };
        to.map_or(Self::DeadLink, Self::Link)
    }
}

/// `path`, seen from `folder`, without `.`, `..` and empty parts; `None` where
/// it leaves the archive.
fn normal(folder: &[u8], path: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in folder
        .split(|b| *b == b'/')
        .chain(path.split(|b| *b == b'/'))
    {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

/// What an archive is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArchiveKind {
    /// Images as `docker save` writes them, of old and new.
    Docker,
    /// An OCI layout.
    Oci,
    /// A tree of files.
    Other,
}

/// What the archive in `blob`, which may be compressed, is for, by the names
/// in it; reads up to `limit` bytes of it, unpacked.
pub(crate) fn archive_kind(blob: &Blob, limit: u64) -> Result<ArchiveKind, OciFault> {
    match unpacked(blob.reader())? {
        Decoder::Plain(_) => kind_of(Walker::new(blob.reader(), u64::MAX)),
        packed => kind_of(Walker::new(packed, limit)),
    }
}

fn kind_of<F: Forward>(mut walker: Walker<F>) -> Result<ArchiveKind, OciFault> {
    let mut kind = ArchiveKind::Other;
    while let Some(entry) = walker.next()? {
        match normal(&[], &entry.name).as_deref() {
            Some(b"manifest.json") => return Ok(ArchiveKind::Docker),
            Some(b"oci-layout") => kind = ArchiveKind::Oci,
            Some(name) if may_be_of_images(name, &entry.kind) => {}
            _ => return Ok(ArchiveKind::Other),
        }
    }
    Ok(kind)
}

/// Whether an archive of images can have such an entry: files beside each
/// other, and in folders `blobs` and, of old, folders named by an image's ID.
/// A tree of files has others soon, so that little of it is read.
fn may_be_of_images(name: &[u8], kind: &Kind) -> bool {
    let mut parts = name.split(|byte| *byte == b'/');
    let first = parts.next().unwrap_or_default();
    let is_id = first.len() == 64 && first.iter().all(u8::is_ascii_hexdigit);
    let is_plain = parts.next().is_none() && *kind == Kind::File;
    is_plain || is_id || first == b"blobs" || first.is_empty()
}
