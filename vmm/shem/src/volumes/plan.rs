//! From the volumes that were wished for to the devices of the machine and the
//! mounts of the guest.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use guest_protocol::{MAX_MOUNTS, MAX_PATH, Mount, MountSource, Upper};
use machine::DeviceSpec;
use nix::sys::resource::{Resource, getrlimit};
use serde_json::json;

use super::{Disk, DiskFormat, Fill, Memory, SharedFolder, Volume, VolumeSource};

/// Descriptors of the process that shared folders leave for everything else.
const OTHER_DESCRIPTORS: usize = 256;

/// Permissions of memory that says nothing else.
const OPEN_TO_ALL: u32 = 0o1777;

/// Where the guest's own file systems lie.
const TAKEN: [&str; 3] = ["/proc", "/sys", "/dev"];

/// Why a volume cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The path in the guest is no good.
    #[error("volume at {target:?}: {what}")]
    Target {
        /// As given.
        target: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A folder whose name the options of a device cannot carry.
    #[error("the folder {} has a name that is not UTF-8: share one above it, or rename it", path.display())]
    NotUtf8 {
        /// As given.
        path: PathBuf,
    },
    /// Two volumes at one path.
    #[error("two volumes at {target:?}: give each a path of its own")]
    TargetTwice {
        /// The path in the guest.
        target: String,
    },
    /// More than the guest mounts.
    #[error("{0} volumes: a VM has at most {MAX_MOUNTS}")]
    TooMany(usize),
    /// A disk's file could not be had.
    #[error("{what} the disk {}", path.display())]
    Disk {
        /// What was being attempted.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder where a disk should be.
    #[error("the disk {} is a folder: name a file in it", path.display())]
    DiskIsFolder {
        /// As given.
        path: PathBuf,
    },
    /// Another VM has the disk.
    #[error("the disk {} is in use by another VM: stop that first", path.display())]
    DiskInUse {
        /// The file.
        path: PathBuf,
    },
    /// A new disk without a size.
    #[error("there is no disk {} yet: give its size to make it", path.display())]
    NoSize {
        /// The file.
        path: PathBuf,
    },
    /// A new disk that would hold no file system.
    #[error("the disk {} of {size} bytes: a disk has at least {} bytes", path.display(), super::MIN_DISK)]
    SmallDisk {
        /// The file.
        path: PathBuf,
        /// Bytes asked for.
        size: u64,
    },
    /// A new disk that its format cannot hold.
    #[error(
        "the disk {} of {size} bytes: one of the format qcow2 has at most {} bytes",
        path.display(), super::qcow2::MAX_SIZE
    )]
    LargeDisk {
        /// The file.
        path: PathBuf,
        /// Bytes asked for.
        size: u64,
    },
    /// A disk with another format than asked for.
    #[error(
        "the disk {} has the format {has} and not {asked}: say so, or name another file",
        path.display()
    )]
    DiskFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        has: DiskFormat,
        /// The format asked for.
        asked: DiskFormat,
    },
    /// A disk with another size than asked for.
    #[error(
        "the disk {} has {has} bytes and not {asked}: leave the size out to use it as it is",
        path.display()
    )]
    DiskSize {
        /// The file.
        path: PathBuf,
        /// Its bytes.
        has: u64,
        /// Bytes asked for.
        asked: u64,
    },
}

/// What a VM's volumes come to.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) devices: Vec<DeviceSpec>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) upper: Option<Upper>,
    /// Kernel modules that the guest needs for them.
    pub(crate) modules: Vec<&'static str>,
    /// The files of the disks, to look at.
    pub(crate) disks: Vec<File>,
    /// Held until the VM has ended.
    pub(crate) in_use: Vec<Arc<File>>,
}

