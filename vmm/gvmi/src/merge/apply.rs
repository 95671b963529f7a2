//! What the entries of a layer do to the tree of the layers below (OCI image
//! specification 1.1, layer.md), as umoci unpacks them: symbolic links on the
//! way to an entry are followed inside of the root, a whiteout removes what
//! this layer has not put there itself, a hard link leads to what its target
//! is at that moment.

use super::tree::{Body, FileId, FolderId, LayerNumber, NodeId, Place, Tree};
use crate::squashfs::Xattr;
use crate::tar::{Attributes, CleanPath, Entry, EntryError, Kind};

/// Symbolic links that may be on the way to one entry (Linux MAXSYMLINKS).
const MAX_LINKS: u32 = 40;
/// Names on the way to one entry, those of links with it.
const MAX_STEPS: u32 = 4096;

const WHITEOUT: &[u8] = b".wh.";
/// What AUFS had for itself, and not for the tree.
const AUFS: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Where AUFS kept hard links whose other names are in other layers: targets
/// of the links of a layer, and gone at its end.
const AUFS_LINKS: &[u8] = b".wh..wh.plnk";

/// Where the way to an entry ends.
struct Way {
    /// The last folder that is there.
    folder: NodeId,
    /// The folders below it that are not.
    missing: Vec<Vec<u8>>,
}

impl Tree {
    /// Does what the entry of number `number` in `layer` says.
    pub(super) fn apply(
        &mut self,
        layer: LayerNumber,
        number: u32,
        entry: &Entry,
    ) -> Result<(), EntryError> {
        let Some((folders, name)) = entry.path.split() else {
            return self.apply_root(layer, entry);
        };
        if self.has_whiteouts() {
            if is_of_aufs(&entry.path) {
                return Ok(());
            }
            if name == OPAQUE {
                if let Some(folder) = self.existing(folders)? {
                    self.clear(folder, layer);
                }
                return Ok(());
            }
            if let Some(name) = name.strip_prefix(WHITEOUT).filter(|_| name != AUFS_LINKS) {
                return self.white_out(layer, folders, name);
            }
        }
        let folder = self.made(folders, &entry.attributes, layer)?;
        let node = self.node_of(folder, name)?;
        if entry.kind == Kind::Folder {
            let id = match self.body(node) {
                Body::Folder(id) => id,
                _ => self.make_folder(node, &entry.attributes),
            };
            self.describe(id, entry)?;
        } else {
            self.remove(node);
            let file = self.file(
                Place {
                    layer,
                    entry: number,
                },
                &entry.kind,
            )?;
            self.set_file(node, file);
        }
        self.touch(node, layer);
        Ok(())
    }

    /// Takes out what is in a layer for its own links only.
    pub(super) fn end_layer(&mut self) {
        let links = self.find(Self::ROOT, AUFS_LINKS);
        if let Some(links) = links.filter(|_| self.has_whiteouts()) {
            self.remove(links);
        }
    }

    fn apply_root(&mut self, layer: LayerNumber, entry: &Entry) -> Result<(), EntryError> {
        let Body::Folder(root) = self.body(Self::ROOT) else {
            unreachable!("the root is never removed");
        };
        if entry.kind != Kind::Folder {
            return Err(EntryError::Root);
        }
        self.touch(Self::ROOT, layer);
        self.describe(root, entry)
    }

    fn white_out(
        &mut self,
        layer: LayerNumber,
        folders: &[u8],
        name: &[u8],
    ) -> Result<(), EntryError> {
        if matches!(name, b"" | b"." | b"..") {
            return Err(EntryError::Whiteout);
        }
        let folder = self.existing(folders)?;
        let Some(node) = folder.and_then(|folder| self.find(folder, name)) else {
            return Ok(());
        };
        if self.is_touched(node, layer) {
            self.clear(node, layer);
        } else {
            self.remove(node);
        }
        Ok(())
    }

    /// Removes from a folder, and those below, what `layer` has not put there.
    fn clear(&mut self, node: NodeId, layer: LayerNumber) {
        let mut folders = vec![node];
        while let Some(node) = folders.pop() {
            let Body::Folder(id) = self.body(node) else {
                continue;
            };
            // Once is enough: what came since is the layer's own.
            if self.folder(id).cleared == layer {
                continue;
            }
            self.folder_mut(id).cleared = layer;
            for name in self.take_names(id) {
                if self.is_touched(name, layer) {
                    self.put_back(id, name);
                    folders.push(name);
                } else {
                    self.remove(name);
                }
            }
        }
    }

    fn describe(&mut self, id: FolderId, entry: &Entry) -> Result<(), EntryError> {
        let xattrs = pack(&entry.xattrs);
        let xattrs = match xattrs.is_empty() {
            true => None,
            false => Some(self.add_xattrs(&xattrs)?),
        };
        let folder = self.folder_mut(id);
        folder.uid = entry.attributes.uid;
        folder.gid = entry.attributes.gid;
        folder.mtime = entry.attributes.mtime;
        folder.mode = entry.attributes.mode;
        folder.xattrs = xattrs;
        Ok(())
    }

