//! A blocking system call that another thread can end: the wait for a file lock.
//!
//! Some calls block until something happens that may never happen, and take no
//! descriptor, time-out or signal mask that could end them: `fcntl(F_OFD_SETLKW)`
//! and `flock(2)`. Only a signal with a handler makes them return (`EINTR`). So
//! here, and nowhere else, the library has one: it does nothing, for a
//! real-time signal that nobody in the process uses (its disposition is still
//! the default one), installed at the first wait. The signal is unblocked only
//! in a thread that waits, and is sent to that thread alone.
//!
//! The signal can arrive in the moment before the call blocks, and would then
//! change nothing. So whoever interrupts sends again until the thread has left
//! the call, a limited number of times.

// UNSAFETY: real-time signals, their handlers and signals to one thread have no
// safe wrapper.
#![expect(unsafe_code, reason = "sigaction and pthread_kill are raw calls")]

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

/// How long the thread may take to leave its call before the signal is sent
/// again. The first one is missed only when it arrives in the few instructions
/// between the check and the call.
const RESEND: Duration = Duration::from_millis(5);

/// Signals that are sent for one interruption: for a second. A thread that is
/// not out of its call then does not wait for a lock but for storage.
const SIGNALS: u32 = 200;

/// One wait, as the thread that blocks and those that may end it share it.
#[derive(Clone, Default)]
pub struct Interruptible(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    left: Condvar,
}

#[derive(Default)]
struct State {
    interrupted: bool,
    /// The thread that is inside of [`Interruptible::run`].
    inside: Option<libc::pthread_t>,
}

impl Interruptible {
    /// Runs `call` on this thread so that [`Interruptible::interrupt`] ends its
    /// blocking system calls with `EINTR`. When that came before, `call` is not
    /// run and the answer is `Ok(None)`. `call` returns when a system call of
    /// it was interrupted. Fails when the process uses every signal itself.
    pub fn run<T>(&self, call: impl FnOnce() -> T) -> io::Result<Option<T>> {
        let signal = signal()?;
        let mut state = self.state();
        if state.interrupted {
            return Ok(None);
        }
        let before = unblock(signal)?;
        // SAFETY: takes nothing and cannot fail.
        state.inside = Some(unsafe { libc::pthread_self() });
        drop(state);
        // Also when `call` panics nobody may signal this thread any more.
        let _inside = Inside {
            wait: self,
            before: &before,
        };
        Ok(Some(call()))
    }

    /// Ends the call, or keeps it from starting. True when the thread is not in
    /// the call any more; false when it was not out of it after a second, which
    /// means that something else than the lock keeps it.
    pub fn interrupt(&self) -> bool {
        let mut state = self.state();
        state.interrupted = true;
        for _ in 0..SIGNALS {
            let (Some(thread), Some(Ok(signal))) = (state.inside, SIGNAL.get()) else {
                return true;
            };
            // SAFETY: the thread is inside of `run` and cannot leave it while
            // the lock is held, so its id is valid; the signal has a handler
            // that does nothing.
            unsafe { libc::pthread_kill(thread, *signal) };
            state = self
                .0
                .left
                .wait_timeout(state, RESEND)
                .expect("no holder of this lock panics")
                .0;
        }
        state.inside.is_none()
    }

    /// Whether the wait was or will be ended.
    pub fn interrupted(&self) -> bool {
        self.state().interrupted
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no holder of this lock panics")
    }
}

/// A thread is inside of [`Interruptible::run`], until this is dropped.
struct Inside<'a> {
    wait: &'a Interruptible,
    before: &'a libc::sigset_t,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.wait.state().inside = None;
        self.wait.0.left.notify_all();
        // SAFETY: the set came from the same call.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, self.before, ptr::null_mut()) };
    }
}

/// The signal, or the error that kept it from being set up.
static SIGNAL: OnceLock<Result<libc::c_int, i32>> = OnceLock::new();

fn signal() -> io::Result<libc::c_int> {
    SIGNAL
        .get_or_init(install)
        .map_err(io::Error::from_raw_os_error)
}

/// Gives the last real-time signal that has no handler one that does nothing.
fn install() -> Result<libc::c_int, i32> {
    let last_error = || {
        io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or_default()
    };
    for signal in (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev() {
        let mut current = MaybeUninit::<libc::sigaction>::zeroed();
        // SAFETY: only asks, into a place of the right type.
        if unsafe { libc::sigaction(signal, ptr::null(), current.as_mut_ptr()) } != 0 {
            return Err(last_error());
        }
        // SAFETY: all zeros are a valid value, and the call above has filled it in.
        let mut action = unsafe { current.assume_init() };
        if action.sa_sigaction != libc::SIG_DFL {
            continue;
        }
        // No SA_RESTART: the interrupted call has to return.
        action.sa_flags = 0;
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // SAFETY: `action` is a whole one with a handler that lives for ever
        // and is safe in any thread at any time.
        if unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) } != 0 {
            return Err(last_error());
        }
        return Ok(signal);
    }
    Err(libc::EAGAIN)
}

extern "C" fn nothing(_: libc::c_int) {}

/// Unblocks `signal` in this thread and gives the set that was blocked before.
fn unblock(signal: libc::c_int) -> io::Result<libc::sigset_t> {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: writes to a place of the right type.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set is initialised, `signal` is a valid number.
    unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    let mut before = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: both pointers are to sets.
    match unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), before.as_mut_ptr()) } {
        // SAFETY: all zeros are a valid value, and the call has filled it in.
        0 => Ok(unsafe { before.assume_init() }),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

#[cfg(test)]
mod tests;
