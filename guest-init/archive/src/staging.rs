//! A hidden folder in which a tree is made before it is moved into place, and
//! the ways through trees that go through no link.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, mkdirat, openat, statat, unlinkat};
use rustix::io::{Errno, Result};

/// Tells the folders of one process apart.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// A folder that can be gone through by name, and no more.
const PASSAGE: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// A folder that can be listed.
const LISTING: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The hidden folder; removed with what is in it when dropped.
pub(crate) struct Staging<'a> {
    parent: BorrowedFd<'a>,
    name: String,
    folder: OwnedFd,
}

impl<'a> Staging<'a> {
    /// Makes one in the folder `parent`, closed to everybody else.
    pub(crate) fn new(parent: BorrowedFd<'a>) -> Result<Self> {
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!(".shem-{}-{number}.tmp", std::process::id());
            match mkdirat(parent, &name, Mode::RWXU) {
                Ok(()) => {}
                // A process of the same number that was killed left it.
                Err(Errno::EXIST) => continue,
                Err(error) => return Err(error),
            }
            let folder = listing(parent, name.as_bytes()).inspect_err(|_| {
                let _ = unlinkat(parent, &name, AtFlags::REMOVEDIR);
            })?;
            return Ok(Self {
                parent,
                name,
                folder,
            });
        }
    }
}

impl AsFd for Staging<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }
}

impl Drop for Staging<'_> {
    fn drop(&mut self) {
        // At worst a hidden folder stays behind.
        let _ = remove_tree(self.parent, self.name.as_bytes());
    }
}

/// Opens the folder `name` to go through it; a link is not one.
pub(crate) fn passage(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    openat(parent, name, PASSAGE, Mode::empty())
}

/// Opens the folder `name` to list it and to set its attributes.
pub(crate) fn listing(parent: impl AsFd, name: &[u8]) -> Result<OwnedFd> {
    openat(parent, name, LISTING, Mode::empty())
}

/// The next name in a folder but `.` and `..`.
pub(crate) fn next_name(dir: &mut Dir) -> Result<Option<Vec<u8>>> {
    loop {
        match dir.read() {
            None => return Ok(None),
            Some(entry) => match entry?.file_name().to_bytes() {
                b"." | b".." => {}
                name => return Ok(Some(name.to_vec())),
            },
        }
    }
}

/// The type of `name`, which when a link is a link.
pub(crate) fn kind_of(parent: impl AsFd, name: &[u8]) -> Result<FileType> {
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode))
}

/// Removes `name` with all that is in it, without recursion: a stack is small
/// and trees are deep.
pub(crate) fn remove_tree(parent: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let mut open = vec![(Dir::new(listing(parent, name)?)?, name.to_vec())];
    while let Some((dir, _)) = open.last_mut() {
        match next_name(dir)? {
            Some(entry) => {
                let fd = dir.fd()?;
                match unlinkat(fd, entry.as_slice(), AtFlags::empty()) {
                    Ok(()) => {}
                    Err(Errno::ISDIR | Errno::PERM) => {
                        // The archive may have closed it, to us too.
                        let _ =
                            rustix::fs::chmodat(fd, entry.as_slice(), Mode::RWXU, AtFlags::empty());
                        let below = Dir::new(listing(fd, &entry)?)?;
                        open.push((below, entry));
                    }
                    Err(error) => return Err(error),
                }
            }
            None => {
                let Some((_, name)) = open.pop() else { break };
                let above = match open.last() {
                    Some((dir, _)) => dir.fd()?,
                    None => parent,
                };
                unlinkat(above, name.as_slice(), AtFlags::REMOVEDIR)?;
            }
        }
    }
    Ok(())
}

/// Names as one path.
pub(crate) fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    match path {
        b"" => name.to_vec(),
        path => [path, b"/", name].concat(),
    }
}
