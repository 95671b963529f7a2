//! What layers make together, by the names of what they must do, and random
//! ones against a model that is slow and simple.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};

use super::*;
use crate::blob::Blob;

mod model;
mod semantics;

/// Writes layers.
pub(super) struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    pub(super) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn header(kind: tar::EntryType, path: &str) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        // As it is: the library would refuse or clean some names.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(100);
        header.set_size(0);
        header
    }

    fn add(mut self, mut header: tar::Header, data: &[u8]) -> Self {
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, path: &str, data: &str) -> Self {
        self.add(Self::header(tar::EntryType::Regular, path), data.as_bytes())
    }

    pub(super) fn folder(self, path: &str, mode: u32) -> Self {
        let mut header = Self::header(tar::EntryType::Directory, path);
        header.set_mode(mode);
        self.add(header, b"")
    }

    fn white_out(self, path: &str) -> Self {
        self.file(path, "")
    }

    fn link(self, kind: tar::EntryType, path: &str, target: &str) -> Self {
        let mut header = Self::header(kind, path);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        self.add(header, b"")
    }

    fn hard_link(self, path: &str, target: &str) -> Self {
        self.link(tar::EntryType::Link, path, target)
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.link(tar::EntryType::Symlink, path, target)
    }

    pub(super) fn records(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0
            .append_pax_extensions(records.iter().copied())
            .unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

fn blob(bytes: &[u8]) -> Blob {
    let mut file: File = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Blob::whole(file).unwrap()
}

/// A layer that has both its digests.
pub(super) fn layer(tar: Tar) -> Layer {
    let bytes = tar.bytes();
    Layer {
        name: "layer".to_owned(),
        blob: blob(&bytes),
        digest: Some(Digest::of(&bytes)),
        diff_id: Some(Digest::of(&bytes)),
    }
}

fn merged_within(layers: &[Layer], limits: &Limits) -> Result<Vec<u8>, BuildError> {
    let mut out = Vec::new();
    merge_layers(layers, limits, &mut out)?;
    Ok(out)
}

fn rules(readers: usize) -> Rules {
    Rules {
        limits: Limits::default(),
        whiteouts: Whiteouts::Remove,
        readers,
    }
}

/// An error as it is printed.
fn text(error: &BuildError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// What the tree is, by path: a folder with its mode, a file with its content,
/// a link with its target. Names of one file have its number behind them.
fn list(archive: &[u8]) -> Vec<String> {
    let mut lines = BTreeMap::new();
    let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let target = entry.link_name_bytes();
        let target = target.map(|bytes| String::from_utf8(bytes.into_owned()).unwrap());
        let mode = entry.header().mode().unwrap();
        use tar::EntryType as Kind;
        let what = match entry.header().entry_type() {
            Kind::Directory => format!("/ {mode:o}"),
            Kind::Symlink => format!(" -> {}", target.unwrap()),
            Kind::Link => {
                let target = target.unwrap();
                names
                    .get_mut(&target)
                    .expect("its target is there")
                    .push(path);
                continue;
            }
            Kind::Regular => {
                let mut data = String::new();
                entry.read_to_string(&mut data).unwrap();
                format!(" {data}")
            }
            kind => format!(" {kind:?}"),
        };
        if let Some((folder, _)) = path.rsplit_once('/') {
            assert!(lines.contains_key(folder), "{path} before its folder");
        }
        names.insert(path.clone(), vec![path.clone()]);
        let twice = lines.insert(path, what);
        assert_eq!(twice, None);
    }
    let mut listed = Vec::new();
    for (first, mut names) in names {
        names.sort();
        let what = &lines[&first];
        for name in &names {
            let same = match names.len() {
                1 => String::new(),
                _ => format!(" = {}", names[0]),
            };
            listed.push(format!("{name}{what}{same}"));
        }
    }
    listed.sort();
    listed
}

fn merge(layers: impl IntoIterator<Item = Tar>) -> Vec<String> {
    let layers: Vec<_> = layers.into_iter().map(layer).collect();
    list(&merged_within(&layers, &Limits::default()).unwrap())
}

fn merge_error(layers: impl IntoIterator<Item = Tar>) -> String {
    let layers: Vec<_> = layers.into_iter().map(layer).collect();
    text(&merged_within(&layers, &Limits::default()).unwrap_err())
}
