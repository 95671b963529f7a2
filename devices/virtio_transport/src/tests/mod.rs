//! The transport from the driver's side, with a device that records what is
//! done to it.

use std::sync::{Arc, Mutex, MutexGuard};

use device_model::{
    ActivateError, Activation, ActiveQueue, BusDevice, EventHandle, GuestMemory, Interrupt,
    Subscriber, Threads, VirtioDevice,
};
use event_manager::EventManager;
use virtio_bindings::bindings::virtio_mmio as reg;
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::core::{ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK};
use crate::mmio::MmioTransport;
use crate::window::Windows;

mod handshake;
mod sequences;

pub(crate) const STARTED: u32 = ACKNOWLEDGE | DRIVER;
pub(crate) const NEGOTIATED: u32 = STARTED | FEATURES_OK;
pub(crate) const RUNNING: u32 = NEGOTIATED | DRIVER_OK;

/// A feature of the device type.
pub(crate) const FEATURE: u64 = 1 << 5;
pub(crate) const QUEUE_SIZES: &[u16] = &[256, 16];
/// Guest RAM: the rings of queue `n` start at `0x1000 * (n + 1)`.
pub(crate) const RAM: u64 = 0x1_0000;
pub(crate) const CONFIG_BYTES: [u8; 4] = [1, 2, 3, 4];

/// What was done to the device.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) acked: Option<u64>,
    pub(crate) queues: Option<Vec<Option<ActiveQueue>>>,
    pub(crate) interrupt: Option<Arc<dyn Interrupt>>,
    pub(crate) activations: usize,
    pub(crate) config_writes: Vec<(u64, Vec<u8>)>,
    pub(crate) refuse_activation: bool,
}

#[derive(Clone, Default)]
pub(crate) struct Recorder(Arc<Mutex<Record>>);

impl Recorder {
    pub(crate) fn get(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap()
    }
}

impl VirtioDevice for Recorder {
    fn device_type(&self) -> u32 {
        42
    }

    fn queue_max_sizes(&self) -> &[u16] {
        QUEUE_SIZES
    }

    fn features(&self) -> u64 {
        FEATURE
    }

    fn ack_features(&mut self, acked: u64) {
        self.get().acked = Some(acked);
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        for (at, byte) in (offset..).zip(data) {
            *byte = *CONFIG_BYTES.get(at as usize).unwrap_or(&0);
        }
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        self.get().config_writes.push((offset, data.to_vec()));
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let mut record = self.get();
        assert!(record.queues.is_none(), "activated while active");
        if record.refuse_activation {
            return Err(ActivateError::missing_queue(1));
        }
        record.activations += 1;
        record.queues = Some(activation.queues);
        record.interrupt = Some(activation.interrupt);
        Ok(())
    }

    fn deactivate(&mut self) {
        let mut record = self.get();
        record.queues = None;
        record.interrupt = None;
        record.acked = None;
    }
}

/// A transport with a recording device, and the driver's words for it.
pub(crate) struct Bench {
    pub(crate) transport: MmioTransport,
    pub(crate) device: Recorder,
    pub(crate) irq: Arc<EventFd>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let device = Recorder::default();
        let irq = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).unwrap());
        let events = EventManager::<Subscriber>::new().unwrap();
        let transport = MmioTransport::new(
            Box::new(device.clone()),
            GuestMemory::from_ranges(&[(GuestAddress(0), RAM as usize)]).unwrap(),
            EventHandle::new(events.remote_endpoint()),
            Threads::new(|_| Ok(())),
            irq.clone(),
            (&Windows::new(2).unwrap(), 1),
        )
        .unwrap();
        Bench {
            transport,
            device,
            irq,
        }
    }

    pub(crate) fn read(&mut self, register: u32) -> u32 {
        let mut data = [0xaa; 4];
        self.transport.read(u64::from(register), &mut data);
        u32::from_le_bytes(data)
    }

    pub(crate) fn write(&mut self, register: u32, value: u32) {
        self.transport
            .write(u64::from(register), &value.to_le_bytes());
    }

    pub(crate) fn status(&mut self) -> u32 {
        self.read(reg::VIRTIO_MMIO_STATUS)
    }

    pub(crate) fn set_status(&mut self, value: u32) {
        self.write(reg::VIRTIO_MMIO_STATUS, value);
    }

    pub(crate) fn accept(&mut self, features: u64) {
        for (word, bits) in [(0, features as u32), (1, (features >> 32) as u32)] {
            self.write(reg::VIRTIO_MMIO_DRIVER_FEATURES_SEL, word);
            self.write(reg::VIRTIO_MMIO_DRIVER_FEATURES, bits);
        }
    }

    /// Reset to FEATURES_OK, with `features` accepted.
    pub(crate) fn negotiate(&mut self, features: u64) {
        self.set_status(0);
        self.set_status(ACKNOWLEDGE);
        self.set_status(STARTED);
        self.accept(features);
        self.set_status(NEGOTIATED);
    }

    /// Describes queue `index` as a driver does that follows the rules.
    pub(crate) fn set_up_queue(&mut self, index: u32) {
        let base = index.wrapping_add(1).wrapping_mul(0x1000);
        self.write(reg::VIRTIO_MMIO_QUEUE_SEL, index);
        self.write(reg::VIRTIO_MMIO_QUEUE_NUM, 16);
        for (register, value) in [
            (reg::VIRTIO_MMIO_QUEUE_DESC_LOW, base),
            (reg::VIRTIO_MMIO_QUEUE_DESC_HIGH, 0),
            (reg::VIRTIO_MMIO_QUEUE_AVAIL_LOW, base + 0x400),
            (reg::VIRTIO_MMIO_QUEUE_AVAIL_HIGH, 0),
            (reg::VIRTIO_MMIO_QUEUE_USED_LOW, base + 0x800),
            (reg::VIRTIO_MMIO_QUEUE_USED_HIGH, 0),
        ] {
            self.write(register, value);
        }
        self.write(reg::VIRTIO_MMIO_QUEUE_READY, 1);
    }
}
