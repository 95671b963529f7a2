//! A virtio block device: a disk for the guest, kept in a file or block device
//! of the host. VIRTIO 1.2 section 5.2.
//!
//! Its bytes are raw, or qcow2 where the options say so; no format is guessed at.
//! Driver `virtio-blk`; its options are described at [`Factory`].
//!
//! ```text
//! factory ─▶ device ──activate──▶ queue (a thread each) ─▶ request (chain → request)
//!                                    ├──────────────────▶ disk (rules) ─▶ backend ◀─ file, qcow2
//!                                    └─▶ ring_server ─▶ flights (rules) ─▶ io_uring ◀───┘
//! ```
//!
//! Requests block on storage, so each queue has a thread of its own, and bytes go
//! between the file and guest memory directly. There are two engines: the thread
//! does one request after the other itself ([`QueueServer`]), or it has all of
//! them under way in an io_uring (`ring_server`, `flights`).

mod backend;
mod device;
mod disk;
mod factory;
mod file;
mod flights;
mod qcow2;
mod queue;
mod request;
mod ring;
mod ring_server;
#[cfg(test)]
mod tests;

pub use backend::{BlockBackend, Slice};
pub use device::BlockDevice;
pub use disk::Disk;
pub use factory::Factory;
pub use file::{FileBackend, OpenError};
pub use qcow2::{Qcow2Backend, Qcow2Error};
pub use queue::QueueServer;
pub use ring::RingError;
