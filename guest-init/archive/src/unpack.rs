//! Makes the tree that an archive describes, in a hidden folder, and has it
//! moved into place when it is whole.
//!
//! Names are gone through component by component below the hidden folder, and
//! a component that is no folder ends it: a link that the archive made leads
//! nowhere. Folders get their attributes last, the deepest first, because they
//! may close them and their times change with what is made in them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod,
    fchown, fsetxattr, futimens, linkat, makedev, mkdirat, mknodat, openat, symlinkat, unlinkat,
    utimensat,
};
use rustix::io::Errno;

use crate::entry::{Entry, Kind, Time};
use crate::error::{About, ArchiveError};
use crate::place::place;
use crate::reader::Reader;
use crate::staging::{Staging, join, listing, passage};
use crate::{MAX_DEPTH, MAX_REMEMBERED, PIECE};

/// Mode of a folder that the archive only implies.
const IMPLIED_MODE: u32 = 0o755;
/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;
/// Extended attributes that give rights, or speak of owners.
const RIGHTS: [&[u8]; 3] = [
    b"security.capability",
    b"system.posix_acl_access",
    b"system.posix_acl_default",
];
/// Extended attributes that are the user's own.
const USER_XATTRS: &[u8] = b"user.";

/// What an archive may do beside making files below the destination.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// The one name at the top that everything has to be or lie below; `None`
    /// lets the archive put any name into the destination.
    pub top: Option<Vec<u8>>,
    /// The destination has a place for a file, not for a folder.
    pub file_only: bool,
    /// Files belong to whom the archive says, which takes a privilege; otherwise
    /// to us.
    pub owners: bool,
    /// Set-id bits, file capabilities and access lists are set.
    pub rights: bool,
    /// Device nodes are made; otherwise they are left out and counted.
    pub devices: bool,
}

/// What was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files, folders and others, the implied ones not counted.
    pub entries: u64,
    /// Bytes of file data.
    pub bytes: u64,
    /// Device nodes that were left out.
    pub left_out: u64,
}

/// Whether an extended attribute means something in another place.
pub(crate) fn is_portable(name: &[u8]) -> bool {
    name.starts_with(USER_XATTRS) || RIGHTS.contains(&name)
}

/// Unpacks `archive` into the folder `into`, which is open for listing. A folder
/// that is there already is merged with and keeps its attributes; anything else
/// is replaced by what has its name.
///
/// # Errors
/// As in [`ArchiveError`]; nothing was changed then, unless moving things into
/// place failed half way.
pub fn unpack(
    archive: impl Read,
    into: BorrowedFd<'_>,
    rules: &Rules,
) -> Result<Unpacked, ArchiveError> {
    let staging = Staging::new(into).about(b".")?;
    let mut unpacker = Unpacker {
        rules,
        staging: staging.as_fd(),
        last: None,
        folders: BTreeMap::new(),
        remembered: 0,
        buffer: vec![0; PIECE],
        tally: Unpacked::default(),
    };
    let mut reader = Reader::new(archive);
    while let Some(entry) = reader.next_entry()? {
        unpacker.make(&entry, &mut reader)?;
    }
    unpacker.finish_folders()?;
    let tally = unpacker.tally;
    place(staging.as_fd(), into)?;
    Ok(tally)
}

struct Unpacker<'a> {
    rules: &'a Rules,
    staging: BorrowedFd<'a>,
    /// The folder that something was made in last, with its path.
    last: Option<(Vec<u8>, OwnedFd)>,
    /// Attributes of folders, by path.
    folders: BTreeMap<Vec<u8>, Entry>,
    /// Bytes of those.
    remembered: usize,
    buffer: Vec<u8>,
    tally: Unpacked,
}

