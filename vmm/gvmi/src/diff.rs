//! What differs between two trees: both are walked side by side, in the one
//! order that walks have, so that neither is kept in memory. Content is read
//! only where the lengths are equal.

use std::cmp::Ordering;
use std::fmt;

use thiserror::Error;

use crate::squashfs::{Entry, FileReader, Inode, Kind, Piece, Tree, TreeError, TreeFault, Walk};

/// A difference.
#[derive(Clone, Debug)]
pub enum Change {
    /// Only the new tree has the entry.
    Added(Entry),
    /// Only the old tree has the entry.
    Removed(Entry),
    /// Both have it, and not the same.
    Changed {
        /// As it was.
        old: Entry,
        /// As it is.
        new: Entry,
        /// In what they differ, at least in one thing.
        aspects: Vec<Aspect>,
    },
}

/// In what an entry differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// One is a folder, say, and the other a file. What only one of them can
    /// have is not compared.
    Kind,
    /// Permissions.
    Mode,
    /// Owner or group.
    Owner,
    /// Time of the last change.
    Mtime,
    /// Number of hard links, but for folders.
    Links,
    /// A file's length; its content differs then too.
    Size,
    /// A symbolic link's target.
    Target,
    /// A device's numbers.
    Device,
    /// Extended attributes.
    Xattrs,
    /// Content of a file.
    Content,
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kind => "type",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Mtime => "time",
            Self::Links => "links",
            Self::Size => "size",
            Self::Target => "target",
            Self::Device => "device",
            Self::Xattrs => "attributes",
            Self::Content => "content",
        })
    }
}

/// One of the trees cannot be read.
#[derive(Debug, Error)]
pub enum DiffError {
    /// The old one, or the first.
    #[error("in the first image, {0}")]
    Old(TreeError),
    /// The new one, or the second.
    #[error("in the second image, {0}")]
    New(TreeError),
}

/// Iterates over the differences of two trees, in the order of a walk. Ends
/// at the first error, behind which it could not tell what is missing.
pub struct Diff<'t> {
    old: Side<'t>,
    new: Side<'t>,
    mtime: bool,
    ended: bool,
}

struct Side<'t> {
    tree: &'t Tree<'t>,
    walk: Walk<'t>,
    /// Read, and not compared yet.
    next: Option<Entry>,
}

impl<'t> Side<'t> {
    fn new(tree: &'t Tree<'t>) -> Result<Self, TreeError> {
        Ok(Self {
            tree,
            walk: tree.walk()?,
            next: None,
        })
    }

    fn fill(&mut self) -> Result<(), TreeError> {
        if self.next.is_none() {
            self.next = self.walk.next().transpose()?;
        }
        Ok(())
    }
}

impl Tree<'_> {
    /// What one has to change in this tree to get `new`; times count if
    /// `mtime` says so.
    pub fn diff<'d>(&'d self, new: &'d Tree<'d>, mtime: bool) -> Result<Diff<'d>, DiffError> {
        Ok(Diff {
            old: Side::new(self).map_err(DiffError::Old)?,
            new: Side::new(new).map_err(DiffError::New)?,
            mtime,
            ended: false,
        })
    }
}

