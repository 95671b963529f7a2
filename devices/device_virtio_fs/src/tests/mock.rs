//! A file system that writes down what it is asked, and answers with values
//! that are all different, so that a test sees any that are swapped.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use rustix::fs::{FlockOperation, flock};
use tempfile::NamedTempFile;

use crate::{
    Attr, Caller, Dirent, DirentSink, Entry, Errno, FileSystem, Handle, Lock, LockKind, Memory,
    Name, Node, OpenFlags, OpenedFolder, Owner, SetAttr, StatFs, Time, WriteHow,
};

pub(crate) struct Mock {
    calls: Mutex<Vec<String>>,
    /// What every call but `forget` and `reset` answers, if there is one.
    pub(crate) failure: Mutex<Option<Errno>>,
    /// Of what is looked up or asked for.
    pub(crate) mode: AtomicU32,
    /// The bytes of the one file.
    pub(crate) data: Mutex<Vec<u8>>,
    /// Of the listing.
    pub(crate) names: Mutex<Vec<Vec<u8>>>,
    /// Fails after this many entries of a listing.
    pub(crate) listing_fails_after: AtomicUsize,
    /// Whether the guest may keep what it lists.
    pub(crate) listed: AtomicBool,
    /// Locks of the guest are taken on this file, as the host takes them.
    pub(crate) locked: NamedTempFile,
}

impl Mock {
    pub(crate) fn new() -> Self {
        Mock {
            calls: Mutex::default(),
            failure: Mutex::default(),
            mode: AtomicU32::new(attr().mode),
            data: Mutex::new((0..100).collect()),
            names: Mutex::new(vec![
                b".".to_vec(),
                b"one".to_vec(),
                b"twelve bytes".to_vec(),
            ]),
            listing_fails_after: AtomicUsize::new(usize::MAX),
            listed: AtomicBool::new(true),
            locked: NamedTempFile::new().unwrap(),
        }
    }

    /// What was asked since the last time.
    pub(crate) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    fn note(&self, call: String) -> Result<(), Errno> {
        self.calls.lock().unwrap().push(call);
        match *self.failure.lock().unwrap() {
            Some(errno) => Err(errno),
            None => Ok(()),
        }
    }

    fn attr(&self) -> Attr {
        Attr {
            mode: self.mode.load(Ordering::Relaxed),
            ..attr()
        }
    }

    fn list(
        &self,
        call: String,
        offset: u64,
        sink: &mut dyn DirentSink,
        plus: bool,
    ) -> Result<(), Errno> {
        self.note(call)?;
        let names = self.names.lock().unwrap();
        for (at, name) in (0..).zip(&*names).skip(offset as usize) {
            if at as usize >= self.listing_fails_after.load(Ordering::Relaxed) {
                return Err(Errno::IO);
            }
            let dirent = Dirent {
                ino: 100 + at,
                next: at + 1,
                kind: 8,
                name,
            };
            let entry = entry(50 + at);
            let entry = (plus && name != b".").then_some(&entry);
            if !sink.add(dirent, entry) {
                break;
            }
        }
        Ok(())
    }

    fn lock(&self, kind: LockKind, wait: bool) -> Result<(), Errno> {
        let file = File::open(self.locked.path()).map_err(|_| Errno::IO)?;
        match (kind, wait) {
            (LockKind::Unlock, _) => Ok(()),
            (_, false) => match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => Err(Errno::AGAIN),
                outcome => outcome,
            },
            (_, true) => flock(&file, FlockOperation::LockExclusive),
        }
    }

    /// Has somebody else hold the lock until the file is dropped.
    pub(crate) fn hold_lock(&self) -> io::Result<File> {
        let file = File::open(self.locked.path())?;
        flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }
}

fn time(sec: i64) -> Time {
    Time {
        sec,
        nsec: 900 + sec.unsigned_abs() as u32,
    }
}

pub(crate) fn attr() -> Attr {
    Attr {
        ino: 11,
        size: 12,
        blocks: 13,
        blksize: 14,
        atime: time(15),
        mtime: time(-16),
        ctime: time(17),
        btime: Some(time(18)),
        mode: 0o100640,
        nlink: 19,
        uid: 20,
        gid: 21,
        // Major 0x123, minor 0x45678.
        rdev: 0x4561_2378,
    }
}

pub(crate) fn entry(node: u64) -> Entry {
    Entry {
        node: Node(node),
        generation: 22,
        attr: attr(),
    }
}