impl Plan {
    /// Opens what has to be open. `image_volumes` are the paths that the image
    /// declares as volumes.
    pub(crate) fn of<'i>(
        volumes: Vec<Volume>,
        image_volumes: impl IntoIterator<Item = &'i String>,
    ) -> Result<Self, VolumeError> {
        if volumes.len() > MAX_MOUNTS {
            return Err(VolumeError::TooMany(volumes.len()));
        }
        let image_volumes: HashSet<String> = image_volumes
            .into_iter()
            .filter_map(|path| normal(path).ok())
            .collect();
        let folders = volumes
            .iter()
            .filter(|volume| matches!(volume.source, VolumeSource::Folder(_)))
            .count();
        let mut plan = Plan::default();
        let mut targets = HashSet::new();
        for (index, volume) in volumes.into_iter().enumerate() {
            let target = target(&volume.target)?;
            if !targets.insert(target.clone()) {
                return Err(VolumeError::TargetTwice { target });
            }
            let here = Here {
                id: format!("volume{index}"),
                fills: image_volumes.contains(&target),
                target,
                read_only: volume.read_only,
            };
            if here.target == "/" {
                plan.add_root(here, volume.source)?;
            } else {
                plan.add(here, volume.source, folders)?;
            }
        }
        Ok(plan)
    }

    fn add(&mut self, here: Here, source: VolumeSource, folders: usize) -> Result<(), VolumeError> {
        let source = match source {
            VolumeSource::Folder(folder) => self.share(&here, folder, folders)?,
            VolumeSource::Disk(disk) => {
                let (errors, fill) = (disk.on_error, here.filled(disk.fill));
                self.attach(&here.id, &disk, here.read_only)?;
                MountSource::Disk {
                    serial: here.id.clone(),
                    errors,
                    fill,
                }
            }
            VolumeSource::Memory(Memory { size, mode }) => {
                here.check_memory(size, mode)?;
                let mode = mode.unwrap_or(OPEN_TO_ALL);
                MountSource::Tmpfs { size, mode }
            }
        };
        self.mounts.push(Mount {
            target: here.target,
            source,
            read_only: here.read_only,
        });
        Ok(())
    }

    /// What takes the changes to the image's files.
    fn add_root(&mut self, here: Here, source: VolumeSource) -> Result<(), VolumeError> {
        if here.read_only {
            return Err(here.refused("what takes the changes to / cannot be read-only"));
        }
        self.upper = Some(match source {
            VolumeSource::Folder(_) => {
                return Err(here.refused("a folder cannot take the changes to /: use a disk"));
            }
            VolumeSource::Disk(disk) => {
                self.attach("root", &disk, false)?;
                Upper::Disk {
                    serial: "root".into(),
                }
            }
            VolumeSource::Memory(Memory { size, mode }) => {
                here.check_memory(size, mode)?;
                if mode.is_some() {
                    return Err(here.refused("the mode of / is the image's"));
                }
                Upper::Tmpfs { size }
            }
        });
        Ok(())
    }

    fn share(
        &mut self,
        here: &Here,
        folder: SharedFolder,
        folders: usize,
    ) -> Result<MountSource, VolumeError> {
        let Some(path) = folder.path.to_str() else {
            return Err(VolumeError::NotUtf8 { path: folder.path });
        };
        let fill = here.filled(folder.fill);
        self.modules.push("virtiofs");
        self.in_use.extend(folder.in_use);
        let (uid, gid) = folder.owner;
        self.devices.push(DeviceSpec {
            id: here.id.clone(),
            driver: "virtio-fs".into(),
            options: json!({
                "tag": here.id,
                "path": path,
                "ownership": folder.ownership,
                "uid": uid,
                "gid": gid,
                "max_descriptors": descriptors(folders),
                "cache": folder.cache,
                "read_only": here.read_only,
            }),
            attachment: None,
        });
        Ok(MountSource::Share {
            tag: here.id.clone(),
            fill,
        })
    }

    fn attach(&mut self, id: &str, disk: &Disk, read_only: bool) -> Result<(), VolumeError> {
        self.modules.push("ext4");
        self.in_use.extend(disk.in_use.clone());
        let open = disk.open()?;
        let file = open.file.try_clone().map_err(|source| VolumeError::Disk {
            what: "duplicate the descriptor of",
            path: open.path.clone(),
            source,
        })?;
        self.disks.push(file);
        self.devices.push(DeviceSpec {
            id: id.into(),
            driver: "virtio-blk".into(),
            options: json!({
                "path": open.path.to_string_lossy(),
                "format": disk.format,
                "read_only": read_only,
                "serial": id,
            }),
            attachment: Some(Box::new(open.file)),
        });
        Ok(())
    }
}

