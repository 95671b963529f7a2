//! A virtio block device: a disk for the guest, kept in a file or block device
//! of the host. VIRTIO 1.2 section 5.2.
//!
//! Raw bytes only: no image format is recognised, and none is guessed at.
//! Driver `virtio-blk`; its options are described at [`Factory`].
//!
//! ```text
//! factory ─▶ device ──activate──▶ queue (a thread each) ─▶ request (chain → request)
//!                                    └──────────────────▶ disk (rules) ─▶ backend ◀─ file
//! ```
//!
//! Requests block on storage, so each queue has a thread of its own, which reads
//! and writes between the file and guest memory directly. Another engine than
//! that thread would take the place of [`queue`](QueueServer) and keep the rest.

mod backend;
mod device;
mod disk;
mod factory;
mod file;
mod queue;
mod request;
#[cfg(test)]
mod tests;

pub use backend::{BlockBackend, Slice};
pub use device::BlockDevice;
pub use disk::Disk;
pub use factory::Factory;
pub use file::{FileBackend, OpenError};
pub use queue::QueueServer;
