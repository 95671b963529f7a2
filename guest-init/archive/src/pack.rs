//! Writes a tree as an archive, as it is and through no link.
//!
//! A tree may change while it is packed: what vanishes is left out, a file that
//! shrinks is filled up with zeros and one that grows is cut, because its
//! length has to be told first. The size of most files in `/proc` is said to be
//! 0; they are read before it is told.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::buffer::spare_capacity;
use rustix::fs::{
    AtFlags, Dir, FileType, FsWord, Mode, OFlags, Stat, fgetxattr, flistxattr, fstat, fstatfs,
    major, minor, openat, readlinkat, statat,
};
use rustix::io::Errno;

use crate::entry::{Entry, Kind, Time, Xattr};
use crate::error::{About, ArchiveError};
use crate::header::BLOCK;
use crate::reader::retry;
use crate::staging::{join, listing, next_name};
use crate::unpack::is_portable;
use crate::{MAX_DEPTH, MAX_REMEMBERED, MAX_UNSIZED, PIECE, pax};

/// The kernel's `XATTR_LIST_MAX` and `XATTR_SIZE_MAX`.
const XATTR_MAX: usize = 64 << 10;

/// Set-user-id and set-group-id.
const SET_ID: u32 = 0o6000;

/// File systems in which the kernel shows itself (linux/magic.h): their folders
/// are packed empty, because what is in them is no data, blocks or has no end.
const KERNELS_OWN: [FsWord; 9] = [
    0x9fa0,                    // proc
    0x6265_6572,               // sysfs
    0x6367_7270,               // cgroup2
    0x6462_6720,               // debugfs
    0x7472_6163,               // tracefs
    0x7363_6673,               // securityfs
    0x6264_7366,               // bdev
    0xcafe_4a11_u32 as FsWord, // bpf
    0x1cd1,                    // devpts
];

/// Where a tree begins.
pub enum Start<'a> {
    /// What has been opened for reading, a file or folder.
    Opened(OwnedFd),
    /// A name in a folder; when it is a link, that link is packed.
    Named(BorrowedFd<'a>, &'a OsStr),
}

/// Who owns what is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// Whom it belongs to here.
    Kept,
    /// Root, and so without set-id bits, capabilities and access lists, which
    /// were meant for another.
    Root,
}

/// What was packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packed {
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of file data.
    pub bytes: u64,
}

/// Writes what is at `start` to `out` as an archive with `name` at the top; `.`
/// names its contents. Sockets are left out.
///
/// # Errors
/// [`ArchiveError::Write`] when `out` fails, [`ArchiveError::File`] when
/// something cannot be read, and [`ArchiveError::Refused`] for what an archive
/// cannot hold.
pub fn pack(
    start: Start<'_>,
    name: &OsStr,
    owners: Owners,
    out: impl Write,
) -> Result<Packed, ArchiveError> {
    let mut packer = Packer {
        out,
        owners,
        links: HashMap::new(),
        remembered: 0,
        buffer: vec![0; PIECE],
        packed: Packed::default(),
    };
    let name = name.as_bytes();
    let top = match start {
        Start::Opened(fd) => packer.opened(fd, name)?,
        Start::Named(parent, leaf) => packer.named(parent, leaf.as_bytes(), name, None)?,
    };
    packer.below(top)?;
    packer.write(&[0; 2 * BLOCK])?;
    packer.out.flush().map_err(ArchiveError::Write)?;
    Ok(packer.packed)
}

/// A folder that is being listed.
struct Level {
    dir: Dir,
    path: Vec<u8>,
    device: u64,
}

struct Packer<W> {
    out: W,
    owners: Owners,
    /// The first name of files that have several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Bytes of those.
    remembered: usize,
    buffer: Vec<u8>,
    packed: Packed,
}

