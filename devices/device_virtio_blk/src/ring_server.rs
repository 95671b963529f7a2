//! Serves one virtqueue with an io_uring: many requests are under way at the
//! same time, and end in whatever order the storage has.
//!
//! VIRTIO 1.2 sections 2.7 and 5.2.6.2: the order of requests is not defined,
//! and a flush covers the writes that had ended before it came. Knows nothing
//! about what a request means.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use device_model::{GuestMemory, Interrupt};
use virtio_queue::{Error, Queue, QueueOwnedT, QueueT};
use vmm_sys_util::eventfd::EventFd;

use crate::backend::Slice;
use crate::disk::{Disk, Outcome};
use crate::flights::{Flights, Landed};
use crate::queue::{QueueServer, ServeError};
use crate::request::Segments;
use crate::ring::Ring;

/// Serves the queue of `server` until `stop` is true, which is looked at
/// whenever `kick` is written. When it returns, no request is under way.
/// Says whether the ring can be used again.
pub(crate) fn run(server: QueueServer, ring: &mut Ring, kick: &EventFd, stop: &AtomicBool) -> bool {
    let QueueServer {
        index,
        queue,
        memory,
        interrupt,
        disk,
        write_through,
    } = server;
    let flights = Flights::new(ring, &memory, &disk, write_through, queue.size());
    let mut server = RingServer {
        index,
        queue,
        memory: &memory,
        interrupt,
        disk: &disk,
        write_through,
        flights,
        untold: false,
    };
    if let Err(error) = server.serve(kick, stop) {
        disk.complain(format_args!("queue {index}: {error}"));
        server.interrupt.needs_reset();
    }
    server.flights.land()
}

struct RingServer<'m> {
    index: u16,
    queue: Queue,
    memory: &'m GuestMemory,
    interrupt: Arc<dyn Interrupt>,
    disk: &'m Disk,
    write_through: bool,
    flights: Flights<'m>,
    /// Chains were given back of which the driver has not been notified.
    untold: bool,
}

impl<'m> RingServer<'m> {
    fn serve(&mut self, kick: &'m EventFd, stop: &AtomicBool) -> Result<(), ServeError> {
        let mut segments = Segments::default();
        let mut landed = Vec::new();
        self.flights.watch(kick)?;
        while !stop.load(Ordering::Acquire) {
            self.take_chains(&mut segments, stop)?;
            self.tell()?;
            self.flights.wait()?;
            self.flights.reap(&mut landed)?;
            for request in landed.drain(..) {
                let Landed {
                    head,
                    status,
                    outcome,
                } = request;
                self.end(head, &status, outcome)?;
            }
            self.tell()?;
        }
        Ok(())
    }

    /// Starts every chain that is available, or as many as there is room for:
    /// then the end of one brings us back here.
    fn take_chains(
        &mut self,
        segments: &mut Segments<'m>,
        stop: &AtomicBool,
    ) -> Result<(), ServeError> {
        loop {
            self.queue.disable_notification(self.memory)?;
            while self.flights.has_room() {
                let Some(chain) = self.queue.iter(self.memory)?.next() else {
                    break;
                };
                if stop.load(Ordering::Acquire) {
                    return Ok(());
                }
                let head = chain.head_index();
                if head >= self.queue.size() {
                    return Err(Error::InvalidDescriptorIndex.into());
                }
                let (status, sound) = segments.collect(self.memory, chain);
                match status {
                    // Nowhere to report to: the driver just gets its buffers back.
                    None => self.give_back(head, 0)?,
                    Some(status) => match sound.and_then(|()| segments.request()) {
                        Err(_) => self.end(head, &status, Outcome::Failed)?,
                        Ok(request) => {
                            let task = self.disk.task(&request);
                            let left = self.flights.start(head, status, task, &request)?;
                            if let Some(task) = left {
                                // It may take long.
                                self.tell()?;
                                let disk = self.disk;
                                let outcome = disk.perform(task, &request, self.write_through);
                                self.end(head, &status, outcome)?;
                            }
                        }
                    },
                }
            }
            // False when no chain came after the last look: its kick was suppressed.
            if !self.flights.has_room() || !self.queue.enable_notification(self.memory)? {
                return Ok(());
            }
        }
    }

    fn end(&mut self, head: u16, status: &Slice<'m>, outcome: Outcome) -> Result<(), Error> {
        status.copy_from(&[outcome.status()]);
        self.give_back(head, outcome.written() + 1)
    }

    fn give_back(&mut self, head: u16, written: u32) -> Result<(), Error> {
        self.queue.add_used(self.memory, head, written)?;
        self.untold = true;
        Ok(())
    }

    /// Notifies the driver of what was given back, if it wants to know.
    fn tell(&mut self) -> Result<(), Error> {
        if std::mem::take(&mut self.untold) && self.queue.needs_notification(self.memory)? {
            self.interrupt.notify_queue(self.index);
        }
        Ok(())
    }
}
