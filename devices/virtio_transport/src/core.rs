//! What every virtio transport does in the same way: device status, feature
//! negotiation, queue set-up, activation and reset.
//!
//! Knows no register layout and no bus; a transport translates register
//! accesses into calls. VIRTIO 1.2 sections 2.1, 2.2, 2.4 and 3.1.

use std::io;
use std::sync::Arc;

use device_model::{
    ActivateError, Activation, ActiveQueue, EventHandle, GuestMemory, Interrupt, IrqLine, Threads,
    VIRTIO_F_RING_EVENT_IDX, VIRTIO_F_VERSION_1, VirtioDevice,
};
use virtio_bindings::bindings::virtio_config;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::interrupt::Signals;
use crate::queue_setup::QueueSetup;
use crate::window::Window;

pub(crate) const ACKNOWLEDGE: u32 = virtio_config::VIRTIO_CONFIG_S_ACKNOWLEDGE;
pub(crate) const DRIVER: u32 = virtio_config::VIRTIO_CONFIG_S_DRIVER;
pub(crate) const DRIVER_OK: u32 = virtio_config::VIRTIO_CONFIG_S_DRIVER_OK;
pub(crate) const FEATURES_OK: u32 = virtio_config::VIRTIO_CONFIG_S_FEATURES_OK;
pub(crate) const NEEDS_RESET: u32 = virtio_config::VIRTIO_CONFIG_S_NEEDS_RESET;
pub(crate) const FAILED: u32 = virtio_config::VIRTIO_CONFIG_S_FAILED;

/// A device with the state that its driver and its transport share.
pub(crate) struct VirtioCore {
    device: Box<dyn VirtioDevice>,
    memory: GuestMemory,
    events: EventHandle,
    threads: Threads,
    signals: Arc<Signals>,
    /// One for each queue, for the life of the transport: the ioeventfds that
    /// the machine registered refer to them across resets.
    kicks: Vec<EventFd>,

    /// Status without NEEDS_RESET, which lives in `signals`.
    status: u32,
    /// Feature bits 0 to 63 that the driver accepted so far.
    accepted: u64,
    /// The driver accepted a bit from 64 up, where nothing is ever offered.
    accepted_beyond: bool,
    queues: Vec<QueueSetup>,
    /// The device has queues and serves them.
    active: bool,
    /// The machine is ending: the driver cannot start the device again.
    ended: bool,
    /// The driver's first refused DRIVER_OK has been logged; it can repeat it
    /// as often as it likes.
    refusal_logged: bool,
}

