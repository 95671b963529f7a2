//! Images for tests, as the programs write them that we read from.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Input, OciImage};
use crate::digest::Digest;

/// Names and contents of files.
pub(crate) type Files = Vec<(String, Vec<u8>)>;

/// An image whose layers have one small file each.
pub(crate) struct Image {
    pub(crate) config: Value,
    pub(crate) layers: Vec<Vec<u8>>,
}

pub(crate) fn tar(files: &Files) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A tar archive with a link in place of each file.
pub(crate) fn links(kind: tar::EntryType, links: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, to) in links {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        builder.append_link(&mut header, name, to).unwrap();
    }
    builder.into_inner().unwrap()
}

/// One archive of the entries of both.
pub(crate) fn joined(first: &[u8], second: &[u8]) -> Vec<u8> {
    [&first[..first.len() - 1024], second].concat()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let level = flate2::Compression::fast();
    let mut encoder = flate2::read::GzEncoder::new(bytes, level);
    encoder.read_to_end(&mut packed).unwrap();
    packed
}

pub(crate) fn blob_name(bytes: &[u8]) -> String {
    format!("blobs/sha256/{}", Digest::of(bytes).hex())
}

pub(crate) fn blob(bytes: Vec<u8>) -> (String, Vec<u8>) {
    (blob_name(&bytes), bytes)
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

pub(crate) fn index(manifests: &[Value]) -> Vec<u8> {
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    index.to_string().into_bytes()
}

/// `descriptor` with an annotation.
pub(crate) fn annotated(mut descriptor: Value, key: &str, value: &str) -> Value {
    descriptor["annotations"] = json!({ key: value });
    descriptor
}

pub(crate) fn tagged(descriptor: Value, tag: &str) -> Value {
    annotated(descriptor, "org.opencontainers.image.ref.name", tag)
}

/// `descriptor` for a platform.
pub(crate) fn for_platform(mut descriptor: Value, os: &str, architecture: &str) -> Value {
    descriptor["platform"] = json!({"os": os, "architecture": architecture});
    descriptor
}

impl Image {
    pub(crate) fn new(contents: &[&str]) -> Self {
        let layer = |content: &&str| tar(&vec![("file".to_owned(), content.as_bytes().to_vec())]);
        let layers: Vec<_> = contents.iter().map(layer).collect();
        let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "created": "1970-01-02T00:00:00Z",
            "config": {"Cmd": contents},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        Self { config, layers }
    }

    pub(crate) fn config_bytes(&self) -> Vec<u8> {
        self.config.to_string().into_bytes()
    }

    pub(crate) fn manifest(&self) -> Vec<u8> {
        let layers = self.layers.iter().map(|layer| descriptor(LAYER, layer));
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &self.config_bytes()),
            "layers": layers.collect::<Vec<_>>(),
        });
        manifest.to_string().into_bytes()
    }

    /// Configuration, manifest and layers, in this order.
    pub(crate) fn blobs(&self) -> Files {
        let mut files = vec![blob(self.config_bytes()), blob(self.manifest())];
        files.extend(self.layers.iter().cloned().map(blob));
        files
    }

    /// An OCI layout of this image alone; its `index.json` comes first.
    pub(crate) fn layout(&self, tag: &str) -> Files {
        let manifest = tagged(descriptor(MANIFEST, &self.manifest()), tag);
        layout(&[manifest], self.blobs())
    }

    /// What Docker wrote up to version 24; `manifest.json` comes last, and
    /// before it the configuration.
    pub(crate) fn docker(&self, tags: &[&str]) -> Files {
        let names = (0..self.layers.len()).map(|at| format!("{at:064}/layer.tar"));
        let names: Vec<_> = names.collect();
        let layers = self.layers.iter().cloned();
        let mut files: Files = names.iter().cloned().zip(layers).collect();
        let config = format!("{}.json", Digest::of(&self.config_bytes()).hex());
        let manifest = json!([{"Config": config, "RepoTags": tags, "Layers": names}]);
        files.push((config, self.config_bytes()));
        files.push((
            "manifest.json".to_owned(),
            manifest.to_string().into_bytes(),
        ));
        files
    }
}

pub(crate) fn layout(manifests: &[Value], blobs: Files) -> Files {
    let mut files = vec![
        ("index.json".to_owned(), index(manifests)),
        (
            "oci-layout".to_owned(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        ),
    ];
    files.extend(blobs);
    files
}

/// Puts the files into a folder.
pub(crate) fn folder(files: &Files) -> TempDir {
    let dir = TempDir::new().unwrap();
    for (name, bytes) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    dir
}

/// Puts the bytes into a file; it exists as long as the folder.
pub(crate) fn file(bytes: &[u8]) -> (TempDir, Input) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("file");
    fs::write(&path, bytes).unwrap();
    (dir, Input::File(path))
}

pub(crate) fn path(input: &Input) -> &Path {
    match input {
        Input::File(path) => path,
        Input::Stdin => panic!("it is a file"),
    }
}

/// The layers' bytes.
pub(crate) fn layers(image: &OciImage) -> Vec<Vec<u8>> {
    let read = |layer: &crate::Layer| {
        let mut bytes = Vec::new();
        layer.blob.reader().read_to_end(&mut bytes).unwrap();
        bytes
    };
    image.layers.iter().map(read).collect()
}
