//! What the server asks of a file system: the operations of FUSE
//! (`linux/include/uapi/linux/fuse.h`), with what the guest sent checked and typed.
//!
//! Every call may block on storage; they come from several threads at once.

use std::ffi::CStr;

use device_model::FileAccess;
pub use rustix::io::Errno;

use crate::memory::Memory;

/// Most bytes of a name, without the final zero (`NAME_MAX`).
pub const NAME_MAX: usize = 255;

/// An inode as the guest names it (FUSE's nodeid). [`Node::ROOT`] is the folder
/// that is shared; others come from [`FileSystem::lookup`] and its like and are
/// valid until they are forgotten as often as they were given. The guest may
/// send any number: unknown ones are `ESTALE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node(pub u64);

impl Node {
    /// The shared folder itself.
    pub const ROOT: Node = Node(1);
}

/// An open file or folder (FUSE's fh). The guest may send any number: unknown
/// ones, and ones of another kind, are `EBADF`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub u64);

/// A folder that was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenedFolder {
    /// By which it is read and closed.
    pub handle: Handle,
    /// The guest may keep what it reads by this handle: it has no other handle of the
    /// folder for which that is so. Of two that read at the same time Linux puts the
    /// parts together as if they were of one age, and looks only at the start of a
    /// listing whether the folder has changed since. Who lists a folder after a change
    /// of it would find the names from before it, where another has begun earlier
    /// (`fuse_readdir_cached`, `fuse_add_dirent_to_cache`).
    pub listed: bool,
}

/// Who owns a lock (FUSE's lock_owner): a number of the guest's kernel for a
/// table of open files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner(pub u64);

/// The name of an entry of a folder: one component. Not empty, at most
/// [`NAME_MAX`] bytes, without `/`, neither `.` nor `..`. There is no other way
/// to name a file to the host, so this is the one place that checks names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a>(&'a CStr);

impl<'a> Name<'a> {
    /// `ENAMETOOLONG` for too many bytes, `EINVAL` for the rest of it.
    pub fn new(name: &'a CStr) -> Result<Self, Errno> {
        let bytes = name.to_bytes();
        match bytes {
            b"" | b"." | b".." => Err(Errno::INVAL),
            _ if bytes.len() > NAME_MAX => Err(Errno::NAMETOOLONG),
            _ if bytes.contains(&b'/') => Err(Errno::INVAL),
            _ => Ok(Name(name)),
        }
    }

    /// For system calls.
    pub fn as_c_str(self) -> &'a CStr {
        self.0
    }
}

/// The process in the guest that an entry is made for. Permissions have been
/// checked by the guest's kernel already (`default_permissions`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User id in the guest.
    pub uid: u32,
    /// Group id in the guest.
    pub gid: u32,
    /// The group of the parent folder, when it is one of the caller's
    /// supplementary groups (`FUSE_EXT_GROUPS`).
    pub group: Option<u32>,
}

/// What `stat` tells of a file, and its birth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attr {
    /// Inode number as programs in the guest see it.
    pub ino: u64,
    /// Bytes.
    pub size: u64,
    /// Units of 512 bytes that are allocated.
    pub blocks: u64,
    /// Preferred size of a transfer, in bytes.
    pub blksize: u32,
    /// Last access.
    pub atime: Time,
    /// Last change of the data.
    pub mtime: Time,
    /// Last change of these attributes.
    pub ctime: Time,
    /// Birth, where the host's file system keeps it.
    pub btime: Option<Time>,
    /// File type and permissions (`st_mode`).
    pub mode: u32,
    /// Names.
    pub nlink: u32,
    /// Owner in the guest.
    pub uid: u32,
    /// Group in the guest.
    pub gid: u32,
    /// Device number of a device node, in Linux's 32-bit form (`new_encode_dev`).
    pub rdev: u32,
}

/// A moment since 1970, before it with negative seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Whole seconds.
    pub sec: i64,
    /// Nanoseconds after them, below 10^9.
    pub nsec: u32,
}

/// A name resolved: counts as one lookup of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its inode.
    pub node: Node,
    /// Tells inodes with the same number apart over the life of the file system.
    pub generation: u64,
    /// Its attributes.
    pub attr: Attr,
}

/// What to change of a file's attributes; `None` leaves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Permissions, lower 12 bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Truncate or extend to so many bytes.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of data.
    pub mtime: Option<SetTime>,
    /// Last change of attributes: sent by a write-back cache; hosts cannot set it.
    pub ctime: Option<Time>,
    /// Take setuid and setgid bits and capabilities away, as an unprivileged
    /// write or truncate does (`FATTR_KILL_SUIDGID`).
    pub kill_privileges: bool,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The present of the host.
    Now,
    /// This.
    At(Time),
}

/// How to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFlags {
    /// `open(2)`'s flags as the guest sent them. Not to be passed on: the file
    /// system takes the bits that it knows.
    pub flags: u32,
    /// Take setuid and setgid bits and capabilities away when it truncates.
    pub kill_privileges: bool,
}

