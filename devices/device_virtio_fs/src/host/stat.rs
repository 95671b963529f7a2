//! What the host tells of a file: statx(2), and which file it is.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp, makedev};
use rustix::io::Errno;

use crate::fs::{Attr, Time};

/// A file among those that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) dev: u64,
    pub(super) ino: u64,
}

/// A file among all that ever existed, as far as the host can tell: an inode
/// number is used again after a file's end, its birth is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) key: Key,
    birth: Option<Time>,
}

/// Owner, type and permissions that the guest is shown instead of the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    /// `st_mode`.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// In the form of [`Attr::rdev`].
    pub(super) rdev: u32,
}

/// What the host tells.
pub(super) struct Stat(Statx);

impl Stat {
    /// Of the file of `fd`.
    pub(super) fn of(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        Stat::at(fd, c"", AtFlags::EMPTY_PATH)
    }

    /// Of `name` in `folder`, which is not followed.
    pub(super) fn of_name(folder: BorrowedFd<'_>, name: &CStr) -> Result<Self, Errno> {
        Stat::at(
            folder,
            name,
            AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
        )
    }

    fn at(fd: BorrowedFd<'_>, name: &CStr, flags: AtFlags) -> Result<Self, Errno> {
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        rustix::fs::statx(fd, name, flags, mask).map(Stat)
    }

    pub(super) fn identity(&self) -> Identity {
        let told = self.0.stx_mask & StatxFlags::BTIME.bits() != 0;
        Identity {
            key: Key {
                dev: makedev(self.0.stx_dev_major, self.0.stx_dev_minor),
                ino: self.0.stx_ino,
            },
            birth: told.then(|| time(self.0.stx_btime)),
        }
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.mode())
    }

    /// `st_mode`.
    pub(super) fn mode(&self) -> u32 {
        self.0.stx_mode.into()
    }

    /// As the host has it.
    pub(super) fn shown(&self) -> Shown {
        Shown {
            mode: self.mode(),
            uid: self.0.stx_uid,
            gid: self.0.stx_gid,
            rdev: encode_dev(self.0.stx_rdev_major, self.0.stx_rdev_minor),
        }
    }

    /// For the guest, to which the inode's number is `ino`.
    pub(super) fn attr(&self, ino: u64, shown: Shown) -> Attr {
        Attr {
            ino,
            size: self.0.stx_size,
            blocks: self.0.stx_blocks,
            blksize: self.0.stx_blksize,
            atime: time(self.0.stx_atime),
            mtime: time(self.0.stx_mtime),
            ctime: time(self.0.stx_ctime),
            btime: self.identity().birth,
            mode: shown.mode,
            nlink: self.0.stx_nlink,
            uid: shown.uid,
            gid: shown.gid,
            rdev: shown.rdev,
        }
    }
}

/// Linux's 32-bit form of a device number (`new_encode_dev`).
pub(super) fn encode_dev(major: u32, minor: u32) -> u32 {
    minor & 0xff | major << 8 | (minor & !0xff) << 12
}

/// Major and minor of it.
pub(super) fn decode_dev(dev: u32) -> (u32, u32) {
    (dev >> 8 & 0xfff, dev & 0xff | dev >> 12 & 0xf_ff00)
}

fn time(stamp: StatxTimestamp) -> Time {
    Time {
        sec: stamp.tv_sec,
        nsec: stamp.tv_nsec,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive_their_32_bit_form() {
        for (major, minor) in [(0, 0), (1, 3), (8, 255), (259, 256), (0xfff, 0xf_ffff)] {
            assert_eq!(decode_dev(encode_dev(major, minor)), (major, minor));
        }
        assert_eq!(encode_dev(1, 3), 0x103);
    }
}
