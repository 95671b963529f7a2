//! All that can be said of the files below a folder, to compare two of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Type and permissions, as `st_mode` has them.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u32, u32),
    /// Names that it has. Of folders file systems count differently: 0.
    pub links: u64,
    /// Bytes in it; 0 of what is no file.
    pub size: u64,
    /// Which device a node stands for.
    pub device: u64,
    /// Where a link leads.
    pub target: Option<PathBuf>,
    /// Extended attributes of all kinds that its reader may see.
    pub attributes: BTreeMap<OsString, Vec<u8>>,
    /// A checksum of what is in it.
    pub content: u32,
}

/// Everything below `root`, and itself as the empty path. The system's own attributes,
/// which no archive carries, are left out.
pub fn tree(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut found = BTreeMap::new();
    let mut folders = vec![PathBuf::new()];
    found.insert(PathBuf::new(), entry(root));
    while let Some(folder) = folders.pop() {
        for file in fs::read_dir(root.join(&folder)).unwrap() {
            let file = file.unwrap();
            let path = folder.join(file.file_name());
            found.insert(path.clone(), entry(&file.path()));
            if file.file_type().unwrap().is_dir() {
                folders.push(path);
            }
        }
    }
    found
}

/// Asserts that two trees are the same, and names what is not.
#[track_caller]
pub fn assert_same_tree(expected: &Path, found: &Path) {
    let (expected, found) = (tree(expected), tree(found));
    let mut faults = Vec::new();
    for path in expected.keys().chain(found.keys()) {
        match (expected.get(path), found.get(path)) {
            (Some(expected), Some(found)) if expected == found => {}
            (expected, found) => {
                faults.push(format!(
                    "{path:?}\n  expected {expected:?}\n  found    {found:?}"
                ));
            }
        }
    }
    faults.dedup();
    let count = faults.len();
    faults.truncate(10);
    assert!(count == 0, "{count} differences: {}", faults.join("\n"));
}

fn entry(path: &Path) -> Entry {
    let metadata = fs::symlink_metadata(path).unwrap();
    let kind = metadata.file_type();
    let device = kind.is_block_device() || kind.is_char_device();
    Entry {
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        links: if kind.is_dir() { 0 } else { metadata.nlink() },
        size: if kind.is_file() { metadata.len() } else { 0 },
        device: if device { metadata.rdev() } else { 0 },
        target: kind.is_symlink().then(|| fs::read_link(path).unwrap()),
        attributes: attributes(path),
        content: if kind.is_file() { checksum(path) } else { 0 },
    }
}

fn attributes(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let len = rustix::fs::llistxattr(path, &mut names).unwrap();
    let names = names[..len].split(|byte| *byte == 0);
    names
        .filter(|name| !name.is_empty() && !name.starts_with(b"system."))
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let len = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
            value.truncate(len);
            (OsString::from_vec(name.to_vec()), value)
        })
        .collect()
}

fn checksum(path: &Path) -> u32 {
    let mut file = File::open(path).unwrap();
    let mut hasher = crc32fast::Hasher::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece).unwrap() {
            0 => return hasher.finalize(),
            len => hasher.update(&piece[..len]),
        }
    }
}
