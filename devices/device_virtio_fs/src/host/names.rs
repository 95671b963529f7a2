//! Names in folders: found, removed, moved and added, one component at a time.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;

use super::HostFs;
use super::inodes::Held;
use super::stat::Stat;
use crate::fs::{Entry, Name, Node};

/// How every file is found: as itself, not opened.
const FIND: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A name is one component already and `..` is none; the kernel makes sure of it.
const STAY: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// A file by an `O_PATH` descriptor, and what the host tells of it.
pub(super) struct Found {
    pub(super) fd: OwnedFd,
    pub(super) stat: Stat,
}

impl Found {
    /// What `fd` leads to.
    pub(super) fn of(fd: OwnedFd) -> Result<Self, Errno> {
        let stat = Stat::of(fd.as_fd())?;
        Ok(Found { fd, stat })
    }
}

/// The one way by which a name becomes a descriptor.
pub(super) struct Resolver {
    /// Whether the kernel has openat2(2) (Linux 5.6). Without it `O_NOFOLLOW`
    /// and the check of names have to do.
    openat2: bool,
}

impl Resolver {
    /// Asks the kernel what it has.
    pub(super) fn new(root: BorrowedFd<'_>) -> Self {
        let probe = rustix::fs::openat2(root, c".", FIND, Mode::empty(), STAY);
        Resolver {
            openat2: !matches!(probe, Err(Errno::NOSYS | Errno::PERM)),
        }
    }

    /// The file that `folder` has under `name`.
    pub(super) fn find(&self, folder: BorrowedFd<'_>, name: &CStr) -> Result<Found, Errno> {
        let fd = if self.openat2 {
            rustix::fs::openat2(folder, name, FIND, Mode::empty(), STAY)
        } else {
            rustix::fs::openat(folder, name, FIND, Mode::empty())
        };
        Found::of(fd?)
    }
}

pub(super) fn lookup(fs: &HostFs, parent: Node, name: Name<'_>) -> Result<Entry, Errno> {
    let folder = fs.folder(parent)?;
    enter_name(fs, &folder, name)
}

/// [`lookup`] in a folder that is held.
pub(super) fn enter_name(fs: &HostFs, folder: &Held, name: Name<'_>) -> Result<Entry, Errno> {
    let found = fs.inodes.resolver().find(folder.as_fd(), name.as_c_str())?;
    fs.enter(found, Some((folder.node, name)))
}

/// Removes a file's name, or with `REMOVEDIR` a folder.
pub(super) fn remove(
    fs: &HostFs,
    parent: Node,
    name: Name<'_>,
    flags: AtFlags,
) -> Result<(), Errno> {
    let folder = fs.folder(parent)?;
    let gone = fs.inodes.secure(&folder, name);
    rustix::fs::unlinkat(folder.as_fd(), name.as_c_str(), flags)?;
    if let Some(gone) = gone {
        fs.inodes.unnamed(&gone, parent, name);
    }
    Ok(())
}

pub(super) fn rename(
    fs: &HostFs,
    from: (Node, Name<'_>),
    to: (Node, Name<'_>),
    flags: u32,
) -> Result<(), Errno> {
    let flags = RenameFlags::from_bits_retain(flags);
    if !fs.ownership.rename_flags().contains(flags) {
        return Err(Errno::INVAL);
    }
    let from_folder = fs.folder(from.0)?;
    let to_folder = fs.folder(to.0)?;
    let moved = fs.inodes.secure(&from_folder, from.1);
    let replaced = fs.inodes.secure(&to_folder, to.1);
    rustix::fs::renameat_with(
        from_folder.as_fd(),
        from.1.as_c_str(),
        to_folder.as_fd(),
        to.1.as_c_str(),
        flags,
    )?;
    match (&moved, &replaced) {
        // Two names of one file: rename(2) leaves both.
        (Some(moved), Some(replaced)) if moved.node == replaced.node => return Ok(()),
        (_, Some(replaced)) if flags.contains(RenameFlags::EXCHANGE) => {
            fs.inodes.named(replaced.node, from.0, from.1);
        }
        (_, Some(replaced)) => fs.inodes.unnamed(replaced, to.0, to.1),
        _ => {}
    }
    if let Some(moved) = moved {
        fs.inodes.named(moved.node, to.0, to.1);
    }
    Ok(())
}

pub(super) fn link(fs: &HostFs, node: Node, parent: Node, name: Name<'_>) -> Result<Entry, Errno> {
    let file = fs.changeable(node)?;
    if file.kind == FileType::Directory {
        return Err(Errno::PERM);
    }
    let folder = fs.folder(parent)?;
    fs.still_inside(&file)?;
    fs.proc
        .link(file.as_fd(), folder.as_fd(), name.as_c_str())?;
    enter_name(fs, &folder, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_as_themselves_with_and_without_openat2() {
        let folder = tempfile::TempDir::new().unwrap();
        std::os::unix::fs::symlink("/", folder.path().join("link")).unwrap();
        let fd = std::fs::File::open(folder.path()).unwrap();
        for openat2 in [true, false] {
            let found = Resolver { openat2 }.find(fd.as_fd(), c"link").unwrap();
            assert_eq!(found.stat.kind(), FileType::Symlink);
        }
        let newest = Resolver { openat2: true };
        for outside in [c"..", c"link/etc", c"/etc"] {
            assert!(newest.find(fd.as_fd(), outside).is_err());
        }
    }
}
