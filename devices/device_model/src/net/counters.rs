//! What a network card's frontend counts. Told from the guest: sent is what the
//! guest sent.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts up. Read at any time, from any thread.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// What has been counted so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Counter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(out)
    }
}

/// Frames and bytes of a card, and what became of the others. Bytes are those of
/// Ethernet frames, without virtio's header.
#[derive(Debug, Default)]
pub struct NetCounters {
    /// Frames that the backend took.
    pub sent_frames: Counter,
    /// Their bytes.
    pub sent_bytes: Counter,
    /// Frames that the guest got.
    pub received_frames: Counter,
    /// Their bytes.
    pub received_bytes: Counter,
    /// Dropped on the way out: a descriptor chain that is broken, in too many
    /// pieces or not of guest memory.
    pub sent_dropped_chain: Counter,
    /// Dropped on the way out: too short for Ethernet, or longer than the backend
    /// takes.
    pub sent_dropped_length: Counter,
    /// Dropped on the way out: it asks for an offload that was not negotiated, or
    /// makes no sense in it.
    pub sent_dropped_offload: Counter,
    /// Dropped on the way out: of a queue pair that the driver does not use.
    pub sent_dropped_unused: Counter,
    /// Dropped on the way in: too short for Ethernet, longer than the MTU or than
    /// the backend could carry.
    pub received_dropped_length: Counter,
    /// Dropped on the way in: it asks for an offload that was not negotiated.
    pub received_dropped_offload: Counter,
    /// Dropped on the way in: longer than the driver's buffers.
    pub received_dropped_room: Counter,
    /// Buffers for frames that were of no use and went back empty.
    pub refused_buffers: Counter,
}
