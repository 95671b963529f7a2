//! Folders read entry by entry. Positions are the host's own (`d_off`), so they
//! hold while names come and go.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use super::HostFs;
use super::handles::OpenFolder;
use super::inodes::Held;
use super::names::enter_name;
use super::stat::{Key, Stat};
use crate::fs::{Dirent, DirentSink, Handle, Name, Node, OpenedFolder};

/// Bytes of entries that the host is asked for at a time. What the guest has no
/// room for yet is kept, so this bounds what an open folder costs.
const BATCH: usize = 4096;

/// How far a folder has been read.
#[derive(Default)]
pub(super) struct Cursor {
    /// The guest's next position, if it goes on reading.
    position: u64,
    /// What the host gave and the guest has not got, from `position` on.
    pending: VecDeque<Pending>,
}

/// An entry as the host gave it.
struct Pending {
    ino: u64,
    next: u64,
    kind: FileType,
    name: CString,
}

pub(super) fn open(fs: &HostFs, node: Node) -> Result<OpenedFolder, Errno> {
    fs.handles.room()?;
    let folder = fs.folder(node)?;
    let fd = fs
        .proc
        .reopen(folder.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)?;
    let key = Stat::of(fd.as_fd())?.identity().key;
    Ok(fs.handles.add_folder(node, fd, key))
}

/// Gives entries from `offset` on, with those of the inodes when `plus`.
pub(super) fn read(
    fs: &HostFs,
    node: Node,
    handle: Handle,
    offset: u64,
    plus: bool,
    sink: &mut dyn DirentSink,
) -> Result<(), Errno> {
    let folder = fs.handles.folder(node, handle)?;
    let numbers = Numbers::of(fs, &folder);
    let lookups = if plus { Some(fs.folder(node)?) } else { None };
    let mut cursor = folder.cursor.lock().expect("no holder of this lock panics");
    cursor.seek(folder.as_fd(), offset)?;
    let mut any = false;
    loop {
        if cursor.pending.is_empty() {
            match cursor.fill(folder.as_fd()) {
                // The guest has got lookups, so it must get this answer; the
                // next call meets the error again.
                Err(_) if any => return Ok(()),
                outcome => outcome?,
            }
        }
        let Some(pending) = cursor.pending.front() else {
            return Ok(());
        };
        let dirent = numbers.dirent(fs, pending);
        let given = match &lookups {
            Some(folder) => give_plus(fs, folder, &pending.name, dirent, sink),
            None => sink.add(dirent, None),
        };
        if !given {
            return Ok(());
        }
        any = true;
        cursor.position = pending.next;
        cursor.pending.pop_front();
    }
}

/// Gives one entry with its inode, which counts as a lookup if there was room.
/// Without for the folder itself, the one above, and what is gone or cannot be
/// had: a lookup will tell why.
fn give_plus(
    fs: &HostFs,
    folder: &Held,
    name: &CStr,
    mut dirent: Dirent<'_>,
    sink: &mut dyn DirentSink,
) -> bool {
    let entry = Name::new(name).and_then(|name| enter_name(fs, folder, name));
    let Ok(entry) = entry else {
        return sink.add(dirent, None);
    };
    dirent.kind = (entry.attr.mode >> 12) as u8;
    dirent.ino = entry.attr.ino;
    let given = sink.add(dirent, Some(&entry));
    if !given {
        fs.inodes.forget(entry.node, 1);
    }
    given
}

/// What turns the host's inode numbers into the guest's.
struct Numbers {
    node: Node,
    dev: u64,
    ino: u64,
}

impl Numbers {
    fn of(fs: &HostFs, folder: &OpenFolder) -> Self {
        Numbers {
            node: folder.node,
            dev: folder.key.dev,
            ino: fs.numbers.guest(folder.key),
        }
    }

    fn dirent<'p>(&self, fs: &HostFs, pending: &'p Pending) -> Dirent<'p> {
        let name = pending.name.as_bytes();
        let own = name == b"." || name == b".." && self.node == Node::ROOT;
        let key = Key {
            dev: self.dev,
            ino: pending.ino,
        };
        Dirent {
            // What lies above the shared folder is not for the guest.
            ino: if own { self.ino } else { fs.numbers.guest(key) },
            next: pending.next,
            kind: match pending.kind {
                FileType::Unknown => 0,
                // May stand for a device node, which only its record tells.
                FileType::RegularFile if fs.ownership.records() => 0,
                kind => (kind.as_raw_mode() >> 12) as u8,
            },
            name,
        }
    }
}

impl Cursor {
    /// Goes to `offset`, where it mostly is.
    fn seek(&mut self, folder: BorrowedFd<'_>, offset: u64) -> Result<(), Errno> {
        // From the start a folder is read anew, with what has come since.
        if offset != self.position || offset == 0 {
            rustix::fs::seek(folder, SeekFrom::Start(offset))?;
            self.position = offset;
            self.pending.clear();
        }
        Ok(())
    }

    /// Reads one batch; none at the end of the folder.
    fn fill(&mut self, folder: BorrowedFd<'_>) -> Result<(), Errno> {
        let mut batch = [MaybeUninit::uninit(); BATCH];
        let mut entries = RawDir::new(folder, &mut batch);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            self.pending.push_back(Pending {
                ino: entry.ino(),
                next: entry.next_entry_cookie(),
                kind: entry.file_type(),
                name: entry.file_name().into(),
            });
            if entries.is_buffer_empty() {
                break;
            }
        }
        Ok(())
    }
}
