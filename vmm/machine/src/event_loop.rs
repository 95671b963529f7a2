//! The machine's one event loop: the only user of `EventManager`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use device_model::{EventHandle, Subscriber};
use event_manager::{EventManager, EventOps, Events, MutEventSubscriber, SubscriberOps};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::timerfd::TimerFd;

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

    /// Serves `subscriber` from the start on.
    pub fn add(&mut self, subscriber: Subscriber) {
        self.manager.add_subscriber(subscriber);
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

/// How long a machine has to stop for a reason of its own after a socket has
/// hung up: a guest that powers off resets its devices, and so their streams,
/// before it reaches the power register.
const GRACE: Duration = Duration::from_secs(2);

/// Stops the machine when a socket's other end is gone.
pub struct HangupSubscriber {
    socket: OwnedFd,
    /// Expires [`GRACE`] after the hang-up.
    timer: TimerFd,
    reason: StopReason,
    stop: Arc<StopRequest>,
}

impl HangupSubscriber {
    pub fn new(socket: OwnedFd, reason: StopReason, stop: Arc<StopRequest>) -> io::Result<Self> {
        Ok(HangupSubscriber {
            socket,
            timer: TimerFd::new()?,
            reason,
            stop,
        })
    }
}

impl MutEventSubscriber for HangupSubscriber {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if let Err(error) = ops.remove(Events::new_raw(events.fd(), events.event_set())) {
            log::error!("hang-up event: {error}");
        }
        let armed = events.fd() == self.socket.as_raw_fd() && self.timer.reset(GRACE, None).is_ok();
        if !armed {
            self.stop.request(self.reason.clone());
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        let hang_up = Events::new_raw(self.socket.as_raw_fd(), EventSet::READ_HANG_UP);
        let expiry = Events::new_raw(self.timer.as_raw_fd(), EventSet::IN);
        if let Err(error) = ops.add(hang_up).and_then(|()| ops.add(expiry)) {
            self.stop
                .request(StopReason::Internal(format!("event loop: {error}")));
        }
    }
}
