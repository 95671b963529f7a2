//! The file system over folders of this machine's.
//!
//! No test fills a disk up: it takes a file system of its own, and so root.

mod attr;
mod containment;
mod create;
mod data;
mod dirs;
mod inodes;
mod locks;
mod names;
mod ownership;
mod xattrs;

use std::ffi::{CStr, CString};
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use tempfile::TempDir;
use vm_memory::VolatileSlice;

use super::*;
use crate::fs::{
    Caller, Dirent, DirentSink, FileSystem, Handle, OpenFlags, OpenedFolder, WriteHow,
};
use crate::memory::Memory;

const MAPPED: Ownership = Ownership::Mapped { default: (0, 0) };
const SQUASH: Ownership = Ownership::Squash { uid: 7, gid: 8 };

const ROOT_USER: Caller = caller(0, 0);

const fn caller(uid: u32, gid: u32) -> Caller {
    Caller {
        uid,
        gid,
        group: None,
    }
}

/// A shared folder beside a folder that is not.
struct Share {
    folder: TempDir,
    fs: HostFs,
}

impl Deref for Share {
    type Target = HostFs;

    fn deref(&self) -> &HostFs {
        &self.fs
    }
}

impl Share {
    fn new(ownership: Ownership) -> Self {
        Share::with(&HostFsOptions {
            ownership,
            read_only: false,
            max_descriptors: None,
        })
    }

    fn with(options: &HostFsOptions) -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("share")).unwrap();
        fs::create_dir(folder.path().join("outside")).unwrap();
        fs::write(folder.path().join("outside/canary"), "canary").unwrap();
        let fs = HostFs::open(&folder.path().join("share"), options).unwrap();
        Share { folder, fs }
    }

    /// A path of the host's in the shared folder.
    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join("share").join(name)
    }

    fn outside(&self) -> PathBuf {
        self.folder.path().join("outside")
    }

    /// Looks a path up, name by name.
    fn look(&self, path: &str) -> Result<Entry, Errno> {
        let mut at = Node::ROOT;
        let mut entry = Err(Errno::INVAL);
        for part in path.split('/') {
            let part = CString::new(part).unwrap();
            entry = self.lookup(at, name(&part));
            at = entry.clone()?.node;
        }
        entry
    }

    /// A new file of the guest's root user, open for reading and writing.
    fn file(&self, at: &CStr) -> (Node, Handle) {
        let (entry, handle) = self
            .create(ROOT_USER, Node::ROOT, name(at), 0o644, flags(OFlags::RDWR))
            .unwrap();
        (entry.node, handle)
    }

    fn put(&self, (node, handle): (Node, Handle), offset: u64, bytes: &[u8]) -> usize {
        let mut bytes = bytes.to_vec();
        let memory = Memory::new(vec![VolatileSlice::from(&mut bytes[..])]);
        self.write(node, handle, offset, &memory, WriteHow::default())
            .unwrap()
    }

    fn text(&self, (node, handle): (Node, Handle), offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let memory = Memory::new(vec![VolatileSlice::from(&mut bytes[..])]);
        let read = self.read(node, handle, offset, &memory).unwrap();
        bytes.truncate(read);
        bytes
    }

    fn entries(&self, node: Node) -> Vec<Listed> {
        let handle = self.opendir(node).unwrap().handle;
        let mut listing = Listing::default();
        self.readdir(node, handle, 0, &mut listing).unwrap();
        self.releasedir(node, handle).unwrap();
        listing.entries
    }
}

fn name(text: &CStr) -> Name<'_> {
    Name::new(text).unwrap()
}

fn flags(flags: OFlags) -> OpenFlags {
    OpenFlags {
        flags: flags.bits(),
        kill_privileges: false,
    }
}

/// As those of a process without privileges.
const UNPRIVILEGED: WriteHow = WriteHow {
    kill_privileges: true,
    from_cache: false,
};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What a guest got of a folder, with room for so many entries.
struct Listing {
    room: usize,
    entries: Vec<Listed>,
}

#[derive(Clone, Debug)]
struct Listed {
    name: Vec<u8>,
    ino: u64,
    next: u64,
    kind: u8,
    entry: Option<Entry>,
}

impl Default for Listing {
    fn default() -> Self {
        Listing::of(usize::MAX)
    }
}

impl Listing {
    fn of(room: usize) -> Self {
        Listing {
            room,
            entries: Vec::new(),
        }
    }

    fn names(&self) -> Vec<&[u8]> {
        self.entries.iter().map(|listed| &listed.name[..]).collect()
    }
}

impl DirentSink for Listing {
    fn add(&mut self, dirent: Dirent<'_>, entry: Option<&Entry>) -> bool {
        if self.entries.len() == self.room {
            return false;
        }
        self.entries.push(Listed {
            name: dirent.name.to_vec(),
            ino: dirent.ino,
            next: dirent.next,
            kind: dirent.kind,
            entry: entry.cloned(),
        });
        true
    }
}
