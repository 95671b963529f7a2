//! Regular files: opened, read, written, allocated, copied.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use rustix::fs::{FallocateFlags, OFlags, SeekFrom};
use rustix::io::Errno;

use super::HostFs;
use super::handles::OpenFile;
use crate::fs::{Handle, Node, OpenFlags, WriteHow};
use crate::memory::Memory;

/// The flags of open(2) that are passed on. The host's are the guest's: both are
/// Linux on one architecture. Not `O_DIRECT`: the guest's kernel writes pages of
/// a mapping or of its write-back cache by any handle, of any length, which a
/// direct one of the host would refuse. In the guest it works all the same.
const PASSED: OFlags = OFlags::RWMODE
    .union(OFlags::APPEND)
    .union(OFlags::TRUNC)
    .union(OFlags::SYNC)
    .union(OFlags::DSYNC);

/// Most bytes copied by one call, which cannot be interrupted by the guest.
const COPY_MAX: u64 = 64 << 20;

/// The flags to open a file of the guest's with. `EROFS` if they would change it
/// and nothing may be.
pub(super) fn host_flags(flags: u32, read_only: bool) -> Result<OFlags, Errno> {
    let flags = OFlags::from_bits_retain(flags) & PASSED;
    let access = flags & OFlags::RWMODE;
    if access == OFlags::RWMODE {
        return Err(Errno::INVAL);
    }
    if read_only && (access != OFlags::RDONLY || flags.contains(OFlags::TRUNC)) {
        return Err(Errno::ROFS);
    }
    Ok(flags)
}

pub(super) fn open(fs: &HostFs, node: Node, how: OpenFlags) -> Result<Handle, Errno> {
    let flags = host_flags(how.flags, fs.read_only)?;
    fs.handles.room()?;
    let file = fs.regular(node)?;
    if flags.contains(OFlags::TRUNC) {
        if how.kill_privileges {
            fs.ownership.kill_privileges(&fs.proc, file.as_fd())?;
        } else {
            fs.ownership.drop_capability(file.as_fd())?;
        }
    }
    let fd = fs.proc.reopen(file.as_fd(), flags)?;
    Ok(fs.handles.add_file(node, fd, flags))
}

pub(super) fn read(file: &OpenFile, offset: u64, into: &Memory<'_>) -> Result<usize, Errno> {
    into.read_from(file.as_fd(), offset).map_err(errno)
}

pub(super) fn write(
    fs: &HostFs,
    file: &OpenFile,
    offset: u64,
    from: &Memory<'_>,
    how: WriteHow,
) -> Result<usize, Errno> {
    if how.kill_privileges {
        fs.ownership.kill_privileges(&fs.proc, file.as_fd())?;
    } else if !how.from_cache {
        // Whoever writes. Of what waited in its cache the guest has seen to it, and a
        // capability may have been set since.
        let count = fs.capabilities.load(Ordering::Relaxed);
        if fs.ownership.records() && file.may_have_capability(count) {
            fs.ownership.drop_capability(file.as_fd())?;
            // Only now: until then other writes at the same time see to it themselves.
            file.capability_is_gone(count);
        }
    }
    if how.from_cache && file.appends {
        // Its descriptor would put the page at the end, whatever the offset.
        let fd = fs.proc.reopen(file.as_fd(), OFlags::WRONLY)?;
        return from.write_to(fd.as_fd(), offset).map_err(errno);
    }
    from.write_to(file.as_fd(), offset).map_err(errno)
}

pub(super) fn sync(file: impl AsFd, data_only: bool) -> Result<(), Errno> {
    if data_only {
        rustix::fs::fdatasync(file)
    } else {
        rustix::fs::fsync(file)
    }
}

pub(super) fn seek(file: &OpenFile, offset: u64, whence: u32) -> Result<u64, Errno> {
    // Reads and writes say where, so the position that this moves matters to nobody.
    let position = match i32::try_from(whence) {
        Ok(libc::SEEK_DATA) => SeekFrom::Data(offset),
        Ok(libc::SEEK_HOLE) => SeekFrom::Hole(offset),
        _ => return Err(Errno::INVAL),
    };
    rustix::fs::seek(file.as_fd(), position)
}

pub(super) fn allocate(
    fs: &HostFs,
    file: &OpenFile,
    mode: u32,
    offset: u64,
    len: u64,
) -> Result<(), Errno> {
    let mode = FallocateFlags::from_bits_retain(mode);
    let known = FallocateFlags::KEEP_SIZE
        | FallocateFlags::PUNCH_HOLE
        | FallocateFlags::COLLAPSE_RANGE
        | FallocateFlags::ZERO_RANGE
        | FallocateFlags::INSERT_RANGE
        | FallocateFlags::UNSHARE_RANGE;
    if !known.contains(mode) {
        return Err(Errno::OPNOTSUPP);
    }
    // The request does not say who asks, so nobody's privileges survive it.
    fs.ownership.kill_privileges(&fs.proc, file.as_fd())?;
    rustix::fs::fallocate(file.as_fd(), mode, offset, len)
}

pub(super) fn copy(
    fs: &HostFs,
    from: (&OpenFile, u64),
    to: (&OpenFile, u64),
    len: u64,
) -> Result<usize, Errno> {
    fs.ownership.kill_privileges(&fs.proc, to.0.as_fd())?;
    let (mut read_at, mut write_at) = (from.1, to.1);
    rustix::fs::copy_file_range(
        from.0.as_fd(),
        Some(&mut read_at),
        to.0.as_fd(),
        Some(&mut write_at),
        len.min(COPY_MAX) as usize,
    )
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
