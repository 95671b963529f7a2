//! A disk in a qcow2 image, a file that grows with what is written to it.
//!
//! The crate imago does the format. What it is given is checked first
//! (`qcow2/tables.rs`): an image is not trusted, and has to be of the plain kind
//! that is made here. Nothing in it opens another file.
//!
//! Every call ends with its bytes in the file, but the tables that lead to them
//! are written by [`BlockBackend::flush`], when imago's memory for them is full,
//! and when the backend is dropped. A process that is killed leaves what was
//! flushed and, of the rest, some; the counts of clusters in use may be wrong
//! then, and are made anew whenever an image is opened for writing.

mod tables;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use imago::io_buffers::{IoVector, IoVectorMut};
use imago::qcow2::Qcow2;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, ShallowMapping};
use nix::fcntl::OFlag;

use crate::backend::{BlockBackend, Slice};
use crate::file::{self, OpenError};
use tables::TableError;

/// Why a file cannot be a qcow2 disk.
#[derive(Debug, thiserror::Error)]
pub enum Qcow2Error {
    /// As with any disk.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A folder, pipe or device: they do not grow.
    #[error("{path} is not a regular file", path = path.display())]
    NotAFile {
        /// As given.
        path: PathBuf,
    },
    /// It is no image, or not one that can be used.
    #[error("use the qcow2 image {path}", path = path.display())]
    Image {
        /// As given.
        path: PathBuf,
        /// Why.
        source: TableError,
    },
}

/// A disk in a qcow2 image: version 3, clusters of 64 KiB, all of it in one file.
pub struct Qcow2Backend {
    /// Held for writing to give clusters back: who read or wrote bytes meanwhile
    /// could do so in a cluster that has become something else.
    image: RwLock<FormatAccess<imago::file::File>>,
    /// The image's file. Imago's own way to stable storage would hold off reads
    /// and writes meanwhile.
    file: File,
    size: u64,
    read_only: bool,
    path: PathBuf,
}

impl Qcow2Backend {
    /// Opens the image at `path`, for reading only when `read_only` says so.
    pub fn open(path: &Path, read_only: bool) -> Result<Self, Qcow2Error> {
        Self::from_file(file::open_file(path, read_only)?, path, read_only)
    }

    /// As [`Qcow2Backend::open`], of a file that its owner has opened already,
    /// with at least the access that `read_only` asks for. `path` is for errors.
    pub fn from_file(file: File, path: &Path, read_only: bool) -> Result<Self, Qcow2Error> {
        let examine = |source| OpenError::Examine {
            path: path.into(),
            source,
        };
        if !file.metadata().map_err(examine)?.is_file() {
            return Err(Qcow2Error::NotAFile { path: path.into() });
        }
        file::set_flags(&file, |flags| flags - OFlag::O_NONBLOCK).map_err(examine)?;
        let image = prepare(&file, read_only).map_err(|source| Qcow2Error::Image {
            path: path.into(),
            source,
        })?;
        Ok(Qcow2Backend {
            size: image.size(),
            image: RwLock::new(image),
            file,
            read_only,
            path: path.into(),
        })
    }

    fn with_image<T>(
        &self,
        step: impl FnOnce(&FormatAccess<imago::file::File>) -> io::Result<T>,
    ) -> io::Result<T> {
        step(&*self.image.read().map_err(|_| panicked())?)
    }

    /// Has `step` done with each part of the range that may be other than zeros.
    /// The rest needs no change, and where nothing has been written yet one would
    /// take room for tables.
    fn where_stored(
        &self,
        mut offset: u64,
        length: u64,
        step: impl Fn(&mut FormatAccess<imago::file::File>, u64, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut image = self.image.write().map_err(|_| panicked())?;
        let end = offset + length;
        while offset < end {
            let (mapping, part) = image.get_shallow_mapping(offset, end - offset)?;
            match mapping {
                ShallowMapping::Eof { .. } => return Err(io::ErrorKind::UnexpectedEof.into()),
                ShallowMapping::Zero { .. } => {}
                _ => step(&mut image, offset, part)?,
            }
            offset += part;
        }
        Ok(())
    }
}

impl BlockBackend for Qcow2Backend {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read_at(&self, to: &[Slice<'_>], offset: u64) -> io::Result<()> {
        let (vector, _guard) = IoVectorMut::from_volatile_slice(to);
        self.with_image(|image| image.readv(vector, offset))
    }

    fn write_at(&self, from: &[Slice<'_>], offset: u64) -> io::Result<()> {
        let (vector, _guard) = IoVector::from_volatile_slice(from);
        self.with_image(|image| image.writev(vector, offset))
    }

    fn flush(&self) -> io::Result<()> {
        self.with_image(|image| image.flush())?;
        self.file.sync_data()
    }

    /// Clusters that lie in the range as a whole are used again for what is
    /// written next; the file does not shrink.
    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.where_stored(offset, length, FormatAccess::discard_to_backing)
    }

    fn write_zeroes(&self, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
        if unmap {
            self.where_stored(offset, length, FormatAccess::discard_to_zero)
        } else {
            self.where_stored(offset, length, |image, offset, length| {
                image.write_zeroes(offset, length)
            })
        }
    }
}

impl Drop for Qcow2Backend {
    fn drop(&mut self) {
        if self.read_only {
            return;
        }
        if let Err(error) = self.with_image(|image| image.flush()) {
            log::error!("write the tables of {}: {error}", self.path.display());
        }
    }
}

/// Checks what is in `file` and puts its counts in order, then opens it.
fn prepare(file: &File, read_only: bool) -> Result<FormatAccess<imago::file::File>, TableError> {
    let used = tables::check(file)?;
    if !read_only {
        used.write_counts(file)?;
    }
    let file = imago::file::File::try_from(file.try_clone()?)?;
    let image = Qcow2::<imago::file::File>::builder(file)
        .write(!read_only)
        .open(DenyImplicitOpenGate::default())?;
    Ok(FormatAccess::new(image))
}

fn panicked() -> io::Error {
    io::Error::other("an earlier request panicked")
}

#[cfg(test)]
pub(crate) mod tests;
