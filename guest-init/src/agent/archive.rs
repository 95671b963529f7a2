//! Trees of the container as tar archives: read one, unpack one.
//!
//! Paths are resolved as those of [`files`](super::files); below them nothing
//! follows a link. What is unpacked appears when the archive is complete: until
//! then it lies in a hidden folder, which goes when the host hangs up.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use guest_protocol::{
    ArchiveRead, Failure, FileMessage, FileRequest, FrameKind, FrameReader, MAX_DATA, decode,
    write_data,
};
use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use tree_archive::{ArchiveError, Owners, Rules, Start, pack, unpack};

use super::files::open_in;
use super::{answer, failure, shorten};

/// Packs a file or a tree and sends the archive.
pub fn read(root: &Path, reader: &FrameReader<File>, read: &ArchiveRead) {
    let frames = Frames(reader.get_ref());
    let out = BufWriter::with_capacity(MAX_DATA, frames);
    let sent = pack_at(root, read, out).map(|()| FileMessage::End);
    finish(reader, &read.path, sent);
}

/// Receives an archive and unpacks it into a folder.
pub fn write(root: &Path, reader: &mut FrameReader<File>, path: &OsStr) {
    let written = unpack_at(root, reader, path).map(|()| FileMessage::End);
    finish(reader, path, written);
}

fn pack_at(root: &Path, read: &ArchiveRead, out: impl Write) -> Result<(), ArchiveError> {
    let path = Path::new(&read.path);
    let last = path.components().next_back();
    let packed = match (last, path.parent()) {
        (Some(Component::Normal(leaf)), Some(parent)) if !read.follow => {
            let parent = match parent.as_os_str().is_empty() {
                true => Path::new("/"),
                false => parent,
            };
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
            let parent = open_in(root, parent.as_os_str(), flags).map_err(about)?;
            let start = Start::Named(parent.as_fd(), leaf);
            pack(start, &read.name, Owners::Kept, out)
        }
        _ => {
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
            let opened = open_in(root, &read.path, flags).map_err(about)?;
            pack(Start::Opened(opened), &read.name, Owners::Kept, out)
        }
    };
    packed.map(drop)
}

fn unpack_at(
    root: &Path,
    reader: &mut FrameReader<File>,
    path: &OsStr,
) -> Result<(), ArchiveError> {
    let into = open_in(root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY).map_err(about)?;
    answer(reader, &FileMessage::Ready);
    // Only tests run the agent as somebody else, who can give nothing away.
    let privileged = geteuid().is_root();
    let rules = Rules {
        top: None,
        file_only: false,
        owners: privileged,
        rights: true,
        devices: privileged,
    };
    let source = Received {
        reader,
        data: Vec::new(),
        used: 0,
        ended: false,
    };
    unpack(source, into.as_fd(), &rules).map(drop)
}

fn about(source: io::Error) -> ArchiveError {
    let name = String::new();
    ArchiveError::File { name, source }
}

fn finish(reader: &FrameReader<File>, path: &OsStr, result: Result<FileMessage, ArchiveError>) {
    let message = result.unwrap_or_else(|error| FileMessage::Failed(told(&error, path)));
    answer(reader, &message);
}

/// What went wrong with which file of the tree at `path`.
fn told(error: &ArchiveError, path: &OsStr) -> Failure {
    let path = path.as_bytes().escape_ascii();
    match error {
        ArchiveError::File { name, source } if name.is_empty() => failure(source, path),
        ArchiveError::File { name, source } => failure(source, format_args!("{path}: {name}")),
        ArchiveError::Read(source) | ArchiveError::Write(source) => {
            failure(source, format_args!("{path}: {error}"))
        }
        refused => Failure {
            errno: libc::EINVAL,
            message: shorten(format!("{path}: {refused}")),
        },
    }
}

/// Sends what is written as data frames.
struct Frames<'a>(&'a File);

impl Write for Frames<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(MAX_DATA);
        write_data(&mut self.0, FrameKind::File, &bytes[..len]).map_err(io::Error::other)?;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What data frames bring, until the host says that it was all.
struct Received<'a> {
    reader: &'a mut FrameReader<File>,
    /// The frame that is being read, and how much of it was.
    data: Vec<u8>,
    used: usize,
    ended: bool,
}

impl Read for Received<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.used == self.data.len() && !self.ended {
            let frame = self.reader.read_frame().map_err(io::Error::other)?;
            let frame = frame.ok_or(io::ErrorKind::UnexpectedEof)?;
            self.used = 0;
            self.data.clear();
            match frame.kind {
                FrameKind::File => self.data.extend_from_slice(frame.body),
                FrameKind::Message => {
                    let FileRequest::End = decode(frame.body).map_err(io::Error::other)?;
                    self.ended = true;
                }
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        let left = &self.data[self.used..];
        let len = left.len().min(into.len());
        into[..len].copy_from_slice(&left[..len]);
        self.used += len;
        Ok(len)
    }
}
