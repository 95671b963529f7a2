//! Requests that wait for a file lock, each on a thread of its own, so that no
//! queue is blocked by a lock that may never be free.
//!
//! A wait ends with the lock, with the guest's INTERRUPT, or when its queue
//! stops. Linux sends no INTERRUPT over virtio (`virtio_fs_send_interrupt` is
//! empty in 6.12): there a process that waits cannot be killed, but a reset of
//! the device ends the wait.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread::JoinHandle;

use device_model::{Interruptible, ThreadKind, Threads};
use vmm_sys_util::eventfd::EventFd;

use super::LockRequest;
use crate::fs::{Errno, FileSystem};

/// Threads that may wait at the same time: the guest makes them, so that there
/// is a limit. Beyond it a request fails with `ENOLCK`.
pub(crate) const MAX_WAITERS: usize = 32;

/// A wait that is over.
pub(crate) struct Completion {
    /// As [`Waiters::start`] gave it.
    pub(crate) ticket: u64,
    /// The reply.
    pub(crate) outcome: Result<(), Errno>,
}

/// Where the thread of a queue hears of waits that are over.
#[derive(Clone)]
pub(crate) struct Mailbox {
    /// Carries them.
    pub(crate) completions: mpsc::Sender<Completion>,
    /// Written after each.
    pub(crate) wake: Arc<EventFd>,
}

/// The waits of one device.
pub(crate) struct Waiters {
    fs: Arc<dyn FileSystem>,
    threads: Threads,
    next_ticket: AtomicU64,
    waiting: Mutex<Vec<Waiting>>,
}

struct Waiting {
    ticket: u64,
    queue: u16,
    /// Of the request.
    unique: u64,
    wait: Interruptible,
    thread: JoinHandle<()>,
}

impl Waiters {
    pub(super) fn new(fs: Arc<dyn FileSystem>, threads: Threads) -> Self {
        Waiters {
            fs,
            threads,
            next_ticket: AtomicU64::new(0),
            waiting: Mutex::default(),
        }
    }

    /// Waits for a lock on a new thread, and gives the ticket by which the
    /// completion in `mailbox` will be known. Whoever takes the completion out
    /// calls [`Waiters::finish`].
    pub(crate) fn start(
        &self,
        queue: u16,
        unique: u64,
        lock: LockRequest,
        mailbox: &Mailbox,
    ) -> Result<u64, Errno> {
        // Held until the thread is listed, so that nothing misses it.
        let mut waiting = self.waiting();
        if waiting.len() >= MAX_WAITERS {
            return Err(Errno::NOLCK);
        }
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        let wait = Interruptible::default();
        let body = {
            let (fs, wait, mailbox) = (Arc::clone(&self.fs), wait.clone(), mailbox.clone());
            move || {
                let outcome = take(&*fs, lock, &wait);
                // Without a receiver the queue has stopped and forgotten the wait.
                let _ = mailbox.completions.send(Completion { ticket, outcome });
                // Fails only when the counter is full, after 2^64 - 2 wake-ups.
                let _ = mailbox.wake.write(1);
            }
        };
        let kind = ThreadKind::FileServer(self.fs.access());
        let thread = self
            .threads
            .spawn(format!("fs-lock{ticket}"), kind, body)
            .map_err(|_: io::Error| Errno::NOLCK)?;
        waiting.push(Waiting {
            ticket,
            queue,
            unique,
            wait,
            thread,
        });
        Ok(ticket)
    }

    /// Ends the wait of request `unique`, whose completion follows. False when
    /// it does not wait.
    pub(crate) fn interrupt(&self, unique: u64) -> bool {
        let wait = self
            .waiting()
            .iter()
            .find(|waiting| waiting.unique == unique)
            .map(|waiting| waiting.wait.clone());
        wait.map(|wait| wait.interrupt()).is_some()
    }

    /// The completion of `ticket` has been taken: joins its thread.
    pub(crate) fn finish(&self, ticket: u64) {
        let mut waiting = self.waiting();
        let found = waiting
            .iter()
            .position(|waiting| waiting.ticket == ticket)
            .map(|at| waiting.swap_remove(at));
        drop(waiting);
        found.into_iter().for_each(join);
    }

    /// Ends all waits of a queue and returns when none is left. A wait that is
    /// kept by the storage and not by the lock is waited for, as other requests are.
    pub(crate) fn end_all(&self, queue: u16) {
        let ours: Vec<Waiting> = self
            .waiting()
            .extract_if(.., |waiting| waiting.queue == queue)
            .collect();
        for waiting in &ours {
            while !waiting.wait.interrupt() {}
        }
        ours.into_iter().for_each(join);
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().expect("no holder of this lock panics")
    }
}

fn take(fs: &dyn FileSystem, lock: LockRequest, wait: &Interruptible) -> Result<(), Errno> {
    let blocking = || {
        loop {
            match lock.ask(fs, true) {
                // Somebody else's signal.
                Err(Errno::INTR) if !wait.interrupted() => {}
                outcome => return outcome,
            }
        }
    };
    match wait.run(blocking) {
        Ok(Some(outcome)) => outcome,
        Ok(None) => Err(Errno::INTR),
        Err(_) => Err(Errno::NOLCK),
    }
}

fn join(waiting: Waiting) {
    if waiting.thread.join().is_err() {
        log::error!("a thread that waited for a lock panicked");
    }
}
