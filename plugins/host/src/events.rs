//! What one device waits for: a set of descriptors and timers in an epoll
//! descriptor of its own, which is one descriptor to whoever drives the device.
//!
//! So a device can wait for something before there is an event loop, and leave the
//! loop and come back, without a lock that the loop's thread could hold.

// UNSAFETY: the epoll descriptor is lent under its owner's lifetime.
#![expect(unsafe_code, reason = "lends a descriptor whose owner cannot")]

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use plugin_abi::{EVENT_HANG_UP, EVENT_LIMIT, EVENT_READ, EVENT_WRITE};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Events that are dealt with before other devices have their turn.
const BATCH: usize = 32;

/// Something that has become due.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// One of the device's descriptors.
    Descriptor { fd: RawFd, events: u32, token: u64 },
    /// One of its timers.
    Timer { token: u64 },
    /// The driver kicked a queue.
    Kick { queue: u16 },
    /// [`WaitSet::wake`].
    Woken,
}

enum Source {
    Descriptor { fd: RawFd, token: u64 },
    Timer { fd: TimerFd, token: u64 },
    Kick { fd: EventFd, queue: u16 },
    Wake,
}

pub(crate) struct WaitSet {
    epoll: Epoll,
    wake: EventFd,
    sources: Mutex<Sources>,
}

#[derive(Default)]
struct Sources {
    /// By number, which is never used again: what epoll has told of a source that
    /// has since gone finds nothing.
    by_number: HashMap<u64, Source>,
    last: u64,
}

impl Sources {
    fn number_of(&self, wanted: impl Fn(&Source) -> bool) -> Option<u64> {
        let mut sources = self.by_number.iter();
        sources
            .find(|(_, source)| wanted(source))
            .map(|(number, _)| *number)
    }

    fn descriptor(&self, wanted: RawFd) -> Option<u64> {
        self.number_of(|source| matches!(source, Source::Descriptor { fd, .. } if *fd == wanted))
    }

    /// The number of the next source, if there is room for one of the device's.
    fn next(&mut self) -> Result<u64, Errno> {
        if self.by_number.len() >= EVENT_LIMIT {
            return Err(Errno::ENOSPC);
        }
        self.last += 1;
        Ok(self.last)
    }
}

impl WaitSet {
    pub(crate) fn new() -> io::Result<Self> {
        let set = WaitSet {
            epoll: Epoll::new()?,
            wake: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            sources: Mutex::default(),
        };
        {
            let mut sources = set.lock();
            let number = sources.next()?;
            set.watch(set.wake.as_raw_fd(), EventSet::IN, number)?;
            sources.by_number.insert(number, Source::Wake);
        }
        Ok(set)
    }

