//! Volumes that have a name instead of a path: each a folder of the store with
//! what it is and what is in it.
//!
//! ```text
//! STORE/volumes/NAME/volume.json    what it is; locked by those who use it
//!                    data/          of a folder: what the guests see
//!                    disk.img       of a disk
//! ```

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Disk, Fill, SharedFolder, VolumeSource};

const DESCRIPTION: &str = "volume.json";
const DATA: &str = "data";
const DISK: &str = "disk.img";
/// Before the name of what is being made or removed, which no volume has. Its
/// folder is locked by the one who does it.
const UNFINISHED: &str = ".unfinished-";

/// Longest name, as Docker's: a file name.
const MAX_NAME: usize = 255 - UNFINISHED.len();

/// Why a named volume cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum VolumeStoreError {
    /// No volume has such a name.
    #[error(
        "{0:?} is no name of a volume: use letters, digits, `_`, `.` and `-`, and begin with a letter or digit"
    )]
    Name(String),
    /// There is none.
    #[error("there is no volume {0:?}; `shem volume ls` lists them")]
    Missing(String),
    /// There is one already, which is something else.
    #[error("volume {name:?} is there already, and is {is}: remove it, or use another name")]
    Exists {
        /// Its name.
        name: String,
        /// What it is.
        is: String,
    },
    /// Some VM has it.
    #[error("volume {0:?} is in use by a VM: stop that first")]
    InUse(String),
    /// The store could not be read or changed.
    #[error("{what} {}", path.display())]
    Io {
        /// What was being attempted.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A description is not one.
    #[error("{} does not describe a volume; `shem volume rm --force` removes it", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// What a named volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamedKind {
    /// A folder, which several VMs may have at the same time.
    Folder,
    /// A disk, which one VM has at a time.
    Disk {
        /// Bytes.
        size: u64,
    },
}

/// A volume of the store.
#[derive(Clone, Debug)]
pub struct NamedVolume {
    name: String,
    folder: PathBuf,
    description: Description,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Description {
    kind: NamedKind,
    /// Seconds since the epoch, UTC.
    created: u64,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// The name of a volume, and the volume or what is wrong with it.
pub type Found = (String, Result<NamedVolume, VolumeStoreError>);

/// The named volumes of a store.
#[derive(Clone, Debug)]
pub struct NamedVolumes {
    folder: PathBuf,
}

impl NamedVolumes {
    pub(crate) fn new(folder: PathBuf) -> Self {
        NamedVolumes { folder }
    }

    /// Makes a volume. One that is there already and is the same is fine.
    pub fn create(
        &self,
        name: &str,
        kind: NamedKind,
        labels: impl IntoIterator<Item = (String, String)>,
    ) -> Result<NamedVolume, VolumeStoreError> {
        check(name)?;
        match self.get(name) {
            Ok(there) if there.description.kind == kind => return Ok(there),
            Ok(there) => {
                return Err(VolumeStoreError::Exists {
                    name: name.into(),
                    is: there.description.kind.to_string(),
                });
            }
            Err(VolumeStoreError::Missing(_)) => {}
            Err(error) => return Err(error),
        }
        let created = SystemTime::now().duration_since(UNIX_EPOCH);
        let description = Description {
            kind,
            created: created.map_or(0, |since| since.as_secs()),
            labels: labels.into_iter().collect(),
        };
        make_folder(&self.folder)?;
        self.sweep();
        let unfinished = self.unfinished(name);
        let content = unfinished.join(DATA);
        make_folder(&content)?;
        let _lock = lock_folder(&unfinished)?;
        let path = unfinished.join(DESCRIPTION);
        let text = serde_json::to_vec_pretty(&description)
            .map_err(io::Error::other)
            .map_err(at("write", &path))?;
        File::create(&path)
            .and_then(|mut file| file.write_all(&text))
            .map_err(at("write", &path))?;
        let folder = self.folder.join(name);
        match fs::rename(&unfinished, &folder) {
            Ok(()) => self.get(name),
            // Somebody else was faster.
            Err(_) if folder.exists() => {
                fs::remove_dir_all(&unfinished).map_err(at("remove", &unfinished))?;
                self.get(name)
            }
            Err(source) => Err(at("make", &folder)(source)),
        }
    }

    /// The volume of that name.
    pub fn get(&self, name: &str) -> Result<NamedVolume, VolumeStoreError> {
        check(name)?;
        let folder = self.folder.join(name);
        let path = folder.join(DESCRIPTION);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !folder.exists() => {
                return Err(VolumeStoreError::Missing(name.into()));
            }
            outcome => outcome.map_err(at("read", &path))?,
        };
        let description = serde_json::from_slice(&text)
            .map_err(|source| VolumeStoreError::Description { path, source })?;
        Ok(NamedVolume {
            name: name.into(),
            folder,
            description,
        })
    }

    /// All volumes by name, each with what is wrong with it, if anything.
    pub fn list(&self) -> Result<Vec<Found>, VolumeStoreError> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            outcome => outcome.map_err(at("read", &self.folder))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(at("read", &self.folder))?;
            if let Ok(name) = entry.file_name().into_string()
                && check(&name).is_ok()
            {
                names.push(name);
            }
        }
        names.sort();
        let found = names.into_iter().map(|name| {
            let volume = self.get(&name);
            (name, volume)
        });
        Ok(found.collect())
    }

    /// Removes a volume that no VM has, with all that is in it.
    pub fn remove(&self, name: &str) -> Result<(), VolumeStoreError> {
        check(name)?;
        let folder = self.folder.join(name);
        if !folder.is_dir() {
            return Err(VolumeStoreError::Missing(name.into()));
        }
        // Held until it is gone. A damaged volume is in nobody's use.
        let lock = match File::open(folder.join(DESCRIPTION)) {
            Ok(file) => match file.try_lock() {
                Ok(()) => Some(file),
                Err(TryLockError::WouldBlock) => return Err(VolumeStoreError::InUse(name.into())),
                Err(TryLockError::Error(error)) => return Err(at("lock", &folder)(error)),
            },
            Err(_) => None,
        };
        let _unfinished = lock_folder(&folder)?;
        let unfinished = self.unfinished(name);
        fs::rename(&folder, &unfinished).map_err(at("remove", &folder))?;
        drop(lock);
        fs::remove_dir_all(&unfinished).map_err(at("remove", &unfinished))
    }

    /// A name that no other process uses.
    fn unfinished(&self, name: &str) -> PathBuf {
        let id = std::process::id();
        self.folder.join(format!("{UNFINISHED}{name}-{id}"))
    }

    /// Removes what processes left that were killed. What cannot be removed
    /// harms nobody, and the next one tries again.
    fn sweep(&self) {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes())
                && let Ok(_lock) = lock_folder(&entry.path())
                && let Err(error) = fs::remove_dir_all(entry.path())
            {
                log::debug!("remove {}: {error}", entry.path().display());
            }
        }
    }
}

