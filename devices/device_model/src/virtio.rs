//! The transport-independent half of a virtio device.
//!
//! ```text
//!             ack_features          activate
//!  [reset] ───────────────▶ [set up] ────────▶ [active: queues are served]
//!     ▲                                              │
//!     └───────────────────── deactivate ◀────────────┘   driver wrote status 0
//! ```
//!
//! The transport holds the status machine and the queue registers (VIRTIO 1.2
//! sections 2.1 and 4): what a device gets in [`Activation`] is frozen, and
//! nothing the driver writes later to a queue register reaches it.

use std::sync::Arc;

use virtio_queue::Queue;
use vmm_sys_util::eventfd::EventFd;

use crate::{EventHandle, GuestMemory, Threads};

/// Feature bit 32: the device follows VIRTIO 1.0 and later. The transport
/// offers it for every device and refuses drivers that do not accept it.
pub const VIRTIO_F_VERSION_1: u64 = 1 << 32;

/// Feature bit 29: used_event and avail_event suppress notifications. The
/// transport offers it for every device; the queues of an [`Activation`] have
/// it set as negotiated.
pub const VIRTIO_F_RING_EVENT_IDX: u64 = 1 << 29;

/// A virtio device as its transport drives it.
///
/// Methods are called on the thread of the vCPU whose driver touched a register, one at
/// a time: they compute and return. Only type, queues and features are asked for before
/// as well, and answered the same always. The guest chooses every argument; none may
/// make a method panic, block or allocate without bound.
pub trait VirtioDevice: Send {
    /// VIRTIO 1.2 section 5: 2 for a block device, 19 for a socket device, and so on.
    fn device_type(&self) -> u32;

    /// How many queues there are and the most descriptors each may have: powers of two.
    fn queue_max_sizes(&self) -> &[u16];

    /// Feature bits of the device type offered to the driver (bits 0 to 23 and
    /// 50 to 127); the transport adds the ones that are its own.
    fn features(&self) -> u64 {
        0
    }

    /// The driver wrote FEATURES_OK and accepted these of the offered bits.
    fn ack_features(&mut self, _acked: u64) {}

    /// Fills `data` from the device's configuration space; zeros beyond its end.
    fn read_config(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    /// The driver wrote to configuration space. Most devices have no writable field.
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    /// DRIVER_OK: takes the queues and arranges that they are served, on the
    /// event loop or on threads of the device's own. Serves nothing here.
    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError>;

    /// The driver reset the device, or the machine is ending. When this
    /// returns, no queue of the last activation is touched any more. Called
    /// also when the device is not active.
    fn deactivate(&mut self);
}

/// For [`VirtioDevice::read_config`]: fills `data` from the bytes of `config`
/// at `offset`, and with zeros beyond its end.
pub fn read_config(config: &[u8], offset: u64, data: &mut [u8]) {
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    let rest = config.get(from..).unwrap_or_default();
    let (known, beyond) = data.split_at_mut(data.len().min(rest.len()));
    known.copy_from_slice(&rest[..known.len()]);
    beyond.fill(0);
}

/// Everything an active device may touch.
pub struct Activation {
    /// Guest RAM.
    pub memory: GuestMemory,
    /// One entry for each of [`VirtioDevice::queue_max_sizes`], in order.
    /// `None` where the driver left a queue unused (QueueReady 0).
    pub queues: Vec<Option<ActiveQueue>>,
    /// Tells the driver about used buffers and configuration changes.
    pub interrupt: Arc<dyn Interrupt>,
    /// The event loop, for devices that serve their queues there.
    pub events: EventHandle,
    /// For devices that block and so need threads.
    pub threads: Threads,
}

/// A queue that the driver made ready: checked to lie in guest memory, frozen.
pub struct ActiveQueue {
    /// Rings and their positions, `VIRTIO_F_RING_EVENT_IDX` set as negotiated.
    pub queue: Queue,
    /// Written when the driver kicks the queue (an ioeventfd). Non-blocking.
    pub kick: EventFd,
}

/// The way from the device to the driver. Callable from any thread.
pub trait Interrupt: Send + Sync {
    /// Buffers of queue `index` were used and its rings ask for a notification.
    fn notify_queue(&self, index: u16);

    /// The device's configuration changed.
    fn notify_config(&self);

    /// The driver broke the protocol so that this device cannot go on: sets
    /// DEVICE_NEEDS_RESET and tells the driver. Serve no queue after it.
    fn needs_reset(&self);
}

/// Why a device could not start to serve its queues.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct ActivateError {
    what: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl ActivateError {
    /// `what` was being attempted, in words, and `source` came back.
    pub fn new(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        ActivateError {
            what: what.into(),
            source: Some(source.into()),
        }
    }

    /// The driver left queue `index` unused, which this device cannot do without.
    pub fn missing_queue(index: usize) -> Self {
        ActivateError {
            what: format!("queue {index} is needed and not ready"),
            source: None,
        }
    }
}
