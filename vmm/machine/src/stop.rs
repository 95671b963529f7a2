//! Why a machine stopped, and how it is asked to.

use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::Timeline;

/// Why a machine stopped. The first reason wins; what follows from it is not told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReason {
    /// The guest powered itself off.
    GuestShutdown,
    /// The guest asked for a reset; machines of ours run once.
    GuestReset,
    /// The guest's kernel panicked, with its own message.
    GuestPanic(String),
    /// The guest's kernel lost its interrupt handlers, so that even its panic failed.
    TripleFault,
    /// The agent in the guest went away although nobody had asked it to.
    AgentLost,
    /// The owner ended the machine.
    Killed,
    /// The owner's time limit passed.
    Timeout,
    /// KVM could not go on running a vCPU.
    VcpuError(String),
    /// A fault of the VMM itself.
    Internal(String),
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StopReason::GuestShutdown => f.write_str("the guest powered off"),
            StopReason::GuestReset => f.write_str("the guest asked for a reset"),
            StopReason::GuestPanic(message) => write!(f, "the guest's kernel panicked: {message}"),
            StopReason::TripleFault => f.write_str("the guest's kernel crashed (triple fault)"),
            StopReason::AgentLost => f.write_str("the agent in the guest went away"),
            StopReason::Killed => f.write_str("the VM was killed"),
            StopReason::Timeout => f.write_str("the time limit passed"),
            StopReason::VcpuError(text) => write!(f, "KVM cannot run the guest: {text}"),
            StopReason::Internal(text) => write!(f, "internal error: {text}"),
        }
    }
}

/// What is left of a machine that stopped.
#[derive(Clone, Debug)]
pub struct StopReport {
    /// Why it stopped.
    pub reason: StopReason,
    /// The last lines on the guest's console, at most 16 KiB.
    pub console_tail: String,
    /// When it reached which stage.
    pub timeline: Timeline,
}

/// Through which any thread stops the machine: the event loop waits on
/// [`StopRequest::event`] and ends the vCPUs and itself.
pub struct StopRequest {
    requested: AtomicBool,
    reason: Mutex<Option<StopReason>>,
    event: EventFd,
}

impl StopRequest {
    pub fn new() -> std::io::Result<Self> {
        Ok(StopRequest {
            requested: AtomicBool::new(false),
            reason: Mutex::new(None),
            event: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
        })
    }

    /// Asks for the machine's end. Only the first reason is kept.
    pub fn request(&self, reason: StopReason) {
        self.reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(reason);
        self.requested.store(true, Ordering::Release);
        // Fails only when the counter is full, and then it is readable already.
        let _ = self.event.write(1);
    }

    /// Whether the end was asked for: vCPUs look after every exit.
    pub fn requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// Readable once the end was asked for.
    pub fn event(&self) -> &EventFd {
        &self.event
    }

    /// The reason that was kept, seen together with the console: a panicking
    /// kernel ends in a reset, and its last words tell the two apart.
    pub fn reason(&self, console_tail: &str) -> StopReason {
        let reason = self
            .reason
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match reason {
            Some(StopReason::GuestReset) => match panic_message(console_tail) {
                Some(message) => StopReason::GuestPanic(message),
                None => StopReason::GuestReset,
            },
            Some(reason) => reason,
            None => StopReason::Internal("the event loop ended unasked".into()),
        }
    }
}

/// The message of a kernel panic on the console (`kernel/panic.c`).
fn panic_message(console: &str) -> Option<String> {
    const MARK: &str = "Kernel panic - not syncing: ";
    let line = console
        .lines()
        .rev()
        .find_map(|line| line.split_once(MARK))?
        .1;
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_wins() {
        let stop = StopRequest::new().unwrap();
        stop.request(StopReason::Killed);
        stop.request(StopReason::GuestShutdown);
        assert!(stop.requested());
        assert_eq!(stop.reason(""), StopReason::Killed);
    }

    #[test]
    fn a_reset_after_panic_words_is_a_panic() {
        let stop = StopRequest::new().unwrap();
        stop.request(StopReason::GuestReset);
        assert_eq!(stop.reason("all fine\n"), StopReason::GuestReset);
        let tail =
            "[    1.0] Kernel panic - not syncing: sysrq triggered crash\r\n[    1.0] CPU: 0\r\n";
        assert_eq!(
            stop.reason(tail),
            StopReason::GuestPanic("sysrq triggered crash".into())
        );
    }
}
