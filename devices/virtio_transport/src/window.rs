//! The first registers of each device as memory, which its driver reads without an exit.
//!
//! ```text
//! page of memory, to read           page without memory: the bus
//! ┌───────────────────────────────┬──────────────────────────────────────────┐
//! │   MagicValue … InterruptStatus│InterruptACK, Status … configuration space│
//! └───────────────────────────────┴──────────────────────────────────────────┘
//! 0   0xf9c                    0x1000                                   0x1f9c
//! ```
//!
//! With each interrupt a driver reads InterruptStatus, which as an exit took a tenth of
//! a request to a folder. So a page ends behind this register. All else that changes by
//! itself, or that a device is asked for when it is read, comes after. Writes go to the
//! bus in both pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use virtio_bindings::bindings::virtio_mmio as reg;
use vm_memory::mmap::MmapRegionError;
use vm_memory::{Bytes, MmapRegion, VolatileMemory};

/// Bytes of a page.
const PAGE: usize = 0x1000;

/// The first register that is not in memory.
const END: usize = reg::VIRTIO_MMIO_INTERRUPT_ACK as usize;

/// Memory for the first registers of a machine's devices, a page each.
#[derive(Debug)]
pub struct Windows(Arc<MmapRegion>);

impl Windows {
    /// Bytes of the guest's address space for one device: its page and the next.
    pub const STRIDE: u64 = 2 * PAGE as u64;

    /// Where its registers begin there.
    pub const OFFSET: u64 = (PAGE - END) as u64;

    /// Bytes of registers and configuration space.
    pub const SIZE: u64 = PAGE as u64;

    /// Pages for `count` devices, at least one. Fails when the system has no more room
    /// for mappings.
    pub fn new(count: usize) -> Result<Self, MmapRegionError> {
        MmapRegion::new(count.max(1) * PAGE).map(|region| Windows(Arc::new(region)))
    }

    /// For each device the address of its page in this process, mapped for as long as
    /// this lives.
    pub fn pages(&self) -> impl Iterator<Item = *mut u8> {
        let first = self.0.as_ptr();
        (0..self.0.size())
            .step_by(PAGE)
            .map(move |at| first.wrapping_add(at))
    }

    /// Bytes of each of [`Windows::pages`].
    pub const PAGE: u64 = PAGE as u64;

    /// The window of device `index`, which must be one of them.
    pub(crate) fn window(&self, index: usize) -> Window {
        assert!(index < self.0.size() / PAGE, "no such device");
        Window {
            memory: Arc::clone(&self.0),
            start: index * PAGE + Windows::OFFSET as usize,
        }
    }
}

/// What one driver reads.
pub(crate) struct Window {
    memory: Arc<MmapRegion>,
    /// Where its registers begin.
    start: usize,
}

impl Window {
    /// A register by its offset, which must be in memory.
    fn word(&self, register: u32) -> &AtomicU32 {
        let at = self.start + register as usize;
        self.memory
            .get_atomic_ref(at)
            .expect("registers are words of the page")
    }

    /// InterruptStatus: why the line was raised, until the driver acknowledges.
    pub(crate) fn pending(&self) -> &AtomicU32 {
        self.word(reg::VIRTIO_MMIO_INTERRUPT_STATUS)
    }

    /// Has `register` read as `value`.
    pub(crate) fn show(&self, register: u32, value: u32) {
        self.word(register).store(value, Ordering::Release);
    }

    /// What the driver reads at `offset`: whether it is in memory.
    pub(crate) fn read(&self, offset: u64, data: &mut [u8]) -> bool {
        let Some(offset) = usize::try_from(offset).ok().filter(|at| *at < END) else {
            return false;
        };
        let memory = self.memory.as_volatile_slice();
        let len = data.len().min(END - offset);
        let (here, beyond) = data.split_at_mut(len);
        memory
            .read_slice(here, self.start + offset)
            .expect("within the page");
        beyond.fill(0);
        true
    }
}
