//! Opens an image and checks its two ends. The file is never written; the
//! guest's kernel is what mounts it, and [`crate::Tree`] what reads its tree.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::config::ContainerConfig;
use crate::fault::{Fault, OpenError};
use crate::superblock::{self, Superblock};
use crate::trailer;

/// What a guest's disk counts in.
const SECTOR: u64 = 512;
/// What a squashfs is padded to, so that a last page can be read whole.
const PADDING: u64 = 4096;

/// An image that was found whole.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
    file: File,
    contents: Contents,
}

impl Image {
    /// Opens the image at `path` read-only and checks its trailer and its
    /// superblock.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        open_file(path)
            .and_then(|(file, len)| {
                let contents = Contents::read(&file, len)?;
                Ok(Self {
                    path: path.to_path_buf(),
                    file,
                    contents,
                })
            })
            .map_err(|fault| OpenError {
                path: path.to_path_buf(),
                fault,
            })
    }

    /// The path that it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was read from it.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The open file, which is as long as [`Contents::file_len`] says.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The open file, for a read-only disk of [`Contents::device_len`] bytes.
    pub fn into_file(self) -> File {
        self.file
    }
}

/// Opens without waiting for a FIFO's writer, and judges what was opened, not
/// what the path named before.
fn open_file(path: &Path) -> Result<(File, u64), Fault> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(path)
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Fault::Missing,
            io::ErrorKind::PermissionDenied => Fault::Permission,
            _ => Fault::Open(error),
        })?;
    let metadata = file.metadata().map_err(Fault::Read)?;
    if metadata.is_dir() {
        return Err(Fault::Directory);
    }
    if !metadata.is_file() {
        return Err(Fault::NotAFile);
    }
    // Left set, it would make asynchronous reads of an uncached file fail.
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty())).map_err(|errno| Fault::Open(errno.into()))?;
    Ok((file, metadata.len()))
}

/// What an image holds besides the file system's own data.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    /// How a container of this image runs.
    pub config: ContainerConfig,
    /// What its file system is.
    pub superblock: Superblock,
    /// Bytes in the file.
    pub file_len: u64,
    /// Bytes from the start of the file that make up its disk: the squashfs
    /// with its padding, in whole sectors of 512 bytes.
    pub device_len: u64,
}

impl Contents {
    /// Reads an image held in memory.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Fault> {
        Self::read(bytes, bytes.len() as u64)
    }

    /// Reads an image that may have no path yet.
    pub fn from_file(file: &File) -> Result<Self, Fault> {
        let len = file.metadata().map_err(Fault::Read)?.len();
        Self::read(file, len)
    }

    pub(crate) fn read<S: Source + ?Sized>(source: &S, file_len: u64) -> Result<Self, Fault> {
        if file_len < trailer::MIN_FILE_LEN {
            return Err(Fault::TooShort {
                len: file_len,
                found: trailer::found(source, file_len),
            });
        }
        let (config, area) = trailer::read(source, file_len)?;
        let mut bytes = [0; superblock::LEN];
        source.read_exact_at(&mut bytes, 0).map_err(Fault::Read)?;
        if bytes[..4] != superblock::MAGIC.to_le_bytes() {
            return Err(Fault::NoMagic {
                found: trailer::found(source, file_len),
            });
        }
        let superblock = Superblock::parse(&bytes, area)?;
        let device_len = device_len(&superblock, file_len)?;
        Ok(Self {
            config,
            superblock,
            file_len,
            device_len,
        })
    }
}

/// A squashfs that is not padded borrows the bytes behind it to fill its last
/// sector, and the file has to have that many.
fn device_len(superblock: &Superblock, file_len: u64) -> Result<u64, Fault> {
    let whole_sectors = file_len - file_len % SECTOR;
    let len = superblock
        .bytes_used
        .next_multiple_of(PADDING)
        .min(whole_sectors);
    if len < superblock.bytes_used {
        return Err(Fault::Truncated {
            needs: superblock.bytes_used.next_multiple_of(SECTOR),
            has: file_len,
        });
    }
    Ok(len)
}

/// Where an image is read from.
pub(crate) trait Source {
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()>;
}

impl Source for File {
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buf, at)
    }
}

impl Source for [u8] {
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        let bytes = usize::try_from(at)
            .ok()
            .and_then(|at| self.get(at..)?.get(..buf.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}