impl Unpacker<'_> {
    fn make<R: Read>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<(), ArchiveError> {
        let path = self.checked(&entry.path)?;
        let Some((parent, name)) = split(&path) else {
            // The destination itself, which keeps its attributes.
            return match entry.kind {
                Kind::Folder => Ok(()),
                _ => Err(ArchiveError::refused(&entry.path, "it has no name")),
            };
        };
        if self.rules.file_only && entry.kind == Kind::Folder {
            return Err(ArchiveError::refused(
                &path,
                "it is a folder, and a file is to be replaced",
            ));
        }
        let folder = self.folder(parent, &path)?;
        self.make_in(folder.as_fd(), name, &path, entry, reader)?;
        self.last = Some((parent.to_vec(), folder));
        Ok(())
    }

    /// Makes `name` in `folder`; the last of several with one name counts.
    fn make_in<R: Read>(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> Result<(), ArchiveError> {
        self.tally.entries += 1;
        if entry.kind == Kind::Folder {
            match mkdirat(folder, name, Mode::RWXU) {
                Ok(()) => {}
                Err(Errno::EXIST) => drop(passage(folder, name).about(path)?),
                Err(error) => return Err(error).about(path),
            }
            return self.remember(path, entry);
        }
        match unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error).about(path),
        }
        match entry.kind {
            Kind::File => return self.file(folder, name, path, entry, reader),
            Kind::HardLink => return self.hard_link(folder, name, path, entry),
            Kind::Symlink => symlinkat(entry.link.as_slice(), folder, name).about(path)?,
            Kind::Fifo => self.node(folder, name, path, FileType::Fifo, 0)?,
            Kind::CharDevice | Kind::BlockDevice if !self.rules.devices => {
                self.tally.entries -= 1;
                self.tally.left_out += 1;
                return Ok(());
            }
            Kind::CharDevice | Kind::BlockDevice => {
                let kind = match entry.kind {
                    Kind::CharDevice => FileType::CharacterDevice,
                    _ => FileType::BlockDevice,
                };
                let (major, minor) = entry.device;
                self.node(folder, name, path, kind, makedev(major, minor))?;
            }
            Kind::Folder => {}
        }
        if self.rules.owners {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let (uid, gid) = owner(entry);
            chownat(folder, name, uid, gid, flags).about(path)?;
        }
        if entry.kind != Kind::Symlink {
            // It was made here a moment ago, where nobody else gets.
            let mode = self.mode(entry);
            rustix::fs::chmodat(folder, name, mode, AtFlags::empty()).about(path)?;
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        utimensat(folder, name, &times(entry.modified), flags).about(path)
    }

    fn file<R: Read>(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> Result<(), ArchiveError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(folder, name, flags, Mode::RUSR | Mode::WUSR).about(path)?;
        let mut file = File::from(file);
        loop {
            let len = reader.read_data(&mut self.buffer)?;
            if len == 0 {
                break;
            }
            std::io::Write::write_all(&mut file, &self.buffer[..len]).about(path)?;
            self.tally.bytes += len as u64;
        }
        self.attributes(file.as_fd(), entry).about(path)
    }

    /// Gives another name to what the archive brought before, link or not.
    fn hard_link(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
    ) -> Result<(), ArchiveError> {
        const WHY: &str = "it is a link to what the archive does not have";
        let target = self.checked(&entry.link)?;
        let Some((above, target)) = split(&target) else {
            return Err(ArchiveError::refused(path, WHY));
        };
        let missing = |error| match error {
            Errno::NOENT | Errno::NOTDIR | Errno::LOOP => ArchiveError::refused(path, WHY),
            error => ArchiveError::File {
                name: crate::error::show(path),
                source: error.into(),
            },
        };
        let mut from = None;
        for part in parts(above) {
            let at = from.as_ref().map_or(self.staging, OwnedFd::as_fd);
            from = Some(passage(at, part).map_err(missing)?);
        }
        let from = from.as_ref().map_or(self.staging, OwnedFd::as_fd);
        linkat(from, target, folder, name, AtFlags::empty()).map_err(missing)
    }

    fn node(
        &self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        kind: FileType,
        device: u64,
    ) -> Result<(), ArchiveError> {
        mknodat(folder, name, kind, Mode::RUSR | Mode::WUSR, device).about(path)
    }

    /// The folder at `path`, made with its parents where the archive implies it
    /// by the name `of` something in it.
    fn folder(&mut self, path: &[u8], of: &[u8]) -> Result<OwnedFd, ArchiveError> {
        if let Some((last, fd)) = self.last.take()
            && last == path
        {
            return Ok(fd);
        }
        let mut at = self.staging.try_clone_to_owned().about(path)?;
        let mut so_far = Vec::new();
        for part in parts(path) {
            so_far = join(&so_far, part);
            at = match passage(&at, part) {
                Err(Errno::NOENT) => {
                    mkdirat(&at, part, Mode::RWXU).about(&so_far)?;
                    let mut implied = Entry::new(&so_far, Kind::Folder);
                    implied.mode = IMPLIED_MODE;
                    implied.modified = now();
                    self.remember(&so_far, &implied)?;
                    passage(&at, part).about(&so_far)?
                }
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    return Err(ArchiveError::refused(
                        of,
                        "its name leads through what is no folder",
                    ));
                }
                other => other.about(&so_far)?,
            };
        }
        Ok(at)
    }

    fn remember(&mut self, path: &[u8], entry: &Entry) -> Result<(), ArchiveError> {
        let xattrs = entry.xattrs.iter();
        let xattrs: usize = xattrs.map(|(name, value)| name.len() + value.len()).sum();
        self.remembered += 2 * path.len() + size_of::<Entry>() + xattrs;
        if self.remembered > MAX_REMEMBERED {
            return Err(ArchiveError::refused(path, "it is one folder too many"));
        }
        self.folders.insert(path.to_vec(), entry.clone());
        Ok(())
    }

    /// What is in a folder comes after it in the order of paths.
    fn finish_folders(&mut self) -> Result<(), ArchiveError> {
        self.last = None;
        for (path, entry) in std::mem::take(&mut self.folders).iter().rev() {
            let Some((parent, name)) = split(path) else {
                continue;
            };
            let parent = self.folder(parent, path)?;
            let folder = listing(&parent, name).about(path)?;
            self.attributes(folder.as_fd(), entry).about(path)?;
        }
        Ok(())
    }

    /// Owner first: a change of it takes set-id bits and capabilities away.
    fn attributes(&self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<(), Errno> {
        if self.rules.owners {
            let (uid, gid) = owner(entry);
            fchown(fd, uid, gid)?;
        }
        for (name, value) in &entry.xattrs {
            let granted = name.starts_with(USER_XATTRS)
                || self.rules.rights && RIGHTS.contains(&name.as_slice());
            if !granted {
                continue;
            }
            match fsetxattr(fd, name.as_slice(), value, XattrFlags::empty()) {
                // A file system that has no such thing.
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error),
            }
        }
        fchmod(fd, self.mode(entry))?;
        futimens(fd, &times(entry.modified))
    }

    fn mode(&self, entry: &Entry) -> Mode {
        let mask = if self.rules.rights { 0 } else { SET_ID };
        Mode::from_raw_mode(entry.mode & 0o7777 & !mask)
    }

    /// A name as the path below the destination that it stands for.
    fn checked(&self, name: &[u8]) -> Result<Vec<u8>, ArchiveError> {
        let refused = |why| Err(ArchiveError::refused(name, why));
        if name.starts_with(b"/") {
            return refused("its name begins at the root");
        }
        let parts: Vec<&[u8]> = name
            .split(|byte| *byte == b'/')
            .filter(|part| !matches!(*part, b"" | b"."))
            .collect();
        if parts.contains(&&b".."[..]) {
            return refused("its name leads out of the archive");
        }
        if parts.len() > MAX_DEPTH {
            return refused("it lies in too many folders");
        }
        if let (Some(top), Some(first)) = (&self.rules.top, parts.first())
            && top.as_slice() != *first
        {
            return refused("it was not asked for");
        }
        Ok(parts.join(&b'/'))
    }
}

/// Folder and last component of a checked path; `None` of an empty one.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => Some((&path[..at], &path[at + 1..])),
        None if path.is_empty() => None,
        None => Some((b"", path)),
    }
}

fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty())
}

fn owner(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    (Some(uid), Some(gid))
}

fn now() -> Time {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Time {
        seconds: now.tv_sec,
        nanos: u32::try_from(now.tv_nsec).unwrap_or(0),
    }
}

fn times(modified: Time) -> Timestamps {
    let modified = Timespec {
        tv_sec: modified.seconds,
        tv_nsec: modified.nanos.into(),
    };
    Timestamps {
        last_access: modified,
        last_modification: modified,
    }
}
