//! One folder of the host as a file system for the guest.
//!
//! The guest names files by numbers that it was given and by single names in
//! folders, and there is no other way to name one: each operation is an `…at`
//! call on an `O_PATH` descriptor and at most one name, which is not followed.
//! Only regular files and folders are ever opened. A folder that the host moves
//! out of the shared one is `ESTALE` from then on. Landlock, in the threads that
//! serve the guest, holds the same line in the host's kernel.
//!
//! ```text
//! serve (FileSystem) ─▶ names, create, data, dirs, attr, xattrs, locks
//!                          │ inodes: number ─▶ descriptor    ownership: whose, and what is shown
//!                          └ handles: what is open           proc: what O_PATH cannot do itself
//! ```

mod attr;
mod create;
mod data;
mod dirs;
mod handles;
mod inodes;
mod locks;
mod names;
mod numbers;
mod ownership;
mod proc;
mod serve;
mod stat;
#[cfg(test)]
mod tests;
mod xattrs;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Resource;

use self::handles::Handles;
use self::inodes::{Held, Inodes};
use self::locks::Locks;
use self::names::{Found, Resolver};
use self::numbers::Numbers;
use self::ownership::Own;
use self::proc::Proc;
use self::stat::Stat;
use crate::fs::{Entry, Name, Node};

pub use self::ownership::{Ownership, UnknownOwnership};

/// Fewest descriptors that a file system gets along with.
pub const MIN_DESCRIPTORS: usize = 64;

/// How a folder is shared.
#[derive(Clone, Copy, Debug)]
pub struct HostFsOptions {
    /// Whose the files are.
    pub ownership: Ownership,
    /// Whether nothing may be changed, whatever the guest does.
    pub read_only: bool,
    /// Most descriptors that are open at a time, at least [`MIN_DESCRIPTORS`];
    /// half of what the process may have when `None`.
    pub max_descriptors: Option<usize>,
}

/// Why a folder cannot be shared.
#[derive(Debug, thiserror::Error)]
pub enum HostFsError {
    /// There is none.
    #[error("open shared folder {path}: create it first", path = path.display())]
    Missing {
        /// As given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The process may not.
    #[error(
        "open shared folder {path}: give this user access to it and the folders above",
        path = path.display()
    )]
    Denied {
        /// As given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or something else.
    #[error("{path} is not a folder: share the folder that it is in", path = path.display())]
    NotAFolder {
        /// As given.
        path: PathBuf,
    },
    /// Something else.
    #[error("open shared folder {path}", path = path.display())]
    Open {
        /// As given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no proc(5).
    #[error("open /proc/self/fd: shared folders need /proc mounted")]
    Proc(#[source] io::Error),
    /// [`Ownership::AsIs`] without the rights for it.
    #[error("share {path} with ownership as-is: run as root, or use mapped", path = path.display())]
    NeedsRoot {
        /// As given.
        path: PathBuf,
    },
    /// The limit is too low to work with.
    #[error(
        "share {path} with {max} open files: allow at least {MIN_DESCRIPTORS} (ulimit -n twice that)",
        path = path.display()
    )]
    FewDescriptors {
        /// As given.
        path: PathBuf,
        /// The limit.
        max: usize,
    },
}

/// A folder of the host, for a guest.
pub struct HostFs {
    /// The shared folder itself.
    folder: Arc<OwnedFd>,
    inodes: Inodes,
    handles: Handles,
    locks: Locks,
    numbers: Numbers,
    proc: Proc,
    ownership: Ownership,
    read_only: bool,
    /// Where the shared folder is, to tell what is in it. It may be moved.
    location: Mutex<Vec<u8>>,
    umask: u32,
    own: Own,
    /// How often the guest has given a file capabilities.
    capabilities: AtomicU64,
}

