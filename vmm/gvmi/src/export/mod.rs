//! Writes a tree as a tar archive, in one pass, so that packing the archive
//! again gives the same tree.

mod member;

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};

use thiserror::Error;

use crate::display::display_path;
use crate::squashfs::{Entry, Inode, Kind, Piece, Tree, TreeError, TreeFault};
use member::{BLOCK, Member};

/// Headers are gathered up to this many bytes.
const BUFFER: usize = 64 << 10;
/// Most bytes of first names of files whose other names are still to come.
const MAX_LINK_PATHS: usize = 32 << 20;
/// Most warnings that are kept; the last one says that there were more.
const MAX_WARNINGS: usize = 16;
/// Zeros to write for holes and to fill a block.
static ZEROS: [u8; 32 << 10] = [0; 32 << 10];

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
    pub fn export(&self, to: impl Write) -> Result<Exported, ExportError> {
        let mut export = Export {
            tree: self,
            to: BufWriter::with_capacity(BUFFER, to),
            links: Links::default(),
            done: Exported::default(),
        };
        for entry in self.walk()? {
            export.entry(&entry?)?;
        }
        export.write(&ZEROS[..2 * BLOCK])?;
        export.to.flush().map_err(ExportError::Write)?;
        Ok(export.done)
    }
}

struct Export<'t, W: Write> {
    tree: &'t Tree<'t>,
    to: BufWriter<W>,
    links: Links,
    done: Exported,
}

impl<W: Write> Export<'_, W> {
    fn entry(&mut self, entry: &Entry) -> Result<(), ExportError> {
        let Entry { path, inode } = entry;
        let at = |fault| TreeError::new(path, fault);
        let name = match inode.kind {
            Kind::Directory(_) if path.is_empty() => b"./".to_vec(),
            Kind::Directory(_) => [path, b"/".as_slice()].concat(),
            _ => path.clone(),
        };
        let member = Member {
            path: &name,
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime,
            ..Default::default()
        };
        if let Some(first) = self.links.first(inode, path).map_err(at)? {
            return self.header(&Member {
                kind: b'1',
                link: &first,
                ..member
            });
        }
        let mut xattrs = self.tree.xattrs(inode).map_err(at)?;
        xattrs.retain(|xattr| {
            let can_be_written = !xattr.name.contains(&b'=');
            if !can_be_written {
                self.warn("attributes with \"=\" in their names", path);
            }
            can_be_written
        });
        let member = Member {
            xattrs: &xattrs,
            ..member
        };
        let (kind, device) = match &inode.kind {
            Kind::Directory(_) => (b'5', None),
            Kind::Symlink(target) => {
                return self.header(&Member {
                    kind: b'2',
                    link: target,
                    ..member
                });
            }
            Kind::File(data) => {
                let size = data.size();
                self.header(&Member {
                    kind: b'0',
                    size,
                    ..member
                })?;
                return self.data(entry, size);
            }
            Kind::Char(device) => (b'3', Some(*device)),
            Kind::Block(device) => (b'4', Some(*device)),
            Kind::Fifo => (b'6', None),
            Kind::Socket => {
                self.warn("a socket", path);
                return Ok(());
            }
        };
        self.header(&Member {
            kind,
            device,
            ..member
        })
    }

    fn header(&mut self, member: &Member<'_>) -> Result<(), ExportError> {
        self.done.entries += 1;
        self.write(&member.blocks())
    }

    fn data(&mut self, entry: &Entry, size: u64) -> Result<(), ExportError> {
        let tree = self.tree;
        let at = |fault| TreeError::new(&entry.path, fault);
        let mut file = tree.file(&entry.inode).map_err(at)?;
        while let Some(piece) = file.piece().map_err(at)? {
            let len = match piece {
                Piece::Data(bytes) => {
                    self.write(bytes)?;
                    bytes.len() as u64
                }
                Piece::Hole(len) => {
                    tree.charge(len).map_err(at)?;
                    self.zeros(len)?;
                    len
                }
            };
            file.consume(len);
        }
        self.done.data = self.done.data.saturating_add(size);
        self.zeros(size.wrapping_neg() % BLOCK as u64)
    }

    fn zeros(&mut self, mut len: u64) -> Result<(), ExportError> {
        while len > 0 {
            let part = len.min(ZEROS.len() as u64);
            self.write(&ZEROS[..part as usize])?;
            len -= part;
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        self.to.write_all(bytes).map_err(ExportError::Write)
    }

    fn warn(&mut self, what: &str, path: &[u8]) {
        let warnings = &mut self.done.warnings;
        match warnings.len() {
            MAX_WARNINGS => {}
            len if len == MAX_WARNINGS - 1 => warnings.push("and more like these".to_owned()),
            _ => warnings.push(format!(
                "/{}: {what} cannot be in an archive and is left out",
                display_path(path)
            )),
        }
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
    path: Vec<u8>,
    /// Names that are still to come.
    left: u32,
}

impl Links {
    /// The name that `inode` was written under before; if there is none, it
    /// will be `path` from now on.
    fn first(&mut self, inode: &Inode, path: &[u8]) -> Result<Option<Vec<u8>>, TreeFault> {
        if inode.is_dir() || inode.links < 2 || matches!(inode.kind, Kind::Socket) {
            return Ok(None);
        }
        if let Some(link) = self.paths.get_mut(&inode.number) {
            link.left -= 1;
            if link.left > 0 {
                return Ok(Some(link.path.clone()));
            }
            let link = self.paths.remove(&inode.number);
            return Ok(link.map(|link| {
                self.len -= link.path.len();
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
            path: path.to_vec(),
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
            assert_eq!(links.first(&inode, b"q").unwrap().as_ref(), Some(&path));
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
