//! Serves one virtqueue: takes its chains in order, one at a time, on a thread
//! that may block on storage; and the thread, which serves with a ring instead
//! if there is one (`ring_server.rs`).
//!
//! VIRTIO 1.2 section 2.7. Knows nothing about what a request means.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use device_model::{ActiveQueue, GuestMemory, Interrupt, ThreadKind, Threads};
use virtio_queue::{Error, Queue, QueueOwnedT, QueueT};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use crate::disk::{Disk, Outcome};
use crate::request::Segments;
use crate::ring::RingPlace;
use crate::ring_server;

/// A queue, and what its requests go to.
pub struct QueueServer {
    /// Position among the device's queues.
    pub index: u16,
    /// As the transport checked it.
    pub queue: Queue,
    /// Guest RAM.
    pub memory: GuestMemory,
    /// The way to the driver.
    pub interrupt: Arc<dyn Interrupt>,
    /// Shared with the other queues.
    pub disk: Arc<Disk>,
    /// Each write ends on stable storage: the driver will not ask for flushes.
    pub write_through: bool,
}

impl QueueServer {
    /// Serves every chain that is available and returns when there is none, and
    /// the driver has been asked to kick for the next; or soon after `stop`
    /// became true. An error means that the driver broke the rings, and that
    /// they cannot be served any more.
    pub fn serve(&mut self, stop: &AtomicBool) -> Result<(), Error> {
        let memory = &self.memory;
        let queue = &mut self.queue;
        let mut segments = Segments::default();
        loop {
            queue.disable_notification(memory)?;
            while let Some(chain) = queue.iter(memory)?.next() {
                if stop.load(Ordering::Acquire) {
                    return Ok(());
                }
                let head = chain.head_index();
                if head >= queue.size() {
                    return Err(Error::InvalidDescriptorIndex);
                }
                let (status, sound) = segments.collect(memory, chain);
                let written = match status {
                    // Nowhere to report to: the driver just gets its buffers back.
                    None => 0,
                    Some(status) => {
                        let outcome = match sound.and_then(|()| segments.request()) {
                            Ok(request) => {
                                let task = self.disk.task(&request);
                                self.disk.perform(task, &request, self.write_through)
                            }
                            Err(_) => Outcome::Failed,
                        };
                        status.copy_from(&[outcome.status()]);
                        outcome.written() + 1
                    }
                };
                queue.add_used(memory, head, written)?;
                // For each request, because the next may take long. A driver
                // that has not yet answered is not notified again.
                if queue.needs_notification(memory)? {
                    self.interrupt.notify_queue(self.index);
                }
            }
            // True when a chain came after the last look: its kick was suppressed.
            if !queue.enable_notification(memory)? {
                return Ok(());
            }
        }
    }

    fn run(mut self, kick: &EventFd, stop: &AtomicBool) {
        if let Err(error) = self.serve_kicks(kick, stop) {
            self.disk
                .complain(format_args!("queue {}: {error}", self.index));
            self.interrupt.needs_reset();
        }
    }

    fn serve_kicks(&mut self, kick: &EventFd, stop: &AtomicBool) -> Result<(), ServeError> {
        // Edge-triggered: each kick is reported once, and never has to be read.
        let kicks = Epoll::new()?;
        kicks.ctl(
            ControlOperation::Add,
            kick.as_raw_fd(),
            EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, 0),
        )?;
        while !stop.load(Ordering::Acquire) {
            self.serve(stop)?;
            match kicks.wait(-1, &mut [EpollEvent::default()]) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(error.into());
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Why a queue cannot be served any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    /// The driver broke the rings.
    #[error("{0}")]
    Queue(#[from] Error),
    /// The way to wait for it broke.
    #[error("wait: {0}")]
    Wait(#[from] io::Error),
}

/// A thread that serves a queue. Dropping it stops and joins the thread.
pub(crate) struct Worker {
    stop: Arc<AtomicBool>,
    kick: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts to serve what `server` makes of the queue and its kick, with the
    /// ring at `place` if there is one, which is there again in the end.
    pub(crate) fn start(
        name: String,
        threads: &Threads,
        active: ActiveQueue,
        place: RingPlace,
        server: impl FnOnce(Queue) -> QueueServer,
    ) -> io::Result<Self> {
        let ActiveQueue { queue, kick } = active;
        let kick = Arc::new(kick);
        let stop = Arc::new(AtomicBool::new(false));
        let server = server(queue);
        let thread = threads.spawn(name, ThreadKind::BlockIo, {
            let (stop, kick) = (Arc::clone(&stop), Arc::clone(&kick));
            move || match place.take() {
                None => server.run(&kick, &stop),
                Some(mut ring) => {
                    if ring_server::run(server, &mut ring, &kick, &stop) {
                        place.put_back(ring);
                    }
                }
            }
        })?;
        Ok(Worker {
            stop,
            kick,
            thread: Some(thread),
        })
    }

    /// Tells the thread to end after the requests at hand, without waiting.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        // Fails only when the counter is full, after 2^64 - 2 kicks.
        let _ = self.kick.write(1);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("a disk's thread panicked");
        }
    }
}
