//! Moves a tree that is whole into its place: what is new by one rename, what
//! is there already by going into it. What cannot go well is seen before
//! anything is moved.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, chmodat, fchmod, fstat, renameat, statat};
use rustix::io::Errno;

use crate::MAX_REMEMBERED;
use crate::error::{About, ArchiveError};
use crate::staging::{join, kind_of, listing, next_name};

/// Folders of both sides that have the same path.
struct Pair {
    from: OwnedFd,
    to: OwnedFd,
    path: Vec<u8>,
}

/// Moves what is in the folder `from` to the folder `to`. Folders that both
/// have are merged, and those of `to` keep their attributes.
pub(crate) fn place(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), ArchiveError> {
    let pair = || {
        Ok(Pair {
            from: from.try_clone_to_owned().about(b"")?,
            to: to.try_clone_to_owned().about(b"")?,
            path: Vec::new(),
        })
    };
    let device = fstat(from).about(b"")?.st_dev;
    walk(pair()?, |pair, name, path| check(pair, name, path, device))?;
    walk(pair()?, move_one)
}

/// Goes through what `top.from` has; `step` says whether to go into a name.
fn walk(
    top: Pair,
    mut step: impl FnMut(&Pair, &[u8], &[u8]) -> Result<bool, ArchiveError>,
) -> Result<(), ArchiveError> {
    let mut todo = vec![top];
    while let Some(pair) = todo.pop() {
        for name in names(&pair)? {
            let path = join(&pair.path, &name);
            if step(&pair, &name, &path)? {
                todo.push(Pair {
                    from: listing(&pair.from, &name).about(&path)?,
                    to: listing(&pair.to, &name).about(&path)?,
                    path,
                });
            }
        }
    }
    Ok(())
}

/// All names at once, as a folder must not change while it is read.
fn names(pair: &Pair) -> Result<Vec<Vec<u8>>, ArchiveError> {
    let mut dir = Dir::read_from(&pair.from).about(&pair.path)?;
    let (mut names, mut size) = (Vec::new(), 0);
    while let Some(name) = next_name(&mut dir).about(&pair.path)? {
        size += name.len() + size_of::<Vec<u8>>();
        if size > MAX_REMEMBERED {
            return Err(ArchiveError::refused(&pair.path, "too many names in it"));
        }
        names.push(name);
    }
    Ok(names)
}

/// Refuses what a move would refuse; true for a folder on both sides.
fn check(pair: &Pair, name: &[u8], path: &[u8], device: u64) -> Result<bool, ArchiveError> {
    let there = match statat(&pair.to, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(error).about(path),
    };
    let comes = kind_of(&pair.from, name).about(path)? == FileType::Directory;
    let is = FileType::from_raw_mode(there.st_mode) == FileType::Directory;
    match (comes, is) {
        (true, false) => Err(Errno::NOTDIR).about(path),
        (false, true) => Err(Errno::ISDIR).about(path),
        (true, true) if there.st_dev != device => Err(ArchiveError::refused(
            path,
            "another file system begins there; copy into it by itself",
        )),
        (both, _) => Ok(both),
    }
}

fn move_one(pair: &Pair, name: &[u8], path: &[u8]) -> Result<bool, ArchiveError> {
    let comes = kind_of(&pair.from, name).about(path)? == FileType::Directory;
    if comes && kind_of(&pair.to, name) == Ok(FileType::Directory) {
        return Ok(true);
    }
    match renameat(&pair.from, name, &pair.to, name) {
        Err(Errno::ACCESS) if comes => move_closed(pair, name).about(path)?,
        other => other.about(path)?,
    }
    Ok(false)
}

/// A folder that its owner may not write to cannot be moved to another folder,
/// because its `..` changes. It is opened for that time.
fn move_closed(pair: &Pair, name: &[u8]) -> Result<(), Errno> {
    let mode = statat(&pair.from, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode & 0o7777;
    chmodat(&pair.from, name, Mode::RWXU, AtFlags::empty())?;
    let folder = listing(&pair.from, name)?;
    renameat(&pair.from, name, &pair.to, name)?;
    fchmod(folder.as_fd(), Mode::from_raw_mode(mode))
}
