//! Serves one virtqueue: takes its chains in order, one at a time, on a thread
//! that may block on storage, and gives back late the ones that wait for a lock.
//!
//! VIRTIO 1.2 sections 2.7 and 5.11.6. Knows nothing about what a request means.

use std::io;
use std::mem::size_of;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, mpsc};

use device_model::{GuestMemory, Interrupt};
use virtio_queue::{Error, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::epoll::{Epoll, EpollEvent};
use vmm_sys_util::eventfd::EventFd;

use crate::chain::{Chain, HeaderPlace};
use crate::fs::Errno;
use crate::server::{Answer, Completion, LockRequest, Mailbox, Server};
use crate::wire::OutHeader;

/// Where drivers send FORGET and INTERRUPT.
const HIGH_PRIORITY_QUEUE: u16 = 0;

/// For how many milliseconds chains of the queue of high priority are gathered once
/// one has come. A guest that looks at many files forgets one after the other, and
/// each by itself would cost it a kick and an interrupt. Those who wait for them: a
/// driver that unmounts, and the blocks of a deleted file, which the host frees when it
/// is forgotten.
pub(crate) const GATHERED_MS: i32 = 10;

/// A queue, and what its requests go to.
pub struct QueueServer {
    index: u16,
    queue: Queue,
    /// What comes on it may wait a little: see [`GATHERED_MS`].
    gathers: bool,
    memory: GuestMemory,
    interrupt: Arc<dyn Interrupt>,
    server: Arc<Server>,
    mailbox: Mailbox,
    completions: mpsc::Receiver<Completion>,
    /// Chains whose replies wait for a lock. At most as many as there may be
    /// waiting threads.
    late: Vec<Late>,
}

/// A chain that the driver gets back when its lock is there.
struct Late {
    ticket: u64,
    head: u16,
    unique: u64,
    header: HeaderPlace,
}

impl QueueServer {
    /// Serves `queue`, number `index` of the device, with `server`. `wake` is
    /// written when there is something to do without a kick of the driver's.
    pub fn new(
        index: u16,
        queue: Queue,
        memory: GuestMemory,
        interrupt: Arc<dyn Interrupt>,
        server: Arc<Server>,
        wake: Arc<EventFd>,
    ) -> Self {
        let (sender, completions) = mpsc::channel();
        QueueServer {
            index,
            gathers: index == HIGH_PRIORITY_QUEUE && queue.event_idx_enabled(),
            queue,
            memory,
            interrupt,
            server,
            mailbox: Mailbox {
                completions: sender,
                wake,
            },
            completions,
            late: Vec::new(),
        }
    }

    /// The rings and how far they have been served.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Serves every chain that is available and every wait that is over, and
    /// returns when there is none, and the driver has been asked to kick for
    /// the next; or soon after `stop` became true. An error means that the
    /// driver broke the rings, and that they cannot be served any more.
    pub fn serve(&mut self, stop: &AtomicBool) -> Result<(), Error> {
        let memory = self.memory.clone();
        loop {
            self.queue.disable_notification(&memory)?;
            self.serve_available(&memory, stop)?;
            // True when a chain came after the last look: its kick was suppressed.
            if stop.load(Ordering::Acquire) || !self.queue.enable_notification(&memory)? {
                return Ok(());
            }
        }
    }

    /// [`QueueServer::serve`] of a queue that gathers, and for how many milliseconds
    /// to wait then; -1: until there is something. Where nothing has come, the driver
    /// is to kick for the next; where something has, for many.
    pub(crate) fn gather(&mut self, stop: &AtomicBool) -> Result<i32, Error> {
        let memory = self.memory.clone();
        let mut served = 0;
        loop {
            match self.serve_available(&memory, stop)? {
                0 if served == 0 => return self.serve(stop).map(|()| -1),
                count => served += count,
            }
            if stop.load(Ordering::Acquire) || !self.ask_for_many(&memory)? {
                return Ok(GATHERED_MS);
            }
        }
    }

    /// Asks the driver to kick when half the ring is available, and not before. True
    /// when it is already.
    fn ask_for_many(&self, memory: &GuestMemory) -> Result<bool, Error> {
        let many = (self.queue.size() / 2).max(1);
        let next = self.queue.next_avail();
        // The field avail_event, after the entries of the used ring: section 2.7.8.
        let field = self.queue.used_ring() + 4 + 8 * u64::from(self.queue.size());
        let event = next.wrapping_add(many - 1);
        memory
            .store(event.to_le(), GuestAddress(field), Ordering::Relaxed)
            .map_err(Error::GuestMemory)?;
        // What the driver made available is read after it could see what is asked.
        fence(Ordering::SeqCst);
        let available = self.queue.avail_idx(memory, Ordering::Acquire)?;
        Ok(available.0.wrapping_sub(next) >= many)
    }

    /// Serves what there is, and says how many chains.
    fn serve_available(&mut self, memory: &GuestMemory, stop: &AtomicBool) -> Result<usize, Error> {
        self.finish_waits(memory)?;
        let mut served = 0;
        while let Some(chain) = self.queue.iter(memory)?.next() {
            if stop.load(Ordering::Acquire) {
                break;
            }
            let head = chain.head_index();
            if head >= self.queue.size() {
                return Err(Error::InvalidDescriptorIndex);
            }
            let used = match Chain::new(memory, chain) {
                Ok(chain) => self.request(memory, head, chain),
                // Nowhere to report to: the driver just gets its buffers back.
                Err(_) => {
                    self.server
                        .warnings()
                        .note(format_args!("queue {}: not a request", self.index));
                    Some(0)
                }
            };
            if let Some(written) = used {
                self.give_back(memory, head, written)?;
            }
            served += 1;
        }
        if self.gathers {
            self.notify(memory)?;
        }
        Ok(served)
    }

    /// The number of bytes written to the chain; `None` when it comes back later.
    fn request(&mut self, memory: &GuestMemory, head: u16, chain: Chain<'_>) -> Option<u32> {
        let answer = self.server.serve(chain.sent(), chain.room());
        match (answer, chain.into_header()) {
            (Answer::Reply { unique, outcome }, Some(place)) => {
                Some(reply(memory, &place, unique, outcome))
            }
            (Answer::Waits { unique, lock }, Some(place)) => {
                self.wait(memory, head, unique, lock, place)
            }
            _ => Some(0),
        }
    }

    fn wait(
        &mut self,
        memory: &GuestMemory,
        head: u16,
        unique: u64,
        lock: LockRequest,
        header: HeaderPlace,
    ) -> Option<u32> {
        let waiters = self.server.waiters();
        match waiters.start(self.index, unique, lock, &self.mailbox) {
            Ok(ticket) => {
                self.late.push(Late {
                    ticket,
                    head,
                    unique,
                    header,
                });
                None
            }
            Err(errno) => Some(reply(memory, &header, unique, Err(errno))),
        }
    }

    fn finish_waits(&mut self, memory: &GuestMemory) -> Result<(), Error> {
        while let Ok(Completion { ticket, outcome }) = self.completions.try_recv() {
            self.server.waiters().finish(ticket);
            let found = self.late.iter().position(|late| late.ticket == ticket);
            let Some(late) = found.map(|at| self.late.swap_remove(at)) else {
                continue;
            };
            let written = reply(memory, &late.header, late.unique, outcome.map(|()| 0));
            self.give_back(memory, late.head, written)?;
        }
        Ok(())
    }

    fn give_back(&mut self, memory: &GuestMemory, head: u16, written: u32) -> Result<(), Error> {
        self.queue.add_used(memory, head, written)?;
        // For each request, because the next may take long. A driver that has
        // not yet answered is not notified again.
        if !self.gathers {
            self.notify(memory)?;
        }
        Ok(())
    }

    fn notify(&mut self, memory: &GuestMemory) -> Result<(), Error> {
        if self.queue.needs_notification(memory)? {
            self.interrupt.notify_queue(self.index);
        }
        Ok(())
    }

    /// Serves until `stop`, which is followed by a wake-up. `events` are the
    /// kicks and the wake-ups. When it returns, no request is under way.
    pub(crate) fn run(mut self, events: &Epoll, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            let turn = if self.gathers {
                self.gather(stop)
            } else {
                self.serve(stop).map(|()| -1)
            };
            let wait = match turn {
                Ok(wait) => wait,
                Err(error) => {
                    self.give_up(format_args!("{error}"));
                    break;
                }
            };
            match events.wait(wait, &mut [EpollEvent::default(); 2]) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.give_up(format_args!("wait: {error}"));
                    break;
                }
            }
        }
        self.server.waiters().end_all(self.index);
    }

    fn give_up(&self, why: std::fmt::Arguments<'_>) {
        self.server
            .warnings()
            .note(format_args!("queue {}: {why}", self.index));
        self.interrupt.needs_reset();
    }
}

/// Writes the header of a reply and says how long the reply is.
fn reply(
    memory: &GuestMemory,
    place: &HeaderPlace,
    unique: u64,
    outcome: Result<usize, Errno>,
) -> u32 {
    let (bytes, error) = match outcome {
        Ok(bytes) => (bytes, 0),
        Err(errno) => (0, -errno.raw_os_error()),
    };
    // A reply is at most as long as the longest transfer.
    let len = (size_of::<OutHeader>() + bytes) as u32;
    place.put(memory, OutHeader { len, error, unique });
    len
}
