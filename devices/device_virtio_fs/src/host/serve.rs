//! The operations of the guest, each by the part that does it, and what holds
//! for all: a volume that is read-only changes in no way.

use std::ffi::CStr;
use std::sync::Arc;

use device_model::FileAccess;
use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::create::New;
use super::{HostFs, Ownership, attr, create, data, dirs, locks, names, xattrs};
use crate::fs::{
    Attr, Caller, DirentSink, Entry, FileSystem, Handle, Lock, LockKind, Name, Node, OpenFlags,
    OpenedFolder, Owner, SetAttr, StatFs, WriteHow,
};
use crate::memory::Memory;

/// The answer to the guest. That the process has no descriptor left is nothing
/// that a process of the guest could mend by closing one of its own.
fn told<T>(outcome: Result<T, Errno>) -> Result<T, Errno> {
    outcome.map_err(|error| match error {
        Errno::MFILE => Errno::NFILE,
        error => error,
    })
}

impl HostFs {
    /// Comes before each change.
    fn changes(&self) -> Result<(), Errno> {
        if self.read_only {
            Err(Errno::ROFS)
        } else {
            Ok(())
        }
    }
}

impl FileSystem for HostFs {
    fn access(&self) -> FileAccess {
        FileAccess {
            folder: Some(Arc::clone(&self.folder)),
            read_only: self.read_only,
            as_users: self.ownership == Ownership::AsIs,
        }
    }

    fn lookup(&self, parent: Node, name: Name<'_>) -> Result<Entry, Errno> {
        told(names::lookup(self, parent, name))
    }

    fn forget(&self, node: Node, count: u64) {
        self.inodes.forget(node, count);
    }

    fn reset(&self) {
        self.locks.clear();
        self.handles.clear();
        self.inodes.clear();
    }

    fn getattr(&self, node: Node, handle: Option<Handle>) -> Result<Attr, Errno> {
        told(attr::get(self, node, handle))
    }

    fn setattr(&self, node: Node, handle: Option<Handle>, set: &SetAttr) -> Result<Attr, Errno> {
        self.changes()?;
        told(attr::set(self, node, handle, set))
    }

    fn readlink(&self, node: Node) -> Result<Vec<u8>, Errno> {
        told(attr::readlink(self, node))
    }

    fn symlink(
        &self,
        by: Caller,
        parent: Node,
        name: Name<'_>,
        target: &CStr,
    ) -> Result<Entry, Errno> {
        self.changes()?;
        told(create::make(self, by, parent, name, &New::Link(target)))
    }

    fn mknod(
        &self,
        by: Caller,
        parent: Node,
        name: Name<'_>,
        mode: u32,
        rdev: u32,
    ) -> Result<Entry, Errno> {
        self.changes()?;
        told(create::make(self, by, parent, name, &New::File(mode, rdev)))
    }

    fn mkdir(&self, by: Caller, parent: Node, name: Name<'_>, mode: u32) -> Result<Entry, Errno> {
        self.changes()?;
        told(create::make(self, by, parent, name, &New::Folder(mode)))
    }

    fn unlink(&self, parent: Node, name: Name<'_>) -> Result<(), Errno> {
        self.changes()?;
        told(names::remove(self, parent, name, AtFlags::empty()))
    }

    fn rmdir(&self, parent: Node, name: Name<'_>) -> Result<(), Errno> {
        self.changes()?;
        told(names::remove(self, parent, name, AtFlags::REMOVEDIR))
    }

