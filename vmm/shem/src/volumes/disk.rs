//! Disks of a guest's own: files of the host that are made when they are
//! missing, and held by one VM at a time.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use guest_protocol::OnError;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, FallocateFlags};
use nix::unistd::LinkatFlags;
use serde::Serialize;

use super::{Fill, VolumeError, qcow2};

/// The smallest disk that holds a file system, in bytes.
pub const MIN_DISK: u64 = 1 << 20;
/// Sizes are multiples of this.
const ALIGNMENT: u64 = 4096;

/// How the bytes of a disk lie in its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskFormat {
    /// As they are. The file is as long as the disk is large, with holes where
    /// nothing has been written.
    #[default]
    Raw,
    /// A qcow2 image, which is as long as what has been written. Takes no other
    /// file to be read, and is slower.
    Qcow2,
}

impl fmt::Display for DiskFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DiskFormat::Raw => "raw",
            DiskFormat::Qcow2 => "qcow2",
        })
    }
}

/// A disk, formatted as ext4 by the first guest that uses it.
#[derive(Debug)]
pub struct Disk {
    place: Place,
    pub(super) format: DiskFormat,
    size: Option<u64>,
    preallocate: u64,
    pub(super) on_error: OnError,
    pub(super) fill: Fill,
    /// While it is open, nobody removes the disk's volume.
    pub(super) in_use: Option<Arc<File>>,
}

#[derive(Debug)]
enum Place {
    /// Kept from one VM to the next.
    File(PathBuf),
    /// Without a name, in this folder: gone with the VM, however that ends.
    Unnamed(PathBuf),
}

/// A disk that is open, and locked for as long as it is.
#[derive(Debug)]
pub(super) struct OpenDisk {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl Disk {
    /// The file at `path`, raw unless [`format`](Self::format) says otherwise. Where there is none it is made, for
    /// which it needs a [`size`](Self::size); it takes only the room that is used.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Disk::at(Place::File(path.into()), None)
    }

    /// A new disk of `size` bytes that is gone when the VM ends, even when the
    /// process is killed. Its room is taken in the file system of `folder`.
    pub fn temporary(folder: impl Into<PathBuf>, size: u64) -> Self {
        Disk::at(Place::Unnamed(folder.into()), Some(size))
    }

    fn at(place: Place, size: Option<u64>) -> Self {
        Disk {
            place,
            format: DiskFormat::default(),
            size,
            preallocate: 0,
            on_error: OnError::RemountReadOnly,
            fill: Fill::default(),
            in_use: None,
        }
    }

    /// How it lies in its file. One that is there already must have that format.
    pub fn format(mut self, format: DiskFormat) -> Self {
        self.format = format;
        self
    }