    /// The inode of an entry that is no folder: a new one, or a hard link's.
    fn file(&mut self, place: Place, kind: &Kind) -> Result<FileId, EntryError> {
        match kind {
            Kind::HardLink(path) => self.linked(path),
            Kind::Symlink(target) => {
                let target = self.add_text(target)?;
                Ok(self.add_file(place, Some(target)))
            }
            _ => Ok(self.add_file(place, None)),
        }
    }

    /// What a hard link leads to. As by link(2), that may be a symbolic link.
    fn linked(&self, path: &CleanPath) -> Result<FileId, EntryError> {
        let target = || path.as_bytes().to_vec();
        let node = match path.split() {
            Some((folders, name)) => self
                .existing(folders)?
                .and_then(|folder| self.find(folder, name)),
            None => Some(Self::ROOT),
        };
        match node.map(|node| self.body(node)) {
            Some(Body::File(file)) => Ok(file),
            Some(Body::Folder(_)) => Err(EntryError::LinkToFolder { target: target() }),
            Some(Body::Nothing) | None => Err(EntryError::Nowhere { target: target() }),
        }
    }

    /// The folder at `path`; `None` when there is none.
    fn existing(&self, path: &[u8]) -> Result<Option<NodeId>, EntryError> {
        match self.walk(path) {
            Ok(way) => Ok(way.missing.is_empty().then_some(way.folder)),
            Err(EntryError::NotAFolder { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The folder at `path`; what is missing of it belongs to the root user
    /// and is as old as what is put in it.
    fn made(
        &mut self,
        path: &[u8],
        of: &Attributes,
        layer: LayerNumber,
    ) -> Result<NodeId, EntryError> {
        let way = self.walk(path)?;
        let implied = Attributes {
            mtime: of.mtime,
            ..Attributes::default()
        };
        let mut folder = way.folder;
        for name in way.missing {
            folder = self.node_of(folder, &name)?;
            self.make_folder(folder, &implied);
            self.touch(folder, layer);
        }
        Ok(folder)
    }

    /// Goes down `path` from the root, which no link leads out of. As in
    /// umoci, `..` takes back a folder that is missing.
    fn walk(&self, path: &[u8]) -> Result<Way, EntryError> {
        let mut way = Way {
            folder: Self::ROOT,
            missing: Vec::new(),
        };
        // What is still to be gone, the next piece last.
        let mut pieces = vec![path];
        let (mut links, mut steps) = (0, 0);
        while let Some(piece) = pieces.pop() {
            let end = piece.iter().position(|byte| *byte == b'/');
            let (name, rest) = match end {
                Some(end) => (&piece[..end], Some(&piece[end + 1..])),
                None => (piece, None),
            };
            pieces.extend(rest);
            steps += 1;
            if steps > MAX_STEPS {
                return Err(EntryError::Loop);
            }
            match name {
                b"" | b"." => {}
                b".." => {
                    if way.missing.pop().is_none() {
                        way.folder = self.parent(way.folder);
                    }
                }
                _ if !way.missing.is_empty() => way.missing.push(name.to_vec()),
                name => {
                    let Some(node) = self.find(way.folder, name) else {
                        way.missing.push(name.to_vec());
                        continue;
                    };
                    let Body::File(file) = self.body(node) else {
                        way.folder = node;
                        continue;
                    };
                    let Some(target) = self.target(file) else {
                        let path = self.path(node);
                        return Err(EntryError::NotAFolder { path });
                    };
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(EntryError::Loop);
                    }
                    let target = self.text(target);
                    if target.starts_with(b"/") {
                        way.folder = Self::ROOT;
                    }
                    pieces.push(target);
                }
            }
        }
        Ok(way)
    }
}

fn is_of_aufs(path: &CleanPath) -> bool {
    let mut names = path.as_bytes().split(|byte| *byte == b'/').peekable();
    if names.peek() == Some(&AUFS_LINKS) {
        return false;
    }
    names.any(|name| name.starts_with(AUFS) && name != OPAQUE)
}

/// Extended attributes in one text: each name and value behind its length.
fn pack(xattrs: &[Xattr]) -> Vec<u8> {
    let mut packed = Vec::new();
    for text in xattrs.iter().flat_map(|xattr| [&xattr.name, &xattr.value]) {
        packed.extend_from_slice(&(text.len() as u32).to_le_bytes());
        packed.extend_from_slice(text);
    }
    packed
}

/// The attributes that [`pack`] made a text of.
pub(super) fn unpack(mut packed: &[u8]) -> Vec<Xattr> {
    let mut text = || {
        let (len, rest) = packed.split_first_chunk()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        packed = rest;
        Some(text.to_vec())
    };
    let mut xattrs = Vec::new();
    while let (Some(name), Some(value)) = (text(), text()) {
        xattrs.push(Xattr { name, value });
    }
    xattrs
}