impl VirtioCore {
    /// Fails when a kick's event cannot be made.
    pub(crate) fn new(
        device: Box<dyn VirtioDevice>,
        memory: GuestMemory,
        events: EventHandle,
        threads: Threads,
        irq: Arc<dyn IrqLine>,
        window: Window,
    ) -> io::Result<Self> {
        let sizes = device.queue_max_sizes();
        let queues = sizes.iter().map(|size| QueueSetup::new(*size)).collect();
        let kicks = sizes
            .iter()
            .map(|_| EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC))
            .collect::<io::Result<_>>()?;
        Ok(VirtioCore {
            device,
            memory,
            events,
            threads,
            signals: Arc::new(Signals::new(window, irq)),
            kicks,
            status: 0,
            accepted: 0,
            accepted_beyond: false,
            queues,
            active: false,
            ended: false,
            refusal_logged: false,
        })
    }

    pub(crate) fn signals(&self) -> &Signals {
        &self.signals
    }

    pub(crate) fn kicks(&self) -> &[EventFd] {
        &self.kicks
    }

    pub(crate) fn status(&self) -> u32 {
        if self.signals.needs_reset_set() {
            self.status | NEEDS_RESET
        } else {
            self.status
        }
    }

    /// Takes the bits that the driver may set now and ignores the others, which
    /// it then finds missing when it reads the status. 0 resets the device.
    pub(crate) fn write_status(&mut self, value: u32) {
        if self.ended {
            return;
        }
        if value == 0 {
            self.reset();
            return;
        }
        // Drivers write back what they read, NEEDS_RESET included.
        let before = self.status;
        if before & !value != 0 {
            return;
        }
        if value & FAILED != 0 {
            self.status |= FAILED;
        }
        if self.status() & (FAILED | NEEDS_RESET) != 0 {
            return;
        }
        if value & ACKNOWLEDGE != 0 {
            self.status |= ACKNOWLEDGE;
        }
        if value & DRIVER != 0 && self.status & ACKNOWLEDGE != 0 {
            self.status |= DRIVER;
        }
        if value & !before & FEATURES_OK != 0 && self.status & DRIVER != 0 && self.acceptable() {
            self.device.ack_features(self.accepted);
            self.status |= FEATURES_OK;
        }
        // The driver has to read FEATURES_OK back, so the two never come at once.
        if value & !before & DRIVER_OK != 0 && before & FEATURES_OK != 0 {
            self.status |= DRIVER_OK;
            self.activate();
        }
    }

    fn offered(&self) -> u64 {
        self.device.features() | VIRTIO_F_VERSION_1 | VIRTIO_F_RING_EVENT_IDX
    }

    fn acceptable(&self) -> bool {
        let foreign = self.accepted & !self.offered() != 0 || self.accepted_beyond;
        !foreign && self.accepted & VIRTIO_F_VERSION_1 != 0
    }

    /// Offered feature bits `32 * word` to `32 * word + 31`.
    pub(crate) fn offered_word(&self, word: u32) -> u32 {
        match word {
            0 => self.offered() as u32,
            1 => (self.offered() >> 32) as u32,
            _ => 0,
        }
    }

    /// The driver accepts `bits` of feature word `word`. Has no effect before
    /// DRIVER or after FEATURES_OK.
    pub(crate) fn accept_word(&mut self, word: u32, bits: u32) {
        if self.status() & (DRIVER | FEATURES_OK | FAILED | NEEDS_RESET) != DRIVER {
            return;
        }
        let bits = u64::from(bits);
        match word {
            0 => self.accepted = (self.accepted & !0xffff_ffff) | bits,
            1 => self.accepted = (self.accepted & 0xffff_ffff) | (bits << 32),
            _ => self.accepted_beyond |= bits != 0,
        }
    }

    /// Queue `index` as described so far.
    pub(crate) fn queue(&self, index: u32) -> Option<&QueueSetup> {
        self.queues.get(usize::try_from(index).ok()?)
    }

    /// Queue `index` while its description may change: from FEATURES_OK until
    /// DRIVER_OK. After that the description has no effect, and is kept from
    /// changing so that nothing can come to depend on it.
    pub(crate) fn open_queue(&mut self, index: u32) -> Option<&mut QueueSetup> {
        let phase = self.status() & (FEATURES_OK | DRIVER_OK | FAILED | NEEDS_RESET);
        if phase != FEATURES_OK {
            return None;
        }
        self.queues.get_mut(usize::try_from(index).ok()?)
    }

    /// The driver's notification, where it did not take the ioeventfd.
    pub(crate) fn kick(&self, index: u32) {
        if !self.active {
            return;
        }
        let kick = usize::try_from(index)
            .ok()
            .and_then(|at| self.kicks.get(at));
        if let Some(kick) = kick {
            // Fails only when the counter is full, and then the device is
            // woken anyway.
            let _ = kick.write(1);
        }
    }

    pub(crate) fn read_config(&self, offset: u64, data: &mut [u8]) {
        self.device.read_config(offset, data);
    }

    /// Has no effect before DRIVER.
    pub(crate) fn write_config(&mut self, offset: u64, data: &[u8]) {
        if self.status() & (DRIVER | FAILED | NEEDS_RESET) == DRIVER {
            self.device.write_config(offset, data);
        }
    }

    /// Takes the queues from the device for good. The driver cannot start it again.
    pub(crate) fn shutdown(&mut self) {
        if !self.ended {
            self.ended = true;
            self.active = false;
            self.device.deactivate();
        }
    }

    fn reset(&mut self) {
        // First: what the device raises until it has let go belongs to its old life.
        self.device.deactivate();
        self.active = false;
        self.signals.reset();
        self.status = 0;
        self.accepted = 0;
        self.accepted_beyond = false;
        for queue in &mut self.queues {
            *queue = QueueSetup::new(queue.max_size());
        }
    }

    fn activate(&mut self) {
        match self.try_activate() {
            Ok(()) => self.active = true,
            Err(error) => {
                if !self.refusal_logged {
                    self.refusal_logged = true;
                    log::warn!(
                        "virtio device of type {} not started: {}",
                        self.device.device_type(),
                        chain(&error)
                    );
                }
                self.signals.needs_reset();
            }
        }
    }

    fn try_activate(&mut self) -> Result<(), ActivateError> {
        let event_idx = self.accepted & VIRTIO_F_RING_EVENT_IDX != 0;
        let mut queues = Vec::with_capacity(self.queues.len());
        for (index, (setup, kick)) in self.queues.iter().zip(&self.kicks).enumerate() {
            if !setup.ready() {
                queues.push(None);
                continue;
            }
            let queue = setup
                .freeze(&self.memory, event_idx)
                .map_err(|error| ActivateError::new(format!("set up queue {index}"), error))?;
            let kick = kick
                .try_clone()
                .map_err(|error| ActivateError::new(format!("share kick {index}"), error))?;
            queues.push(Some(ActiveQueue { queue, kick }));
        }
        let interrupt: Arc<dyn Interrupt> = Arc::clone(&self.signals) as _;
        self.device.activate(Activation {
            memory: self.memory.clone(),
            queues,
            interrupt,
            events: self.events.clone(),
            threads: self.threads.clone(),
        })
    }
}

/// What tests look at and no register shows.
#[cfg(test)]
impl VirtioCore {
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted
    }

    pub(crate) fn setups(&self) -> &[QueueSetup] {
        &self.queues
    }

    pub(crate) fn memory(&self) -> &GuestMemory {
        &self.memory
    }
}

impl Drop for VirtioCore {
    fn drop(&mut self) {
        self.shutdown();
    }
}

/// `error` and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
