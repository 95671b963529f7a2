//! Signals to shem while a VM runs: a thread takes them and has them passed to
//! the command, or ends everything.
//!
//! There are no handlers: the signals are blocked in every thread and read
//! from a descriptor. The same thread keeps the limit of `--timeout`, since it
//! never blocks in anything else; it ends the process from where it is, and
//! with the process the VM.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::{status, terminal};

/// The signals that this module takes from their default actions.
const TAKEN: [Signal; 5] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGWINCH,
];

/// What is to reach the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToCommand {
    /// A signal.
    Signal(i32),
    /// The terminal may have another size now.
    Resize,
}

/// Where it is sent; bounded, and what does not fit is lost: a command that
/// has not taken many signals yet needs no more of them.
type Target = Arc<Mutex<Option<SyncSender<ToCommand>>>>;

/// The thread that takes signals. Dropping it ends the thread; the signals
/// stay blocked.
pub struct Signals {
    target: Target,
    thread: Option<JoinHandle<()>>,
    /// Closed to end the thread.
    stop: Option<PipeWriter>,
}

impl Signals {
    /// Blocks the signals in this thread, and so in all that it starts from
    /// now on, and starts the thread that takes them. Until there is a target
    /// they end the process. So does `deadline`.
    pub fn start(deadline: Option<Instant>) -> Result<Self> {
        let mask: SigSet = TAKEN.into_iter().collect();
        mask.thread_block().context("block signals")?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .context("make a descriptor for signals")?;
        let (stopped, stop) = io::pipe().context("make a pipe")?;
        let target = Target::default();
        let for_thread = Arc::clone(&target);
        let thread = std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                // It opens nothing, and started before the others could do without.
                if let Err(error) = confine::drop_capabilities() {
                    log::warn!("the thread for signals keeps its capabilities: {error}");
                }
                serve(&signals, &stopped, &for_thread, deadline);
            })
            .context("start the thread for signals")?;
        Ok(Signals {
            target,
            thread: Some(thread),
            stop: Some(stop),
        })
    }

    /// From now on signals go to `target`.
    pub fn set_target(&self, target: SyncSender<ToCommand>) {
        *lock(&self.target) = Some(target);
    }

    /// The command has ended: signals end the process again.
    pub fn clear_target(&self) {
        *lock(&self.target) = None;
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It returns nothing, and its panic was printed.
            let _ = thread.join();
        }
    }
}

fn lock(target: &Target) -> std::sync::MutexGuard<'_, Option<SyncSender<ToCommand>>> {
    target.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(signals: &SignalFd, stopped: &PipeReader, target: &Target, deadline: Option<Instant>) {
    let mut policy = Policy::default();
    loop {
        match wait(signals, stopped, deadline) {
            Wake::Stopped => return,
            Wake::Deadline => end(
                status::TIMED_OUT,
                "the limit of --timeout passed; the VM was ended",
            ),
            Wake::Signal(signal) => {
                let target = lock(target);
                match (policy.take(signal, target.is_some()), &*target) {
                    (Action::Pass(order), Some(target)) => {
                        // Full or gone: see `Target`.
                        let _ = target.try_send(order);
                    }
                    (Action::End(status), _) => {
                        end(status, &format!("ended by {signal}, and the VM with it"))
                    }
                    (Action::Pass(_) | Action::Ignore, _) => {}
                }
            }
        }
    }
}

/// Ends the process, whatever its other threads are doing.
fn end(status: u8, why: &str) -> ! {
    terminal::restore();
    note!("shem: {why}");
    std::process::exit(status.into())
}

enum Wake {
    Stopped,
    Deadline,
    Signal(Signal),
}

fn wait(signals: &SignalFd, stopped: &PipeReader, deadline: Option<Instant>) -> Wake {
    loop {
        let mut fds = [
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        let limit = match deadline {
            None => PollTimeout::NONE,
            Some(deadline) => poll_timeout(deadline),
        };
        match poll(&mut fds, limit) {
            Ok(_) | Err(Errno::EINTR) => {}
            // Without it there is nothing to take signals with.
            Err(_) => return Wake::Stopped,
        }
        if fds[1].any() == Some(true) {
            return Wake::Stopped;
        }
        if let Ok(Some(taken)) = signals.read_signal()
            && let Some(signal) = known(taken.ssi_signo)
        {
            return Wake::Signal(signal);
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Wake::Deadline;
        }
    }
}

/// The time until `deadline`, rounded up to milliseconds.
fn poll_timeout(deadline: Instant) -> PollTimeout {
    let left = deadline.saturating_duration_since(Instant::now());
    let millis = left.as_millis() + 1;
    // Longer ones are waited for in several turns.
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}

fn known(number: u32) -> Option<Signal> {
    Signal::try_from(i32::try_from(number).ok()?).ok()
}

/// What a signal leads to.
#[derive(Debug, PartialEq, Eq)]
enum Action {
    Pass(ToCommand),
    End(u8),
    Ignore,
}

/// Remembers whether the command has been asked to end.
#[derive(Default)]
struct Policy {
    asked: bool,
}

impl Policy {
    fn take(&mut self, signal: Signal, command_runs: bool) -> Action {
        let end = Action::End(status::signalled(signal as i32));
        match signal {
            Signal::SIGWINCH if command_runs => Action::Pass(ToCommand::Resize),
            Signal::SIGWINCH => Action::Ignore,
            // Who started us is gone, and nobody can ask a second time.
            Signal::SIGHUP => end,
            _ if !command_runs || self.asked => end,
            _ => {
                self.asked = true;
                Action::Pass(ToCommand::Signal(signal as i32))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn first_interrupt_goes_to_the_command_and_the_second_ends_the_vm() {
        let mut policy = Policy::default();
        let first = policy.take(Signal::SIGINT, true);
        assert_eq!(first, Action::Pass(ToCommand::Signal(libc::SIGINT)));
        assert_eq!(policy.take(Signal::SIGINT, true), Action::End(130));
    }

    #[test]
    fn terminate_after_interrupt_ends_the_vm() {
        let mut policy = Policy::default();
        policy.take(Signal::SIGINT, true);
        assert_eq!(policy.take(Signal::SIGTERM, true), Action::End(143));
    }

    #[test]
    fn signals_before_the_command_runs_end_everything() {
        assert_eq!(
            Policy::default().take(Signal::SIGINT, false),
            Action::End(130)
        );
        assert_eq!(
            Policy::default().take(Signal::SIGTERM, false),
            Action::End(143)
        );
        assert_eq!(
            Policy::default().take(Signal::SIGWINCH, false),
            Action::Ignore
        );
    }

    #[test]
    fn hang_up_ends_the_vm_at_once() {
        assert_eq!(
            Policy::default().take(Signal::SIGHUP, true),
            Action::End(129)
        );
    }

    #[test]
    fn new_window_sizes_never_count_as_a_first_signal() {
        let mut policy = Policy::default();
        for _ in 0..3 {
            let action = policy.take(Signal::SIGWINCH, true);
            assert_eq!(action, Action::Pass(ToCommand::Resize));
        }
    }

    #[test]
    fn waiting_ends_at_the_deadline_and_when_told_to() {
        let mask: SigSet = SigSet::empty();
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK).unwrap();
        let (stopped, stop) = io::pipe().unwrap();
        let soon = Some(Instant::now() + Duration::from_millis(1));
        assert!(matches!(wait(&signals, &stopped, soon), Wake::Deadline));
        drop(stop);
        assert!(matches!(wait(&signals, &stopped, None), Wake::Stopped));
    }
}
