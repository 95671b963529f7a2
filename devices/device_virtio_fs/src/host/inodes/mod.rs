//! The inodes that the guest knows: numbers for files of the host, how often
//! each was given, and an `O_PATH` descriptor for those in use.
//!
//! A file keeps its number while the guest knows it, whatever names it has or
//! loses; a number is never used for another file. There are more inodes than
//! descriptors: those not used for longest are closed, and opened again by the
//! name they had in the folder they had it in, if the same file is still there.

mod state;

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::fs::FileType;
use rustix::io::Errno;

use self::state::{Descriptor, Inode, Place, State};
use super::names::{Found, Resolver};
use super::stat::{Identity, Stat};
use crate::fs::{Name, Node};

/// Most inodes that the guest may know: some 300 bytes of the host's each. A
/// guest forgets what its own memory has no room for, at about 1 KiB each.
const MAX_NODES: usize = 4 << 20;

/// Most folders between an inode and one whose descriptor is open, when it is
/// opened again. Deeper ones are `ESTALE`, for which the guest looks them up anew.
const MAX_DEPTH: usize = 2048;

/// An inode in use: its descriptor stays open meanwhile.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) node: Node,
    /// The host's type of the file, which never changes.
    pub(super) kind: FileType,
    fd: Arc<OwnedFd>,
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The table.
pub(super) struct Inodes {
    resolver: Resolver,
    root: Held,
    /// Most descriptors open at a time; those held come on top.
    budget: usize,
    state: Mutex<State>,
}

impl Inodes {
    /// A table that knows the shared folder alone.
    pub(super) fn new(resolver: Resolver, root: OwnedFd, budget: usize) -> Self {
        Inodes {
            resolver,
            root: Held {
                node: Node::ROOT,
                kind: FileType::Directory,
                fd: Arc::new(root),
            },
            budget,
            state: Mutex::new(State::new()),
        }
    }

    pub(super) fn root(&self) -> &Held {
        &self.root
    }

    pub(super) fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// The inode `node`, for use.
    pub(super) fn get(&self, node: Node) -> Result<Held, Errno> {
        if node == Node::ROOT {
            return Ok(self.root.clone());
        }
        let mut state = self.state();
        let kind = state.inodes.get(&node).ok_or(Errno::STALE)?.kind;
        if let Some(fd) = state.touch(node) {
            return Ok(Held { node, kind, fd });
        }
        let way = self.way(&mut state, node)?;
        drop(state);
        let fd = self.walk(way)?;
        Ok(Held { node, kind, fd })
    }

