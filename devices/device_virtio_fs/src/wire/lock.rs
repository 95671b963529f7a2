//! File locks.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `fuse_file_lock`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct LockFields {
    pub(crate) start: u64,
    /// Inclusive.
    pub(crate) end: u64,
    /// `F_RDLCK`, `F_WRLCK` or `F_UNLCK`.
    pub(crate) kind: u32,
    pub(crate) pid: u32,
}

/// `fuse_lk_in`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct LkIn {
    pub(crate) fh: u64,
    pub(crate) owner: u64,
    pub(crate) lk: LockFields,
    /// [`LK_FLOCK`].
    pub(crate) lk_flags: u32,
    pub(crate) padding: u32,
}

/// `FUSE_LK_FLOCK`: `flock(2)` and not a POSIX lock.
pub(crate) const LK_FLOCK: u32 = 1 << 0;

/// `fuse_lk_out`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct LkOut {
    pub(crate) lk: LockFields,
}
