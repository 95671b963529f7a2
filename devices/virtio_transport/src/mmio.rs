//! The virtio-mmio register file, version 2, over the transport-independent core.
//!
//! No legacy interface, no shared memory regions, no queue reset. VIRTIO 1.2
//! section 4.2.2. What drivers read of it without an exit: [`window`](crate::window).

use std::io;
use std::sync::Arc;

use device_model::{BusDevice, EventHandle, GuestMemory, IrqLine, Threads, VirtioDevice};
use virtio_bindings::bindings::virtio_mmio as reg;
use vmm_sys_util::eventfd::EventFd;

use crate::core::VirtioCore;
use crate::queue_setup::{Area, Half};
use crate::window::Windows;

/// "virt", little-endian.
const MAGIC: u32 = 0x7472_6976;
/// The register layout of VIRTIO 1.0 and later.
const VERSION: u32 = 2;
/// "SHEM", little-endian. Drivers only show it.
const VENDOR: u32 = 0x4d45_4853;
/// What the four registers of a shared memory region that does not exist read as.
const NO_REGION: u32 = u32::MAX;
/// Where configuration space begins.
const CONFIG: u64 = reg::VIRTIO_MMIO_CONFIG as u64;

/// A virtio device on the memory bus.
///
/// Before the guest runs, the machine puts it on its bus, [`Windows::SIZE`] bytes; shows
/// the guest its page from [`Windows::OFFSET`] bytes before that on; and registers each
/// of [`MmioTransport::queue_kicks`] as an ioeventfd. Dropping it stops the device.
pub struct MmioTransport {
    core: VirtioCore,
    /// Which words and which queue the registers stand for: any number, as the
    /// driver wrote it.
    offered_word: u32,
    accepted_word: u32,
    queue: u32,
}

impl MmioTransport {
    /// Offset of the 32-bit QueueNotify register: the place of the ioeventfds.
    pub const NOTIFY_OFFSET: u64 = reg::VIRTIO_MMIO_QUEUE_NOTIFY as u64;

    /// Offset of the 32-bit InterruptACK register. Where the driver writes nothing
    /// but [`MmioTransport::USED_BUFFERS`] there, the write may be kept from
    /// [`BusDevice::write`]: InterruptStatus then goes on telling of used buffers
    /// until the next reset, and a driver that looks finds none.
    pub const ACKNOWLEDGE_OFFSET: u64 = reg::VIRTIO_MMIO_INTERRUPT_ACK as u64;

    /// The bit of InterruptStatus for used buffers.
    pub const USED_BUFFERS: u32 = reg::VIRTIO_MMIO_INT_VRING;

    /// Presents `device`, which gets `memory`, `events` and `threads` when its
    /// driver starts it, and raises its interrupts on `irq`. Its driver reads page
    /// `index` of `windows`, one that there is and no other device has. Fails when the
    /// process has no descriptor left for the kicks.
    pub fn new(
        device: Box<dyn VirtioDevice>,
        memory: GuestMemory,
        events: EventHandle,
        threads: Threads,
        irq: Arc<dyn IrqLine>,
        (windows, index): (&Windows, usize),
    ) -> io::Result<Self> {
        let window = windows.window(index);
        window.show(reg::VIRTIO_MMIO_MAGIC_VALUE, MAGIC);
        window.show(reg::VIRTIO_MMIO_VERSION, VERSION);
        window.show(reg::VIRTIO_MMIO_DEVICE_ID, device.device_type());
        window.show(reg::VIRTIO_MMIO_VENDOR_ID, VENDOR);
        let transport = MmioTransport {
            core: VirtioCore::new(device, memory, events, threads, irq, window)?,
            offered_word: 0,
            accepted_word: 0,
            queue: 0,
        };
        transport.show_selected();
        Ok(transport)
    }

    /// For each queue its index and its kick, which is to be signalled when the
    /// guest writes the index (32 bits wide) at [`MmioTransport::NOTIFY_OFFSET`].
    /// The same events stay in use across resets. Writes that reach
    /// [`BusDevice::write`] instead work as well and are slower.
    pub fn queue_kicks(&self) -> impl Iterator<Item = (u16, &EventFd)> {
        (0..).zip(self.core.kicks())
    }

    /// Stops the device for good: when this returns it touches no guest memory
    /// any more. Not to be called on the event loop's own thread, and only while
    /// the event loop runs or when it is gone: devices take leave of it.
    pub fn shutdown(&mut self) {
        self.core.shutdown();
    }