impl NamedVolume {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is.
    pub fn kind(&self) -> NamedKind {
        self.description.kind
    }

    /// When it was made, in seconds since the epoch.
    pub fn created(&self) -> u64 {
        self.description.created
    }

    /// Notes of its maker.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.description.labels
    }

    /// Where its contents lie: a folder, or the file of a disk, which the first
    /// VM makes.
    pub fn path(&self) -> PathBuf {
        match self.description.kind {
            NamedKind::Folder => self.folder.join(DATA),
            NamedKind::Disk { .. } => self.folder.join(DISK),
        }
    }

    /// Takes it into use, for a [`Volume`](super::Volume): from now on nobody
    /// removes it. An empty one gets what the image has at its place.
    pub fn open(&self) -> Result<VolumeSource, VolumeStoreError> {
        let path = self.folder.join(DESCRIPTION);
        let file = File::open(&path).map_err(at("open", &path))?;
        match file.try_lock_shared() {
            Ok(()) => {}
            // Only its removal locks it against everybody.
            Err(TryLockError::WouldBlock) => {
                return Err(VolumeStoreError::Missing(self.name.clone()));
            }
            Err(TryLockError::Error(error)) => return Err(at("lock", &path)(error)),
        }
        if !path.exists() {
            return Err(VolumeStoreError::Missing(self.name.clone()));
        }
        let in_use = Some(Arc::new(file));
        Ok(match self.description.kind {
            NamedKind::Folder => {
                let mut folder = SharedFolder::new(self.path()).fill(Fill::Always);
                folder.in_use = in_use;
                folder.into()
            }
            NamedKind::Disk { size } => {
                let mut disk = Disk::file(self.path()).size(size).fill(Fill::Always);
                disk.in_use = in_use;
                disk.into()
            }
        })
    }
}

impl std::fmt::Display for NamedKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NamedKind::Folder => f.write_str("a folder"),
            NamedKind::Disk { size } => write!(f, "a disk of {size} bytes"),
        }
    }
}

