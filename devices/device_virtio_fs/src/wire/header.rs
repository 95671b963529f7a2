//! What each request and each reply begins with, and the operations.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `fuse_in_header`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct InHeader {
    /// Bytes of the request, this header included.
    pub(crate) len: u32,
    /// [`Opcode`].
    pub(crate) opcode: u32,
    /// The guest's number for the request.
    pub(crate) unique: u64,
    pub(crate) nodeid: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) pid: u32,
    /// Extensions at the end of the request, in units of 8 bytes.
    pub(crate) total_extlen: u16,
    pub(crate) padding: u16,
}

/// `fuse_out_header`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct OutHeader {
    /// Bytes of the reply, this header included.
    pub(crate) len: u32,
    /// 0 or a negative errno; then nothing follows.
    pub(crate) error: i32,
    /// Of the request.
    pub(crate) unique: u64,
}

macro_rules! opcodes {
    ($($name:ident = $number:literal,)*) => {
        /// The operations that the server knows (`fuse_opcode`).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Opcode {
            $($name = $number,)*
        }

        impl Opcode {
            /// `None` for every other number: the answer is `ENOSYS`, after
            /// which Linux does without the operation.
            pub(crate) fn new(number: u32) -> Option<Self> {
                match number {
                    $($number => Some(Opcode::$name),)*
                    _ => None,
                }
            }

            /// All of them.
            #[cfg(test)]
            pub(crate) const ALL: &[Opcode] = &[$(Opcode::$name,)*];
        }
    };
}

// Not here and so ENOSYS: ACCESS (34; the guest's kernel checks permissions),
// BMAP (37), IOCTL (39), POLL (40) and the mappings of DAX (48, 49).
opcodes! {
    Lookup = 1,
    Forget = 2,
    Getattr = 3,
    Setattr = 4,
    Readlink = 5,
    Symlink = 6,
    Mknod = 8,
    Mkdir = 9,
    Unlink = 10,
    Rmdir = 11,
    Rename = 12,
    Link = 13,
    Open = 14,
    Read = 15,
    Write = 16,
    Statfs = 17,
    Release = 18,
    Fsync = 20,
    Setxattr = 21,
    Getxattr = 22,
    Listxattr = 23,
    Removexattr = 24,
    Flush = 25,
    Init = 26,
    Opendir = 27,
    Readdir = 28,
    Releasedir = 29,
    Fsyncdir = 30,
    Getlk = 31,
    Setlk = 32,
    Setlkw = 33,
    Create = 35,
    Interrupt = 36,
    Destroy = 38,
    BatchForget = 42,
    Fallocate = 43,
    Readdirplus = 44,
    Rename2 = 45,
    Lseek = 46,
    CopyFileRange = 47,
    Syncfs = 50,
    Tmpfile = 51,
    Statx = 52,
}
