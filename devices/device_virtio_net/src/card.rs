//! The card as it is over all activations.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use device_model::net::{NET_HEADER, NetCounters, NetInfo};

/// What time it is; another one in tests.
pub(crate) type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;

pub(crate) struct Card {
    /// For logs.
    pub(crate) id: String,
    /// What the backend can do.
    pub(crate) info: NetInfo,
    pub(crate) mac: [u8; 6],
    /// What the driver is told.
    pub(crate) mtu: Option<u16>,
    /// 1 to those of the backend.
    pub(crate) pairs: u16,
    pub(crate) link_up: AtomicBool,
    pub(crate) counters: Arc<NetCounters>,
}

impl Card {
    /// Bytes of the header that frames of the backend begin with.
    pub(crate) fn own_header(&self) -> usize {
        if self.info.header { NET_HEADER } else { 0 }
    }

    /// Bytes of the longest frame, without a header.
    pub(crate) fn longest_frame(&self) -> usize {
        self.info.max_frame.saturating_sub(self.own_header())
    }
}
