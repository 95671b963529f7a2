//! What a VM has beside its images: folders of the host, disks, memory, each
//! mounted at a path of the guest.
//!
//! These are the wishes; what devices and mounts they become is in `plan`.

mod disk;
mod named;
mod plan;
mod qcow2;

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

pub use disk::{Disk, DiskFormat, MIN_DISK};
pub use guest_protocol::OnError;
pub use named::{Found, NamedKind, NamedVolume, NamedVolumes, VolumeStoreError};
pub(crate) use plan::Plan;
pub use plan::{VolumeError, target};

/// Something mounted at a path of the guest.
///
/// ```
/// use shem::{Cache, Disk, Memory, SharedFolder, Volume};
///
/// let data = Volume::new(SharedFolder::new("/srv/data").cache(Cache::Exclusive), "/data");
/// let models = Volume::new(SharedFolder::new("/srv/models"), "/models").read_only();
/// let scratch = Volume::new(Memory::new().size(64 << 20), "/scratch");
/// // On `/` it takes the changes to the image's files, and keeps them.
/// let root = Volume::new(Disk::file("root.img").size(10 << 30), "/");
/// ```
#[derive(Debug)]
pub struct Volume {
    target: String,
    read_only: bool,
    source: VolumeSource,
}

impl Volume {
    /// Mounts `source` at `target`: an absolute path in the guest. Links of the
    /// image on the way are followed inside the guest, folders that are missing
    /// are made, and a volume may lie in another. At `/` a disk or memory takes
    /// the changes to the image's files.
    pub fn new(source: impl Into<VolumeSource>, target: impl Into<String>) -> Self {
        Volume {
            target: target.into(),
            read_only: false,
            source: source.into(),
        }
    }

    /// Nothing in it can be changed: the host refuses as well as the guest.
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Whether serving it takes root's capabilities to act as other users.
    pub fn acts_as_users(&self) -> bool {
        let ownership = match &self.source {
            VolumeSource::Folder(folder) => Some(folder.ownership),
            VolumeSource::Disk(_) | VolumeSource::Memory(_) => None,
        };
        ownership == Some(Ownership::AsIs)
    }

    /// Whether what the guest writes to it is there when the VM is gone.
    pub fn keeps_changes(&self) -> bool {
        let kept = match &self.source {
            VolumeSource::Folder(_) => true,
            VolumeSource::Disk(disk) => disk.is_kept(),
            VolumeSource::Memory(_) => false,
        };
        kept && !self.read_only
    }
}

/// What a [`Volume`] shows.
#[derive(Debug)]
pub enum VolumeSource {
    /// A folder of the host.
    Folder(SharedFolder),
    /// A disk of the guest's own.
    Disk(Disk),
    /// Memory of the guest, lost when it stops.
    Memory(Memory),
}

impl From<SharedFolder> for VolumeSource {
    fn from(folder: SharedFolder) -> Self {
        VolumeSource::Folder(folder)
    }
}

impl From<Disk> for VolumeSource {
    fn from(disk: Disk) -> Self {
        VolumeSource::Disk(disk)
    }
}

impl From<Memory> for VolumeSource {
    fn from(memory: Memory) -> Self {
        VolumeSource::Memory(memory)
    }
}

/// Who else may change the files of a folder while a guest has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cache {
    /// Anybody: the guest sees their changes with its next call.
    #[default]
    Coherent,
    /// Nobody: the guest may keep what it read and delay what it writes.
    Exclusive,
}

/// Whose the files of a folder are, on the host and in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ownership {
    /// Users and groups of the guest are those of the host; takes root.
    AsIs,
    /// On the host everything belongs to this process; owner, permissions and
    /// special files of the guest are recorded in an extended attribute.
    Mapped,
    /// On the host everything belongs to this process, and in the guest to one
    /// owner that cannot be changed.
    Squash,
}

impl Ownership {
    /// [`Ownership::AsIs`] for root, else [`Ownership::Mapped`].
    pub fn of_this_process() -> Self {
        if nix::unistd::geteuid().is_root() {
            Ownership::AsIs
        } else {
            Ownership::Mapped
        }
    }
}

/// Whether an empty volume gets what the image has at its place: contents,
/// owners, modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fill {
    /// Where the image declares a `VOLUME`.
    #[default]
    ImageVolumes,
    /// Wherever it is mounted.
    Always,
    /// It stays empty.
    Never,
}

/// A folder of the host, shared by virtio-fs.
#[derive(Debug)]
pub struct SharedFolder {
    path: PathBuf,
    ownership: Ownership,
    owner: (u32, u32),
    cache: Cache,
    fill: Fill,
    /// While it is open, nobody removes the folder's volume.
    in_use: Option<Arc<std::fs::File>>,
}

impl SharedFolder {
    /// The folder at `path`, which has to exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        SharedFolder {
            path: path.into(),
            ownership: Ownership::of_this_process(),
            owner: (0, 0),
            cache: Cache::default(),
            fill: Fill::default(),
            in_use: None,
        }
    }

    /// Whose its files are; by default [`Ownership::of_this_process`].
    pub fn ownership(mut self, ownership: Ownership) -> Self {
        self.ownership = ownership;
        self
    }

    /// User and group in the guest of files whose owner is not known otherwise:
    /// those that the host put there; by default root.
    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.owner = (uid, gid);
        self
    }

    /// Who else may change its files; by default [`Cache::Coherent`].
    pub fn cache(mut self, cache: Cache) -> Self {
        self.cache = cache;
        self
    }

    /// Whether it is filled when it is empty; by default [`Fill::ImageVolumes`].
    pub fn fill(mut self, fill: Fill) -> Self {
        self.fill = fill;
        self
    }
}

/// Memory of the guest, as a file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    size: Option<u64>,
    mode: Option<u32>,
}

impl Memory {
    /// As much as half of the guest's RAM, open to everybody, as `/tmp`.
    pub fn new() -> Self {
        Memory::default()
    }

    /// At most this many bytes, not zero.
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = Some(bytes);
        self
    }

    /// Permissions of its root, at most 0o7777; by default 0o1777, and at `/`
    /// the image's.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }
}