fn make_folder(path: &Path) -> Result<(), VolumeStoreError> {
    let mut builder = DirBuilder::new();
    let made = builder.mode(0o700).recursive(true).create(path);
    made.map_err(at("make", path))
}

/// Locks a folder that is being made or removed, until the answer is dropped.
fn lock_folder(path: &Path) -> Result<File, VolumeStoreError> {
    let folder = File::open(path).map_err(at("lock", path))?;
    folder
        .try_lock()
        .map_err(io::Error::from)
        .map_err(at("lock", path))?;
    Ok(folder)
}

fn at(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> VolumeStoreError {
    let path = path.to_path_buf();
    move |source| VolumeStoreError::Io { what, path, source }
}

/// Docker's rule: `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
fn check(name: &str) -> Result<(), VolumeStoreError> {
    let inside = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && name.len() <= MAX_NAME && name.chars().all(inside) {
        Ok(())
    } else {
        Err(VolumeStoreError::Name(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, NamedVolumes) {
        let dir = tempfile::tempdir().unwrap();
        let volumes = NamedVolumes::new(dir.path().join("volumes"));
        (dir, volumes)
    }

    #[test]
    fn volume_is_made_found_and_removed() {
        let (_dir, volumes) = store();
        assert!(volumes.list().unwrap().is_empty());
        let label = ("for".to_owned(), "tests".to_owned());
        let made = volumes.create("data", NamedKind::Folder, [label]).unwrap();
        assert!(made.path().is_dir());
        fs::write(made.path().join("f"), "kept").unwrap();
        let again = volumes.create("data", NamedKind::Folder, []).unwrap();
        assert_eq!(fs::read(again.path().join("f")).unwrap(), b"kept");
        assert_eq!(again.labels()["for"], "tests");
        let names: Vec<_> = volumes
            .list()
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["data"]);
        volumes.remove("data").unwrap();
        assert!(matches!(
            volumes.get("data"),
            Err(VolumeStoreError::Missing(_))
        ));
        assert!(matches!(
            volumes.remove("data"),
            Err(VolumeStoreError::Missing(_))
        ));
    }

    #[test]
    fn name_of_a_folder_makes_no_disk() {
        let (_dir, volumes) = store();
        volumes.create("data", NamedKind::Folder, []).unwrap();
        let disk = NamedKind::Disk { size: 1 << 20 };
        let error = volumes.create("data", disk, []).unwrap_err().to_string();
        assert!(error.contains("is a folder"), "{error}");
    }

    #[test]
    fn volume_in_use_is_not_removed() {
        let (_dir, volumes) = store();
        for (name, kind) in [
            ("folder", NamedKind::Folder),
            ("disk", NamedKind::Disk { size: 1 << 20 }),
        ] {
            let volume = volumes.create(name, kind, []).unwrap();
            let source = volume.open().unwrap();
            assert!(matches!(
                volumes.remove(name),
                Err(VolumeStoreError::InUse(_))
            ));
            drop(source);
            volumes.remove(name).unwrap();
            assert!(volume.open().is_err());
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let (_dir, volumes) = store();
        for name in [
            "", ".", "..", "../x", "a/b", ".hidden", "-x", "a b", "\u{e4}",
        ] {
            assert!(
                matches!(volumes.get(name), Err(VolumeStoreError::Name(_))),
                "{name:?}"
            );
            assert!(matches!(
                volumes.remove(name),
                Err(VolumeStoreError::Name(_))
            ));
        }
    }

    #[test]
    fn what_a_killed_process_left_is_swept_away() {
        let (_dir, volumes) = store();
        let left = volumes.folder.join(".unfinished-old-1/data");
        fs::create_dir_all(&left).unwrap();
        let busy = volumes.folder.join(".unfinished-new-2");
        fs::create_dir_all(&busy).unwrap();
        let _lock = lock_folder(&busy).unwrap();
        volumes.create("data", NamedKind::Folder, []).unwrap();
        assert!(!left.exists());
        assert!(busy.exists());
        assert_eq!(volumes.list().unwrap().len(), 1);
    }

    #[test]
    fn damaged_volume_is_told_and_can_be_removed() {
        let (_dir, volumes) = store();
        let volume = volumes.create("data", NamedKind::Folder, []).unwrap();
        fs::write(volume.folder.join(DESCRIPTION), "nonsense").unwrap();
        let found = volumes.list().unwrap();
        assert!(matches!(
            found[0].1,
            Err(VolumeStoreError::Description { .. })
        ));
        volumes.remove("data").unwrap();
    }
}