impl Diff<'_> {
    fn step(&mut self) -> Result<Option<Change>, DiffError> {
        loop {
            self.old.fill().map_err(DiffError::Old)?;
            self.new.fill().map_err(DiffError::New)?;
            let order = match (&self.old.next, &self.new.next) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => walk_order(&old.path, &new.path),
            };
            // The lesser path is in one tree only.
            let old = self.old.next.take_if(|_| order.is_le());
            let new = self.new.next.take_if(|_| order.is_ge());
            match (old, new) {
                (Some(old), Some(new)) => {
                    let aspects = self.aspects(&old, &new)?;
                    if !aspects.is_empty() {
                        return Ok(Some(Change::Changed { old, new, aspects }));
                    }
                }
                (Some(old), None) => return Ok(Some(Change::Removed(old))),
                (None, new) => return Ok(new.map(Change::Added)),
            }
        }
    }

    fn aspects(&self, old: &Entry, new: &Entry) -> Result<Vec<Aspect>, DiffError> {
        let (a, b) = (&old.inode, &new.inode);
        let is_dir = a.is_dir();
        let mut found = Vec::new();
        let mut check = |differs, aspect| {
            if differs {
                found.push(aspect);
            }
        };
        let same_kind = a.kind.letter() == b.kind.letter();
        check(!same_kind, Aspect::Kind);
        check(a.mode != b.mode, Aspect::Mode);
        check((a.uid, a.gid) != (b.uid, b.gid), Aspect::Owner);
        check(self.mtime && a.mtime != b.mtime, Aspect::Mtime);
        check(same_kind && !is_dir && a.links != b.links, Aspect::Links);
        match (&a.kind, &b.kind) {
            (Kind::Symlink(a), Kind::Symlink(b)) => check(a != b, Aspect::Target),
            (Kind::Block(a), Kind::Block(b)) | (Kind::Char(a), Kind::Char(b)) => {
                check(a != b, Aspect::Device);
            }
            (Kind::File(a), Kind::File(b)) => check(a.size() != b.size(), Aspect::Size),
            _ => {}
        }
        let old_error = |fault| DiffError::Old(TreeError::new(&old.path, fault));
        let new_error = |fault| DiffError::New(TreeError::new(&new.path, fault));
        let xattrs = self.old.tree.xattrs(a).map_err(old_error)?;
        check(
            xattrs != self.new.tree.xattrs(b).map_err(new_error)?,
            Aspect::Xattrs,
        );
        if may_be_equal(a, b) {
            let mut old = self.old.tree.file(a).map_err(old_error)?;
            let mut new = self.new.tree.file(b).map_err(new_error)?;
            let equal = same_content(&mut old, &mut new, old_error, new_error)?;
            check(!equal, Aspect::Content);
        }
        Ok(found)
    }
}

/// Whether both are files of one length.
fn may_be_equal(a: &Inode, b: &Inode) -> bool {
    matches!((&a.kind, &b.kind), (Kind::File(a), Kind::File(b)) if a.size() == b.size())
}

/// Compares two files of one length.
fn same_content(
    old: &mut FileReader<'_>,
    new: &mut FileReader<'_>,
    old_error: impl Fn(TreeFault) -> DiffError,
    new_error: impl Fn(TreeFault) -> DiffError,
) -> Result<bool, DiffError> {
    loop {
        let a = old.piece().map_err(&old_error)?;
        let b = new.piece().map_err(&new_error)?;
        let (Some(a), Some(b)) = (a, b) else {
            return Ok(true);
        };
        let len = a.len().min(b.len());
        // A piece of bytes is memory, so its length is one of memory.
        let start = len as usize;
        let equal = match (a, b) {
            (Piece::Data(a), Piece::Data(b)) => a[..start] == b[..start],
            (Piece::Data(data), Piece::Hole(_)) | (Piece::Hole(_), Piece::Data(data)) => {
                data[..start].iter().all(|byte| *byte == 0)
            }
            (Piece::Hole(_), Piece::Hole(_)) => true,
        };
        if !equal {
            return Ok(false);
        }
        old.consume(len);
        new.consume(len);
    }
}

/// The order of a walk: a folder's entries come directly behind it.
fn walk_order(a: &[u8], b: &[u8]) -> Ordering {
    let is_slash = |byte: &u8| *byte == b'/';
    a.split(is_slash).cmp(b.split(is_slash))
}

impl Iterator for Diff<'_> {
    type Item = Result<Change, DiffError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.step();
        self.ended = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_folder_comes_before_what_sorts_behind_its_name() {
        let walked: [&[u8]; 6] = [b"", b"a", b"a/b", b"a/b/c", b"a-b", b"a0"];
        assert!(walked.is_sorted_by(|a, b| walk_order(a, b).is_lt()));
    }
}
