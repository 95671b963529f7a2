//! A timer descriptor that rings once after a while.

use std::time::Duration;

use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

pub(crate) struct Timer(TimerFd);

impl Timer {
    /// Fails when the process is out of descriptors.
    pub(crate) fn new() -> nix::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).map(Timer)
    }

    /// Readable when it has rung.
    pub(crate) fn fd(&self) -> &TimerFd {
        &self.0
    }

    /// Rings after `wait`, or never. Quiets a ring that was not noticed yet.
    pub(crate) fn set(&self, wait: Option<Duration>) {
        let set = match wait {
            None => self.0.unset(),
            Some(wait) => {
                // Zero would disarm it.
                let wait = wait.max(Duration::from_nanos(1));
                let flags = TimerSetTimeFlags::empty();
                self.0.set(Expiration::OneShot(wait.into()), flags)
            }
        };
        set.expect("a timer of our own takes every positive duration");
    }
}
