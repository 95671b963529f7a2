//! The thread of a queue: started with the device, and given the queue with
//! each activation.
//!
//! Why not started with the activation, as the disk's: that runs on the thread
//! of a vCPU, and a thread inherits the confinement of the one that starts it,
//! so that it could never open a file.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use device_model::{ThreadKind, Threads};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::queue::QueueServer;
use crate::server::Server;

/// What a thread is to do; it answers each when it is done.
enum Work {
    /// Serve this queue until it is stopped.
    Serve { queue: QueueServer, events: Epoll },
    /// End the guest's session.
    Reset,
}

/// A thread that serves one queue. Dropping it ends and joins the thread.
pub(crate) struct Worker {
    /// `None` only while it is dropped.
    work: Option<mpsc::Sender<Work>>,
    done: mpsc::Receiver<()>,
    /// Work was given whose end has not been waited for.
    busy: bool,
    stop: Arc<AtomicBool>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread, confined to serving files.
    pub(crate) fn start(name: String, threads: &Threads, server: Arc<Server>) -> io::Result<Self> {
        let (work, to_do) = mpsc::channel();
        let (finished, done) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let wake = Arc::new(EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?);
        let kind = ThreadKind::FileServer(server.access());
        let thread = threads.spawn(name, kind, {
            let stop = Arc::clone(&stop);
            move || {
                while let Ok(work) = to_do.recv() {
                    match work {
                        Work::Serve { queue, events } => queue.run(&events, &stop),
                        Work::Reset => server.reset(),
                    }
                    // The worker is gone: so is the next work.
                    let _ = finished.send(());
                }
            }
        })?;
        Ok(Worker {
            work: Some(work),
            done,
            busy: false,
            stop,
            wake,
            thread: Some(thread),
        })
    }

    /// Written when the thread should look for what to do.
    pub(crate) fn wake(&self) -> &Arc<EventFd> {
        &self.wake
    }

    /// Has the thread serve `queue` until [`Worker::stop`]. It is not busy.
    pub(crate) fn serve(&mut self, queue: QueueServer, kick: &EventFd) -> io::Result<()> {
        // Edge-triggered: each event is reported once, and never has to be read.
        let events = Epoll::new()?;
        for event in [kick, &self.wake] {
            events.ctl(
                ControlOperation::Add,
                event.as_raw_fd(),
                EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, 0),
            )?;
        }
        self.stop.store(false, Ordering::Release);
        self.give(Work::Serve { queue, events });
        Ok(())
    }

    /// Tells the thread to stop serving after the request at hand, without waiting.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        // Fails only when the counter is full, after 2^64 - 2 wake-ups.
        let _ = self.wake.write(1);
    }

    /// Has the thread end the session of the guest. It is not busy.
    pub(crate) fn reset(&mut self) {
        self.give(Work::Reset);
    }

    /// Returns when the thread has done the work that it was given.
    pub(crate) fn wait(&mut self) {
        if std::mem::take(&mut self.busy) {
            // An error says that the thread panicked, and so serves nothing.
            let _ = self.done.recv();
        }
    }

    fn give(&mut self, work: Work) {
        if let Some(sender) = &self.work {
            // Fails when the thread panicked.
            self.busy = sender.send(work).is_ok();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
        self.work = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("a file system's thread panicked");
        }
    }
}
