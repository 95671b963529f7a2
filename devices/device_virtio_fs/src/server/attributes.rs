//! Attributes of files and of the file system.

use zerocopy::IntoBytes;

use super::Call;
use crate::fs::{Attr, Errno, Handle, SetAttr, SetTime, Time};
use crate::wire::{
    AttrFields, AttrOut, GETATTR_FH, GetattrIn, SetattrIn, StatfsOut, Statx, StatxIn, StatxOut,
    SxTime, fattr,
};

/// `STATX_BASIC_STATS` and `STATX_BTIME`.
const STATX_BASIC: u32 = 0x7ff;
const STATX_BTIME: u32 = 0x800;

impl Call<'_> {
    pub(super) fn getattr(mut self) -> Result<usize, Errno> {
        let asked: GetattrIn = self.arguments.take()?;
        let handle = (asked.getattr_flags & GETATTR_FH != 0).then_some(Handle(asked.fh));
        let attr = self.fs().getattr(self.node(), handle)?;
        self.put_attr(&attr)
    }

    pub(super) fn statx(mut self) -> Result<usize, Errno> {
        let asked: StatxIn = self.arguments.take()?;
        let handle = (asked.getattr_flags & GETATTR_FH != 0).then_some(Handle(asked.fh));
        let attr = self.fs().getattr(self.node(), handle)?;
        let validity = self.server.cache.of_attributes(attr.mode);
        let reply = StatxOut {
            attr_valid: validity.as_secs(),
            attr_valid_nsec: validity.subsec_nanos(),
            flags: 0,
            spare: [0; 2],
            stat: statx(&attr),
        };
        self.put(reply.as_bytes())
    }

    pub(super) fn setattr(mut self) -> Result<usize, Errno> {
        let asked: SetattrIn = self.arguments.take()?;
        let valid = |bit: u32| asked.valid & bit != 0;
        let handle = valid(fattr::FH).then_some(Handle(asked.fh));
        let set = SetAttr {
            mode: valid(fattr::MODE).then_some(asked.mode & 0o7777),
            uid: valid(fattr::UID).then_some(asked.uid),
            gid: valid(fattr::GID).then_some(asked.gid),
            size: valid(fattr::SIZE).then_some(asked.size),
            atime: set_time(
                valid(fattr::ATIME),
                valid(fattr::ATIME_NOW),
                asked.atime,
                asked.atimensec,
            )?,
            mtime: set_time(
                valid(fattr::MTIME),
                valid(fattr::MTIME_NOW),
                asked.mtime,
                asked.mtimensec,
            )?,
            ctime: if valid(fattr::CTIME) {
                Some(time(asked.ctime, asked.ctimensec)?)
            } else {
                None
            },
            kill_privileges: valid(fattr::KILL_SUIDGID),
        };
        let attr = self.fs().setattr(self.node(), handle, &set)?;
        self.put_attr(&attr)
    }

    pub(super) fn statfs(self) -> Result<usize, Errno> {
        let room = self.fs().statfs(self.node())?;
        let reply = StatfsOut {
            blocks: room.blocks,
            bfree: room.bfree,
            bavail: room.bavail,
            files: room.files,
            ffree: room.ffree,
            bsize: room.bsize,
            namelen: room.namelen,
            frsize: room.frsize,
            padding: 0,
            spare: [0; 6],
        };
        self.put(reply.as_bytes())
    }

    pub(super) fn syncfs(self) -> Result<usize, Errno> {
        self.fs().syncfs(self.node())?;
        Ok(0)
    }

    fn put_attr(&self, attr: &Attr) -> Result<usize, Errno> {
        let validity = self.server.cache.of_attributes(attr.mode);
        let reply = AttrOut {
            attr_valid: validity.as_secs(),
            attr_valid_nsec: validity.subsec_nanos(),
            dummy: 0,
            attr: fields(attr),
        };
        self.put(reply.as_bytes())
    }
}

/// `EINVAL` for a part of a second that is more than one.
fn time(sec: i64, nsec: u32) -> Result<Time, Errno> {
    if nsec < 1_000_000_000 {
        Ok(Time { sec, nsec })
    } else {
        Err(Errno::INVAL)
    }
}

fn set_time(set: bool, now: bool, sec: i64, nsec: u32) -> Result<Option<SetTime>, Errno> {
    match (set, now) {
        (false, _) => Ok(None),
        (true, true) => Ok(Some(SetTime::Now)),
        (true, false) => Ok(Some(SetTime::At(time(sec, nsec)?))),
    }
}

pub(super) fn fields(attr: &Attr) -> AttrFields {
    AttrFields {
        ino: attr.ino,
        size: attr.size,
        blocks: attr.blocks,
        atime: attr.atime.sec,
        mtime: attr.mtime.sec,
        ctime: attr.ctime.sec,
        atimensec: attr.atime.nsec,
        mtimensec: attr.mtime.nsec,
        ctimensec: attr.ctime.nsec,
        mode: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: attr.blksize,
        flags: 0,
    }
}

fn statx(attr: &Attr) -> Statx {
    let birth = attr.btime.map_or(0, |_| STATX_BTIME);
    Statx {
        mask: STATX_BASIC | birth,
        blksize: attr.blksize,
        attributes: 0,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        // Type and permissions: the upper half of `st_mode` is not used.
        mode: attr.mode as u16,
        spare0: 0,
        ino: attr.ino,
        size: attr.size,
        blocks: attr.blocks,
        attributes_mask: 0,
        atime: sx_time(attr.atime),
        btime: sx_time(attr.btime.unwrap_or_default()),
        ctime: sx_time(attr.ctime),
        mtime: sx_time(attr.mtime),
        // As `new_decode_dev` of the kernel takes `rdev` apart.
        rdev_major: (attr.rdev & 0xfff00) >> 8,
        rdev_minor: attr.rdev & 0xff | (attr.rdev >> 12) & 0xfff00,
        dev_major: 0,
        dev_minor: 0,
        spare2: [0; 14],
    }
}

fn sx_time(time: Time) -> SxTime {
    SxTime {
        sec: time.sec,
        nsec: time.nsec,
        reserved: 0,
    }
}
