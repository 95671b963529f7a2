//! Files of the container by stream: read, replace, look at.
//!
//! Paths are resolved by the kernel inside the container's root, through no
//! magic link; what is opened is checked to be a regular file, so that no
//! FIFO or device makes the agent wait.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::atomic::{AtomicU64, Ordering};

use guest_protocol::{
    FileKind, FileMessage, FileRequest, FileStat, FileWrite, FrameKind, FrameReader, MAX_DATA,
    decode, write_data,
};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2, renameat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use super::{answer, failure};

/// Tells temporary names of concurrent writes apart.
static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// Sends a regular file.
pub fn read(root: &Path, reader: &FrameReader<File>, path: &OsStr) {
    let sent = open_regular(root, path).and_then(|mut file| {
        let mut buffer = vec![0; MAX_DATA];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(len) => write_data(&mut reader.get_ref(), FrameKind::File, &buffer[..len])
                    .map_err(io::Error::other)?,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    });
    finish(reader, path, sent.map(|()| FileMessage::End));
}

/// Receives a file under a temporary name and puts it in place when it is whole.
pub fn write(root: &Path, reader: &mut FrameReader<File>, write: &FileWrite) {
    let written = Replacement::begin(root, &write.path).and_then(|mut replacement| {
        answer(reader, &FileMessage::Ready);
        receive(reader, &mut replacement.file)?;
        replacement.finish(write)
    });
    finish(reader, &write.path, written.map(|()| FileMessage::End));
}

/// Puts a file with this content in place, as a whole.
pub fn replace(root: &Path, write: &FileWrite, content: &[u8]) -> io::Result<()> {
    let mut replacement = Replacement::begin(root, &write.path)?;
    replacement.file.write_all(content)?;
    replacement.finish(write)
}

/// Tells what a path is.
pub fn stat(root: &Path, reader: &FrameReader<File>, path: &OsStr) {
    let stat = open_in(root, path, OFlag::O_PATH).and_then(|fd| Ok(fstat(&fd)?));
    let stat = stat.map(|stat| {
        let kind = match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFREG => FileKind::File,
            SFlag::S_IFDIR => FileKind::Directory,
            _ => FileKind::Other,
        };
        FileMessage::Stat(FileStat {
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified_nanos: stat
                .st_mtime
                .saturating_mul(1_000_000_000)
                .saturating_add(stat.st_mtime_nsec),
        })
    });
    finish(reader, path, stat);
}

fn finish(reader: &FrameReader<File>, path: &OsStr, result: io::Result<FileMessage>) {
    let message =
        result.unwrap_or_else(|e| FileMessage::Failed(failure(&e, Path::new(path).display())));
    answer(reader, &message);
}

/// Opens a path of the container; links lead to what they lead to in there.
pub fn open_in(root: &Path, path: &OsStr, flags: OFlag) -> io::Result<OwnedFd> {
    let root = open(
        root,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(openat2(&root, path, how)?)
}

fn open_regular(root: &Path, path: &OsStr) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = File::from(open_in(root, path, flags)?);
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        Ok(file)
    } else if kind.is_dir() {
        Err(io::Error::from_raw_os_error(libc::EISDIR))
    } else {
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }
}

/// Writes data frames until the host says that it was all.
fn receive(reader: &mut FrameReader<File>, file: &mut File) -> io::Result<()> {
    loop {
        let frame = reader.read_frame().map_err(io::Error::other)?;
        let frame = frame.ok_or(io::ErrorKind::UnexpectedEof)?;
        match frame.kind {
            FrameKind::File => file.write_all(frame.body)?,
            FrameKind::Message => {
                let FileRequest::End = decode(frame.body).map_err(io::Error::other)?;
                return Ok(());
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// A file that will take the place of another; dropped before that, it vanishes.
struct Replacement {
    dir: OwnedFd,
    name: OsString,
    temporary: String,
    file: File,
    in_place: bool,
}

impl Replacement {
    fn begin(root: &Path, path: &OsStr) -> io::Result<Self> {
        let path = Path::new(path);
        let Some(Component::Normal(name)) = path.components().next_back() else {
            return Err(io::Error::from_raw_os_error(libc::EISDIR));
        };
        if path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(io::Error::from_raw_os_error(libc::EISDIR));
        }
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("/"));
        let dir = open_in(root, parent.as_os_str(), OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        let number = NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed);
        let temporary = format!(".shem-{}-{number}", std::process::id());
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(
            &dir,
            temporary.as_str(),
            flags,
            Mode::S_IRUSR | Mode::S_IWUSR,
        )?;
        Ok(Self {
            dir,
            name: name.into(),
            temporary,
            file: file.into(),
            in_place: false,
        })
    }

    fn finish(mut self, write: &FileWrite) -> io::Result<()> {
        // Owner first: a change of it takes the set-id bits away.
        fchown(
            &self.file,
            Some(Uid::from_raw(write.uid)),
            Some(Gid::from_raw(write.gid)),
        )?;
        fchmod(self.file.as_fd(), Mode::from_bits_truncate(write.mode))?;
        renameat(
            &self.dir,
            self.temporary.as_str(),
            &self.dir,
            self.name.as_os_str(),
        )?;
        self.in_place = true;
        Ok(())
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if !self.in_place {
            // At worst a temporary file stays behind.
            let _ = unlinkat(
                &self.dir,
                self.temporary.as_str(),
                UnlinkatFlags::NoRemoveDir,
            );
        }
    }
}
