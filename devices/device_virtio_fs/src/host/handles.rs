//! What the guest has open: files and folders by number, within a limit. A
//! number is never used twice.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::dirs::Cursor;
use super::stat::Key;
use crate::fs::{Handle, Node, OpenedFolder};

/// An open regular file.
pub(super) struct OpenFile {
    node: Node,
    fd: OwnedFd,
    /// It was opened with `O_APPEND`.
    pub(super) appends: bool,
    /// The count of `HostFs::capabilities` for which its own was taken away; none at first.
    capability_gone: AtomicU64,
}

impl OpenFile {
    /// Whether it may have got a capability since [`OpenFile::capability_is_gone`] was called
    /// with this count.
    pub(super) fn may_have_capability(&self, count: u64) -> bool {
        self.capability_gone.load(Ordering::Relaxed) != count
    }

    pub(super) fn capability_is_gone(&self, count: u64) {
        self.capability_gone.store(count, Ordering::Relaxed);
    }
}

/// An open folder, and how far it has been read.
pub(super) struct OpenFolder {
    pub(super) node: Node,
    pub(super) key: Key,
    fd: OwnedFd,
    pub(super) cursor: Mutex<Cursor>,
    /// [`OpenedFolder::listed`].
    listed: bool,
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsFd for OpenFolder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The table. What a call uses stays open until it returns, whoever closes it.
pub(super) struct Handles {
    /// Most of them at a time, give or take the calls that are under way.
    limit: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: HashMap<Handle, Open>,
    next: u64,
    /// Folders with an open handle that is [`OpenedFolder::listed`].
    listed: HashSet<Node>,
}

enum Open {
    File(Arc<OpenFile>),
    Folder(Arc<OpenFolder>),
}

impl Handles {
    pub(super) fn new(limit: usize) -> Self {
        Handles {
            limit,
            state: Mutex::default(),
        }
    }

    /// `ENFILE` if there is no room for one more: to be asked before something is made.
    pub(super) fn room(&self) -> Result<(), Errno> {
        if self.state().open.len() < self.limit {
            Ok(())
        } else {
            Err(Errno::NFILE)
        }
    }

    pub(super) fn add_file(&self, node: Node, fd: OwnedFd, flags: OFlags) -> Handle {
        let appends = flags.contains(OFlags::APPEND);
        let file = OpenFile {
            node,
            fd,
            appends,
            capability_gone: AtomicU64::new(u64::MAX),
        };
        self.state().add(Open::File(Arc::new(file)))
    }

    pub(super) fn add_folder(&self, node: Node, fd: OwnedFd, key: Key) -> OpenedFolder {
        let mut state = self.state();
        let listed = state.listed.insert(node);
        let handle = state.add(Open::Folder(Arc::new(OpenFolder {
            node,
            key,
            fd,
            cursor: Mutex::default(),
            listed,
        })));
        OpenedFolder { handle, listed }
    }

    /// The open file `handle` of `node`, `EBADF` if it is none.
    pub(super) fn file(&self, node: Node, handle: Handle) -> Result<Arc<OpenFile>, Errno> {
        match self.state().open.get(&handle) {
            Some(Open::File(file)) if file.node == node => Ok(Arc::clone(file)),
            _ => Err(Errno::BADF),
        }
    }

    /// The open folder `handle` of `node`, `EBADF` if it is none.
    pub(super) fn folder(&self, node: Node, handle: Handle) -> Result<Arc<OpenFolder>, Errno> {
        match self.state().open.get(&handle) {
            Some(Open::Folder(folder)) if folder.node == node => Ok(Arc::clone(folder)),
            _ => Err(Errno::BADF),
        }
    }

    pub(super) fn close_file(&self, node: Node, handle: Handle) -> Result<(), Errno> {
        self.file(node, handle)?;
        self.state().open.remove(&handle);
        Ok(())
    }

    pub(super) fn close_folder(&self, node: Node, handle: Handle) -> Result<(), Errno> {
        self.folder(node, handle)?;
        let mut state = self.state();
        let closed = state.open.remove(&handle);
        if matches!(closed, Some(Open::Folder(folder)) if folder.listed) {
            state.listed.remove(&node);
        }
        Ok(())
    }

    /// Closes everything.
    pub(super) fn clear(&self) {
        let mut state = self.state();
        state.open.clear();
        state.listed.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}

impl State {
    fn add(&mut self, open: Open) -> Handle {
        let handle = Handle(self.next);
        self.next += 1;
        self.open.insert(handle, open);
        handle
    }
}