impl HostFs {
    /// Shares the folder at `path`.
    pub fn open(path: &Path, options: &HostFsOptions) -> Result<Self, HostFsError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, path, flags, Mode::empty());
        HostFs::from_fd(folder.map_err(|error| refused(path, error))?, path, options)
    }

    /// As [`HostFs::open`], of a folder that is open already. `path` is for errors.
    pub fn from_fd(
        folder: OwnedFd,
        path: &Path,
        options: &HostFsOptions,
    ) -> Result<Self, HostFsError> {
        let refused = |error| refused(path, error);
        let stat = Stat::of(folder.as_fd()).map_err(refused)?;
        if stat.kind() != FileType::Directory {
            return Err(HostFsError::NotAFolder { path: path.into() });
        }
        let as_is = options.ownership == Ownership::AsIs;
        if as_is && !rustix::process::geteuid().is_root() {
            return Err(HostFsError::NeedsRoot { path: path.into() });
        }
        let max = options.max_descriptors.unwrap_or_else(half_of_limit);
        if max < MIN_DESCRIPTORS {
            return Err(HostFsError::FewDescriptors {
                path: path.into(),
                max,
            });
        }
        let proc =
            Proc::open(options.read_only).map_err(|error| HostFsError::Proc(error.into()))?;
        let root = folder.as_fd().try_clone_to_owned();
        // What a descriptor of the guest's own can be had for goes before what
        // only spares a call.
        let (inodes, locks) = (max / 4, max / 8);
        let handles = max - inodes - locks;
        Ok(HostFs {
            folder: Arc::new(root.map_err(|source| HostFsError::Open {
                path: path.into(),
                source,
            })?),
            ownership: options.ownership.supported(folder.as_fd()),
            read_only: options.read_only,
            location: Mutex::new(proc.location(folder.as_fd()).map_err(refused)?),
            numbers: Numbers::new(stat.identity().key.dev),
            inodes: Inodes::new(Resolver::new(folder.as_fd()), folder, inodes),
            handles: Handles::new(handles),
            locks: Locks::new(locks),
            umask: proc::umask().unwrap_or_default(),
            own: Own::read().map_err(refused)?,
            capabilities: AtomicU64::new(0),
            proc,
        })
    }

    /// The mode in force: [`Ownership::Squash`] where [`Ownership::Mapped`] was
    /// asked for and the host's file system has no user extended attributes.
    pub fn ownership(&self) -> Ownership {
        self.ownership
    }

    /// The folder `node`, to find or change names in.
    fn folder(&self, node: Node) -> Result<Held, Errno> {
        let folder = self.inodes.get(node)?;
        if folder.kind != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        if node != Node::ROOT {
            self.still_inside(&folder)?;
        }
        Ok(folder)
    }

    /// The file `node` of any type, for a change of what is not its contents.
    fn changeable(&self, node: Node) -> Result<Held, Errno> {
        let file = self.inodes.get(node)?;
        self.still_inside(&file)?;
        Ok(file)
    }

    /// The regular file `node`, to be opened.
    fn regular(&self, node: Node) -> Result<Held, Errno> {
        let file = self.inodes.get(node)?;
        match file.kind {
            FileType::RegularFile => {}
            FileType::Directory => return Err(Errno::ISDIR),
            FileType::Symlink => return Err(Errno::LOOP),
            // To open a device or a pipe of the host's may do anything.
            _ => return Err(Errno::ACCESS),
        }
        self.still_inside(&file)?;
        Ok(file)
    }

    /// `ESTALE` if the host has moved the file out of the shared folder, where
    /// the guest's descriptor would follow it.
    fn still_inside(&self, held: &Held) -> Result<(), Errno> {
        let location = match self.proc.location(held.as_fd()) {
            Err(Errno::NAMETOOLONG) => self.location_above(held)?,
            outcome => outcome?,
        };
        let is_below = |root: &[u8]| match location.strip_prefix(root) {
            Some(rest) => rest.is_empty() || rest[0] == b'/' || root == b"/",
            None => false,
        };
        let mut root = self.location.lock().unwrap_or_else(PoisonError::into_inner);
        if is_below(&root) {
            return Ok(());
        }
        // The shared folder may have been moved with all that is in it.
        *root = self.proc.location(self.folder.as_fd())?;
        if is_below(&root) {
            Ok(())
        } else {
            Err(Errno::STALE)
        }
    }

    /// The location of the first folder above `held` that the kernel can tell.
    fn location_above(&self, held: &Held) -> Result<Vec<u8>, Errno> {
        let folder = match held.kind {
            FileType::Directory => held.clone(),
            _ => match self.inodes.folder_of(held.node) {
                Some(folder) => self.inodes.get(folder)?,
                // Without a name it is nowhere.
                None => return self.proc.location(self.folder.as_fd()),
            },
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut above: Option<OwnedFd> = None;
        loop {
            let at = above.as_ref().map_or(folder.as_fd(), AsFd::as_fd);
            match self.proc.location(at) {
                Err(Errno::NAMETOOLONG) => {}
                outcome => return outcome,
            }
            above = Some(rustix::fs::openat(at, c"..", flags, Mode::empty())?);
        }
    }

    /// Counts a lookup of what was found at `place` and tells the guest of it.
    fn enter(&self, found: Found, place: Option<(Node, Name<'_>)>) -> Result<Entry, Errno> {
        let Found { fd, stat } = found;
        let node = self.inodes.enter(fd, &stat, place)?;
        let shown = self
            .inodes
            .get(node)
            .and_then(|held| attr::shown(self, node, held.as_fd(), &stat));
        match shown {
            // Numbers are never used twice, so generations tell nothing more.
            Ok(attr) => Ok(Entry {
                node,
                generation: 0,
                attr,
            }),
            Err(error) => {
                self.inodes.forget(node, 1);
                Err(error)
            }
        }
    }
}

fn refused(path: &Path, error: Errno) -> HostFsError {
    let path = path.into();
    let source = error.into();
    match error {
        Errno::NOENT => HostFsError::Missing { path, source },
        Errno::NOTDIR => HostFsError::NotAFolder { path },
        Errno::ACCESS | Errno::PERM => HostFsError::Denied { path, source },
        _ => HostFsError::Open { path, source },
    }
}

/// Half of the descriptors that the process may have.
fn half_of_limit() -> usize {
    let limit = rustix::process::getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| limit as usize) / 2
}