impl<W: Write> Packer<W> {
    /// Goes through the folders, without recursion: a stack is small and trees
    /// are deep.
    fn below(&mut self, top: Option<Level>) -> Result<(), ArchiveError> {
        let mut open: Vec<Level> = top.into_iter().collect();
        while let Some(level) = open.last_mut() {
            let Some(name) = next_name(&mut level.dir).about(&level.path)? else {
                open.pop();
                continue;
            };
            let path = join(&level.path, &name);
            let fd = level.dir.fd().about(&path)?;
            let below = match self.named(fd, &name, &path, Some(level.device)) {
                // It vanished since it was listed.
                Err(ArchiveError::File { source, .. })
                    if source.raw_os_error() == Some(Errno::NOENT.raw_os_error()) =>
                {
                    continue;
                }
                other => other?,
            };
            if open.len() >= MAX_DEPTH && below.is_some() {
                return Err(ArchiveError::refused(&path, "it lies in too many folders"));
            }
            open.extend(below);
        }
        Ok(())
    }

    /// Packs a name of a folder; a folder in it is still to be gone through,
    /// unless one of the kernel's own file systems begins there.
    fn named(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        device: Option<u64>,
    ) -> Result<Option<Level>, ArchiveError> {
        let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).about(path)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let fd = listing(parent, name).about(path)?;
                let level = self.folder(fd, path)?;
                let enters = device.is_some_and(|device| device != level.device);
                let hidden = enters && is_kernels_own(level.dir.fd().about(path)?).about(path)?;
                Ok((!hidden).then_some(level))
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY
                    | OFlags::NONBLOCK
                    | OFlags::NOCTTY
                    | OFlags::NOFOLLOW
                    | OFlags::CLOEXEC;
                let fd = openat(parent, name, flags, Mode::empty()).about(path)?;
                self.opened(fd, path)
            }
            FileType::Symlink => {
                let target = readlinkat(parent, name, Vec::new()).about(path)?;
                let mut entry = self.entry(path, Kind::Symlink, &stat);
                entry.link = target.into_bytes();
                self.header(&entry).map(|()| None)
            }
            kind => self.special(kind, &stat, path).map(|()| None),
        }
    }

    /// Packs what is open.
    fn opened(&mut self, fd: OwnedFd, path: &[u8]) -> Result<Option<Level>, ArchiveError> {
        let stat = fstat(&fd).about(path)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.folder(fd, path).map(Some),
            FileType::RegularFile => self.file(fd.into(), &stat, path).map(|()| None),
            kind => self.special(kind, &stat, path).map(|()| None),
        }
    }

    fn folder(&mut self, fd: OwnedFd, path: &[u8]) -> Result<Level, ArchiveError> {
        let stat = fstat(&fd).about(path)?;
        let mut entry = self.entry(path, Kind::Folder, &stat);
        entry.xattrs = self.xattrs(fd.as_fd()).about(path)?;
        self.header(&entry)?;
        Ok(Level {
            dir: Dir::new(fd).about(path)?,
            // What is in the top named `.` has no folder in its name.
            path: if path == b"." {
                Vec::new()
            } else {
                path.to_vec()
            },
            device: stat.st_dev,
        })
    }

    fn special(&mut self, kind: FileType, stat: &Stat, path: &[u8]) -> Result<(), ArchiveError> {
        let kind = match kind {
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::CharDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            // No archive has sockets.
            _ => return Ok(()),
        };
        let mut entry = self.entry(path, kind, stat);
        if kind != Kind::Fifo {
            entry.device = (major(stat.st_rdev), minor(stat.st_rdev));
        }
        self.header(&entry)
    }

    fn file(&mut self, mut file: File, stat: &Stat, path: &[u8]) -> Result<(), ArchiveError> {
        let mut entry = self.entry(path, Kind::File, stat);
        if stat.st_nlink > 1 {
            let id = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&id) {
                entry.kind = Kind::HardLink;
                entry.link = first.clone();
                return self.header(&entry);
            }
            // Beyond the limit names become files of their own.
            self.remembered += path.len() + size_of::<(u64, u64, Vec<u8>)>();
            if self.remembered <= MAX_REMEMBERED {
                self.links.insert(id, path.to_vec());
            }
        }
        entry.xattrs = self.xattrs(file.as_fd()).about(path)?;
        let told = u64::try_from(stat.st_size).unwrap_or(0);
        let mut begin = std::mem::take(&mut self.buffer);
        let result = self.content(&mut file, entry, told, &mut begin);
        begin.resize(PIECE, 0);
        self.buffer = begin;
        result
    }

    /// Reads the begin before anything is said about the length.
    fn content(
        &mut self,
        file: &mut File,
        mut entry: Entry,
        told: u64,
        begin: &mut Vec<u8>,
    ) -> Result<(), ArchiveError> {
        let path = entry.path.clone();
        let mut len = fill(file, begin).about(&path)?;
        if len == begin.len() && told == 0 {
            let limit = (MAX_UNSIZED - len) as u64 + 1;
            let more = file.take(limit).read_to_end(begin).about(&path)?;
            len += more;
            if len > MAX_UNSIZED {
                let why = "the system does not tell its size, which is above 16 MiB";
                return Err(ArchiveError::refused(&path, why));
            }
        }
        let complete = len < PIECE || told == 0;
        entry.size = match complete {
            true => len as u64,
            false => told.max(len as u64),
        };
        self.header(&entry)?;
        self.write(&begin[..len])?;
        let mut left = entry.size - len as u64;
        while left > 0 {
            let piece = left.min(PIECE as u64) as usize;
            let len = fill(file, &mut begin[..piece]).about(&path)?;
            begin[len..piece].fill(0);
            self.write(&begin[..piece])?;
            left -= piece as u64;
        }
        self.packed.bytes += entry.size;
        let padding = entry.size.wrapping_neg() % BLOCK as u64;
        self.write(&[0; BLOCK][..padding as usize])
    }

    fn entry(&self, path: &[u8], kind: Kind, stat: &Stat) -> Entry {
        let mut entry = Entry::new(path, kind);
        entry.mode = stat.st_mode & 0o7777;
        match self.owners {
            Owners::Kept => (entry.uid, entry.gid) = (stat.st_uid, stat.st_gid),
            Owners::Root => entry.mode &= !SET_ID,
        }
        entry.modified = Time {
            seconds: stat.st_mtime,
            nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        };
        entry
    }

    fn xattrs(&self, fd: BorrowedFd<'_>) -> Result<Vec<Xattr>, Errno> {
        let mut names = Vec::with_capacity(XATTR_MAX);
        match flistxattr(fd, spare_capacity(&mut names)) {
            Ok(_) => {}
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
        let mut found = Vec::new();
        for name in names.split(|byte| *byte == 0) {
            let kept = is_portable(name)
                && (self.owners == Owners::Kept || name.starts_with(b"user."))
                // A record could not tell it from its value.
                && !name.contains(&b'=');
            if !kept {
                continue;
            }
            let mut value = Vec::with_capacity(XATTR_MAX);
            match fgetxattr(fd, name, spare_capacity(&mut value)) {
                Ok(_) => found.push((name.to_vec(), value)),
                // It vanished.
                Err(Errno::NODATA) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn header(&mut self, entry: &Entry) -> Result<(), ArchiveError> {
        let Some(blocks) = pax::blocks(entry) else {
            let why = "no archive has room for its attributes";
            return Err(ArchiveError::refused(&entry.path, why));
        };
        self.packed.entries += 1;
        self.write(&blocks)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.out.write_all(bytes).map_err(ArchiveError::Write)
    }
}

fn is_kernels_own(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(KERNELS_OWN.contains(&fstatfs(fd)?.f_type))
}

/// Reads until `into` is full or the file ends.
fn fill(file: &mut File, into: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < into.len() {
        match retry(|| file.read(&mut into[len..]))? {
            0 => break,
            read => len += read,
        }
    }
    Ok(len)
}
