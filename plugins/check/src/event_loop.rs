//! An event loop as the machine's, on a thread of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use device_model::{EventHandle, Subscriber};
use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::guest::PATIENCE;

/// An event loop, ended and joined when dropped.
pub struct Loop {
    /// The way into it.
    pub events: EventHandle,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

struct Nobody;

impl MutEventSubscriber for Nobody {
    fn process(&mut self, _: Events, _: &mut EventOps) {}
    fn init(&mut self, _: &mut EventOps) {}
}

impl Loop {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// When this process can have no thread or descriptor more.
    pub fn start() -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let (handles, handle) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut manager = EventManager::<Subscriber>::new().expect("an epoll descriptor");
            let endpoint = manager.remote_endpoint();
            handles
                .send(EventHandle::new(endpoint))
                .expect("its maker waits");
            while !ended.load(Ordering::Acquire) {
                manager.run().expect("the event loop runs");
            }
        });
        Loop {
            events: handle.recv().expect("the thread sends it first"),
            end,
            thread: Some(thread),
        }
    }

    /// Returns when what was due before has been dealt with: the loop has gone
    /// round twice since.
    ///
    /// # Panics
    ///
    /// When that takes longer than [`PATIENCE`].
    pub fn turn(&self) {
        let wake = EventFd::new(EFD_NONBLOCK).expect("an event descriptor");
        wake.write(1).expect("its counter is 0");
        let (rung, rings) = mpsc::channel();
        let bell = self.events.add(Box::new(Bell(wake, rung)));
        let _bell = bell.expect("the loop runs");
        for _ in 0..2 {
            rings.recv_timeout(PATIENCE).expect("the loop goes round");
        }
    }
}

/// Rings in each round of its loop.
struct Bell(EventFd, mpsc::Sender<()>);

impl MutEventSubscriber for Bell {
    fn process(&mut self, _: Events, _: &mut EventOps) {
        let _ = self.1.send(());
    }

    fn init(&mut self, ops: &mut EventOps) {
        let bell = Events::new(&self.0, EventSet::IN);
        ops.add(bell).expect("a descriptor that is not there yet");
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
        // Wakes it; an error says that it has ended already.
        let _ = self.events.add(Box::new(Nobody));
        if let Some(thread) = self.thread.take() {
            // It told of its panic by itself.
            let _ = thread.join();
        }
    }
}
