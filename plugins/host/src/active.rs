//! A virtio device while its driver uses it: rings, and the chains that are out.
//! VIRTIO 1.2 section 2.7.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use device_model::{Activation, ActiveQueue, GuestMemory, Interrupt};
use nix::errno::Errno;
use plugin_abi::Iovec;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::GuestMemoryBackend;

/// The most descriptors a chain may have, and pieces of memory it may cover. It
/// bounds the work for one chain; Linux drivers use far fewer.
const MAX_PIECES: usize = 128;

/// How often drivers broke the rings of a device, over all its activations.
#[derive(Default)]
pub(crate) struct Breaks(AtomicU64);

impl Breaks {
    /// Counts one. Says which one it is if it is to be logged: the first, second,
    /// fourth, eighth and so on, as a driver can do it as often as it likes.
    fn note(&self) -> Option<u64> {
        let count = self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        count.is_power_of_two().then_some(count)
    }
}

pub(crate) struct Active {
    /// The device's, for logs.
    id: String,
    breaks: Arc<Breaks>,
    pub memory: GuestMemory,
    pub interrupt: Arc<dyn Interrupt>,
    queues: Vec<Option<Rings>>,
    /// The driver broke the rings and has been told to reset.
    broken: bool,
}

struct Rings {
    queue: Queue,
    /// The driver has been asked to kick.
    kicks_wanted: bool,
    /// Chains went back since the last notification.
    used: bool,
    out: HashMap<u16, OutChain>,
}

/// A chain that the plugin has. Its pieces stay where they are while it does.
pub(crate) struct OutChain {
    pub readable: Box<[Iovec]>,
    pub writable: Box<[Iovec]>,
}

// SAFETY: pointers into guest memory, which `Active` keeps and any thread may use.
#[expect(unsafe_code, reason = "raw pointers into guest memory")]
unsafe impl Send for OutChain {}

impl Active {
    /// Takes over the queues, and returns the kicks of those in use.
    pub(crate) fn new(
        activation: Activation,
        id: &str,
        breaks: &Arc<Breaks>,
    ) -> (Self, Vec<(u16, vmm_sys_util::eventfd::EventFd)>) {
        let mut kicks = Vec::new();
        let mut queues = Vec::new();
        for (index, queue) in activation.queues.into_iter().enumerate() {
            queues.push(queue.map(|ActiveQueue { queue, kick }| {
                kicks.push((index as u16, kick));
                Rings {
                    queue,
                    kicks_wanted: false,
                    used: false,
                    out: HashMap::new(),
                }
            }));
        }
        let active = Active {
            id: id.to_owned(),
            breaks: Arc::clone(breaks),
            memory: activation.memory,
            interrupt: activation.interrupt,
            queues,
            broken: false,
        };
        (active, kicks)
    }

    /// The next chain of a queue; after `None` the driver will kick for the next.
    pub(crate) fn pop(&mut self, index: u16) -> Result<Option<(u16, &OutChain)>, Errno> {
        let rings = rings(&mut self.queues, self.broken, index)?;
        let head = match rings.pop(&self.memory) {
            Ok(head) => head,
            Err(reason) => {
                self.break_up(index, &reason);
                return Err(Errno::EIO);
            }
        };
        let rings = self.queues[usize::from(index)].as_ref();
        Ok(head.and_then(|head| Some((head, rings?.out.get(&head)?))))
    }

    /// Gives a chain back.
    pub(crate) fn complete(&mut self, index: u16, head: u16, written: u32) -> Result<(), Errno> {
        let rings = rings(&mut self.queues, self.broken, index)?;
        let chain = rings.out.get(&head).ok_or(Errno::ENOENT)?;
        let room: usize = chain.writable.iter().map(|piece| piece.len).sum();
        if written as usize > room {
            return Err(Errno::EINVAL);
        }
        rings.out.remove(&head);
        rings.used = true;
        if let Err(error) = rings.queue.add_used(&self.memory, head, written) {
            self.break_up(index, &error.to_string());
            return Err(Errno::EIO);
        }
        Ok(())
    }

