//! Blobs on disk, by their digest, shared by processes:
//!
//! ```text
//! FOLDER/blobs/sha256/HEX        a whole blob
//! FOLDER/blobs/sha256/HEX.part   the start of one
//! ```
//!
//! A whole blob was checked when it came. A small one is checked again whenever
//! it is found; a large one is taken by its name and size, and who reads it
//! checks it, and [`Cache::remove`]s it when it was damaged since.
//!
//! Locks (`flock`) say who uses a file: a process that fetches a blob holds its
//! part alone, and one that uses a blob shares it. What is locked is not thrown
//! away; a lock goes with its process.

mod prune;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use gvmi::{Blob, Digest};

use crate::download::Hashed;
pub use prune::{Freed, Usage};

/// Bytes up to which a blob is small: configurations are, which nobody else
/// checks.
const SMALL: u64 = 4 << 20;

/// How often a file is opened anew because another process has replaced it.
const OPENS: u32 = 100;

/// A folder of blobs. When this value is dropped, what is beyond its limit goes,
/// but for what others use, and for each [`Blob`] that still lives.
#[derive(Debug)]
pub struct Cache {
    blobs: PathBuf,
    limit: u64,
    /// The blobs in use, open and with a shared lock.
    held: Mutex<BTreeMap<Digest, File>>,
}

/// What [`Cache::hold`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The blob, which stays.
    Whole,
    /// Nothing, or something damaged, which is removed.
    Nothing,
    /// The blob, which has this many bytes and not those that were asked for.
    OtherSize(u64),
}

impl Cache {
    /// Bytes that a cache may have if nobody says otherwise: 10 GiB.
    pub const DEFAULT_LIMIT: u64 = 10 << 30;

    /// The cache in `folder`, which is made if need be, for its owner alone. Of
    /// more than `limit` bytes, what was used least recently goes before
    /// something new comes and in the end; what is in use stays, even beyond the
    /// limit.
    pub fn open(folder: &Path, limit: u64) -> io::Result<Self> {
        let blobs = folder.join("blobs/sha256");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&blobs)?;
        Ok(Self {
            blobs,
            limit,
            held: Mutex::default(),
        })
    }

    /// A whole blob, which [`crate::Registry::fetch`] has brought. It stays in
    /// the cache as long as this value or the blob lives. `NotFound` if it is
    /// not there.
    pub fn blob(&self, digest: &Digest) -> io::Result<Blob> {
        let file = match self.held().get(digest) {
            Some(file) => file.try_clone()?,
            None => self
                .open_whole(digest)?
                .ok_or(io::ErrorKind::NotFound)
                .map_err(io::Error::from)?,
        };
        Blob::whole(file)
    }

    /// Throws a blob away, which turned out to be damaged. Who has it open can
    /// read on.
    pub fn remove(&self, digest: &Digest) -> io::Result<()> {
        self.held().remove(digest);
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    pub(crate) fn part_path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(format!("{}.part", digest.hex()))
    }

    /// Looks for a whole blob of `size` bytes.
    pub(crate) fn hold(&self, digest: &Digest, size: u64) -> io::Result<Found> {
        if let Some(file) = self.held().get(digest) {
            return Ok(match file.metadata()?.len() {
                len if len == size => Found::Whole,
                len => Found::OtherSize(len),
            });
        }
        let Some(file) = self.open_whole(digest)? else {
            return Ok(Found::Nothing);
        };
        let len = file.metadata()?.len();
        let is_trusted = len == size && len > SMALL;
        if !is_trusted && !is_blob(&file, digest)? {
            // As a power cut may leave it.
            self.remove(digest)?;
            return Ok(Found::Nothing);
        }
        if len != size {
            return Ok(Found::OtherSize(len));
        }
        // An owner may, and nobody else's cache is used.
        let _ = file.set_modified(SystemTime::now());
        self.held().insert(*digest, file);
        Ok(Found::Whole)
    }

    /// The part of a blob, open, to be locked.
    pub(crate) fn open_part(&self, digest: &Digest) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
            .open(self.part_path(digest))
    }

    /// Whether `part`, which is locked, still has the name of the part: else
    /// another process has finished it or thrown it away.
    pub(crate) fn is_part(&self, digest: &Digest, part: &File) -> io::Result<bool> {
        is_at(part, &self.part_path(digest))
    }

    /// Turns a part that is complete and checked into the blob, which stays.
    pub(crate) fn keep(&self, digest: &Digest, part: File) -> io::Result<()> {
        fs::rename(self.part_path(digest), self.path(digest))?;
        part.lock_shared()?;
        self.held().insert(*digest, part);
        Ok(())
    }

    /// Throws a part away, which the caller has locked.
    pub(crate) fn discard(&self, digest: &Digest) -> io::Result<()> {
        fs::remove_file(self.part_path(digest))
    }

    fn open_whole(&self, digest: &Digest) -> io::Result<Option<File>> {
        let path = self.path(digest);
        for _ in 0..OPENS {
            let opened = OpenOptions::new()
                .read(true)
                .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
                .open(&path);
            let file = match opened {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                file => file?,
            };
            // Nobody holds a whole blob alone but for a moment.
            file.lock_shared()?;
            if is_at(&file, &path)? {
                return Ok(Some(file));
            }
        }
        Ok(None)
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<Digest, File>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cache {
    fn drop(&mut self) {
        self.held().clear();
        // There is nobody to tell; the next use of the folder tries again.
        let _ = self.prune(self.limit);
    }
}

/// Whether a file is what its name says.
fn is_blob(file: &File, digest: &Digest) -> io::Result<bool> {
    let mut hashed = Hashed::new(file);
    hashed.take_all(u64::MAX)?;
    Ok(hashed.digest() == *digest)
}

/// Whether `path` names this very file.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let there = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        there => there?,
    };
    let this = file.metadata()?;
    Ok(this.dev() == there.dev() && this.ino() == there.ino())
}

#[cfg(test)]
mod tests;
