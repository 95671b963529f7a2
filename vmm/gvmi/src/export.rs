//! Writes a tree as a tar archive, in one pass, so that packing the archive
//! again gives the same tree.

use std::collections::HashMap;
use std::io::{self, Write};

use thiserror::Error;

use crate::display::display_path;
use crate::squashfs::{Entry, Inode, Kind, Piece, Tree, TreeError, TreeFault, Xattr};
use crate::tar::{Attributes, CleanPath, Kind as TarKind, Writer};
use crate::warnings::Warnings;

/// Most bytes of first names of files whose other names are still to come.
const MAX_LINK_PATHS: usize = 32 << 20;

/// An archive that was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Entries in it, the root among them.
    pub entries: u64,
    /// Bytes of files in it, without headers.
    pub data: u64,
    /// What of the tree is not in it, one line each; empty as a rule.
    pub warnings: Vec<String>,
}

/// Why an archive could not be written to its end.
#[derive(Debug, Error)]
pub enum ExportError {
    /// The tree cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Its receiver takes no more.
    #[error("write the archive")]
    Write(#[source] io::Error),
}

impl Tree<'_> {
    /// Writes a tar archive of all entries to `to`: with the root folder
    /// first, as `./`; owners by number; extended attributes as
    /// `SCHILY.xattr`; names beyond a file's first as hard links to that; holes
    /// as zeros. Sockets have no form in an archive and are left out.
    pub fn export(&self, mut to: impl Write) -> Result<Exported, ExportError> {
        let mut export = Export {
            tree: self,
            writer: Writer::new(&mut to, None),
            links: Links::default(),
            done: Exported::default(),
            warnings: Warnings::default(),
        };
        for entry in self.walk()? {
            export.entry(&entry?)?;
        }
        export.writer.finish().map_err(ExportError::Write)?;
        Ok(Exported {
            warnings: export.warnings.into_lines(),
            ..export.done
        })
    }
}

struct Export<'t> {
    tree: &'t Tree<'t>,
    writer: Writer<'t>,
    links: Links,
    done: Exported,
    warnings: Warnings,
}

impl Export<'_> {
    fn entry(&mut self, entry: &Entry) -> Result<(), ExportError> {
        let Entry { path, inode } = entry;
        let at = |fault| TreeError::new(path, fault);
        let kind = match &inode.kind {
            Kind::Directory(_) => TarKind::Folder,
            Kind::File(data) => TarKind::File(data.size()),
            Kind::Symlink(target) => TarKind::Symlink(target.clone()),
            Kind::Char(device) => TarKind::Char(*device),
            Kind::Block(device) => TarKind::Block(*device),
            Kind::Fifo => TarKind::Fifo,
            Kind::Socket => {
                self.warn("a socket", path);
                return Ok(());
            }
        };
        if let Some(first) = self.links.first(inode, path).map_err(at)? {
            return self.header(entry, &TarKind::HardLink(first), &[]);
        }
        let mut xattrs = self.tree.xattrs(inode).map_err(at)?;
        xattrs.retain(|xattr| {
            let can_be_written = !xattr.name.contains(&b'=');
            if !can_be_written {
                self.warn("attributes with \"=\" in their names", path);
            }
            can_be_written
        });
        self.header(entry, &kind, &xattrs)?;
        match kind {
            TarKind::File(size) => self.data(entry, size),
            _ => Ok(()),
        }
    }

    fn header(
        &mut self,
        entry: &Entry,
        kind: &TarKind,
        xattrs: &[Xattr],
    ) -> Result<(), ExportError> {
        let Entry { path, inode } = entry;
        let path = match kind {
            TarKind::Folder if path.is_empty() => b"./".to_vec(),
            TarKind::Folder => [path, b"/".as_slice()].concat(),
            _ => path.clone(),
        };
        let attributes = Attributes {
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
        };
        self.done.entries += 1;
        let written = self.writer.entry(&path, kind, &attributes, xattrs);
        written.map_err(ExportError::Write)
    }

    fn data(&mut self, entry: &Entry, size: u64) -> Result<(), ExportError> {
        let tree = self.tree;
        let at = |fault| TreeError::new(&entry.path, fault);
        let mut file = tree.file(&entry.inode).map_err(at)?;
        while let Some(piece) = file.piece().map_err(at)? {
            if let Piece::Hole(len) = piece {
                tree.charge(len).map_err(at)?;
            }
            self.writer.piece(&piece).map_err(ExportError::Write)?;
            let len = piece.len();
            file.consume(len);
        }
        self.done.data = self.done.data.saturating_add(size);
        Ok(())
    }

    fn warn(&mut self, what: &str, path: &[u8]) {
        let path = display_path(path);
        self.warnings.add(format!(
            "/{path}: {what} cannot be in an archive and is left out"
        ));
    }
}

/// The first names of files that have more.
#[derive(Default)]
struct Links {
    paths: HashMap<u32, Link>,
    /// Bytes in all of them.
    len: usize,
}

struct Link {
    path: CleanPath,
    /// Names that are still to come.
    left: u32,
}

impl Links {
    /// The name that `inode` was written under before; if there is none, it
    /// will be `path` from now on.
    fn first(&mut self, inode: &Inode, path: &[u8]) -> Result<Option<CleanPath>, TreeFault> {
        if inode.is_dir() || inode.links < 2 {
            return Ok(None);
        }
        if let Some(link) = self.paths.get_mut(&inode.number) {
            link.left -= 1;
            if link.left > 0 {
                return Ok(Some(link.path.clone()));
            }
            let link = self.paths.remove(&inode.number);
            return Ok(link.map(|link| {
                self.len -= link.path.as_bytes().len();
                link.path
            }));
        }
        self.len += path.len();
        if self.len > MAX_LINK_PATHS {
            return Err(TreeFault::Limit {
                what: "bytes of names of files with more than one",
                max: MAX_LINK_PATHS as u64,
            });
        }
        let link = Link {
            path: CleanPath::of_checked(path.to_vec()),
            left: inode.links - 1,
        };
        self.paths.insert(inode.number, link);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe(number: u32) -> Inode {
        Inode {
            number,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: 0,
            links: 2,
            kind: Kind::Fifo,
            xattrs: None,
        }
    }

    #[test]
    fn names_are_kept_until_the_last_one_and_up_to_the_limit() {
        let path = vec![b'p'; 1 << 20];
        let mut links = Links::default();
        for number in 0..100 {
            let inode = pipe(number);
            assert_eq!(links.first(&inode, &path).unwrap(), None);
            assert_eq!(links.first(&inode, b"q").unwrap().unwrap().as_bytes(), path);
        }
        let answers = (0..33).map(|number| links.first(&pipe(number), &path));
        let answers: Vec<_> = answers.collect();
        assert!(
            answers[..32]
                .iter()
                .all(|answer| matches!(answer, Ok(None)))
        );
        assert!(matches!(answers[32], Err(TreeFault::Limit { .. })));
    }
}
