//! One virtqueue as this device uses it: chains out and back, kicks wanted only
//! while it is empty, one interrupt for all buffers used in a turn.
//!
//! Used buffers are made known together, which a frame that takes several needs: a
//! driver that sees the first takes the others for granted. VIRTIO 1.2 sections
//! 2.7.8 and 5.1.6.4.

use std::sync::atomic::{Ordering, fence};

use device_model::{ActiveQueue, GuestMemory, Interrupt};
use virtio_bindings::bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};
use vmm_sys_util::eventfd::EventFd;

/// Bytes of either ring before its entries, and of an entry of each.
const RING_HEADER: u64 = 4;
const AVAIL_ENTRY: u64 = 2;
const USED_ENTRY: u64 = 8;
/// Where either ring has its index.
const RING_INDEX: u64 = 2;

/// The driver broke the rules of the queue itself, so that the device cannot go on
/// without a reset.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueError {
    #[error("take a chain of queue {index}")]
    Available {
        index: u16,
        #[source]
        source: virtio_queue::Error,
    },
    #[error("queue {index} has a chain that begins at descriptor {head}, of {size}")]
    Head { index: u16, head: u16, size: u16 },
    #[error("give back a chain of queue {index}")]
    Used {
        index: u16,
        #[source]
        source: GuestMemoryError,
    },
}

/// A queue and what this turn did with it.
pub(crate) struct DeviceQueue {
    index: u16,
    queue: Queue,
    kick: EventFd,
    /// The driver has been asked to kick.
    kicks_wanted: bool,
    /// Entries of the used ring that are written and not yet made known.
    staged: u16,
    /// The index of the used ring up to which the driver was notified.
    told: u16,
}

impl DeviceQueue {
    /// Wraps queue number `index`.
    pub(crate) fn new(index: u16, active: ActiveQueue) -> Self {
        DeviceQueue {
            index,
            told: active.queue.next_used(),
            queue: active.queue,
            kick: active.kick,
            kicks_wanted: false,
            staged: 0,
        }
    }

    /// Its number.
    pub(crate) fn index(&self) -> u16 {
        self.index
    }

    /// Written at each kick, and never read.
    pub(crate) fn kick(&self) -> &EventFd {
        &self.kick
    }

    /// The next available chain. After `None` the driver will kick for the next.
    pub(crate) fn pop<'m>(
        &mut self,
        memory: &'m GuestMemory,
    ) -> Result<Option<DescriptorChain<&'m GuestMemory>>, QueueError> {
        loop {
            let available = self.queue.iter(memory).map(|mut chains| chains.next());
            if let Some(chain) = available.map_err(|source| self.broken(source))? {
                if std::mem::take(&mut self.kicks_wanted) {
                    let disabled = self.queue.disable_notification(memory);
                    disabled.map_err(|source| self.broken(source))?;
                }
                let (head, size) = (chain.head_index(), self.queue.size());
                if head >= size {
                    let index = self.index;
                    return Err(QueueError::Head { index, head, size });
                }
                return Ok(Some(chain));
            }
            if self.kicks_wanted {
                return Ok(None);
            }
            // Something may have come between the look and the wish for a kick.
            self.kicks_wanted = true;
            let enabled = self.queue.enable_notification(memory);
            if !enabled.map_err(|source| self.broken(source))? {
                return Ok(None);
            }
        }
    }

    /// Makes the last chain that was popped available again.
    pub(crate) fn unpop(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Gives a chain back with `len` bytes written into it, from the next
    /// [`DeviceQueue::publish`] on.
    pub(crate) fn complete(
        &mut self,
        memory: &GuestMemory,
        head: u16,
        len: u32,
    ) -> Result<(), QueueError> {
        let at = self.queue.next_used().wrapping_add(self.staged) % self.queue.size();
        let entry = u64::from(head) | u64::from(len) << 32;
        let address = self.queue.used_ring() + RING_HEADER + USED_ENTRY * u64::from(at);
        memory
            .write_obj(entry.to_le(), GuestAddress(address))
            .map_err(|source| self.unwritable(source))?;
        self.staged = self.staged.wrapping_add(1);
        Ok(())
    }

    /// Makes known what went back.
    pub(crate) fn publish(&mut self, memory: &GuestMemory) -> Result<(), QueueError> {
        let next = self.queue.next_used().wrapping_add(self.staged);
        let index = GuestAddress(self.queue.used_ring() + RING_INDEX);
        memory
            .store(next.to_le(), index, Ordering::Release)
            .map_err(|source| self.unwritable(source))?;
        self.queue.set_next_used(next);
        self.staged = 0;
        Ok(())
    }

    /// Makes known what went back, and interrupts the driver if it wants to know.
    pub(crate) fn notify(
        &mut self,
        memory: &GuestMemory,
        interrupt: &dyn Interrupt,
    ) -> Result<(), QueueError> {
        if self.staged > 0 {
            self.publish(memory)?;
        }
        let (old, new) = (self.told, self.queue.next_used());
        if old == new {
            return Ok(());
        }
        self.told = new;
        // What the driver wants is read after it could see what it gets.
        fence(Ordering::SeqCst);
        let wanted = if self.queue.event_idx_enabled() {
            let entries = AVAIL_ENTRY * u64::from(self.queue.size());
            let event = self.available_field(memory, RING_HEADER + entries)?;
            new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
        } else {
            let flags = self.available_field(memory, 0)?;
            u32::from(flags) & VRING_AVAIL_F_NO_INTERRUPT == 0
        };
        if wanted {
            interrupt.notify_queue(self.index);
        }
        Ok(())
    }

    fn available_field(&self, memory: &GuestMemory, offset: u64) -> Result<u16, QueueError> {
        let address = GuestAddress(self.queue.avail_ring() + offset);
        memory
            .load(address, Ordering::Relaxed)
            .map(u16::from_le)
            .map_err(|source| self.unwritable(source))
    }

    fn broken(&self, source: virtio_queue::Error) -> QueueError {
        let index = self.index;
        QueueError::Available { index, source }
    }

    fn unwritable(&self, source: GuestMemoryError) -> QueueError {
        let index = self.index;
        QueueError::Used { index, source }
    }
}

#[cfg(test)]
mod tests;
