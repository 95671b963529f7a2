//! A virtio file system device: folders of the host for the guest, served in
//! process by a FUSE server of its own. VIRTIO 1.2 section 5.11.
//!
//! ```text
//! factory ─▶ device ──activate──▶ queue (a thread each) ─▶ server ─▶ FileSystem ◀─ host
//!                                    wire (FUSE's structures) ◀┘
//! ```

mod fs;
mod host;
mod memory;

pub use fs::{
    Attr, Caller, Dirent, DirentSink, Entry, Errno, FileSystem, Handle, Lock, LockKind, NAME_MAX,
    Name, Node, OpenFlags, Owner, SetAttr, SetTime, StatFs, Time,
};
pub use host::{HostFs, HostFsError, HostFsOptions, MIN_DESCRIPTORS, Ownership, UnknownOwnership};
pub use memory::Memory;
