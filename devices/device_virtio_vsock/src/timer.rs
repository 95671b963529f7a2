//! One timer descriptor for all deadlines of the device: rings at the earliest
//! or before it, never later.

use std::time::{Duration, Instant};

use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// A timer that is set to the earliest deadline its user has named.
pub struct Timer {
    fd: TimerFd,
    set_to: Option<Instant>,
}

impl Timer {
    pub fn new() -> nix::Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        Ok(Timer {
            fd: TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?,
            set_to: None,
        })
    }

    /// Readable when the timer has rung.
    pub fn fd(&self) -> &TimerFd {
        &self.fd
    }

    /// Rings by `deadline` or before it.
    pub fn ring_by(&mut self, deadline: Instant) {
        if self.set_to.is_none_or(|set_to| deadline < set_to) {
            self.set(Some(deadline));
        }
    }

    /// Rings at `deadline` and not before; forgets a ring that is not yet read.
    pub fn set(&mut self, deadline: Option<Instant>) {
        self.set_to = deadline;
        let outcome = match deadline {
            None => self.fd.unset(),
            Some(deadline) => {
                // Zero would disarm it.
                let wait = deadline
                    .saturating_duration_since(Instant::now())
                    .max(Duration::from_nanos(1));
                self.fd
                    .set(Expiration::OneShot(wait.into()), TimerSetTimeFlags::empty())
            }
        };
        outcome.expect("a timer of our own takes every positive duration");
    }
}
