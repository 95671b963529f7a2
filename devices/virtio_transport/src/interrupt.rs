//! The way from a device's threads to the driver: interrupt bits, the
//! DEVICE_NEEDS_RESET flag and the line. Takes no lock: a device calls this while a
//! vCPU thread may hold every lock there is.
//!
//! VIRTIO 1.2 sections 2.1.2 (DEVICE_NEEDS_RESET), 2.5 (configuration
//! generation) and 4.2.2 (InterruptStatus).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use device_model::{Interrupt, IrqLine};
use virtio_bindings::bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};

use crate::window::Window;

/// What a device tells its driver, on one interrupt line for all queues.
pub(crate) struct Signals {
    window: Window,
    /// Part of the device status that the device sets and a reset clears.
    needs_reset: AtomicBool,
    /// Changes with the configuration space, so that a driver that reads it in
    /// several steps sees that it has to start over.
    generation: AtomicU32,
    irq: Arc<dyn IrqLine>,
}

impl Signals {
    pub(crate) fn new(window: Window, irq: Arc<dyn IrqLine>) -> Self {
        Signals {
            window,
            needs_reset: AtomicBool::new(false),
            generation: AtomicU32::new(0),
            irq,
        }
    }

    /// What the driver reads, InterruptStatus among it.
    pub(crate) fn window(&self) -> &Window {
        &self.window
    }

    pub(crate) fn acknowledge(&self, bits: u32) {
        self.window.pending().fetch_and(!bits, Ordering::AcqRel);
    }

    pub(crate) fn needs_reset_set(&self) -> bool {
        self.needs_reset.load(Ordering::Acquire)
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    /// As at the start. The device must not be active: what it raised last
    /// would be lost or survive.
    pub(crate) fn reset(&self) {
        self.window.pending().store(0, Ordering::Release);
        self.needs_reset.store(false, Ordering::Release);
    }

    /// An edge also when the bit is still pending: a driver that acknowledges
    /// after it has looked at its rings needs the new edge.
    fn raise(&self, bit: u32) {
        self.window.pending().fetch_or(bit, Ordering::AcqRel);
        self.irq.pulse();
    }
}

impl Interrupt for Signals {
    fn notify_queue(&self, _index: u16) {
        self.raise(VIRTIO_MMIO_INT_VRING);
    }

    fn notify_config(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }

    fn needs_reset(&self) {
        self.needs_reset.store(true, Ordering::Release);
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }
}
