//! The record of a file's owner, permissions and type in an extended attribute,
//! `user.containers.override_stat`, in the form that containers/storage writes
//! and fuse-overlayfs reads: `uid:gid:mode:type`, ids decimal, mode octal, type
//! `file`, `dir`, `symlink`, `pipe`, `socket`, `block-MAJOR-MINOR` or
//! `char-MAJOR-MINOR`. The type may be missing.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::str;

use rustix::fs::{FileType, XattrFlags};
use rustix::io::Errno;

use super::super::proc;
use super::super::stat::{Shown, Stat, decode_dev, encode_dev};

/// Its name.
pub(super) const NAME: &CStr = c"user.containers.override_stat";

/// What the guest is to see of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Record(Shown);

impl Record {
    pub(super) fn new(shown: Shown) -> Self {
        Record(shown)
    }

    /// What the guest sees of a file of the host with type and permissions `real`.
    /// A regular file may stand for a special one, and nothing else for anything.
    pub(super) fn shown(self, real: u32) -> Shown {
        let kind = FileType::from_raw_mode(real);
        let recorded = FileType::from_raw_mode(self.0.mode);
        let stands_for = matches!(
            recorded,
            FileType::Fifo | FileType::Socket | FileType::BlockDevice | FileType::CharacterDevice
        );
        let kind = if kind == FileType::RegularFile && stands_for {
            recorded
        } else {
            kind
        };
        Shown {
            mode: kind.as_raw_mode() | self.0.mode & 0o7777,
            ..self.0
        }
    }

    /// User and group.
    pub(in super::super) fn owner(self) -> (u32, u32) {
        (self.0.uid, self.0.gid)
    }

    /// The record of the file of `fd`. None too where none can be read: an
    /// unreadable one, one in a form unknown, one that a symbolic link cannot have.
    pub(super) fn load(fd: BorrowedFd<'_>, stat: &Stat) -> Result<Option<Self>, Errno> {
        if !matches!(stat.kind(), FileType::RegularFile | FileType::Directory) {
            return Ok(None);
        }
        match proc::get_xattr(fd, NAME) {
            Ok(text) => Ok(Record::parse(&text)),
            Err(Errno::NODATA | Errno::ACCESS | Errno::PERM | Errno::OPNOTSUPP) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it beside the file of `fd`.
    pub(in super::super) fn store(self, fd: BorrowedFd<'_>) -> Result<(), Errno> {
        proc::set_xattr(fd, NAME, self.text().as_bytes(), XattrFlags::empty())
    }

    fn text(self) -> String {
        let Shown {
            mode,
            uid,
            gid,
            rdev,
        } = self.0;
        let (major, minor) = decode_dev(rdev);
        let kind = match FileType::from_raw_mode(mode) {
            FileType::Directory => "dir".to_owned(),
            FileType::Symlink => "symlink".to_owned(),
            FileType::Fifo => "pipe".to_owned(),
            FileType::Socket => "socket".to_owned(),
            FileType::BlockDevice => format!("block-{major}-{minor}"),
            FileType::CharacterDevice => format!("char-{major}-{minor}"),
            FileType::RegularFile | FileType::Unknown => "file".to_owned(),
        };
        format!("{uid}:{gid}:{:04o}:{kind}", mode & 0o7777)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let mut fields = str::from_utf8(text).ok()?.split(':');
        let uid = fields.next()?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let mode = u32::from_str_radix(fields.next()?, 8).ok()? & 0o7777;
        let (kind, rdev) = match fields.next() {
            None => (FileType::RegularFile, 0),
            Some(kind) => parse_kind(kind)?,
        };
        Some(Record(Shown {
            mode: kind.as_raw_mode() | mode,
            uid,
            gid,
            rdev,
        }))
    }
}

/// Whether the file system of `folder` has extended attributes of users.
pub(super) fn can_be_kept(folder: BorrowedFd<'_>) -> bool {
    !matches!(proc::get_xattr(folder, NAME), Err(Errno::OPNOTSUPP))
}

fn parse_kind(text: &str) -> Option<(FileType, u32)> {
    let mut parts = text.split('-');
    let kind = match parts.next()? {
        "file" => FileType::RegularFile,
        "dir" => FileType::Directory,
        "symlink" => FileType::Symlink,
        "pipe" => FileType::Fifo,
        "socket" => FileType::Socket,
        "block" => FileType::BlockDevice,
        "char" => FileType::CharacterDevice,
        _ => return None,
    };
    let rdev = match (parts.next(), parts.next()) {
        (Some(major), Some(minor)) => encode_dev(major.parse().ok()?, minor.parse().ok()?),
        _ => 0,
    };
    Some((kind, rdev))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(mode: u32, rdev: u32) -> Record {
        Record(Shown {
            mode,
            uid: 1000,
            gid: 1001,
            rdev,
        })
    }

    #[test]
    fn records_are_written_as_other_programs_write_them() {
        for (mode, rdev, text) in [
            (0o10_0644, 0, "1000:1001:0644:file"),
            (0o10_4755, 0, "1000:1001:4755:file"),
            (0o04_1777, 0, "1000:1001:1777:dir"),
            (0o01_0600, 0, "1000:1001:0600:pipe"),
            (0o14_0000, 0, "1000:1001:0000:socket"),
            (0o06_0660, encode_dev(8, 17), "1000:1001:0660:block-8-17"),
            (0o02_0666, encode_dev(1, 3), "1000:1001:0666:char-1-3"),
        ] {
            assert_eq!(record(mode, rdev).text(), text);
            assert_eq!(Record::parse(text.as_bytes()), Some(record(mode, rdev)));
        }
    }

    #[test]
    fn record_without_a_type_is_read() {
        assert_eq!(Record::parse(b"1000:1001:644"), Some(record(0o10_0644, 0)));
    }

    #[test]
    fn records_in_another_form_are_none() {
        for text in [
            "",
            "1",
            "1:2",
            "1:2:8",
            "-1:2:644",
            "1:2:644:door",
            "1:2:644:char-x-y",
            "4294967296:0:644",
        ] {
            assert_eq!(Record::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Record::parse(b"\xff:0:644"), None);
    }

    #[test]
    fn only_a_regular_file_stands_for_another_type() {
        let device = record(0o02_0666, encode_dev(1, 3));
        assert_eq!(device.shown(0o10_0644).mode, 0o02_0666);
        assert_eq!(device.shown(0o04_0755).mode, 0o04_0666);
        assert_eq!(record(0o12_0777, 0).shown(0o10_0644).mode, 0o10_0777);
        assert_eq!(record(0o04_0777, 0).shown(0o10_0644).mode, 0o10_0777);
    }
}
