//! Says in one line which thread made which system call against its filter,
//! and ends the process: a handler for `SIGSYS`.
//!
//! Commands install it. The library does not, so that a program which embeds
//! it keeps its own signal handlers; there `SIGSYS` ends the process silently.
// UNSAFETY: a signal handler reads what the kernel passes by pointer and may
// call nothing but the C library's async-signal-safe functions.
#![expect(unsafe_code, reason = "signal handler")]

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::syscalls;

/// Exit status after a violation: the VMM itself failed, as opposed to the
/// command in the guest.
pub const VIOLATION_STATUS: i32 = 125;

/// `si_code` of a `SIGSYS` that a filter raised (`asm-generic/siginfo.h`).
const SYS_SECCOMP: c_int = 1;

/// Longest report: the fixed text, a thread name, a number and a call's name.
const REPORT_CAPACITY: usize = 256;

/// A `fn()` to call before the process ends, or null.
static BEFORE_EXIT: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());

/// The part of `siginfo_t` that `SIGSYS` carries (`asm-generic/siginfo.h`).
#[repr(C)]
struct SigsysInfo {
    signo: c_int,
    errno: c_int,
    code: c_int,
    padding: c_int,
    call_address: *const c_void,
    call: c_int,
    arch: u32,
}

/// From now on a violation in any thread of the process ends it with one
/// readable line on standard error and [`VIOLATION_STATUS`]; or silently by
/// `SIGSYS` where that signal is blocked, as the C library does around the
/// start of processes and threads.
///
/// `before_exit` is called just before, in the thread at fault: to set a
/// terminal back to what it was. It runs in a signal handler under that
/// thread's filter, so it may use what is async-signal-safe, and of system
/// calls `write`, `ioctl(TCSETS)` and what else every thread may do.
pub fn report_violations(before_exit: fn()) -> nix::Result<()> {
    BEFORE_EXIT.store(before_exit as *mut (), Ordering::Release);
    let action = SigAction::new(
        SigHandler::SigAction(on_sigsys),
        SaFlags::SA_SIGINFO,
        SigSet::empty(),
    );
    // SAFETY: `on_sigsys` keeps to async-signal-safe calls (see there).
    unsafe { sigaction(Signal::SIGSYS, &action) }.map(drop)
}

/// Async-signal-safe: no allocation, no lock, no panic; `prctl`, `write` and
/// `_exit` are all the C library sees, and every filter allows them.
extern "C" fn on_sigsys(_signal: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo_t, which is
    // larger than SigsysInfo and has its layout when the signal is SIGSYS.
    let info = unsafe { &*info.cast::<SigsysInfo>() };
    let mut report = Report::new();
    report.text("shem: seccomp: thread \"");
    report.bytes(thread_name(&mut [0; 16]));
    if info.code == SYS_SECCOMP {
        report.text("\" made system call ");
        report.number(info.call.unsigned_abs());
        report.text(" (");
        report.text(syscalls::name(info.call.into()).unwrap_or("unknown"));
        report.text("), which its filter does not allow; run with --seccomp log to go on, and report this\n");
    } else {
        report.text("\" was ended by a SIGSYS that no filter raised\n");
    }
    let line = report.filled();
    // SAFETY: `line` is initialised memory of that length.
    unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
    let before_exit = BEFORE_EXIT.load(Ordering::Acquire);
    if !before_exit.is_null() {
        // SAFETY: only `report_violations` stores here, and it stores a `fn()`.
        let before_exit: fn() = unsafe { std::mem::transmute(before_exit) };
        before_exit();
    }
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(VIOLATION_STATUS) }
}

/// The calling thread's name; `buffer` has the size that `PR_GET_NAME` wants.
fn thread_name(buffer: &mut [u8; 16]) -> &[u8] {
    // SAFETY: PR_GET_NAME writes at most 16 bytes, the last of them zero.
    unsafe { libc::prctl(libc::PR_GET_NAME, buffer.as_mut_ptr()) };
    buffer.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A line that is put together on the stack; what does not fit is left out.
struct Report {
    bytes: [u8; REPORT_CAPACITY],
    len: usize,
}

impl Report {
    fn new() -> Self {
        Report {
            bytes: [0; REPORT_CAPACITY],
            len: 0,
        }
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for (slot, byte) in self.bytes.iter_mut().skip(self.len).zip(bytes) {
            *slot = *byte;
            self.len += 1;
        }
    }

    fn number(&mut self, number: u32) {
        let mut divisor = 1;
        while number / divisor >= 10 {
            divisor *= 10;
        }
        while divisor > 0 {
            self.bytes(&[b'0' + (number / divisor % 10) as u8]);
            divisor /= 10;
        }
    }

    fn filled(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        for (number, text) in [(0, "0"), (9, "9"), (10, "10"), (u32::MAX, "4294967295")] {
            let mut report = Report::new();
            report.number(number);
            assert_eq!(report.filled(), text.as_bytes());
        }
    }

    #[test]
    fn report_longer_than_its_buffer_is_cut() {
        let mut report = Report::new();
        for _ in 0..100 {
            report.text("twelve bytes");
        }
        assert_eq!(report.filled().len(), REPORT_CAPACITY);
    }
}
