//! Open files and their bytes.

use std::mem::size_of;

use zerocopy::IntoBytes;

use super::{Call, MAX_TRANSFER};
use crate::fs::{Errno, Handle, Node, OpenFlags, Owner, WriteHow};
use crate::memory::Memory;
use crate::wire::{
    CopyFileRangeIn, CreateIn, FSYNC_DATA_ONLY, FallocateIn, Flags, FlushIn, FsyncIn, LseekIn,
    LseekOut, OPEN_KILL_SUIDGID, OpenIn, OpenOut, ReadIn, ReleaseIn, WRITE_CACHE,
    WRITE_KILL_SUIDGID, WriteIn, WriteOut,
};

/// Bytes of a WRITE before its data.
pub(super) const WRITE_ARGUMENTS: usize = size_of::<WriteIn>();

/// Most bytes of one COPY_FILE_RANGE: the reply has 32 bits for their number,
/// and the request blocks its queue until it is done.
const MAX_COPY: u64 = 64 << 20;

const O_ACCMODE: u32 = libc::O_ACCMODE as u32;
const O_RDONLY: u32 = libc::O_RDONLY as u32;
const O_WRONLY: u32 = libc::O_WRONLY as u32;
const O_RDWR: u32 = libc::O_RDWR as u32;
const O_APPEND: u32 = libc::O_APPEND as u32;
const O_TRUNC: u32 = libc::O_TRUNC as u32;

impl Call<'_> {
    pub(super) fn open(mut self) -> Result<usize, Errno> {
        let asked: OpenIn = self.arguments.take()?;
        let changes = asked.flags & O_ACCMODE != O_RDONLY || asked.flags & O_TRUNC != 0;
        if self.server.read_only && changes {
            return Err(Errno::ROFS);
        }
        let how = self.how(asked.flags, asked.open_flags);
        let handle = self.fs().open(self.node(), how)?;
        self.put(self.opened(handle).as_bytes())
    }

    pub(super) fn create(mut self) -> Result<usize, Errno> {
        let asked: CreateIn = self.arguments.take()?;
        let name = self.arguments.name()?;
        let by = self.caller()?;
        let how = self.how(asked.flags, asked.open_flags);
        let (entry, handle) = self.fs().create(by, self.node(), name, asked.mode, how)?;
        self.put(
            &[
                self.entry(&entry).as_bytes(),
                self.opened(handle).as_bytes(),
            ]
            .concat(),
        )
    }

    /// The name in the request means nothing: Linux sends `/`.
    pub(super) fn tmpfile(mut self) -> Result<usize, Errno> {
        let asked: CreateIn = self.arguments.take()?;
        let by = self.caller()?;
        let how = self.how(asked.flags, asked.open_flags);
        let (entry, handle) = self.fs().tmpfile(by, self.node(), asked.mode, how)?;
        self.put(
            &[
                self.entry(&entry).as_bytes(),
                self.opened(handle).as_bytes(),
            ]
            .concat(),
        )
    }

    /// Under a write-back cache the guest reads through every handle and writes
    /// at the end by offset (see [`Cache`](crate::Cache)).
    fn how(&self, mut flags: u32, open_flags: u32) -> OpenFlags {
        if self.agreed.has(Flags::WRITEBACK_CACHE) {
            if flags & O_ACCMODE == O_WRONLY {
                flags = flags & !O_ACCMODE | O_RDWR;
            }
            flags &= !O_APPEND;
        }
        OpenFlags {
            flags,
            kill_privileges: open_flags & OPEN_KILL_SUIDGID != 0,
        }
    }

    fn opened(&self, handle: Handle) -> OpenOut {
        OpenOut {
            fh: handle.0,
            open_flags: self.server.cache.file_flags(self.agreed),
            padding: 0,
        }
    }

    pub(super) fn read(mut self) -> Result<usize, Errno> {
        let asked: ReadIn = self.arguments.take()?;
        let size = transfer_size(asked.size)?;
        if size > self.room.len() {
            return Err(Errno::IO);
        }
        let into = self.room.split_off_front(size);
        let into = Memory::new(into.pieces().collect());
        let read = self
            .fs()
            .read(self.node(), Handle(asked.fh), asked.offset, &into)?;
        Ok(read.min(size))
    }

    /// `data` is what the request has after its arguments.
    pub(super) fn write(mut self, data: &Memory<'_>) -> Result<usize, Errno> {
        let asked: WriteIn = self.arguments.take()?;
        if transfer_size(asked.size)? != data.len() {
            return Err(Errno::INVAL);
        }
        let written = self.fs().write(
            self.node(),
            Handle(asked.fh),
            asked.offset,
            data,
            WriteHow {
                kill_privileges: asked.write_flags & WRITE_KILL_SUIDGID != 0,
                from_cache: asked.write_flags & WRITE_CACHE != 0,
            },
        )?;
        self.put_count(written)
    }

    pub(super) fn flush(mut self) -> Result<usize, Errno> {
        let asked: FlushIn = self.arguments.take()?;
        self.fs()
            .flush(self.node(), Handle(asked.fh), Owner(asked.lock_owner))?;
        Ok(0)
    }

    pub(super) fn release(mut self) -> Result<usize, Errno> {
        let asked: ReleaseIn = self.arguments.take()?;
        self.fs().release(self.node(), Handle(asked.fh))?;
        Ok(0)
    }

    pub(super) fn fsync(mut self) -> Result<usize, Errno> {
        let asked: FsyncIn = self.arguments.take()?;
        let data_only = asked.fsync_flags & FSYNC_DATA_ONLY != 0;
        self.fs().fsync(self.node(), Handle(asked.fh), data_only)?;
        Ok(0)
    }

    /// Not under a write-back cache: what the guest has not written back yet
    /// would be a hole to the host, and a program that copies around holes would
    /// lose it. Linux then takes all of a file for data.
    pub(super) fn lseek(mut self) -> Result<usize, Errno> {
        if self.agreed.has(Flags::WRITEBACK_CACHE) {
            return Err(Errno::NOSYS);
        }
        let asked: LseekIn = self.arguments.take()?;
        let offset = self
            .fs()
            .lseek(self.node(), Handle(asked.fh), asked.offset, asked.whence)?;
        self.put(LseekOut { offset }.as_bytes())
    }

    pub(super) fn fallocate(mut self) -> Result<usize, Errno> {
        let asked: FallocateIn = self.arguments.take()?;
        self.fs().fallocate(
            self.node(),
            Handle(asked.fh),
            asked.mode,
            asked.offset,
            asked.length,
        )?;
        Ok(0)
    }

    pub(super) fn copy_file_range(mut self) -> Result<usize, Errno> {
        let asked: CopyFileRangeIn = self.arguments.take()?;
        if asked.flags != 0 {
            return Err(Errno::INVAL);
        }
        let copied = self.fs().copy_file_range(
            (self.node(), Handle(asked.fh_in), asked.off_in),
            (Node(asked.nodeid_out), Handle(asked.fh_out), asked.off_out),
            asked.len.min(MAX_COPY),
        )?;
        self.put_count(copied)
    }

    /// No count here is more than the request asked for, so it has 32 bits.
    fn put_count(&self, count: usize) -> Result<usize, Errno> {
        let size = u32::try_from(count).map_err(|_| Errno::IO)?;
        self.put(WriteOut { size, padding: 0 }.as_bytes())
    }
}

fn transfer_size(size: u32) -> Result<usize, Errno> {
    match size as usize {
        size @ 0..=MAX_TRANSFER => Ok(size),
        _ => Err(Errno::INVAL),
    }
}
