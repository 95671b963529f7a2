//! The machine's one event loop: the only user of `EventManager`.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

use device_model::{EventHandle, Subscriber};
use event_manager::{EventManager, EventOps, Events, MutEventSubscriber, SubscriberOps};
use vmm_sys_util::epoll::EventSet;

use crate::stop::{StopReason, StopRequest};

/// An event loop that has not begun to run. Its end is a [`StopRequest`].
pub struct EventLoop {
    manager: EventManager<Subscriber>,
    stop: Arc<StopRequest>,
}

impl EventLoop {
    pub fn new(stop: Arc<StopRequest>) -> Result<Self, event_manager::Error> {
        let mut manager = EventManager::<Subscriber>::new()?;
        manager.add_subscriber(Box::new(StopSubscriber(Arc::clone(&stop))));
        Ok(EventLoop { manager, stop })
    }

    /// For devices to join and leave the loop.
    pub fn handle(&self) -> EventHandle {
        EventHandle::new(self.manager.remote_endpoint())
    }

    /// Serves devices until the machine is asked to stop. When it returns, all
    /// subscribers are dropped and calls through handles fail at once.
    pub fn run(mut self) {
        while !self.stop.requested() {
            if let Err(error) = self.manager.run() {
                self.stop
                    .request(StopReason::Internal(format!("event loop: {error}")));
            }
        }
    }
}

/// Wakes the loop when the machine is to stop; the loop's condition does the rest.
struct StopSubscriber(Arc<StopRequest>);

impl MutEventSubscriber for StopSubscriber {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        // Left readable it would spin a loop that is slow to end.
        if let Err(error) = ops.remove(events) {
            log::error!("stop event: {error}");
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        let events = Events::new_raw(self.0.event().as_raw_fd(), EventSet::IN);
        if let Err(error) = ops.add(events) {
            self.0
                .request(StopReason::Internal(format!("event loop: {error}")));
        }
    }
}

/// Stops the machine when a socket's other end is gone.
pub struct HangupSubscriber {
    pub socket: OwnedFd,
    pub reason: StopReason,
    pub stop: Arc<StopRequest>,
}

impl MutEventSubscriber for HangupSubscriber {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        self.stop.request(self.reason.clone());
        if let Err(error) = ops.remove(events) {
            log::error!("hang-up event: {error}");
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        let events = Events::new_raw(self.socket.as_raw_fd(), EventSet::READ_HANG_UP);
        if let Err(error) = ops.add(events) {
            self.stop
                .request(StopReason::Internal(format!("event loop: {error}")));
        }
    }
}