    /// Interrupts the driver for what went back, if it wants that.
    pub(crate) fn notify(&mut self, index: u16) -> Result<(), Errno> {
        let rings = rings(&mut self.queues, self.broken, index)?;
        if !std::mem::take(&mut rings.used) {
            return Ok(());
        }
        match rings.queue.needs_notification(&self.memory) {
            Ok(true) => self.interrupt.notify_queue(index),
            Ok(false) => {}
            Err(error) => {
                self.break_up(index, &error.to_string());
                return Err(Errno::EIO);
            }
        }
        Ok(())
    }

    /// As [`Active::notify`], for every queue.
    pub(crate) fn notify_all(&mut self) {
        for index in 0..self.queues.len() {
            // An unused queue has nothing to tell, a broken one was told about.
            let _ = self.notify(index as u16);
        }
    }

    /// Has the driver reset the device.
    pub(crate) fn needs_reset(&mut self) {
        if !self.broken {
            self.broken = true;
            self.interrupt.needs_reset();
        }
    }

    /// No kick is told any more.
    pub(crate) fn broken(&self) -> bool {
        self.broken
    }

    /// Once in an activation, because nothing is taken after it.
    fn break_up(&mut self, index: u16, reason: &str) {
        if let Some(count) = self.breaks.note() {
            let id = &self.id;
            log::warn!(
                "device {id:?}: the driver broke the rings of queue {index}: {reason} (time {count})"
            );
        }
        self.needs_reset();
    }
}

fn rings(queues: &mut [Option<Rings>], broken: bool, index: u16) -> Result<&mut Rings, Errno> {
    if broken {
        return Err(Errno::EIO);
    }
    let queue = queues.get_mut(usize::from(index));
    queue.and_then(Option::as_mut).ok_or(Errno::ENXIO)
}

impl Rings {
    fn pop(&mut self, memory: &GuestMemory) -> Result<Option<u16>, String> {
        loop {
            let chain = self
                .queue
                .iter(memory)
                .map_err(|error| error.to_string())?
                .next();
            if let Some(chain) = chain {
                if std::mem::take(&mut self.kicks_wanted) {
                    self.queue
                        .disable_notification(memory)
                        .map_err(|error| error.to_string())?;
                }
                let head = chain.head_index();
                if self.out.contains_key(&head) {
                    return Err(format!("chain {head} is there twice"));
                }
                self.out.insert(head, pieces(memory, chain));
                return Ok(Some(head));
            }
            if self.kicks_wanted {
                return Ok(None);
            }
            // Something may have come between the look and the wish for a kick.
            self.kicks_wanted = true;
            let more = self
                .queue
                .enable_notification(memory)
                .map_err(|error| error.to_string())?;
            if !more {
                return Ok(None);
            }
        }
    }
}

/// The memory of a chain; none when it has too many pieces or is no memory.
fn pieces(memory: &GuestMemory, chain: virtio_queue::DescriptorChain<&GuestMemory>) -> OutChain {
    let (mut readable, mut writable) = (Vec::new(), Vec::new());
    for (index, descriptor) in chain.enumerate() {
        let side = if descriptor.is_write_only() {
            &mut writable
        } else {
            &mut readable
        };
        let len = descriptor.len() as usize;
        let slices = GuestMemoryBackend::get_slices(memory, descriptor.addr(), len);
        for slice in slices {
            match slice {
                Ok(slice) if index < MAX_PIECES && side.len() < MAX_PIECES => side.push(Iovec {
                    data: slice.ptr_guard_mut().as_ptr().cast(),
                    len: slice.len(),
                }),
                _ => {
                    return OutChain {
                        readable: Box::default(),
                        writable: Box::default(),
                    };
                }
            }
        }
    }
    OutChain {
        readable: readable.into_boxed_slice(),
        writable: writable.into_boxed_slice(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_that_break_rings_do_not_flood_the_log() {
        let breaks = Breaks::default();
        let logged: Vec<_> = (0..100).filter_map(|_| breaks.note()).collect();
        assert_eq!(logged, [1, 2, 4, 8, 16, 32, 64]);
    }
}
