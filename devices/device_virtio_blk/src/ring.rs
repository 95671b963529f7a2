//! An io_uring that can do nothing but what a disk needs.
//!
//! A ring gets around a thread's seccomp filter: what is submitted is no system
//! call. So each one is bound to a few operations for good before it is used.
//! Made when the device is, since the threads that serve queues may not.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use io_uring::register::Restriction;
use io_uring::{IoUring, opcode};

use crate::device::QUEUE_SIZE;

/// Most kernel threads that work for one ring on files: for what the storage
/// cannot do without blocking. Flushes and changes of ranges are among it.
const WORKERS: u32 = 4;
/// The same on what is no file. There is nothing, but 0 would mean the default.
const OTHER_WORKERS: u32 = 1;

/// Why there is no ring.
#[derive(Debug, thiserror::Error)]
pub enum RingError {
    /// Not offered by this kernel, or not permitted.
    #[error("set up an io_uring")]
    SetUp(#[source] io::Error),
    /// This kernel cannot limit what a ring does; Linux 5.15 and later can.
    #[error("limit an io_uring")]
    Limit(#[source] io::Error),
}

/// A ring without anything in it.
pub(crate) struct Ring(pub(crate) IoUring);

impl Ring {
    pub(crate) fn new() -> Result<Self, RingError> {
        let ring = IoUring::builder()
            .setup_r_disabled()
            .build(QUEUE_SIZE.into())
            .map_err(RingError::SetUp)?;
        let mut operations = [
            opcode::Readv::CODE,
            opcode::Writev::CODE,
            opcode::Fsync::CODE,
            opcode::Fallocate::CODE,
            opcode::PollAdd::CODE,
            opcode::PollRemove::CODE,
        ]
        .map(Restriction::sqe_op);
        let submitter = ring.submitter();
        submitter
            .register_iowq_max_workers(&mut [WORKERS, OTHER_WORKERS])
            .and_then(|()| submitter.register_restrictions(&mut operations))
            .and_then(|()| submitter.register_enable_rings())
            .map_err(RingError::Limit)?;
        Ok(Ring(ring))
    }
}

/// Where the ring of a queue lies while the queue is not served; empty for a
/// queue that does without.
#[derive(Clone, Default)]
pub(crate) struct RingPlace(Arc<Mutex<Option<Ring>>>);

impl RingPlace {
    pub(crate) fn of(ring: Ring) -> Self {
        RingPlace(Arc::new(Mutex::new(Some(ring))))
    }

    pub(crate) fn take(&self) -> Option<Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn put_back(&self, ring: Ring) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(ring);
    }
}
