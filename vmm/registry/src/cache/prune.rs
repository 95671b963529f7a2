//! What the cache holds, and making it less.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use gvmi::Digest;

use super::{Cache, is_at};

/// What a cache holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Whole blobs.
    pub blobs: u64,
    /// Blobs of which there is a part.
    pub parts: u64,
    /// Bytes of both.
    pub bytes: u64,
}

/// What was thrown away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freed {
    /// Blobs and parts.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes that stay, as they are in use or within the limit.
    pub kept: u64,
}

struct Entry {
    used: SystemTime,
    path: PathBuf,
    digest: Digest,
    is_part: bool,
    len: u64,
}

impl Cache {
    /// What is there now.
    pub fn usage(&self) -> io::Result<Usage> {
        let mut usage = Usage::default();
        for entry in self.entries()? {
            match entry.is_part {
                true => usage.parts += 1,
                false => usage.blobs += 1,
            }
            usage.bytes += entry.len;
        }
        Ok(usage)
    }

    /// Throws away what was used least recently until there are at most `limit`
    /// bytes; all at 0. What any process uses stays.
    pub fn prune(&self, limit: u64) -> io::Result<Freed> {
        self.prune_but(limit, &BTreeSet::new())
    }

    /// Makes room for `bytes` more within the cache's limit, as far as it can,
    /// but leaves the parts of what is `wanted`.
    pub(crate) fn make_room(&self, bytes: u64, wanted: &BTreeSet<Digest>) -> io::Result<()> {
        self.prune_but(self.limit.saturating_sub(bytes), wanted)?;
        Ok(())
    }

    fn prune_but(&self, limit: u64, wanted: &BTreeSet<Digest>) -> io::Result<Freed> {
        let mut entries = self.entries()?;
        entries.sort_by_key(|entry| entry.used);
        let mut freed = Freed {
            kept: entries.iter().map(|entry| entry.len).sum(),
            ..Freed::default()
        };
        for entry in entries {
            if freed.kept <= limit {
                break;
            }
            if !wanted.contains(&entry.digest) && remove_unused(&entry)? {
                freed.files += 1;
                freed.bytes += entry.len;
                freed.kept -= entry.len;
            }
        }
        Ok(freed)
    }

    /// All files with the names of blobs and parts. Others are none of ours.
    fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.blobs)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_str().unwrap_or_default();
            let part = name.strip_suffix(".part");
            let Ok(digest) = format!("sha256:{}", part.unwrap_or(name)).parse() else {
                continue;
            };
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                metadata => metadata?,
            };
            if metadata.is_file() {
                entries.push(Entry {
                    used: metadata.modified()?,
                    path: entry.path(),
                    digest,
                    is_part: part.is_some(),
                    len: metadata.len(),
                });
            }
        }
        Ok(entries)
    }
}

/// Removes a file unless some process has a lock of it.
fn remove_unused(entry: &Entry) -> io::Result<bool> {
    let file = match File::open(&entry.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    match file.try_lock() {
        Err(fs::TryLockError::WouldBlock) => return Ok(false),
        Err(fs::TryLockError::Error(error)) => return Err(error),
        Ok(()) => {}
    }
    if !is_at(&file, &entry.path)? {
        return Ok(false);
    }
    fs::remove_file(&entry.path)?;
    Ok(true)
}
