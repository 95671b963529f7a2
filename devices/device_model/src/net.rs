//! What a virtual network card's frontend needs of what is behind it: Ethernet
//! frames in and out, told when it is worth a try. Knows no virtqueue.
//!
//! The frontend owns the backend and calls it on the event loop's thread, to
//! whose waits it adds [`NetBackend::descriptor`]:
//!
//! - a frame of the guest: [`NetBackend::send`]. On [`NetError::WouldBlock`] it
//!   keeps the frame, sets its interest to sending, and goes on when told;
//! - the descriptor is readable: [`NetBackend::process`] says which directions
//!   are worth a try; [`NetBackend::receive`] into the guest's buffers until
//!   [`NetError::WouldBlock`];
//! - the guest has no buffers: no interest in receiving until it has, so that a
//!   full ring costs nothing; and then the interest again, which tells at once of
//!   what has come meanwhile.

mod counters;

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use vm_memory::VolatileSlice;

pub use counters::{Counter, NetCounters};

/// Bytes of the header before each frame when [`NetInfo::header`] is set:
/// `struct virtio_net_hdr_v1`, VIRTIO 1.2 section 5.1.6.
pub const NET_HEADER: usize = 12;
/// The shortest that a longest frame may be.
pub const MIN_MAX_FRAME: usize = 60;
/// The longest frame there can be: an IPv6 packet that was not cut, with its
/// Ethernet header and [`NET_HEADER`].
pub const MAX_FRAME: usize = 65_536 + 14 + NET_HEADER;
/// The most queue pairs of a card.
pub const MAX_QUEUE_PAIRS: u16 = 8;
/// The most pieces of memory that one frame comes in.
pub const MAX_FRAME_PIECES: usize = 64;

/// What may be left undone in frames of one direction. All of it needs
/// [`NetInfo::header`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Checksums are not there yet.
    pub checksum: bool,
    /// TCP over IPv4 longer than the MTU.
    pub tso4: bool,
    /// TCP over IPv6 longer than the MTU.
    pub tso6: bool,
    /// UDP longer than the MTU.
    pub uso: bool,
}

/// What a backend can do.
#[derive(Clone, Debug)]
pub struct NetInfo {
    /// The card's address; `None`: the frontend makes one.
    pub mac: Option<[u8; 6]>,
    /// Longest packet without its Ethernet header; `None`: the guest's default.
    pub mtu: Option<u16>,
    /// 1 to [`MAX_QUEUE_PAIRS`].
    pub queue_pairs: u16,
    /// Each frame begins with a header of [`NET_HEADER`] bytes.
    pub header: bool,
    /// What the guest may send.
    pub send: Offloads,
    /// What the guest may be sent.
    pub receive: Offloads,
    /// Longest frame either way, header included: [`MIN_MAX_FRAME`] to [`MAX_FRAME`].
    pub max_frame: usize,
    /// The cable is plugged in at the start.
    pub link_up: bool,
}

/// What the guest's driver has accepted of a [`NetInfo`].
#[derive(Clone, Copy, Debug)]
pub struct NetSetup {
    /// 1 to those offered.
    pub queue_pairs: u16,
    /// Of those offered.
    pub send: Offloads,
    /// Of those offered.
    pub receive: Offloads,
}

/// Directions of a queue pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directions {
    /// To the guest.
    pub receive: bool,
    /// From the guest.
    pub send: bool,
}

/// What a backend has to tell.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct NetNews {
    /// Queue pairs of which a direction is worth another try. The same may come
    /// twice, and one of no interest may.
    pub ready: Vec<(u16, Directions)>,
    /// The cable was plugged in or out.
    pub link: Option<bool>,
}

/// Why a frame did not go or come.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Not now: set the interest and wait to be told.
    #[error("not ready")]
    WouldBlock,
    /// Its length cannot be carried. It is dropped; count it.
    #[error("the frame has a length that cannot be carried")]
    FrameSize,
    /// The backend is of no use any more.
    #[error("the network backend failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What is behind a virtual network card.
///
/// Never blocks. Frames lie in guest memory, which the guest may change while
/// they are read: what is looked at is copied first.
pub trait NetBackend: Send {
    /// What it can do; does not change.
    fn info(&self) -> &NetInfo;

    /// The driver is ready: frames will go. There is no interest yet. Comes again,
    /// after [`NetBackend::stop`], when the driver uses another number of queue pairs.
    fn start(&mut self, setup: &NetSetup) -> Result<(), NetError>;

    /// The driver reset the card: when it returns no frame is touched any more.
    /// Has no effect when it was not started.
    fn stop(&mut self);

    /// Readable when [`NetBackend::process`] has something to do. The same one
    /// for the backend's life.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Does what has become due, and tells what came of it.
    fn process(&mut self) -> Result<NetNews, NetError>;

    /// What the frontend wants to be told of queue pair `queue` from now on. What
    /// is so already is told too.
    fn set_interest(&mut self, queue: u16, directions: Directions) -> Result<(), NetError>;

    /// Sends one frame, in at most [`MAX_FRAME_PIECES`] pieces, or takes a copy that
    /// goes with the next [`NetBackend::flush`].
    fn send(&mut self, queue: u16, frame: &[VolatileSlice<'_>]) -> Result<(), NetError>;

    /// Sends what [`NetBackend::send`] has taken of queue pair `queue` and kept so
    /// that it goes together. Follows the last of some frames.
    fn flush(&mut self, queue: u16) -> Result<(), NetError>;

    /// Receives one frame into `room`, of [`NetInfo::max_frame`] bytes or more in at
    /// most [`MAX_FRAME_PIECES`] pieces, and returns its length.
    fn receive(&mut self, queue: u16, room: &[VolatileSlice<'_>]) -> Result<usize, NetError>;
}

/// A backend, and where its frontend counts: the attachment of an owner who wants
/// to see the counters. Others attach the `Box<dyn NetBackend>` alone.
pub struct CountedBackend {
    /// What is behind the card.
    pub backend: Box<dyn NetBackend>,
    /// Shared with the owner. Goes on over resets.
    pub counters: Arc<NetCounters>,
}