    /// Readable when [`WaitSet::due`] has something.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: `self` owns the descriptor and outlives the loan.
        unsafe { BorrowedFd::borrow_raw(self.epoll.as_raw_fd()) }
    }

    /// Makes the descriptor readable, once.
    pub(crate) fn wake(&self) {
        // Fails only when the counter is full, and then it is readable.
        let _ = self.wake.write(1);
    }

    pub(crate) fn add(&self, fd: RawFd, events: u32, token: u64) -> Result<(), Errno> {
        let flags = flags(events)?;
        let mut sources = self.lock();
        if sources.descriptor(fd).is_some() {
            return Err(Errno::EEXIST);
        }
        let number = sources.next()?;
        self.watch(fd, flags, number)?;
        let source = Source::Descriptor { fd, token };
        sources.by_number.insert(number, source);
        Ok(())
    }

    pub(crate) fn modify(&self, fd: RawFd, events: u32, token: u64) -> Result<(), Errno> {
        let flags = flags(events)?;
        let mut sources = self.lock();
        let number = sources.descriptor(fd).ok_or(Errno::ENOENT)?;
        let event = EpollEvent::new(flags, number);
        self.epoll
            .ctl(ControlOperation::Modify, fd, event)
            .map_err(errno)?;
        let source = Source::Descriptor { fd, token };
        sources.by_number.insert(number, source);
        Ok(())
    }

    pub(crate) fn remove(&self, fd: RawFd) -> Result<(), Errno> {
        let mut sources = self.lock();
        let number = sources.descriptor(fd).ok_or(Errno::ENOENT)?;
        sources.by_number.remove(&number);
        self.forget(fd);
        Ok(())
    }

    /// `after` zero ends the timer.
    pub(crate) fn set_timer(
        &self,
        token: u64,
        after: Duration,
        period: Duration,
    ) -> Result<(), Errno> {
        let mut sources = self.lock();
        let known = sources.number_of(
            |source| matches!(source, Source::Timer { token: known, .. } if *known == token),
        );
        if after.is_zero() {
            if let Some(number) = known {
                // Its descriptor is the only one of its file, so closing it is leaving.
                sources.by_number.remove(&number);
            }
            return Ok(());
        }
        let expiration = if period.is_zero() {
            Expiration::OneShot(after.into())
        } else {
            Expiration::IntervalDelayed(after.into(), period.into())
        };
        let none = TimerSetTimeFlags::empty();
        if let Some(number) = known
            && let Some(Source::Timer { fd, .. }) = sources.by_number.get(&number)
        {
            return fd.set(expiration, none);
        }
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let fd = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        fd.set(expiration, none)?;
        let number = sources.next()?;
        self.watch(fd.as_fd().as_raw_fd(), EventSet::IN, number)?;
        sources
            .by_number
            .insert(number, Source::Timer { fd, token });
        Ok(())
    }

    /// The kicks of a queue, which are no part of the device's limit.
    pub(crate) fn add_kick(&self, kick: EventFd, queue: u16) -> Result<(), Errno> {
        let mut sources = self.lock();
        sources.last += 1;
        let number = sources.last;
        self.watch(kick.as_raw_fd(), EventSet::IN, number)?;
        sources
            .by_number
            .insert(number, Source::Kick { fd: kick, queue });
        Ok(())
    }

    /// Forgets the kicks of all queues.
    pub(crate) fn remove_kicks(&self) {
        self.lock().by_number.retain(|_, source| {
            let Source::Kick { fd, .. } = source else {
                return true;
            };
            // The transport holds the same file, so that closing would not do.
            self.forget(fd.as_raw_fd());
            false
        });
    }

    /// What is due now, for [`WaitSet::take`].
    pub(crate) fn due(&self) -> Result<Vec<(u64, u32)>, Errno> {
        let mut events = [EpollEvent::default(); BATCH];
        let count = self.epoll.wait(0, &mut events).map_err(errno)?;
        let told = |event: &EpollEvent| (event.data(), told(event.event_set()));
        Ok(events[..count].iter().map(told).collect())
    }

    /// What source `number` is, if it is still there and due.
    pub(crate) fn take(&self, number: u64, events: u32) -> Option<Due> {
        match self.lock().by_number.get(&number)? {
            Source::Descriptor { fd, token } => Some(Due::Descriptor {
                fd: *fd,
                events,
                token: *token,
            }),
            // Non-blocking: set anew since, it has not rung.
            Source::Timer { fd, token } => {
                fd.wait().ok()?;
                Some(Due::Timer { token: *token })
            }
            Source::Kick { fd, queue } => {
                fd.read().ok()?;
                Some(Due::Kick { queue: *queue })
            }
            Source::Wake => {
                self.wake.read().ok()?;
                Some(Due::Woken)
            }
        }
    }

    fn watch(&self, fd: RawFd, events: EventSet, number: u64) -> Result<(), Errno> {
        let event = EpollEvent::new(events, number);
        self.epoll
            .ctl(ControlOperation::Add, fd, event)
            .map_err(errno)
    }

    fn forget(&self, fd: RawFd) {
        let event = EpollEvent::default();
        // One that was closed before has left by itself.
        let _ = self.epoll.ctl(ControlOperation::Delete, fd, event);
    }

    fn lock(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// As epoll takes them.
fn flags(events: u32) -> Result<EventSet, Errno> {
    if events & !(EVENT_READ | EVENT_WRITE) != 0 {
        return Err(Errno::EINVAL);
    }
    let mut flags = EventSet::empty();
    flags.set(
        EventSet::IN | EventSet::READ_HANG_UP,
        events & EVENT_READ != 0,
    );
    flags.set(EventSet::OUT, events & EVENT_WRITE != 0);
    Ok(flags)
}

/// As the device is told them.
fn told(flags: EventSet) -> u32 {
    let mut events = 0;
    if flags.intersects(EventSet::IN | EventSet::READ_HANG_UP) {
        events |= EVENT_READ;
    }
    if flags.contains(EventSet::OUT) {
        events |= EVENT_WRITE;
    }
    if flags.intersects(EventSet::HANG_UP | EventSet::ERROR) {
        events |= EVENT_HANG_UP;
    }
    events
}
