//! Finds an entry by its path, inside the image only.

use super::error::{TreeError, TreeFault};
use super::inode::{Inode, Kind};
use super::tree::Tree;
use super::walk::Entry;

/// Most symbolic links that are followed for one path, as in Linux.
const MAX_LINKS: u32 = 40;

/// The folders from the root to a place, by the names that lead there.
struct Place {
    root: Inode,
    steps: Vec<(Vec<u8>, Inode)>,
}

impl Place {
    fn inode(&self) -> &Inode {
        self.steps.last().map_or(&self.root, |(_, inode)| inode)
    }

    fn path(&self) -> Vec<u8> {
        let names: Vec<_> = self.steps.iter().map(|(name, _)| name.as_slice()).collect();
        names.join(&b'/')
    }
}

impl Tree<'_> {
    /// The entry at `path`, counted from the root with or without a leading
    /// slash; ".." does not lead out of the root. Symbolic links on the way
    /// and at its end are followed if `follow` says so, as they would be in a
    /// guest; the entry's path is then the one that they lead to.
    pub fn lookup(&self, path: &[u8], follow: bool) -> Result<Entry, TreeError> {
        let mut place = Place {
            root: self.root()?,
            steps: Vec::new(),
        };
        let found = self.go(&mut place, path, follow);
        match found {
            Ok(()) => Ok(Entry {
                path: place.path(),
                inode: place.inode().clone(),
            }),
            Err(fault) => {
                // As it was asked for: a link's target may be unknown to who
                // typed the path.
                let start = path.iter().position(|byte| *byte != b'/');
                Err(TreeError::new(&path[start.unwrap_or(path.len())..], fault))
            }
        }
    }

    fn go(&self, place: &mut Place, path: &[u8], follow: bool) -> Result<(), TreeFault> {
        // The next part is the last.
        let mut parts = parts(path);
        let mut links = 0;
        while let Some(part) = parts.pop() {
            let Kind::Directory(directory) = place.inode().kind else {
                return Err(TreeFault::NotADirectory);
            };
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    place.steps.pop();
                    continue;
                }
                _ => {}
            }
            let inode = self.child(directory, &part)?.ok_or(TreeFault::NotFound)?;
            match inode.kind {
                Kind::Symlink(target) if follow => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(TreeFault::TooManyLinks { max: MAX_LINKS });
                    }
                    if target.starts_with(b"/") {
                        place.steps.clear();
                    }
                    parts.extend(self::parts(&target));
                }
                _ => place.steps.push((part, inode)),
            }
        }
        Ok(())
    }
}

/// The parts of a path, the first one last.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/');
    parts.rev().map(<[u8]>::to_vec).collect()
}