/// Where a volume goes.
struct Here {
    id: String,
    target: String,
    read_only: bool,
    /// The image declares a volume here.
    fills: bool,
}

impl Here {
    fn filled(&self, fill: Fill) -> bool {
        let wished = match fill {
            Fill::ImageVolumes => self.fills,
            Fill::Always => true,
            Fill::Never => false,
        };
        wished && !self.read_only
    }

    fn refused(&self, what: &'static str) -> VolumeError {
        VolumeError::Target {
            target: self.target.clone(),
            what,
        }
    }

    fn check_memory(&self, size: Option<u64>, mode: Option<u32>) -> Result<(), VolumeError> {
        if size == Some(0) {
            return Err(self.refused("memory of size 0: give it at least a page"));
        }
        if mode.is_some_and(|mode| mode > 0o7777) {
            return Err(self.refused("permissions are at most 7777"));
        }
        Ok(())
    }
}

/// The share of one of `folders` in the descriptors of this process.
fn descriptors(folders: usize) -> usize {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or_default();
    let all = usize::try_from(soft).unwrap_or(usize::MAX);
    all.saturating_sub(OTHER_DESCRIPTORS) / folders.max(1)
}

/// The path of a volume in the guest, without what does not count in it, as two
/// slashes in a row.
///
/// # Errors
/// [`VolumeError::Target`] when nothing can be mounted there.
pub fn target(path: &str) -> Result<String, VolumeError> {
    normal(path).map_err(|what| VolumeError::Target {
        target: path.to_owned(),
        what,
    })
}