    /// Bytes of a new disk, at least [`MIN_DISK`], rounded up to 4 KiB. One that
    /// is there already must have that size.
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = Some(bytes);
        self
    }

    /// How much of the room of a new disk is taken from the start, in bytes, so
    /// that the guest finds it even when the host is full. The file has at least
    /// that length.
    pub fn preallocate(mut self, bytes: u64) -> Self {
        self.preallocate = bytes;
        self
    }

    /// What the guest does when it finds the file system damaged; by default it
    /// refuses further changes.
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    /// Whether it is filled when it is empty; by default [`Fill::ImageVolumes`].
    pub fn fill(mut self, fill: Fill) -> Self {
        self.fill = fill;
        self
    }

    /// Makes the disk where it is missing, as the first VM with it would.
    ///
    /// # Errors
    /// Those that a VM with it would fail with.
    pub fn prepare(&self) -> Result<(), VolumeError> {
        self.open().map(drop)
    }

    pub(super) fn is_kept(&self) -> bool {
        matches!(self.place, Place::File(_))
    }

    /// Opens the disk, makes it where it is missing, and locks it.
    pub(super) fn open(&self) -> Result<OpenDisk, VolumeError> {
        match &self.place {
            Place::File(path) => self.open_file(path),
            Place::Unnamed(folder) => self.make_unnamed(folder),
        }
    }

    fn open_file(&self, path: &Path) -> Result<OpenDisk, VolumeError> {
        let open = || File::options().read(true).write(true).open(path);
        let at = |what| {
            move |source| VolumeError::Disk {
                what,
                path: path.into(),
                source,
            }
        };
        let file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_file(path)?;
                open().map_err(at("open"))?
            }
            outcome => outcome.map_err(at("open"))?,
        };
        let has = file.metadata().map_err(at("look at"))?;
        if has.is_dir() {
            return Err(VolumeError::DiskIsFolder { path: path.into() });
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(VolumeError::DiskInUse { path: path.into() });
            }
            Err(TryLockError::Error(error)) => return Err(at("lock")(error)),
        }
        let image = qcow2::size_of(&file).map_err(at("look at"))?;
        let (format, has) = match image {
            Some(size) => (DiskFormat::Qcow2, size),
            // The length of a block device is not told by its metadata.
            None => (DiskFormat::Raw, has.len()),
        };
        if format != self.format {
            return Err(VolumeError::DiskFormat {
                path: path.into(),
                has: format,
                asked: self.format,
            });
        }
        let asked = self.size.map(rounded);
        match asked {
            Some(asked) if has != 0 && has != asked => Err(VolumeError::DiskSize {
                path: path.into(),
                has,
                asked,
            }),
            _ => Ok(OpenDisk {
                file,
                path: path.into(),
            }),
        }
    }

    /// Makes the file under another name first, so that nobody ever finds one
    /// that is half made.
    fn make_file(&self, path: &Path) -> Result<(), VolumeError> {
        let at = |what| {
            move |source| VolumeError::Disk {
                what,
                path: path.into(),
                source,
            }
        };
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let new = self.unnamed_file(folder, path)?;
        // linkat(2): an unnamed file gets a name by its link in /proc.
        let link = format!("/proc/self/fd/{}", new.as_raw_fd());
        let follow = LinkatFlags::AT_SYMLINK_FOLLOW;
        match nix::unistd::linkat(AT_FDCWD, link.as_str(), AT_FDCWD, path, follow) {
            // Somebody was faster, and that one is as good.
            Ok(()) | Err(Errno::EEXIST) => Ok(()),
            Err(error) => Err(at("make")(error.into())),
        }
    }

    fn make_unnamed(&self, folder: &Path) -> Result<OpenDisk, VolumeError> {
        let file = self.unnamed_file(folder, folder)?;
        Ok(OpenDisk {
            file,
            path: folder.into(),
        })
    }

    fn unnamed_file(&self, folder: &Path, named: &Path) -> Result<File, VolumeError> {
        let at = |what| {
            move |source| VolumeError::Disk {
                what,
                path: named.into(),
                source,
            }
        };
        let Some(size) = self.size else {
            return Err(VolumeError::NoSize { path: named.into() });
        };
        if size < MIN_DISK {
            return Err(VolumeError::SmallDisk {
                path: named.into(),
                size,
            });
        }
        let file = File::options()
            .read(true)
            .write(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_TMPFILE)
            .open(folder)
            .map_err(at("make"))?;
        let size = rounded(size);
        match self.format {
            DiskFormat::Raw => file.set_len(size).map_err(at("give its size to"))?,
            DiskFormat::Qcow2 if size > qcow2::MAX_SIZE => {
                return Err(VolumeError::LargeDisk {
                    path: named.into(),
                    size,
                });
            }
            DiskFormat::Qcow2 => qcow2::make(&file, size).map_err(at("make"))?,
        }
        let preallocate = rounded(self.preallocate).min(size);
        if preallocate > 0 {
            let length = i64::try_from(preallocate).unwrap_or(i64::MAX);
            nix::fcntl::fallocate(file.as_fd(), FallocateFlags::empty(), 0, length)
                .map_err(|error| at("take the room of")(error.into()))?;
        }
        Ok(file)
    }
}

