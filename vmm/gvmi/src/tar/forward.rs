//! Passes one archive on to `mksquashfs` while it is read, with what that
//! program reads wrongly put right on the way: the root folder's entry is
//! taken out (it drops it), folders without an entry get one (it gives them
//! the time of now), an archive that stops early is an error (newer versions
//! take it as the end).

use std::collections::BTreeMap;
use std::io::{Read, Write};

use super::TarError;
use super::entry::{Attributes, CleanPath, Entry, EntryError, Kind};
use super::reader::{EndMark, Reader};
use super::writer::Writer;
use crate::decode::Decoder;
use crate::limits::{Budget, Limits};
use crate::owners::Owners;
use crate::warnings::Warnings;

/// An archive whose first entry has been read, because the root folder's
/// attributes are needed before the rest is passed on.
pub(crate) struct Archive<R: Read> {
    reader: Reader<Decoder<R>>,
    root: Option<Attributes>,
    first: Option<Entry>,
    folders: Folders,
    warnings: Warnings,
}

impl<R: Read> Archive<R> {
    pub(crate) fn open(source: R, limits: &Limits) -> Result<Self, TarError> {
        let source = Decoder::new(source).map_err(|source| TarError::Read { offset: 0, source })?;
        let mut archive = Self {
            reader: Reader::new(source, Budget::new(limits), EndMark::Required),
            root: None,
            first: None,
            folders: Folders::new(limits),
            warnings: Warnings::default(),
        };
        archive.first = archive.reader.next()?;
        if let Some(entry) = archive.first.take_if(|entry| entry.path.is_root()) {
            if entry.kind != Kind::Folder {
                return Err(EntryError::Root.of(b"/"));
            }
            archive.root = Some(entry.attributes);
            if !entry.xattrs.is_empty() {
                archive.warnings.add(ROOT_XATTRS.to_owned());
            }
            archive.first = archive.reader.next()?;
        }
        Ok(archive)
    }

    pub(crate) fn root(&self) -> Attributes {
        self.root.unwrap_or_default()
    }

    /// Writes the archive to `sink`; returns what of it was left out.
    pub(crate) fn forward(
        mut self,
        sink: &mut dyn Write,
        owners: &Owners,
    ) -> Result<Warnings, TarError> {
        let mut writer = Writer::new(sink, Some(owners));
        let mut next = self.first.take();
        while let Some(entry) = next {
            if entry.path.is_root() {
                self.warnings.add(LATE_ROOT.to_owned());
            } else {
                let path = entry.path.as_bytes();
                self.folders
                    .see(&entry.path, entry.kind == Kind::Folder)
                    .map_err(|fault| fault.of(path))?;
                writer
                    .entry(path, &entry.kind, &entry.attributes, &entry.xattrs)
                    .map_err(TarError::Write)?;
                while let Some(piece) = self.reader.piece()? {
                    writer.piece(&piece).map_err(TarError::Write)?;
                }
            }
            next = self.reader.next()?;
        }
        let implied = Attributes {
            mode: Attributes::default().mode,
            ..self.root()
        };
        for path in self.folders.implied() {
            writer
                .entry(path, &Kind::Folder, &implied, &[])
                .map_err(TarError::Write)?;
        }
        writer.finish().map_err(TarError::Write)?;
        let (_, warnings) = self.reader.into_parts();
        self.warnings.append(warnings);
        Ok(self.warnings)
    }
}

const LATE_ROOT: &str = "the entry of the root folder is not the first and was ignored";
/// What tar mode has no way to take.
pub(crate) const ROOT_XATTRS: &str = "the extended attributes of the root folder are left out";

/// The folders of an archive, by their paths: whether they have an entry.
struct Folders {
    seen: BTreeMap<Vec<u8>, bool>,
    limits: Limits,
    bytes: u64,
}

impl Folders {
    fn new(limits: &Limits) -> Self {
        Self {
            seen: BTreeMap::new(),
            limits: *limits,
            bytes: 0,
        }
    }

    fn see(&mut self, path: &CleanPath, is_folder: bool) -> Result<(), EntryError> {
        if is_folder {
            self.add(path.as_bytes(), true)?;
        }
        let mut rest = path.split();
        while let Some((folders, _)) = rest {
            if folders.is_empty() || self.seen.contains_key(folders) {
                break;
            }
            self.add(folders, false)?;
            let end = folders.iter().rposition(|byte| *byte == b'/');
            rest = end.map(|end| (&folders[..end], &folders[end..]));
        }
        Ok(())
    }

    fn add(&mut self, path: &[u8], has_entry: bool) -> Result<(), EntryError> {
        if self.seen.insert(path.to_vec(), has_entry).is_none() {
            self.bytes += path.len() as u64;
        }
        if self.seen.len() > self.limits.max_entries as usize {
            let max = self.limits.max_entries;
            return Err(EntryError::TooMany { max });
        }
        if self.bytes > self.limits.max_names() {
            let max = self.limits.max_names();
            return Err(EntryError::Names { max });
        }
        Ok(())
    }

    fn implied(&self) -> impl Iterator<Item = &[u8]> {
        let implied = self.seen.iter().filter(|(_, has_entry)| !**has_entry);
        implied.map(|(path, _)| &path[..])
    }
}