/// One entry of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirent<'a> {
    /// Inode number.
    pub ino: u64,
    /// Where to go on after this entry: `offset` of the next call.
    pub next: u64,
    /// `DT_*` of `readdir(3)`.
    pub kind: u8,
    /// As the host has it, with `.` and `..`.
    pub name: &'a [u8],
}

/// Takes the entries of a folder, up to the size that the guest asked for.
pub trait DirentSink {
    /// Whether there was room for `dirent`; if not, it comes again in the next
    /// call of the guest's. With `entry` for [`FileSystem::readdirplus`].
    fn add(&mut self, dirent: Dirent<'_>, entry: Option<&Entry>) -> bool;
}

/// Size and room of the file system (`statfs(2)`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatFs {
    /// Blocks of `frsize` bytes in all.
    pub blocks: u64,
    /// Of them, free.
    pub bfree: u64,
    /// Of them, free for all users.
    pub bavail: u64,
    /// Inodes in all.
    pub files: u64,
    /// Of them, free.
    pub ffree: u64,
    /// Preferred size of a transfer.
    pub bsize: u32,
    /// Most bytes of a name.
    pub namelen: u32,
    /// Unit of the block counts.
    pub frsize: u32,
}

/// A range of a file to lock or unlock. Ends at `end` inclusive; `u64::MAX >> 1`
/// (`OFFSET_MAX`) is the end of all files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// What is wanted, or what is there.
    pub kind: LockKind,
    /// First byte.
    pub start: u64,
    /// Last byte.
    pub end: u64,
    /// Process in the guest, 0 when the lock is not of this guest.
    pub pid: u32,
}

/// `F_RDLCK`, `F_WRLCK`, `F_UNLCK`; `LOCK_SH`, `LOCK_EX`, `LOCK_UN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Shared.
    Read,
    /// Exclusive.
    Write,
    /// None.
    Unlock,
}

/// What a write has to mind beside its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteHow {
    /// It takes setuid and setgid bits and capabilities of the file away.
    pub kill_privileges: bool,
    /// The bytes are pages of the guest's memory, of a mapping as a rule, which
    /// belong at their offset even when the handle appends.
    pub from_cache: bool,
}

/// A file system that a guest may use. What the guest may not choose (names,
/// lengths of the protocol) has been checked; numbers have not.
#[expect(clippy::missing_errors_doc, reason = "each is the errno for the guest")]
pub trait FileSystem: Send + Sync {
    /// What the threads that call it may do to files of the host. By default nothing.
    fn access(&self) -> FileAccess {
        FileAccess::default()
    }