/// `path` without what means nothing in it.
fn normal(path: &str) -> Result<String, &'static str> {
    if !path.starts_with('/') {
        return Err("not an absolute path of the guest, as in /data");
    }
    if path.len() > MAX_PATH {
        return Err("longer than a path can be");
    }
    if path.contains('\0') {
        return Err("a path has no zero byte");
    }
    let mut normal = String::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => return Err("leave out .., which a link of the image could turn elsewhere"),
            name => normal.extend(["/", name]),
        }
    }
    if TAKEN.contains(&normal.as_str()) {
        return Err("the guest's kernel has its own files there");
    }
    Ok(if normal.is_empty() {
        "/".into()
    } else {
        normal
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volumes::Ownership;

    fn plan(volumes: Vec<Volume>, image: &[&str]) -> Result<Plan, String> {
        let image: Vec<String> = image.iter().map(|path| (*path).to_owned()).collect();
        Plan::of(volumes, &image).map_err(|error| error.to_string())
    }

    fn folder() -> SharedFolder {
        SharedFolder::new("/srv").ownership(Ownership::Mapped)
    }

    #[test]
    fn each_kind_becomes_a_device_and_a_mount() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::file(dir.path().join("d.img")).size(1 << 20);
        let plan = plan(
            vec![
                Volume::new(folder().owner(5, 6), "/a//b/./c/").read_only(),
                Volume::new(disk, "/disk"),
                Volume::new(Memory::new().size(4096).mode(0o700), "/memory"),
            ],
            &[],
        )
        .unwrap();
        let drivers: Vec<_> = plan.devices.iter().map(|spec| &*spec.driver).collect();
        assert_eq!(drivers, ["virtio-fs", "virtio-blk"]);
        let options = &plan.devices[0].options;
        assert_eq!(options["ownership"], "mapped");
        assert_eq!(options["cache"], "coherent");
        assert_eq!((&options["uid"], &options["gid"]), (&json!(5), &json!(6)));
        assert_eq!(options["read_only"], true);
        let targets: Vec<_> = plan.mounts.iter().map(|mount| &*mount.target).collect();
        assert_eq!(targets, ["/a/b/c", "/disk", "/memory"]);
        assert!(plan.mounts[0].read_only && !plan.mounts[1].read_only);
        let memory = MountSource::Tmpfs {
            size: Some(4096),
            mode: 0o700,
        };
        assert_eq!(plan.mounts[2].source, memory);
        assert_eq!(plan.upper, None);
        assert_eq!(plan.modules, ["virtiofs", "ext4"]);
    }

    #[test]
    fn volume_is_filled_where_the_image_declares_one() {
        let filled = |fill, target: &str, read_only: bool| {
            let mut volume = Volume::new(folder().fill(fill), target);
            volume.read_only = read_only;
            match &plan(vec![volume], &["/data/"]).unwrap().mounts[0].source {
                MountSource::Share { fill, .. } => *fill,
                other => panic!("{other:?}"),
            }
        };
        assert!(filled(Fill::ImageVolumes, "/data", false));
        assert!(!filled(Fill::ImageVolumes, "/data", true));
        assert!(!filled(Fill::ImageVolumes, "/data/sub", false));
        assert!(filled(Fill::Always, "/other", false));
        assert!(!filled(Fill::Never, "/data", false));
    }

    #[test]
    fn root_takes_a_disk_or_memory_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let disk = || Disk::temporary(dir.path(), 1 << 20);
        let with_disk = plan(vec![Volume::new(disk(), "/")], &[]).unwrap();
        let serial = "root".to_owned();
        assert_eq!(with_disk.upper, Some(Upper::Disk { serial }));
        assert!(with_disk.mounts.is_empty());
        let size = Some(8192);
        let memory = Volume::new(Memory::new().size(8192), "//");
        assert_eq!(
            plan(vec![memory], &[]).unwrap().upper,
            Some(Upper::Tmpfs { size })
        );
        for (volume, word) in [
            (Volume::new(folder(), "/"), "use a disk"),
            (Volume::new(disk(), "/").read_only(), "read-only"),
            (Volume::new(Memory::new().mode(0o700), "/"), "the image's"),
        ] {
            let error = plan(vec![volume], &[]).err().unwrap();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn folders_and_files_keep_what_is_written() {
        assert!(Volume::new(folder(), "/a").keeps_changes());
        assert!(!Volume::new(folder(), "/a").read_only().keeps_changes());
        assert!(Volume::new(Disk::file("d.img"), "/").keeps_changes());
        assert!(!Volume::new(Disk::temporary("/tmp", 1), "/").keeps_changes());
        assert!(!Volume::new(Memory::new(), "/a").keeps_changes());
    }

    #[test]
    fn paths_that_cannot_be_are_named() {
        for (target, word) in [
            ("data", "absolute"),
            ("", "absolute"),
            ("/a/../b", ".."),
            ("/proc", "kernel"),
            ("/dev/", "kernel"),
            ("/a\0b", "zero"),
        ] {
            let error = plan(vec![Volume::new(folder(), target)], &[])
                .err()
                .unwrap();
            assert!(
                error.contains(word) && error.contains("volume at"),
                "{error}"
            );
        }
        let odd: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"/srv/\xff");
        let odd = Volume::new(SharedFolder::new(odd), "/a");
        assert!(plan(vec![odd], &[]).err().unwrap().contains("not UTF-8"));
        let twice = vec![Volume::new(folder(), "/a"), Volume::new(folder(), "/a/")];
        assert!(
            plan(twice, &[])
                .err()
                .unwrap()
                .starts_with("two volumes at \"/a\"")
        );
        let many = (0..=MAX_MOUNTS).map(|i| Volume::new(folder(), format!("/{i}")));
        assert!(
            plan(many.collect(), &[])
                .err()
                .unwrap()
                .contains("at most 64")
        );
    }
}
