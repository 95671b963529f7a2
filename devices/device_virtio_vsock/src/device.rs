//! The device towards its transport: configuration space, activation, reset.
//! Serves nothing itself. VIRTIO 1.2 sections 5.10.2 to 5.10.4.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use device_model::{
    ActivateError, Activation, ActiveQueue, GuestMemory, Interrupt, Registration, StreamBackend,
    Subscriber, VirtioDevice,
};

use crate::buffers::Side;
use crate::host::{Host, HostSlot, Lease};
use crate::muxer::{Frontend, Muxer, Patience};
use crate::queue::DeviceQueue;
use crate::unix::{UnixError, UnixSide};

/// The device number of a socket device.
const VIRTIO_ID_VSOCK: u32 = 19;

const RX: u16 = 0;
const TX: u16 = 1;

/// Receive, transmit, events. Linux fills the receive queue with buffers of
/// 4 KiB: 128 of them hold more than one connection's credit. Events are only
/// for a device that moves to another host; the queue is there and unused.
const QUEUE_SIZES: [u16; 3] = [128, 128, 16];

/// A socket device.
pub struct Vsock {
    guest_cid: u64,
    host: HostSlot,
    registration: Option<Registration>,
}

impl Vsock {
    /// A device of the guest with context id `cid`, whose owner in this process
    /// is at the other end of `backend`, and which listens for other programs at
    /// the path `uds`. Fails when it cannot listen there.
    pub fn new(
        cid: u32,
        backend: Option<StreamBackend>,
        uds: Option<PathBuf>,
    ) -> Result<Self, UnixError> {
        let unix = uds.map(UnixSide::bind).transpose()?;
        Ok(Vsock {
            guest_cid: cid.into(),
            host: Arc::new(Mutex::new(Some(Host::new(backend, unix)))),
            registration: None,
        })
    }

    /// What serves the queues of an activation, for an event loop: all of
    /// [`VirtioDevice::activate`] but joining it. There can be one at a time.
    pub fn subscriber(
        &self,
        memory: GuestMemory,
        queues: Vec<Option<ActiveQueue>>,
        interrupt: Arc<dyn Interrupt>,
    ) -> Result<Subscriber, ActivateError> {
        let mut queues = queues.into_iter();
        let mut queue = |index: u16, side| {
            let active = queues
                .next()
                .flatten()
                .ok_or_else(|| ActivateError::missing_queue(index.into()))?;
            Ok(DeviceQueue::new(index, active, side))
        };
        let frontend = Frontend {
            guest_cid: self.guest_cid,
            memory,
            interrupt,
            rx: queue(RX, Side::Writable)?,
            tx: queue(TX, Side::Readable)?,
        };
        let host = Lease::take(&self.host)
            .ok_or_else(|| ActivateError::new("take the host's side", "the device is active"))?;
        let muxer = Muxer::new(frontend, host, Patience::default())
            .map_err(|source| ActivateError::new("make the device's descriptors", source))?;
        Ok(Box::new(muxer))
    }
}

impl VirtioDevice for Vsock {
    fn device_type(&self) -> u32 {
        VIRTIO_ID_VSOCK
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        device_model::read_config(&self.guest_cid.to_le_bytes(), offset, data);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let subscriber =
            self.subscriber(activation.memory, activation.queues, activation.interrupt)?;
        self.registration = Some(activation.events.add(subscriber)?);
        Ok(())
    }

    fn deactivate(&mut self) {
        self.registration = None;
    }
}

impl Drop for Vsock {
    fn drop(&mut self) {
        self.deactivate();
    }
}
