//! A virtio file system device: folders of the host for the guest, served in
//! process by a FUSE server of its own. VIRTIO 1.2 section 5.11.
//!
//! ```text
//! factory ─▶ device ──activate──▶ worker (a thread for each queue) ─▶ queue ─▶ chain
//!                                                                      │
//!                        FileSystem ◀─ server (checks, one operation) ◀┘
//!                                         └─ wire (FUSE's structures), waiters (locks)
//! ```
//!
//! What the files are is behind [`FileSystem`]; nothing here opens one. Driver
//! `virtio-fs`; its options are described at [`Factory`].

mod cache;
mod chain;
mod device;
mod factory;
mod fs;
mod host;
mod memory;
mod queue;
mod server;
#[cfg(test)]
mod tests;
mod warnings;
mod wire;
mod worker;

pub use cache::{Cache, UnknownCache};
pub use device::{FileSystemDevice, Tag, TagError};
pub use factory::Factory;
pub use fs::{
    Attr, Caller, Dirent, DirentSink, Entry, Errno, FileSystem, Handle, Lock, LockKind, NAME_MAX,
    Name, Node, OpenFlags, OpenedFolder, Owner, SetAttr, SetTime, StatFs, Time, WriteHow,
};
pub use host::{HostFs, HostFsError, HostFsOptions, MIN_DESCRIPTORS, Ownership, UnknownOwnership};
pub use memory::Memory;
pub use queue::QueueServer;
pub use server::{Server, ServerOptions};
