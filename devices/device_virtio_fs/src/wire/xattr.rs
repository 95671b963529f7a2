//! Extended attributes.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `fuse_setxattr_in` without `SETXATTR_EXT`; name and value follow.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct SetxattrIn {
    /// Bytes of the value.
    pub(crate) size: u32,
    /// Of `setxattr(2)`.
    pub(crate) flags: u32,
}

/// What stands between the two under `SETXATTR_EXT`. Its one flag is for ACLs,
/// which are not offered.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct SetxattrMore {
    pub(crate) setxattr_flags: u32,
    pub(crate) padding: u32,
}

/// `fuse_getxattr_in`, for values and lists of names.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct GetxattrIn {
    /// Most bytes of the answer; 0 asks how many there are.
    pub(crate) size: u32,
    pub(crate) padding: u32,
}

/// `fuse_getxattr_out`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct GetxattrOut {
    pub(crate) size: u32,
    pub(crate) padding: u32,
}
