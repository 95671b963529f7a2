//! The tree that layers make, as compact as it can be: names in one arena,
//! numbers in place of pointers. It knows folders and the names in them; what
//! a layer does to them is decided beside.
//!
//! A name takes 24 bytes, its text and 4, and 5 to 10 in the table that finds
//! it; a folder takes 28 more, any other inode 12. With names of common length
//! that is below 80 bytes for each entry.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;

use hashbrown::HashTable;

use super::arena::{Arena, Text};
use super::{Rules, Whiteouts};
use crate::limits::Limits;
use crate::squashfs::MAX_DEPTH;
use crate::tar::{Attributes, EntryError, MAX_PATH};

/// A name in a folder, whether something is there or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NodeId(u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FolderId(u32);

/// Something that is no folder. Hard links share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId(u32);

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Nothing; it was removed.
    Nothing,
    Folder(FolderId),
    File(FileId),
}

/// A layer by its place, from 1. Nothing was done in 0.
pub(super) type LayerNumber = u16;

#[derive(Debug)]
struct Node {
    parent: NodeId,
    name: Text,
    body: Body,
    /// The next one in the list of its folder, if it is in there at all.
    next: Option<Next>,
    /// Bytes in its path.
    path_len: u16,
    /// The last layer that put something here or below.
    touched: LayerNumber,
}

/// A node in a list, or the list's end. The root is in none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Next(NonZeroU32);

impl Next {
    /// No node has this number.
    const END: Self = Self(NonZeroU32::MAX);

    fn new(node: NodeId) -> Self {
        Self(NonZeroU32::new(node.0).expect("the root is in no folder"))
    }

    fn node(self) -> Option<NodeId> {
        (self != Self::END).then_some(NodeId(self.0.get()))
    }
}

#[derive(Debug)]
pub(super) struct Folder {
    /// The first of the names in it, those of which are nothing among them.
    first: Next,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: u32,
    pub(super) mode: u16,
    /// The last layer that removed from it all that is of lower ones.
    pub(super) cleared: LayerNumber,
    /// Its extended attributes, as the owner of the tree spells them.
    pub(super) xattrs: Option<Text>,
}

impl Folder {
    pub(super) fn attributes(&self) -> Attributes {
        Attributes {
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
        }
    }
}

/// Where to find a file again: the entry of this number in this layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) layer: LayerNumber,
    pub(super) entry: u32,
}

#[derive(Debug)]
struct File {
    place: Place,
    /// Where it points to, if it is a symbolic link.
    target: Option<Text>,
}

pub(super) struct Tree {
    nodes: Vec<Node>,
    folders: Vec<Folder>,
    free_folders: Vec<FolderId>,
    files: Vec<File>,
    texts: Arena,
    xattrs: Arena,
    table: HashTable<NodeId>,
    hasher: RandomState,
    rules: Rules,
}

impl Tree {
    pub(super) const ROOT: NodeId = NodeId(0);

    pub(super) fn new(rules: &Rules) -> Self {
        let mut tree = Self {
            nodes: Vec::new(),
            folders: Vec::new(),
            free_folders: Vec::new(),
            files: Vec::new(),
            texts: Arena::new(rules.limits.max_names()),
            xattrs: Arena::new(rules.limits.max_xattrs()),
            table: HashTable::new(),
            hasher: RandomState::new(),
            rules: *rules,
        };
        let name = tree.texts.add(b"").expect("there is room for nothing");
        tree.nodes.push(Node {
            parent: Self::ROOT,
            name,
            body: Body::Nothing,
            next: None,
            path_len: 0,
            touched: 0,
        });
        tree.make_folder(Self::ROOT, &Attributes::default());
        tree
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.rules.limits
    }

    pub(super) fn has_whiteouts(&self) -> bool {
        self.rules.whiteouts == Whiteouts::Remove
    }

    pub(super) fn body(&self, node: NodeId) -> Body {
        self.node(node).body
    }

    pub(super) fn parent(&self, node: NodeId) -> NodeId {
        self.node(node).parent
    }