/// `size` as the next multiple of [`ALIGNMENT`], or the one below 2^64.
fn rounded(size: u64) -> u64 {
    size.checked_next_multiple_of(ALIGNMENT)
        .unwrap_or(u64::MAX - ALIGNMENT + 1)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn disk_is_made_once_sparse_and_rounded_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.img");
        let disk = Disk::file(&path).size((64 << 20) + 1);
        drop(disk.open().unwrap());
        let made = fs::metadata(&path).unwrap();
        assert_eq!((made.len(), made.blocks()), ((64 << 20) + 4096, 0));
        assert_eq!(made.mode() & 0o777, 0o600);
        fs::write(&path, vec![1; (64 << 20) + 4096]).unwrap();
        drop(disk.open().unwrap());
        assert_eq!(fs::read(&path).unwrap()[0], 1, "it is not made again");
        drop(Disk::file(&path).open().unwrap());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn room_is_taken_in_advance_where_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.img");
        let disk = Disk::file(&path).size(4 << 20).preallocate(1 << 20);
        drop(disk.open().unwrap());
        let made = fs::metadata(&path).unwrap();
        assert_eq!(made.len(), 4 << 20);
        assert!(made.blocks() * 512 >= 1 << 20);
    }

    #[test]
    fn image_is_made_small_and_knows_its_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.qcow2");
        let disk = || Disk::file(&path).format(DiskFormat::Qcow2);
        drop(disk().size((10 << 30) + 1).open().unwrap());
        let made = fs::metadata(&path).unwrap();
        assert!(made.len() < 1 << 20, "{}", made.len());
        assert_eq!(made.mode() & 0o777, 0o600);
        let before = fs::read(&path).unwrap();
        drop(disk().size((10 << 30) + 4096).open().unwrap());
        assert_eq!(fs::read(&path).unwrap(), before, "it is not made again");
        drop(disk().open().unwrap());
        let other = disk().size(11 << 30).open().unwrap_err().to_string();
        let (has, asked) = (
            ((10u64 << 30) + 4096).to_string(),
            (11u64 << 30).to_string(),
        );
        assert!(other.contains(&has) && other.contains(&asked), "{other}");
        let first = disk().open().unwrap();
        assert!(matches!(disk().open(), Err(VolumeError::DiskInUse { .. })));
        drop(first);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn image_has_the_length_that_is_taken_in_advance() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.qcow2");
        let disk = Disk::file(&path).format(DiskFormat::Qcow2).size(1 << 30);
        drop(disk.preallocate(8 << 20).open().unwrap());
        let made = fs::metadata(&path).unwrap();
        assert_eq!(made.len(), 8 << 20);
        assert!(made.blocks() * 512 >= 8 << 20);
    }

    #[test]
    fn image_larger_than_its_format_holds_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.qcow2");
        let image = |size| Disk::file(&path).format(DiskFormat::Qcow2).size(size);
        let error = image(u64::MAX).open().unwrap_err().to_string();
        assert!(error.contains(&qcow2::MAX_SIZE.to_string()), "{error}");
        assert!(!path.exists());
        image(qcow2::MAX_SIZE).open().unwrap();
    }

    #[test]
    fn disk_of_another_format_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (has, asked) in [
            (DiskFormat::Raw, DiskFormat::Qcow2),
            (DiskFormat::Qcow2, DiskFormat::Raw),
        ] {
            let path = dir.path().join(has.to_string());
            let disk = |format| Disk::file(&path).format(format).size(MIN_DISK);
            drop(disk(has).open().unwrap());
            let error = disk(asked).open().unwrap_err().to_string();
            let words = format!("format {has} and not {asked}");
            assert!(error.contains(&words), "{error}");
            assert!(error.contains(path.to_str().unwrap()), "{error}");
        }
    }

    #[test]
    fn second_user_of_a_disk_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.img");
        let disk = Disk::file(&path).size(MIN_DISK);
        let first = disk.open().unwrap();
        assert!(matches!(disk.open(), Err(VolumeError::DiskInUse { .. })));
        drop(first);
        disk.open().unwrap();
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data.img");
        let refusal = |disk: Disk| disk.open().unwrap_err().to_string();
        assert!(refusal(Disk::file(&path)).contains("give its size"));
        assert!(refusal(Disk::file(&path).size(MIN_DISK - 1)).contains("at least 1048576"));
        drop(Disk::file(&path).size(MIN_DISK).open().unwrap());
        let other = refusal(Disk::file(&path).size(2 * MIN_DISK));
        assert!(
            other.contains("1048576") && other.contains("2097152"),
            "{other}"
        );
        assert!(
            refusal(Disk::file(dir.path()).size(MIN_DISK)).contains(dir.path().to_str().unwrap())
        );
    }

    #[test]
    fn temporary_disk_leaves_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let open = Disk::temporary(dir.path(), 2 << 20).open().unwrap();
        assert_eq!(open.file.metadata().unwrap().len(), 2 << 20);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
