//! Interrupt lines: pins of KVM's I/O APIC.
//!
//! A pin is set by the thread that has something to tell, not by an eventfd wired to
//! it (`irqfd`): KVM would hand that over to a thread of the kernel's, as only for
//! interrupts by message does it deliver at once (Linux `virt/kvm/eventfd.c`,
//! `irqfd_wakeup`), and the guest would be told two changes of threads later.

use std::sync::Arc;

use device_model::IrqLine;

use crate::layout::{FIRST_GSI, LAST_GSI};
use crate::vm::Vm;

/// Gives out interrupts. When all are taken, devices share them: drivers of
/// virtio-mmio look at their device's status register.
pub struct IrqLines {
    vm: Arc<Vm>,
    next: u32,
}

impl IrqLines {
    /// All pins of `vm` that are for devices.
    pub fn new(vm: Arc<Vm>) -> Self {
        let next = FIRST_GSI;
        IrqLines { vm, next }
    }

    /// An interrupt for the next device, and its line.
    pub fn allocate(&mut self) -> (u32, Arc<dyn IrqLine>) {
        let gsi = self.next;
        self.next = if gsi == LAST_GSI { FIRST_GSI } else { gsi + 1 };
        (gsi, self.line(gsi))
    }

    /// The line to `gsi`, for a device at a fixed place.
    pub fn line(&self, gsi: u32) -> Arc<dyn IrqLine> {
        let vm = Arc::clone(&self.vm);
        Arc::new(Pin { vm, gsi })
    }
}

/// Edge-triggered: what counts is that it rises.
struct Pin {
    vm: Arc<Vm>,
    gsi: u32,
}

impl IrqLine for Pin {
    /// First down, then up, and it stays there. So of two threads that do this at the
    /// same time, whose steps may mix, the one whose rise is none has told of its
    /// news before the other's, which is one. A guest that takes the pin for one that
    /// its level triggers, which its tables deny, interrupts itself without end.
    fn pulse(&self) {
        for level in [false, true] {
            // Fails for a VM whose guest is no more, or a pin that there is not.
            let _ = self.vm.fd.set_irq_line(self.gsi, level);
        }
    }
}