    /// What `name` in `folder` stands for, if it does for anything.
    pub(super) fn find(&self, folder: NodeId, name: &[u8]) -> Option<NodeId> {
        let node = self.find_any(folder, name)?;
        (self.body(node) != Body::Nothing).then_some(node)
    }

    fn find_any(&self, folder: NodeId, name: &[u8]) -> Option<NodeId> {
        let is_it = |id: &NodeId| {
            let node = self.node(*id);
            node.parent == folder && self.texts.get(node.name) == name
        };
        let hash = self.hasher.hash_one((folder, name));
        self.table.find(hash, is_it).copied()
    }

    /// The node of `name` in `folder`, made if there is none.
    pub(super) fn node_of(&mut self, folder: NodeId, name: &[u8]) -> Result<NodeId, EntryError> {
        let id = match self.find_any(folder, name) {
            Some(id) => id,
            None => self.make_node(folder, name)?,
        };
        if self.node(id).next.is_none() {
            let Body::Folder(folder) = self.body(folder) else {
                unreachable!("names are in folders");
            };
            self.put_back(folder, id);
        }
        Ok(id)
    }

    fn make_node(&mut self, folder: NodeId, name: &[u8]) -> Result<NodeId, EntryError> {
        let max = self.rules.limits.max_entries;
        // The root is no entry.
        if self.nodes.len() > max as usize {
            return Err(EntryError::TooMany { max });
        }
        let parent_len = usize::from(self.node(folder).path_len);
        let path_len = match parent_len {
            0 => name.len(),
            len => len + 1 + name.len(),
        };
        if path_len > MAX_PATH {
            return Err(EntryError::LongPath);
        }
        // A path of so many names has that many bytes, with its slashes.
        if path_len >= 2 * MAX_DEPTH - 1 && self.depth(folder) + 1 >= MAX_DEPTH {
            let max = MAX_DEPTH - 1;
            return Err(EntryError::Deep { max });
        }
        let id = NodeId(self.nodes.len() as u32);
        let node = Node {
            parent: folder,
            name: self.add_text(name)?,
            body: Body::Nothing,
            next: None,
            path_len: path_len as u16,
            touched: 0,
        };
        self.nodes.push(node);
        let hash = self.hasher.hash_one((folder, name));
        let Self {
            table,
            nodes,
            texts,
            hasher,
            ..
        } = self;
        table.insert_unique(hash, id, |id| {
            let node = &nodes[id.0 as usize];
            hasher.hash_one((node.parent, texts.get(node.name)))
        });
        Ok(id)
    }

    /// Keeps a text that belongs to an entry.
    pub(super) fn add_text(&mut self, text: &[u8]) -> Result<Text, EntryError> {
        let max = self.rules.limits.max_names();
        self.texts.add(text).ok_or(EntryError::Names { max })
    }

    pub(super) fn text(&self, text: Text) -> &[u8] {
        self.texts.get(text)
    }

    /// Keeps what belongs into [`Folder::xattrs`].
    pub(super) fn add_xattrs(&mut self, packed: &[u8]) -> Result<Text, EntryError> {
        let max = self.rules.limits.max_xattrs();
        self.xattrs
            .add(packed)
            .ok_or(EntryError::FolderXattrs { max })
    }

    pub(super) fn xattrs(&self, packed: Text) -> &[u8] {
        self.xattrs.get(packed)
    }

    /// Makes `node`, which is nothing, an empty folder.
    pub(super) fn make_folder(&mut self, node: NodeId, attributes: &Attributes) -> FolderId {
        let folder = Folder {
            first: Next::END,
            uid: attributes.uid,
            gid: attributes.gid,
            mtime: attributes.mtime,
            mode: attributes.mode,
            cleared: 0,
            xattrs: None,
        };
        let id = match self.free_folders.pop() {
            Some(id) => {
                *self.folder_mut(id) = folder;
                id
            }
            None => {
                self.folders.push(folder);
                FolderId(self.folders.len() as u32 - 1)
            }
        };
        self.node_mut(node).body = Body::Folder(id);
        id
    }