    #[cfg(test)]
    pub(crate) fn core(&self) -> &VirtioCore {
        &self.core
    }

    /// Has the driver read what it selected: the other registers of its page change
    /// elsewhere or never.
    fn show_selected(&self) {
        let window = self.core.signals().window();
        let features = self.core.offered_word(self.offered_word);
        window.show(reg::VIRTIO_MMIO_DEVICE_FEATURES, features);
        let queue = self.core.queue(self.queue);
        let (size, ready) = queue.map_or((0, false), |queue| (queue.max_size(), queue.ready()));
        window.show(reg::VIRTIO_MMIO_QUEUE_NUM_MAX, size.into());
        window.show(reg::VIRTIO_MMIO_QUEUE_READY, ready.into());
    }

    /// Registers behind the page.
    fn read_register(&self, register: u32) -> u32 {
        match register {
            reg::VIRTIO_MMIO_STATUS => self.core.status(),
            reg::VIRTIO_MMIO_SHM_LEN_LOW
            | reg::VIRTIO_MMIO_SHM_LEN_HIGH
            | reg::VIRTIO_MMIO_SHM_BASE_LOW
            | reg::VIRTIO_MMIO_SHM_BASE_HIGH => NO_REGION,
            reg::VIRTIO_MMIO_CONFIG_GENERATION => self.core.signals().generation(),
            _ => 0,
        }
    }

    fn write_register(&mut self, register: u32, value: u32) {
        match register {
            reg::VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.offered_word = value,
            reg::VIRTIO_MMIO_DRIVER_FEATURES => self.core.accept_word(self.accepted_word, value),
            reg::VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.accepted_word = value,
            reg::VIRTIO_MMIO_QUEUE_SEL => self.queue = value,
            reg::VIRTIO_MMIO_QUEUE_NUM => {
                if let Some(queue) = self.core.open_queue(self.queue) {
                    queue.set_size(value);
                }
            }
            reg::VIRTIO_MMIO_QUEUE_READY => {
                if let Some(queue) = self.core.open_queue(self.queue) {
                    queue.set_ready(value & 1 != 0);
                }
            }
            reg::VIRTIO_MMIO_QUEUE_NOTIFY => self.core.kick(value),
            reg::VIRTIO_MMIO_INTERRUPT_ACK => self.core.signals().acknowledge(value),
            reg::VIRTIO_MMIO_STATUS => self.write_status(value),
            _ => {
                if let Some((area, half)) = address_register(register)
                    && let Some(queue) = self.core.open_queue(self.queue)
                {
                    queue.set_address(area, half, value);
                }
            }
        }
        self.show_selected();
    }

    fn write_status(&mut self, value: u32) {
        self.core.write_status(value);
        if value == 0 {
            self.offered_word = 0;
            self.accepted_word = 0;
            self.queue = 0;
        }
    }
}

fn address_register(register: u32) -> Option<(Area, Half)> {
    Some(match register {
        reg::VIRTIO_MMIO_QUEUE_DESC_LOW => (Area::Descriptors, Half::Low),
        reg::VIRTIO_MMIO_QUEUE_DESC_HIGH => (Area::Descriptors, Half::High),
        reg::VIRTIO_MMIO_QUEUE_AVAIL_LOW => (Area::Avail, Half::Low),
        reg::VIRTIO_MMIO_QUEUE_AVAIL_HIGH => (Area::Avail, Half::High),
        reg::VIRTIO_MMIO_QUEUE_USED_LOW => (Area::Used, Half::Low),
        reg::VIRTIO_MMIO_QUEUE_USED_HIGH => (Area::Used, Half::High),
        _ => return None,
    })
}

/// Registers are 32 bits wide and aligned; any other access to them writes nothing and,
/// where they are not in memory, reads as zeros. Configuration space takes every width.
impl BusDevice for MmioTransport {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        if self.core.signals().window().read(offset, data) {
            return;
        }
        if let Some(offset) = offset.checked_sub(CONFIG) {
            self.core.read_config(offset, data);
            return;
        }
        match (u32::try_from(offset), <&mut [u8; 4]>::try_from(&mut *data)) {
            (Ok(register), Ok(word)) => *word = self.read_register(register).to_le_bytes(),
            _ => data.fill(0),
        }
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        if let Some(offset) = offset.checked_sub(CONFIG) {
            self.core.write_config(offset, data);
            return;
        }
        if let (Ok(register), Ok(word)) = (u32::try_from(offset), <[u8; 4]>::try_from(data)) {
            self.write_register(register, u32::from_le_bytes(word));
        }
    }
}
