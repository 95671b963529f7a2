//! Interrupt lines: an eventfd for each, wired to a pin of KVM's I/O APIC.

use std::collections::BTreeMap;

use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::layout::{FIRST_GSI, LAST_GSI};
use crate::vm::KvmError;

/// Gives out interrupts. When all are taken, devices share them: drivers of
/// virtio-mmio look at their device's status register.
pub struct IrqLines<'a> {
    vm: &'a VmFd,
    next: u32,
    lines: BTreeMap<u32, EventFd>,
}

impl<'a> IrqLines<'a> {
    pub fn new(vm: &'a VmFd) -> Self {
        IrqLines {
            vm,
            next: FIRST_GSI,
            lines: BTreeMap::new(),
        }
    }

    /// An interrupt for the next device and the eventfd that raises it.
    pub fn allocate(&mut self) -> Result<(u32, EventFd), KvmError> {
        let gsi = self.next;
        self.next = if gsi == LAST_GSI { FIRST_GSI } else { gsi + 1 };
        Ok((gsi, self.line(gsi)?))
    }

    /// The eventfd that raises `gsi`, for a device at a fixed place.
    pub fn line(&mut self, gsi: u32) -> Result<EventFd, KvmError> {
        if !self.lines.contains_key(&gsi) {
            let line = eventfd()?;
            self.vm
                .register_irqfd(&line, gsi)
                .map_err(KvmError::at("register an interrupt line"))?;
            self.lines.insert(gsi, line);
        }
        self.lines[&gsi]
            .try_clone()
            .map_err(io("copy an event descriptor"))
    }
}

fn eventfd() -> Result<EventFd, KvmError> {
    EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(io("make an event descriptor"))
}

fn io(step: &'static str) -> impl Fn(std::io::Error) -> KvmError {
    move |error| KvmError::at(step)(kvm_ioctls::Error::new(error.raw_os_error().unwrap_or(0)))
}
