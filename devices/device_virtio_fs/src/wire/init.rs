//! The handshake: versions, features and limits.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `FUSE_KERNEL_VERSION`.
pub(crate) const MAJOR: u32 = 7;
/// The newest minor version whose structures are known here.
pub(crate) const MINOR: u32 = 41;
/// The oldest one spoken: that of Linux 5.4, the first with virtio-fs.
pub(crate) const OLDEST_MINOR: u32 = 31;

/// `fuse_init_in` up to version 7.35.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct InitIn {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) max_readahead: u32,
    pub(crate) flags: u32,
}

/// What follows under `INIT_EXT`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct InitMore {
    pub(crate) flags2: u32,
    pub(crate) unused: [u32; 11],
}

/// `fuse_init_out`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct InitOut {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) max_readahead: u32,
    pub(crate) flags: u32,
    pub(crate) max_background: u16,
    pub(crate) congestion_threshold: u16,
    pub(crate) max_write: u32,
    pub(crate) time_gran: u32,
    pub(crate) max_pages: u16,
    pub(crate) map_alignment: u16,
    pub(crate) flags2: u32,
    pub(crate) unused: [u32; 7],
}

/// A set of `FUSE_*` features of the handshake: `flags` and, above them, `flags2`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags(pub(crate) u64);

impl Flags {
    pub(crate) const ASYNC_READ: Flags = Flags(1 << 0);
    pub(crate) const POSIX_LOCKS: Flags = Flags(1 << 1);
    pub(crate) const ATOMIC_O_TRUNC: Flags = Flags(1 << 3);
    pub(crate) const BIG_WRITES: Flags = Flags(1 << 5);
    pub(crate) const FLOCK_LOCKS: Flags = Flags(1 << 10);
    pub(crate) const AUTO_INVAL_DATA: Flags = Flags(1 << 12);
    pub(crate) const DO_READDIRPLUS: Flags = Flags(1 << 13);
    pub(crate) const READDIRPLUS_AUTO: Flags = Flags(1 << 14);
    pub(crate) const ASYNC_DIO: Flags = Flags(1 << 15);
    pub(crate) const WRITEBACK_CACHE: Flags = Flags(1 << 16);
    pub(crate) const PARALLEL_DIROPS: Flags = Flags(1 << 18);
    pub(crate) const MAX_PAGES: Flags = Flags(1 << 22);
    pub(crate) const CACHE_SYMLINKS: Flags = Flags(1 << 23);
    pub(crate) const HANDLE_KILLPRIV_V2: Flags = Flags(1 << 28);
    pub(crate) const SETXATTR_EXT: Flags = Flags(1 << 29);
    pub(crate) const INIT_EXT: Flags = Flags(1 << 30);
    pub(crate) const CREATE_SUPP_GROUP: Flags = Flags(1 << 34);
    pub(crate) const DIRECT_IO_ALLOW_MMAP: Flags = Flags(1 << 36);

    /// All of these together.
    pub(crate) fn of(flags: &[Flags]) -> Self {
        Flags(flags.iter().fold(0, |all, flag| all | flag.0))
    }

    /// Those that both have.
    pub(crate) fn and(self, other: Flags) -> Self {
        Flags(self.0 & other.0)
    }

    pub(crate) fn has(self, flag: Flags) -> bool {
        self.0 & flag.0 == flag.0
    }
}
