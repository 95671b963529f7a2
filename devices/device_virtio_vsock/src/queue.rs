//! One virtqueue as this device uses it: chains out and back, kicks wanted
//! only while it is empty, one interrupt for all buffers used in a turn.

use device_model::{ActiveQueue, GuestMemory, Interrupt};
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vmm_sys_util::eventfd::EventFd;

use crate::buffers::{Buffers, Side};

/// The driver broke the rules of the queue itself, so that the device cannot
/// go on without a reset.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    #[error("use the rings of queue {index}")]
    Rings {
        index: u16,
        #[source]
        source: virtio_queue::Error,
    },
    #[error("put a packet into a receive buffer of {len} bytes")]
    ReceiveBufferTooSmall { len: usize },
}

/// Buffers that the driver made available together.
pub struct Chain<'m> {
    /// Index of the first descriptor, by which the chain goes back.
    pub head: u16,
    pub buffers: Buffers<'m>,
}

/// A queue and what this turn did with it.
pub struct DeviceQueue {
    index: u16,
    queue: Queue,
    kick: EventFd,
    side: Side,
    /// The driver has been asked to kick.
    kicks_wanted: bool,
    /// Chains went back since the last [`DeviceQueue::notify`].
    used: bool,
}

impl DeviceQueue {
    /// Wraps queue number `index`, of whose chains the device uses `side`.
    pub fn new(index: u16, active: ActiveQueue, side: Side) -> Self {
        DeviceQueue {
            index,
            queue: active.queue,
            kick: active.kick,
            side,
            kicks_wanted: false,
            used: false,
        }
    }

    /// Readable when the driver kicked.
    pub fn kick(&self) -> &EventFd {
        &self.kick
    }

    /// The next available chain. After `None` the driver will kick for the next.
    pub fn pop<'m>(&mut self, memory: &'m GuestMemory) -> Result<Option<Chain<'m>>, QueueError> {
        loop {
            let chain = self
                .queue
                .iter(memory)
                .map_err(|source| rings(self.index, source))?
                .next();
            if let Some(chain) = chain {
                if self.kicks_wanted {
                    self.kicks_wanted = false;
                    self.queue
                        .disable_notification(memory)
                        .map_err(|source| rings(self.index, source))?;
                }
                return Ok(Some(Chain {
                    head: chain.head_index(),
                    buffers: Buffers::of_chain(memory, chain, self.side),
                }));
            }
            if self.kicks_wanted {
                return Ok(None);
            }
            // Something may have come between the look and the wish for a kick.
            self.kicks_wanted = true;
            if !self
                .queue
                .enable_notification(memory)
                .map_err(|source| rings(self.index, source))?
            {
                return Ok(None);
            }
        }
    }

    /// Makes the last `count` popped chains available again.
    pub fn unpop(&mut self, count: u16) {
        self.queue
            .set_next_avail(self.queue.next_avail().wrapping_sub(count));
    }

    /// Gives a chain back with `len` bytes written into it.
    pub fn complete(
        &mut self,
        memory: &GuestMemory,
        head: u16,
        len: u32,
    ) -> Result<(), QueueError> {
        self.used = true;
        self.queue
            .add_used(memory, head, len)
            .map_err(|source| rings(self.index, source))
    }

    /// Interrupts the driver if chains went back and it wants to know.
    pub fn notify(
        &mut self,
        memory: &GuestMemory,
        interrupt: &dyn Interrupt,
    ) -> Result<(), QueueError> {
        if std::mem::take(&mut self.used)
            && self
                .queue
                .needs_notification(memory)
                .map_err(|source| rings(self.index, source))?
        {
            interrupt.notify_queue(self.index);
        }
        Ok(())
    }
}

fn rings(index: u16, source: virtio_queue::Error) -> QueueError {
    QueueError::Rings { index, source }
}
