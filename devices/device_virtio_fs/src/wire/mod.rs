//! FUSE's structures as they lie in a request and a reply
//! (`linux/include/uapi/linux/fuse.h`, protocol 7.31 to 7.41), and the words in
//! them. Numbers are in the byte order of this machine, which is the guest's.
//!
//! Layout only: what a field may be is the server's business.

mod attr;
mod entry;
mod file;
mod header;
mod init;
mod lock;
mod xattr;

pub(crate) use attr::{
    AttrFields, AttrOut, GETATTR_FH, GetattrIn, SetattrIn, StatfsOut, Statx, StatxIn, StatxOut,
    SxTime, fattr,
};
pub(crate) use entry::{
    CreateIn, DIRENT_ALIGN, DirentHead, EXT_GROUPS, EntryOut, ExtHeader, LinkIn, MkdirIn, MknodIn,
    Rename2In, RenameIn, SuppGroups,
};
pub(crate) use file::{
    BatchForgetIn, CopyFileRangeIn, FOPEN_CACHE_DIR, FOPEN_DIRECT_IO, FOPEN_KEEP_CACHE,
    FSYNC_DATA_ONLY, FallocateIn, FlushIn, ForgetIn, ForgetOne, FsyncIn, InterruptIn, LseekIn,
    LseekOut, OPEN_KILL_SUIDGID, OpenIn, OpenOut, ReadIn, ReleaseIn, WRITE_CACHE,
    WRITE_KILL_SUIDGID, WriteIn, WriteOut,
};
pub(crate) use header::{InHeader, Opcode, OutHeader};
pub(crate) use init::{Flags, InitIn, InitMore, InitOut, MAJOR, MINOR, OLDEST_MINOR};
pub(crate) use lock::{LK_FLOCK, LkIn, LkOut, LockFields};
pub(crate) use xattr::{GetxattrIn, GetxattrOut, SetxattrIn, SetxattrMore};

#[cfg(test)]
mod tests;