impl FileSystem for Mock {
    fn lookup(&self, parent: Node, name: Name<'_>) -> Result<Entry, Errno> {
        self.note(format!("lookup {} {name:?}", parent.0))?;
        let attr = self.attr();
        Ok(Entry { attr, ..entry(7) })
    }
    fn forget(&self, node: Node, count: u64) {
        self.calls
            .lock()
            .unwrap()
            .push(format!("forget {} {count}", node.0));
    }
    fn reset(&self) {
        self.calls.lock().unwrap().push("reset".into());
    }
    fn getattr(&self, node: Node, handle: Option<Handle>) -> Result<Attr, Errno> {
        self.note(format!("getattr {} {handle:?}", node.0))?;
        Ok(self.attr())
    }
    fn setattr(&self, node: Node, handle: Option<Handle>, set: &SetAttr) -> Result<Attr, Errno> {
        self.note(format!("setattr {} {handle:?} {set:?}", node.0))?;
        Ok(attr())
    }
    fn readlink(&self, node: Node) -> Result<Vec<u8>, Errno> {
        self.note(format!("readlink {}", node.0))?;
        Ok(b"some/target".to_vec())
    }
    fn symlink(
        &self,
        by: Caller,
        parent: Node,
        name: Name<'_>,
        target: &CStr,
    ) -> Result<Entry, Errno> {
        self.note(format!("symlink {by:?} {} {name:?} {target:?}", parent.0))?;
        Ok(entry(7))
    }
    fn mknod(
        &self,
        by: Caller,
        parent: Node,
        name: Name<'_>,
        mode: u32,
        rdev: u32,
    ) -> Result<Entry, Errno> {
        self.note(format!(
            "mknod {by:?} {} {name:?} {mode:o} {rdev}",
            parent.0
        ))?;
        Ok(entry(7))
    }
    fn mkdir(&self, by: Caller, parent: Node, name: Name<'_>, mode: u32) -> Result<Entry, Errno> {
        self.note(format!("mkdir {by:?} {} {name:?} {mode:o}", parent.0))?;
        Ok(entry(7))
    }
    fn unlink(&self, parent: Node, name: Name<'_>) -> Result<(), Errno> {
        self.note(format!("unlink {} {name:?}", parent.0))
    }
    fn rmdir(&self, parent: Node, name: Name<'_>) -> Result<(), Errno> {
        self.note(format!("rmdir {} {name:?}", parent.0))
    }
    fn rename(
        &self,
        from: (Node, Name<'_>),
        to: (Node, Name<'_>),
        flags: u32,
    ) -> Result<(), Errno> {
        self.note(format!("rename {from:?} {to:?} {flags}"))
    }
    fn link(&self, node: Node, parent: Node, name: Name<'_>) -> Result<Entry, Errno> {
        self.note(format!("link {} {} {name:?}", node.0, parent.0))?;
        Ok(entry(7))
    }
    fn open(&self, node: Node, how: OpenFlags) -> Result<Handle, Errno> {
        self.note(format!("open {} {how:?}", node.0))?;
        Ok(Handle(31))
    }
    fn create(
        &self,
        by: Caller,
        parent: Node,
        name: Name<'_>,
        mode: u32,
        how: OpenFlags,
    ) -> Result<(Entry, Handle), Errno> {
        self.note(format!(
            "create {by:?} {} {name:?} {mode:o} {how:?}",
            parent.0
        ))?;
        Ok((entry(7), Handle(31)))
    }
    fn tmpfile(
        &self,
        by: Caller,
        parent: Node,
        mode: u32,
        how: OpenFlags,
    ) -> Result<(Entry, Handle), Errno> {
        self.note(format!("tmpfile {by:?} {} {mode:o} {how:?}", parent.0))?;
        Ok((entry(7), Handle(31)))
    }
    fn read(
        &self,
        node: Node,
        handle: Handle,
        offset: u64,
        into: &Memory<'_>,
    ) -> Result<usize, Errno> {
        self.note(format!(
            "read {} {} {offset} {}",
            node.0,
            handle.0,
            into.len()
        ))?;
        let data = self.data.lock().unwrap();
        Ok(into.fill_from(data.get(offset as usize..).unwrap_or_default()))
    }
    fn write(
        &self,
        node: Node,
        handle: Handle,
        offset: u64,
        from: &Memory<'_>,
        how: WriteHow,
    ) -> Result<usize, Errno> {
        self.note(format!(
            "write {} {} {offset} {} {} {}",
            node.0,
            handle.0,
            from.len(),
            how.kill_privileges,
            how.from_cache
        ))?;
        let bytes = from.to_vec();
        let mut data = self.data.lock().unwrap();
        let end = offset as usize + bytes.len();
        if data.len() < end {
            data.resize(end, 0);
        }
        data[offset as usize..end].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
    fn flush(&self, node: Node, handle: Handle, owner: Owner) -> Result<(), Errno> {
        self.note(format!("flush {} {} {}", node.0, handle.0, owner.0))
    }
    fn release(&self, node: Node, handle: Handle) -> Result<(), Errno> {
        self.note(format!("release {} {}", node.0, handle.0))
    }
    fn fsync(&self, node: Node, handle: Handle, data_only: bool) -> Result<(), Errno> {
        self.note(format!("fsync {} {} {data_only}", node.0, handle.0))
    }
    fn lseek(&self, node: Node, handle: Handle, offset: u64, whence: u32) -> Result<u64, Errno> {
        self.note(format!("lseek {} {} {offset} {whence}", node.0, handle.0))?;
        Ok(4096)
    }
    fn fallocate(
        &self,
        node: Node,
        handle: Handle,
        mode: u32,
        offset: u64,
        len: u64,
    ) -> Result<(), Errno> {
        self.note(format!(
            "fallocate {} {} {mode} {offset} {len}",
            node.0, handle.0
        ))
    }
    fn copy_file_range(
        &self,
        from: (Node, Handle, u64),
        to: (Node, Handle, u64),
        len: u64,
    ) -> Result<usize, Errno> {
        self.note(format!("copy {from:?} {to:?} {len}"))?;
        Ok(len as usize)
    }
    fn opendir(&self, node: Node) -> Result<OpenedFolder, Errno> {
        self.note(format!("opendir {}", node.0))?;
        Ok(OpenedFolder {
            handle: Handle(32),
            listed: self.listed.load(Ordering::Relaxed),
        })
    }
    fn readdir(
        &self,
        node: Node,
        handle: Handle,
        offset: u64,
        sink: &mut dyn DirentSink,
    ) -> Result<(), Errno> {
        self.list(
            format!("readdir {} {} {offset}", node.0, handle.0),
            offset,
            sink,
            false,
        )
    }
    fn readdirplus(
        &self,
        node: Node,
        handle: Handle,
        offset: u64,
        sink: &mut dyn DirentSink,
    ) -> Result<(), Errno> {
        self.list(
            format!("readdirplus {} {} {offset}", node.0, handle.0),
            offset,
            sink,
            true,
        )
    }
    fn releasedir(&self, node: Node, handle: Handle) -> Result<(), Errno> {
        self.note(format!("releasedir {} {}", node.0, handle.0))
    }
    fn fsyncdir(&self, node: Node, handle: Handle, data_only: bool) -> Result<(), Errno> {
        self.note(format!("fsyncdir {} {} {data_only}", node.0, handle.0))
    }
    fn statfs(&self, node: Node) -> Result<StatFs, Errno> {
        self.note(format!("statfs {}", node.0))?;
        Ok(StatFs {
            blocks: 41,
            bfree: 42,
            bavail: 43,
            files: 44,
            ffree: 45,
            bsize: 46,
            namelen: 47,
            frsize: 48,
        })
    }
    fn syncfs(&self, node: Node) -> Result<(), Errno> {
        self.note(format!("syncfs {}", node.0))
    }
    fn setxattr(&self, node: Node, name: &CStr, value: &[u8], flags: u32) -> Result<(), Errno> {
        self.note(format!(
            "setxattr {} {name:?} {} {flags}",
            node.0,
            value.escape_ascii()
        ))
    }
    fn getxattr(&self, node: Node, name: &CStr) -> Result<Vec<u8>, Errno> {
        self.note(format!("getxattr {} {name:?}", node.0))?;
        Ok(b"value".to_vec())
    }
    fn listxattr(&self, node: Node) -> Result<Vec<u8>, Errno> {
        self.note(format!("listxattr {}", node.0))?;
        Ok(b"user.a\0user.b\0".to_vec())
    }
    fn removexattr(&self, node: Node, name: &CStr) -> Result<(), Errno> {
        self.note(format!("removexattr {} {name:?}", node.0))
    }
    fn getlk(&self, node: Node, handle: Handle, owner: Owner, lock: Lock) -> Result<Lock, Errno> {
        self.note(format!(
            "getlk {} {} {} {lock:?}",
            node.0, handle.0, owner.0
        ))?;
        Ok(Lock {
            kind: LockKind::Write,
            start: 61,
            end: 62,
            pid: 63,
        })
    }
    fn setlk(
        &self,
        node: Node,
        handle: Handle,
        owner: Owner,
        lock: Lock,
        wait: bool,
    ) -> Result<(), Errno> {
        self.note(format!(
            "setlk {} {} {} {lock:?} {wait}",
            node.0, handle.0, owner.0
        ))?;
        self.lock(lock.kind, wait)
    }
    fn flock(&self, node: Node, handle: Handle, kind: LockKind, wait: bool) -> Result<(), Errno> {
        self.note(format!("flock {} {} {kind:?} {wait}", node.0, handle.0))?;
        self.lock(kind, wait)
    }
}