    /// Counts one lookup of the file of `fd`, of which the host tells `stat`. It
    /// was found at `place`, or has no name.
    pub(super) fn enter(
        &self,
        fd: OwnedFd,
        stat: &Stat,
        place: Option<(Node, Name<'_>)>,
    ) -> Result<Node, Errno> {
        let identity = stat.identity();
        let place = place.map(|(folder, name)| Place {
            folder,
            name: name.as_c_str().into(),
        });
        let mut state = self.state();
        if let Some(node) = state.known(identity) {
            state.count(node, fd, place);
            state.shed(self.budget);
            return Ok(node);
        }
        if state.inodes.len() >= MAX_NODES {
            return Err(Errno::NFILE);
        }
        let node = Node(state.next);
        state.next += 1;
        let inode = Inode {
            identity,
            kind: stat.kind(),
            lookups: 1,
            place,
            descriptor: Descriptor::Closed,
            link_owner: None,
        };
        state.inodes.insert(node, inode);
        state.by_key.insert(identity.key, node);
        state.adopt(node, Arc::new(fd));
        state.shed(self.budget);
        Ok(node)
    }

    /// Takes back `count` lookups.
    pub(super) fn forget(&self, node: Node, count: u64) {
        let mut state = self.state();
        let Some(inode) = state.inodes.get_mut(&node) else {
            return;
        };
        inode.lookups = inode.lookups.saturating_sub(count);
        if inode.lookups == 0 {
            state.remove(node);
        }
    }

    /// Forgets all but the root.
    pub(super) fn clear(&self) {
        let mut state = self.state();
        // Numbers go on, so that an answer on its way names nothing new.
        let next = state.next;
        *state = State::new();
        state.next = next;
    }

    /// The inode at `name` in `folder`, if the guest knows it: to be held while
    /// the name goes or moves, because it cannot be opened by it any more.
    pub(super) fn secure(&self, folder: &Held, name: Name<'_>) -> Option<Held> {
        let stat = Stat::of_name(folder.as_fd(), name.as_c_str()).ok()?;
        let node = self.state().known(stat.identity())?;
        self.get(node).ok()
    }

    /// The name is gone. If that was where `held` was found last, its descriptor
    /// is from now on the only way to it.
    pub(super) fn unnamed(&self, held: &Held, folder: Node, name: Name<'_>) {
        let mut state = self.state();
        if let Some(inode) = state.inodes.get_mut(&held.node)
            && inode
                .place
                .as_ref()
                .is_some_and(|place| place.is(folder, name))
        {
            inode.place = None;
            state.adopt(held.node, Arc::clone(&held.fd));
            state.shed(self.budget);
        }
    }

    /// `node` has got the name.
    pub(super) fn named(&self, node: Node, folder: Node, name: Name<'_>) {
        let place = Place {
            folder,
            name: name.as_c_str().into(),
        };
        self.state().place(node, place);
    }

    /// The folder in which `node` was found last.
    pub(super) fn folder_of(&self, node: Node) -> Option<Node> {
        let state = self.state();
        Some(state.inodes.get(&node)?.place.as_ref()?.folder)
    }

    /// User and group of a symbolic link that the guest has set.
    pub(super) fn link_owner(&self, node: Node) -> Option<(u32, u32)> {
        self.state().inodes.get(&node)?.link_owner
    }

    /// Keeps user and group of a symbolic link while the guest knows it.
    pub(super) fn set_link_owner(&self, node: Node, owner: (u32, u32)) {
        if let Some(inode) = self.state().inodes.get_mut(&node) {
            inode.link_owner = Some(owner);
        }
    }

    /// The names from an open folder down to `node`, last one first.
    fn way(&self, state: &mut State, node: Node) -> Result<Way, Errno> {
        let mut steps = Vec::new();
        let mut at = node;
        while at != Node::ROOT {
            if steps.len() == MAX_DEPTH {
                return Err(Errno::STALE);
            }
            if let Some(from) = state.touch(at) {
                return Ok(Way { from, steps });
            }
            let inode = state.inodes.get(&at).ok_or(Errno::STALE)?;
            let place = inode.place.as_ref().ok_or(Errno::STALE)?;
            steps.push((at, place.name.clone(), inode.identity));
            at = place.folder;
        }
        let from = Arc::clone(&self.root.fd);
        Ok(Way { from, steps })
    }

    /// Opens what lies on the way. `ESTALE` if another file is there now.
    fn walk(&self, way: Way) -> Result<Arc<OwnedFd>, Errno> {
        let mut at = way.from;
        for (node, name, identity) in way.steps.into_iter().rev() {
            let found = self.find_again(at.as_fd(), &name)?;
            if found.stat.identity() != identity {
                return Err(Errno::STALE);
            }
            let mut state = self.state();
            at = state.adopt(node, Arc::new(found.fd));
            state.shed(self.budget);
        }
        Ok(at)
    }

    fn find_again(&self, folder: BorrowedFd<'_>, name: &CStr) -> Result<Found, Errno> {
        self.resolver
            .find(folder, name)
            .map_err(|error| match error {
                Errno::NOENT | Errno::NOTDIR | Errno::LOOP => Errno::STALE,
                error => error,
            })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Descriptors that are open but for the root's, and inodes known.
    #[cfg(test)]
    pub(super) fn counts(&self) -> (usize, usize) {
        let state = self.state();
        let open = |inode: &&Inode| !matches!(inode.descriptor, Descriptor::Closed);
        (
            state.inodes.values().filter(open).count(),
            state.inodes.len(),
        )
    }
}

/// How to open an inode again.
struct Way {
    from: Arc<OwnedFd>,
    steps: Vec<(Node, CString, Identity)>,
}
