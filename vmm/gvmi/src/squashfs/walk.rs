//! All entries of a tree, or of a part of it: each folder before what is in
//! it, and in a folder in the order of the names' bytes. Two trees walked next
//! to each other can so be compared without keeping either.

use super::directory::Names;
use super::error::{Damage, TreeError, TreeFault};
use super::inode::{Inode, Kind};
use super::tree::Tree;

/// Most folders in each other.
pub(crate) const MAX_DEPTH: usize = 1024;

/// An entry of a tree.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its path from the root, without a leading slash; empty for the root.
    pub path: Vec<u8>,
    /// What it is.
    pub inode: Inode,
}

/// Iterates over entries. Goes on behind an entry that cannot be read; a
/// folder whose list cannot be read further ends there.
pub struct Walk<'t> {
    tree: &'t Tree<'t>,
    first: Option<Entry>,
    path: Vec<u8>,
    /// From the first entry to the folder that is being read.
    folders: Vec<Folder>,
    /// Folders that were entered.
    entered: Inodes,
    /// Whether the entry that was returned last is the last of `folders`.
    into: bool,
}

struct Folder {
    names: Names,
    path_len: usize,
}

impl Tree<'_> {
    /// All entries, from the root on.
    pub fn walk(&self) -> Result<Walk<'_>, TreeError> {
        let root = Entry {
            path: Vec::new(),
            inode: self.root()?,
        };
        Ok(self.walk_from(root))
    }

    /// `entry` and, if it is a folder, all that is in it.
    pub fn walk_from(&self, entry: Entry) -> Walk<'_> {
        Walk {
            tree: self,
            first: Some(entry),
            path: Vec::new(),
            folders: Vec::new(),
            entered: Inodes::new(self),
            into: false,
        }
    }
}

impl Walk<'_> {
    /// Leaves out what is in the folder that was returned last.
    pub fn skip_folder(&mut self) {
        if std::mem::take(&mut self.into) {
            self.folders.pop();
        }
    }

    fn enter(&mut self, inode: &Inode) -> Result<(), TreeFault> {
        let Kind::Directory(directory) = inode.kind else {
            return Ok(());
        };
        if !self.entered.insert(inode.number) {
            return Err(Damage::Loop(inode.number).into());
        }
        if self.folders.len() == MAX_DEPTH {
            return Err(TreeFault::Limit {
                what: "folders in each other",
                max: MAX_DEPTH as u64,
            });
        }
        self.folders.push(Folder {
            names: Names::new(self.tree, directory),
            path_len: self.path.len(),
        });
        self.into = true;
        Ok(())
    }

    /// The next inode, and its path in `self.path`; `None` at the end.
    fn step(&mut self) -> Result<Option<Inode>, TreeFault> {
        loop {
            let Some(folder) = self.folders.last_mut() else {
                return Ok(None);
            };
            self.path.truncate(folder.path_len);
            let name = match folder.names.next(self.tree) {
                Ok(Some(name)) => name,
                Ok(None) => {
                    self.folders.pop();
                    continue;
                }
                Err(fault) => {
                    self.folders.pop();
                    return Err(fault);
                }
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name.name);
            let inode = self.tree.named(&name)?;
            self.enter(&inode)?;
            return Ok(Some(inode));
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Entry, TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.into = false;
        let stepped = match self.first.take() {
            Some(entry) => {
                self.path = entry.path;
                self.enter(&entry.inode).map(|()| Some(entry.inode))
            }
            None => self.step(),
        };
        let path = &self.path;
        match stepped {
            Ok(inode) => inode.map(|inode| {
                Ok(Entry {
                    path: path.clone(),
                    inode,
                })
            }),
            Err(fault) => {
                let error = TreeError::new(path, fault);
                if matches!(error.fault, TreeFault::Limit { .. }) {
                    // Each further step would say the same.
                    self.folders.clear();
                }
                Some(Err(error))
            }
        }
    }
}

/// A set of inodes of a tree, a bit for each.
pub(crate) struct Inodes(Vec<u64>);

impl Inodes {
    pub(crate) fn new(tree: &Tree<'_>) -> Self {
        Self(vec![0; tree.superblock.inodes as usize / 64 + 1])
    }

    /// Adds a number of an inode that was read; returns whether it is new.
    pub(crate) fn insert(&mut self, number: u32) -> bool {
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }
}