    /// Finds `name` in `parent`.
    fn lookup(&self, parent: Node, name: Name<'_>) -> Result<Entry, Errno>;
    /// Gives back `count` lookups of `node`. More than there were is all.
    fn forget(&self, node: Node, count: u64);
    /// Forgets everything and closes everything: the guest mounted anew or is gone.
    fn reset(&self);

    /// Attributes, of the open file where `handle` says so (it may have no name any more).
    fn getattr(&self, node: Node, handle: Option<Handle>) -> Result<Attr, Errno>;
    /// Changes attributes in the order size, owner, mode, times.
    fn setattr(&self, node: Node, handle: Option<Handle>, set: &SetAttr) -> Result<Attr, Errno>;
    /// Target of a symbolic link.
    fn readlink(&self, node: Node) -> Result<Vec<u8>, Errno>;

    /// Makes a symbolic link `name` to `target`, at most 4095 bytes of any kind.
    fn symlink(
        &self,
        by: Caller,
        parent: Node,
        name: Name<'_>,
        target: &CStr,
    ) -> Result<Entry, Errno>;
    /// Makes a file of the type in `mode`: regular, FIFO, socket or device node `rdev`.
    fn mknod(
        &self,
        by: Caller,
        parent: Node,
        name: Name<'_>,
        mode: u32,
        rdev: u32,
    ) -> Result<Entry, Errno>;
    /// Makes a folder.
    fn mkdir(&self, by: Caller, parent: Node, name: Name<'_>, mode: u32) -> Result<Entry, Errno>;
    /// Removes a name that is not a folder's.
    fn unlink(&self, parent: Node, name: Name<'_>) -> Result<(), Errno>;
    /// Removes an empty folder.
    fn rmdir(&self, parent: Node, name: Name<'_>) -> Result<(), Errno>;
    /// Moves, with the flags of `renameat2(2)`: `EINVAL` for unknown ones.
    fn rename(&self, from: (Node, Name<'_>), to: (Node, Name<'_>), flags: u32)
    -> Result<(), Errno>;
    /// Gives `node` one more name.
    fn link(&self, node: Node, parent: Node, name: Name<'_>) -> Result<Entry, Errno>;

    /// Opens a regular file. Anything else of the host's is never opened: `EACCES`.
    fn open(&self, node: Node, how: OpenFlags) -> Result<Handle, Errno>;
    /// Makes a regular file and opens it; opens it when it is there and `O_EXCL` is not set.
    fn create(
        &self,
        by: Caller,
        parent: Node,
        name: Name<'_>,
        mode: u32,
        how: OpenFlags,
    ) -> Result<(Entry, Handle), Errno>;
    /// Makes a regular file without a name in `parent`'s file system and opens it.
    fn tmpfile(
        &self,
        by: Caller,
        parent: Node,
        mode: u32,
        how: OpenFlags,
    ) -> Result<(Entry, Handle), Errno>;
    /// Reads at `offset` into guest memory, returns the bytes read.
    fn read(
        &self,
        node: Node,
        handle: Handle,
        offset: u64,
        into: &Memory<'_>,
    ) -> Result<usize, Errno>;
    /// Writes guest memory at `offset`, returns the bytes written.
    fn write(
        &self,
        node: Node,
        handle: Handle,
        offset: u64,
        from: &Memory<'_>,
        how: WriteHow,
    ) -> Result<usize, Errno>;
    /// A descriptor of the file was closed in the guest: drops `owner`'s POSIX locks.
    fn flush(&self, node: Node, handle: Handle, owner: Owner) -> Result<(), Errno>;
    /// The last descriptor was closed: closes the handle, with its `flock`.
    fn release(&self, node: Node, handle: Handle) -> Result<(), Errno>;
    /// Makes a file's data stable, and its attributes unless `data_only`.
    fn fsync(&self, node: Node, handle: Handle, data_only: bool) -> Result<(), Errno>;
    /// Moves on to data or a hole (`SEEK_DATA`, `SEEK_HOLE` of `lseek(2)`; others are `EINVAL`).
    fn lseek(&self, node: Node, handle: Handle, offset: u64, whence: u32) -> Result<u64, Errno>;
    /// Allocates, punches, zeroes, collapses or inserts a range as `fallocate(2)`'s `mode` says.
    fn fallocate(
        &self,
        node: Node,
        handle: Handle,
        mode: u32,
        offset: u64,
        len: u64,
    ) -> Result<(), Errno>;
    /// Copies within the host, returns the bytes copied.
    fn copy_file_range(
        &self,
        from: (Node, Handle, u64),
        to: (Node, Handle, u64),
        len: u64,
    ) -> Result<usize, Errno>;

    /// Opens a folder for reading its entries.
    fn opendir(&self, node: Node) -> Result<OpenedFolder, Errno>;
    /// Gives entries from `offset` on (0 or a [`Dirent::next`]) until the sink is full.
    fn readdir(
        &self,
        node: Node,
        handle: Handle,
        offset: u64,
        sink: &mut dyn DirentSink,
    ) -> Result<(), Errno>;
    /// As [`FileSystem::readdir`], each but `.` and `..` with its [`Entry`], which
    /// counts as a lookup only if the sink had room.
    fn readdirplus(
        &self,
        node: Node,
        handle: Handle,
        offset: u64,
        sink: &mut dyn DirentSink,
    ) -> Result<(), Errno>;
    /// Closes a folder.
    fn releasedir(&self, node: Node, handle: Handle) -> Result<(), Errno>;
    /// Makes a folder's entries stable.
    fn fsyncdir(&self, node: Node, handle: Handle, data_only: bool) -> Result<(), Errno>;

    /// Room on the host.
    fn statfs(&self, node: Node) -> Result<StatFs, Errno>;
    /// Makes all of the file system stable.
    fn syncfs(&self, node: Node) -> Result<(), Errno>;

    /// Sets an extended attribute with the flags of `setxattr(2)`.
    fn setxattr(&self, node: Node, name: &CStr, value: &[u8], flags: u32) -> Result<(), Errno>;
    /// Value of an extended attribute, at most 64 KiB.
    fn getxattr(&self, node: Node, name: &CStr) -> Result<Vec<u8>, Errno>;
    /// Names of the extended attributes, each with a final zero, at most 64 KiB.
    fn listxattr(&self, node: Node) -> Result<Vec<u8>, Errno>;
    /// Removes an extended attribute.
    fn removexattr(&self, node: Node, name: &CStr) -> Result<(), Errno>;

    /// The lock that keeps `owner` from taking `lock`, or an unlocked range.
    fn getlk(&self, node: Node, handle: Handle, owner: Owner, lock: Lock) -> Result<Lock, Errno>;
    /// Takes or gives back a POSIX lock of `owner`. Where another has it: `EAGAIN`, or
    /// with `wait` blocks until it is free or a signal comes (`EINTR`).
    fn setlk(
        &self,
        node: Node,
        handle: Handle,
        owner: Owner,
        lock: Lock,
        wait: bool,
    ) -> Result<(), Errno>;
    /// Takes or gives back the `flock(2)` of a handle, waiting as [`FileSystem::setlk`] does.
    fn flock(&self, node: Node, handle: Handle, kind: LockKind, wait: bool) -> Result<(), Errno>;
}
