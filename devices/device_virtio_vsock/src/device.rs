//! The device towards its transport: configuration space, activation, reset.
//! Serves nothing itself. VIRTIO 1.2 sections 5.10.2 to 5.10.4.

use std::sync::{Arc, Mutex};

use device_model::{ActivateError, Activation, Registration, VirtioDevice};

use crate::buffers::Side;
use crate::host::{Host, HostSlot, Lease};
use crate::muxer::{Frontend, Muxer, Patience};
use crate::queue::DeviceQueue;

/// The device number of a socket device.
const VIRTIO_ID_VSOCK: u32 = 19;

const RX: usize = 0;
const TX: usize = 1;

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
    /// A device of the guest with this context id.
    pub fn new(guest_cid: u64, host: Host) -> Self {
        Vsock {
            guest_cid,
            host: Arc::new(Mutex::new(Some(host))),
            registration: None,
        }
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
        let config = self.guest_cid.to_le_bytes();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let source = config.get(start..).unwrap_or_default();
        let source = source.iter().copied().chain(std::iter::repeat(0));
        for (byte, value) in data.iter_mut().zip(source) {
            *byte = value;
        }
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let mut queues = activation.queues.into_iter();
        let mut queue = |index: usize, side| {
            let active = queues
                .next()
                .flatten()
                .ok_or_else(|| ActivateError::missing_queue(index))?;
            let index = u16::try_from(index).expect("the device has three queues");
            Ok(DeviceQueue::new(index, active, side))
        };
        let rx = queue(RX, Side::Writable)?;
        let tx = queue(TX, Side::Readable)?;
        let host = Lease::take(&self.host)
            .ok_or_else(|| ActivateError::new("take the host's side", "the device is active"))?;
        let frontend = Frontend {
            guest_cid: self.guest_cid,
            memory: activation.memory,
            interrupt: activation.interrupt,
            rx,
            tx,
        };
        let muxer = Muxer::new(frontend, host, Patience::default())
            .map_err(|source| ActivateError::new("make the device's descriptors", source))?;
        let registration = activation
            .events
            .add(Box::new(muxer))
            .map_err(|source| ActivateError::new("join the event loop", source))?;
        self.registration = Some(registration);
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