    fn rename(
        &self,
        from: (Node, Name<'_>),
        to: (Node, Name<'_>),
        flags: u32,
    ) -> Result<(), Errno> {
        self.changes()?;
        told(names::rename(self, from, to, flags))
    }

    fn link(&self, node: Node, parent: Node, name: Name<'_>) -> Result<Entry, Errno> {
        self.changes()?;
        told(names::link(self, node, parent, name))
    }

    fn open(&self, node: Node, how: OpenFlags) -> Result<Handle, Errno> {
        told(data::open(self, node, how))
    }

    fn create(
        &self,
        by: Caller,
        parent: Node,
        name: Name<'_>,
        mode: u32,
        how: OpenFlags,
    ) -> Result<(Entry, Handle), Errno> {
        told(create::create(self, by, parent, name, mode, how))
    }

    fn tmpfile(
        &self,
        by: Caller,
        parent: Node,
        mode: u32,
        how: OpenFlags,
    ) -> Result<(Entry, Handle), Errno> {
        self.changes()?;
        told(create::tmpfile(self, by, parent, mode, how))
    }

    fn read(
        &self,
        node: Node,
        handle: Handle,
        offset: u64,
        into: &Memory<'_>,
    ) -> Result<usize, Errno> {
        data::read(&*self.handles.file(node, handle)?, offset, into)
    }

    fn write(
        &self,
        node: Node,
        handle: Handle,
        offset: u64,
        from: &Memory<'_>,
        how: WriteHow,
    ) -> Result<usize, Errno> {
        self.changes()?;
        let file = self.handles.file(node, handle)?;
        data::write(self, &file, offset, from, how)
    }

    fn flush(&self, node: Node, handle: Handle, owner: Owner) -> Result<(), Errno> {
        self.handles.file(node, handle)?;
        locks::drop_owner(self, node, owner)
    }

    fn release(&self, node: Node, handle: Handle) -> Result<(), Errno> {
        self.handles.close_file(node, handle)?;
        locks::drop_handle(self, node, handle)
    }

    fn fsync(&self, node: Node, handle: Handle, data_only: bool) -> Result<(), Errno> {
        data::sync(&*self.handles.file(node, handle)?, data_only)
    }

    fn lseek(&self, node: Node, handle: Handle, offset: u64, whence: u32) -> Result<u64, Errno> {
        data::seek(&*self.handles.file(node, handle)?, offset, whence)
    }

    fn fallocate(
        &self,
        node: Node,
        handle: Handle,
        mode: u32,
        offset: u64,
        len: u64,
    ) -> Result<(), Errno> {
        self.changes()?;
        let file = self.handles.file(node, handle)?;
        data::allocate(self, &file, mode, offset, len)
    }

    fn copy_file_range(
        &self,
        from: (Node, Handle, u64),
        to: (Node, Handle, u64),
        len: u64,
    ) -> Result<usize, Errno> {
        self.changes()?;
        let source = self.handles.file(from.0, from.1)?;
        let target = self.handles.file(to.0, to.1)?;
        data::copy(self, (&source, from.2), (&target, to.2), len)
    }

    fn opendir(&self, node: Node) -> Result<OpenedFolder, Errno> {
        told(dirs::open(self, node))
    }

    fn readdir(
        &self,
        node: Node,
        handle: Handle,
        offset: u64,
        sink: &mut dyn DirentSink,
    ) -> Result<(), Errno> {
        told(dirs::read(self, node, handle, offset, false, sink))
    }

    fn readdirplus(
        &self,
        node: Node,
        handle: Handle,
        offset: u64,
        sink: &mut dyn DirentSink,
    ) -> Result<(), Errno> {
        told(dirs::read(self, node, handle, offset, true, sink))
    }

    fn releasedir(&self, node: Node, handle: Handle) -> Result<(), Errno> {
        self.handles.close_folder(node, handle)
    }

    fn fsyncdir(&self, node: Node, handle: Handle, data_only: bool) -> Result<(), Errno> {
        data::sync(&*self.handles.folder(node, handle)?, data_only)
    }

    fn statfs(&self, node: Node) -> Result<StatFs, Errno> {
        told(attr::statfs(self, node))
    }

    fn syncfs(&self, node: Node) -> Result<(), Errno> {
        told(attr::syncfs(self, node))
    }

    fn setxattr(&self, node: Node, name: &CStr, value: &[u8], flags: u32) -> Result<(), Errno> {
        self.changes()?;
        told(xattrs::set(self, node, name, value, flags))
    }

    fn getxattr(&self, node: Node, name: &CStr) -> Result<Vec<u8>, Errno> {
        told(xattrs::get(self, node, name))
    }

    fn listxattr(&self, node: Node) -> Result<Vec<u8>, Errno> {
        told(xattrs::list(self, node))
    }

    fn removexattr(&self, node: Node, name: &CStr) -> Result<(), Errno> {
        self.changes()?;
        told(xattrs::remove(self, node, name))
    }

    fn getlk(&self, node: Node, handle: Handle, owner: Owner, lock: Lock) -> Result<Lock, Errno> {
        let file = self.handles.file(node, handle)?;
        locks::get(self, node, &file, owner, lock)
    }

    fn setlk(
        &self,
        node: Node,
        handle: Handle,
        owner: Owner,
        lock: Lock,
        wait: bool,
    ) -> Result<(), Errno> {
        self.handles.file(node, handle)?;
        told(locks::set(self, (node, handle), owner, lock, wait))
    }

    fn flock(&self, node: Node, handle: Handle, kind: LockKind, wait: bool) -> Result<(), Errno> {
        locks::flock_file(&*self.handles.file(node, handle)?, kind, wait)
    }
}
