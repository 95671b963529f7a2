//! What the table of inodes holds, under its one lock: nothing here waits for
//! the host but to close descriptors.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::FileType;

use crate::fs::{Name, Node};
use crate::host::stat::{Identity, Key};

/// The table.
pub(super) struct State {
    pub(super) inodes: HashMap<Node, Inode>,
    pub(super) by_key: HashMap<Key, Node>,
    /// Inodes whose descriptor may be closed, by when it was last used.
    recent: BTreeMap<u64, Node>,
    /// Inodes whose descriptor is the only way to them.
    pinned: usize,
    ticks: u64,
    pub(super) next: u64,
}

/// What is known of an inode.
pub(super) struct Inode {
    pub(super) identity: Identity,
    pub(super) kind: FileType,
    pub(super) lookups: u64,
    pub(super) place: Option<Place>,
    pub(super) descriptor: Descriptor,
    /// User and group of a symbolic link, where the host cannot keep them.
    pub(super) link_owner: Option<(u32, u32)>,
}

/// Where an inode can be found again.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) folder: Node,
    pub(super) name: CString,
}

/// The way to a file.
pub(super) enum Descriptor {
    Closed,
    /// In [`State::recent`] under `tick`.
    Open {
        fd: Arc<OwnedFd>,
        tick: u64,
    },
    /// Open, and without a name to open it by again.
    Pinned(Arc<OwnedFd>),
}

impl Place {
    pub(super) fn is(&self, folder: Node, name: Name<'_>) -> bool {
        self.folder == folder && self.name.as_c_str() == name.as_c_str()
    }
}

impl State {
    pub(super) fn new() -> Self {
        State {
            inodes: HashMap::new(),
            by_key: HashMap::new(),
            recent: BTreeMap::new(),
            pinned: 0,
            ticks: 0,
            next: Node::ROOT.0 + 1,
        }
    }

    /// The inode of that file. One with the same number that died while its
    /// descriptor was closed is told apart by its birth, and is lost.
    pub(super) fn known(&mut self, identity: Identity) -> Option<Node> {
        let node = *self.by_key.get(&identity.key)?;
        let inode = self.inodes.get_mut(&node)?;
        // An open descriptor keeps the file, and so its number.
        if matches!(inode.descriptor, Descriptor::Closed) && inode.identity != identity {
            inode.place = None;
            self.by_key.remove(&identity.key);
            return None;
        }
        Some(node)
    }

    /// One more lookup of a known inode.
    pub(super) fn count(&mut self, node: Node, fd: OwnedFd, place: Option<Place>) {
        if let Some(inode) = self.inodes.get_mut(&node) {
            inode.lookups = inode.lookups.saturating_add(1);
        }
        if let Some(place) = place {
            self.place(node, place);
        }
        if self.touch(node).is_none() {
            self.adopt(node, Arc::new(fd));
        }
    }

    /// Remembers where `node` is, so that its descriptor may be closed.
    pub(super) fn place(&mut self, node: Node, place: Place) {
        let Some(inode) = self.inodes.get_mut(&node) else {
            return;
        };
        inode.place = Some(place);
        if let Descriptor::Pinned(fd) = &inode.descriptor {
            let fd = Arc::clone(fd);
            inode.descriptor = Descriptor::Closed;
            self.pinned -= 1;
            self.adopt(node, fd);
        }
    }

    /// The open descriptor of `node`, now the last one used.
    pub(super) fn touch(&mut self, node: Node) -> Option<Arc<OwnedFd>> {
        match &mut self.inodes.get_mut(&node)?.descriptor {
            Descriptor::Closed => None,
            Descriptor::Pinned(fd) => Some(Arc::clone(fd)),
            Descriptor::Open { fd, tick } => {
                self.recent.remove(tick);
                self.ticks += 1;
                *tick = self.ticks;
                self.recent.insert(self.ticks, node);
                Some(Arc::clone(fd))
            }
        }
    }

    /// Gives `node` a descriptor, unless it has got one meanwhile or is gone.
    pub(super) fn adopt(&mut self, node: Node, fd: Arc<OwnedFd>) -> Arc<OwnedFd> {
        if let Some(open) = self.touch(node) {
            return open;
        }
        if let Some(inode) = self.inodes.get_mut(&node) {
            self.ticks += 1;
            inode.descriptor = Descriptor::Open {
                fd: Arc::clone(&fd),
                tick: self.ticks,
            };
            self.recent.insert(self.ticks, node);
        }
        fd
    }

    /// Closes the descriptors that were not used for longest, those of inodes
    /// without a name last: while they are within half of the budget.
    pub(super) fn shed(&mut self, budget: usize) {
        while self.recent.len() + self.pinned > budget {
            let Some((_, node)) = self.recent.pop_first() else {
                return;
            };
            let Some(inode) = self.inodes.get_mut(&node) else {
                continue;
            };
            let descriptor = std::mem::replace(&mut inode.descriptor, Descriptor::Closed);
            if let Descriptor::Open { fd, .. } = descriptor
                && inode.place.is_none()
                && self.pinned < budget / 2
            {
                inode.descriptor = Descriptor::Pinned(fd);
                self.pinned += 1;
            }
        }
    }

    pub(super) fn remove(&mut self, node: Node) {
        let Some(inode) = self.inodes.remove(&node) else {
            return;
        };
        match inode.descriptor {
            Descriptor::Closed => {}
            Descriptor::Open { tick, .. } => drop(self.recent.remove(&tick)),
            Descriptor::Pinned(_) => self.pinned -= 1,
        }
        if self.by_key.get(&inode.identity.key) == Some(&node) {
            self.by_key.remove(&inode.identity.key);
        }
    }
}
