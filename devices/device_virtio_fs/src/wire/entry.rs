//! Names of folders: what makes, moves and lists them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::AttrFields;

/// `fuse_entry_out`. All zeros in a listing: no lookup came with the name.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct EntryOut {
    /// 0 says that there is no such name, and may be kept like a name.
    pub(crate) nodeid: u64,
    pub(crate) generation: u64,
    /// Seconds that the guest may keep the name.
    pub(crate) entry_valid: u64,
    /// Seconds that the guest may keep the attributes.
    pub(crate) attr_valid: u64,
    pub(crate) entry_valid_nsec: u32,
    pub(crate) attr_valid_nsec: u32,
    pub(crate) attr: AttrFields,
}

/// `fuse_mknod_in`; the name follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct MknodIn {
    pub(crate) mode: u32,
    pub(crate) rdev: u32,
    /// Applied to `mode` already.
    pub(crate) umask: u32,
    pub(crate) padding: u32,
}

/// `fuse_mkdir_in`; the name follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct MkdirIn {
    pub(crate) mode: u32,
    /// Applied to `mode` already.
    pub(crate) umask: u32,
}

/// `fuse_rename_in`; the old and the new name follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct RenameIn {
    pub(crate) newdir: u64,
}

/// `fuse_rename2_in`; the old and the new name follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Rename2In {
    pub(crate) newdir: u64,
    pub(crate) flags: u32,
    pub(crate) padding: u32,
}

/// `fuse_link_in`; the new name follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct LinkIn {
    pub(crate) oldnodeid: u64,
}

/// `fuse_create_in`; the name follows.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct CreateIn {
    pub(crate) flags: u32,
    pub(crate) mode: u32,
    /// Applied to `mode` already.
    pub(crate) umask: u32,
    /// [`OPEN_KILL_SUIDGID`](super::OPEN_KILL_SUIDGID).
    pub(crate) open_flags: u32,
}

/// `fuse_ext_header`; `size` bytes with this header, then the next extension.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct ExtHeader {
    pub(crate) size: u32,
    pub(crate) kind: u32,
}

/// `FUSE_EXT_GROUPS`.
pub(crate) const EXT_GROUPS: u32 = 32;

/// `fuse_supp_groups` with the one group that the kernel sends.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct SuppGroups {
    pub(crate) nr_groups: u32,
    pub(crate) group: u32,
}

/// `fuse_dirent` without its name, which follows with zeros up to
/// [`DIRENT_ALIGN`]. In a listing with attributes after an [`EntryOut`].
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct DirentHead {
    pub(crate) ino: u64,
    pub(crate) off: u64,
    pub(crate) namelen: u32,
    pub(crate) kind: u32,
}

/// `FUSE_REC_ALIGN`.
pub(crate) const DIRENT_ALIGN: usize = 8;