    /// Keeps a file, which has no name yet.
    pub(super) fn add_file(&mut self, place: Place, target: Option<Text>) -> FileId {
        self.files.push(File { place, target });
        FileId(self.files.len() as u32 - 1)
    }

    /// Makes `node`, which is nothing, a name of `file`.
    pub(super) fn set_file(&mut self, node: NodeId, file: FileId) {
        self.node_mut(node).body = Body::File(file);
    }

    pub(super) fn place(&self, file: FileId) -> Place {
        self.files[file.0 as usize].place
    }

    /// Where a symbolic link points to; `None` if it is none.
    pub(super) fn target(&self, file: FileId) -> Option<Text> {
        self.files[file.0 as usize].target
    }

    pub(super) fn folder(&self, id: FolderId) -> &Folder {
        &self.folders[id.0 as usize]
    }

    pub(super) fn folder_mut(&mut self, id: FolderId) -> &mut Folder {
        &mut self.folders[id.0 as usize]
    }

    /// Marks `node` and all folders above as touched by `layer`.
    pub(super) fn touch(&mut self, mut node: NodeId, layer: LayerNumber) {
        // What is touched is so up to the root.
        while self.node(node).touched != layer {
            self.node_mut(node).touched = layer;
            node = self.parent(node);
        }
    }

    pub(super) fn is_touched(&self, node: NodeId, layer: LayerNumber) -> bool {
        self.node(node).touched == layer
    }

    /// Removes what is at `node`, and all below.
    pub(super) fn remove(&mut self, node: NodeId) {
        let mut removed = vec![node];
        while let Some(node) = removed.pop() {
            let body = std::mem::replace(&mut self.node_mut(node).body, Body::Nothing);
            if let Body::Folder(id) = body {
                removed.extend(self.take_names(id));
                self.free_folders.push(id);
            }
        }
    }

    /// Takes all names out of a folder and returns those that stand for
    /// something. To keep one, ask for it by [`Tree::node_of`] again.
    pub(super) fn take_names(&mut self, folder: FolderId) -> Vec<NodeId> {
        let mut names = Vec::new();
        let mut next = std::mem::replace(&mut self.folder_mut(folder).first, Next::END);
        while let Some(id) = next.node() {
            let node = self.node_mut(id);
            next = node.next.take().unwrap_or(Next::END);
            if node.body != Body::Nothing {
                names.push(id);
            }
        }
        names
    }

    /// Puts a name into the list of its folder, where it is not.
    pub(super) fn put_back(&mut self, folder: FolderId, node: NodeId) {
        let next = std::mem::replace(&mut self.folder_mut(folder).first, Next::new(node));
        self.node_mut(node).next = Some(next);
    }

    /// All nodes that stand for something, but the root, each folder before
    /// what is in it, in an order that only the layers decide.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        (1..self.nodes.len() as u32)
            .map(NodeId)
            .filter(|id| self.body(*id) != Body::Nothing)
    }

    /// The path of `node` from the root.
    pub(super) fn path(&self, mut node: NodeId) -> Vec<u8> {
        let mut end = usize::from(self.node(node).path_len);
        let mut path = vec![b'/'; end];
        while node != Self::ROOT {
            let name = self.texts.get(self.node(node).name);
            path[end - name.len()..end].copy_from_slice(name);
            node = self.parent(node);
            end = usize::from(self.node(node).path_len);
        }
        path
    }

    /// Names in the path of `node`.
    fn depth(&self, mut node: NodeId) -> usize {
        let mut depth = 0;
        while node != Self::ROOT {
            depth += 1;
            node = self.parent(node);
        }
        depth
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    /// Bytes of memory that it takes. What a vector has reserved counts only
    /// where it is written to.
    #[cfg(test)]
    pub(super) fn len_in_bytes(&self) -> usize {
        self.nodes.len() * size_of::<Node>()
            + self.folders.len() * size_of::<Folder>()
            + self.files.len() * size_of::<File>()
            + self.table.allocation_size()
            + self.texts.len_in_bytes()
            + self.xattrs.len_in_bytes()
    }
}
