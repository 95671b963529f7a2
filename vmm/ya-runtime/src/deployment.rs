//! What `deploy` leaves for `start`: a file in the work folder, in a form of our own.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use shem::{Cache, Disk, DiskFormat, Image, Memory, SharedFolder, Volume};

use crate::mounts::{MountKind, Mounted};

/// Its name in the work folder.
pub const FILE: &str = "deployment.json";

/// Of the file's form. Others are refused.
const VERSION: u32 = 1;

/// Permissions of the root of a `ram` volume.
const RAM_MODE: u32 = 0o700;

/// How much of an image's beginning and of its end tells it from others: the
/// superblock is at the one, checksum and configuration are at the other.
const ENDS: u64 = 4096;

/// A VM that can be started, as often as one likes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// [`VERSION`].
    version: u32,
    /// Layers of the root file system, the top one first.
    pub packages: Vec<Package>,
    /// Number of vCPUs.
    pub vcpus: u8,
    /// RAM in MiB.
    pub memory_mib: u64,
    /// Room for changes to the image's files in bytes, unless a mount says otherwise.
    pub storage: u64,
    /// The guest's host name.
    pub hostname: String,
    /// Volumes.
    pub mounts: Vec<Mounted>,
}

/// An image, and what it was when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Absolute.
    pub path: PathBuf,
    /// Its length in bytes.
    len: u64,
    /// CRC-32 of its [`ENDS`].
    crc: u32,
}

impl Deployment {
    pub(crate) fn new(
        packages: Vec<Package>,
        vcpus: u8,
        memory_mib: u64,
        storage: u64,
        hostname: String,
        mounts: Vec<Mounted>,
    ) -> Self {
        Deployment {
            version: VERSION,
            packages,
            vcpus,
            memory_mib,
            storage,
            hostname,
            mounts,
        }
    }

    /// Reads what was deployed to `workdir`.
    pub fn read(workdir: &Path) -> Result<Self> {
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let path = workdir.join(FILE);
        let text = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => anyhow::anyhow!(
                "{} is missing: `deploy` makes it and comes first",
                path.display()
            ),
            _ => anyhow::Error::new(error).context(format!("read {}", path.display())),
        })?;
        let damaged = || format!("{} is damaged: deploy again", path.display());
        let Versioned { version } = serde_json::from_slice(&text).with_context(damaged)?;
        ensure!(
            version == VERSION,
            "{} has version {version} and not {VERSION}: deploy again",
            path.display()
        );
        serde_json::from_slice(&text).with_context(damaged)
    }

    /// Writes it to `workdir`, as a whole or not at all.
    pub(crate) fn write(&self, workdir: &Path) -> Result<()> {
        let (path, new) = (workdir.join(FILE), workdir.join(format!("{FILE}.new")));
        let text = serde_json::to_vec_pretty(self).context("describe the deployment")?;
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .with_context(|| format!("write {}", path.display()))
    }

    /// Opens the images, if they are still those that were deployed.
    pub fn images(&self) -> Result<Vec<Image>> {
        self.packages
            .iter()
            .map(|package| {
                ensure!(
                    Package::look(&package.path)? == *package,
                    "{} is not what it was at `deploy`: deploy again",
                    package.path.display()
                );
                Ok(Image::open(&package.path)?)
            })
            .collect()
    }

    /// The volumes of its VM, whose files are in `workdir`.
    pub fn volumes(&self, workdir: &Path) -> Vec<Volume> {
        let mut volumes: Vec<Volume> = self
            .mounts
            .iter()
            .map(|Mounted { path, kind }| {
                let path = match path.trim_matches('/') {
                    "" => "/",
                    _ => path,
                };
                match kind {
                    MountKind::Host { name } => {
                        // exe-unit reads and writes there while the VM runs.
                        let folder = SharedFolder::new(workdir.join(name));
                        Volume::new(folder.cache(Cache::Coherent), path)
                    }
                    MountKind::Ram { size } => {
                        let memory = Memory::new().size(*size);
                        let memory = match path {
                            "/" => memory,
                            _ => memory.mode(RAM_MODE),
                        };
                        Volume::new(memory, path)
                    }
                    MountKind::Storage { name, .. } => {
                        Volume::new(disk(kind, workdir.join(name)), path)
                    }
                }
            })
            .collect();
        let has_root = |mount: &Mounted| mount.path.trim_matches('/').is_empty();
        if !self.mounts.iter().any(has_root) {
            // Without a name: its length, which is all of its room, does not count
            // as used, and nothing is left of it.
            volumes.push(Volume::new(Disk::temporary(workdir, self.storage), "/"));
        }
        volumes
    }

    /// Files of its disks in `workdir`.
    pub(crate) fn disks(&self, workdir: &Path) -> Vec<PathBuf> {
        let names = self.mounts.iter().filter_map(|mount| match &mount.kind {
            MountKind::Storage { name, .. } => Some(workdir.join(name)),
            MountKind::Host { .. } | MountKind::Ram { .. } => None,
        });
        names.collect()
    }
}

impl Package {
    /// Looks at the image at `path`, which is to be absolute.
    pub(crate) fn look(path: &Path) -> Result<Self> {
        let look = || -> io::Result<Self> {
            let file = File::open(path)?;
            let len = file.metadata()?.len();
            let mut hasher = crc32fast::Hasher::new();
            for start in [0, len.saturating_sub(ENDS)] {
                let mut bytes = vec![0; ENDS.min(len) as usize];
                file.read_exact_at(&mut bytes, start)?;
                hasher.update(&bytes);
            }
            Ok(Package {
                path: path.to_owned(),
                len,
                crc: hasher.finalize(),
            })
        };
        look().with_context(|| format!("read {}", path.display()))
    }
}

/// The disk that a storage volume is, at `path`.
pub(crate) fn disk(kind: &MountKind, path: PathBuf) -> Disk {
    match kind {
        MountKind::Storage {
            size,
            preallocate,
            errors,
            ..
        } => Disk::file(path)
            // It grows with what is written: exe-unit counts lengths, not room.
            .format(DiskFormat::Qcow2)
            .size((*size).max(shem::MIN_DISK))
            .preallocate(*preallocate)
            .on_error((*errors).into()),
        MountKind::Host { .. } | MountKind::Ram { .. } => unreachable!("it is a storage volume"),
    }
}
