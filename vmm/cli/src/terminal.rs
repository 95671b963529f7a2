//! The terminal that shem was started on: raw while the command has one of its
//! own, and as it was before on every way out, also after a seccomp violation.
// UNSAFETY: the size of a terminal is asked for by an ioctl.
#![expect(unsafe_code, reason = "ioctl TIOCGWINSZ")]

use std::io::{self, IsTerminal};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use nix::sys::termios::{self, SetArg, Termios};

/// The modes that standard input's terminal had before [`RawMode::enter`].
static BEFORE: OnceLock<libc::termios> = OnceLock::new();

/// While it lives, the terminal on standard input passes each key on as it is.
pub struct RawMode(());

impl RawMode {
    /// Standard input is a terminal.
    pub fn enter() -> Result<Self> {
        let stdin = io::stdin();
        let mut modes = termios::tcgetattr(&stdin).context("read the terminal's modes")?;
        BEFORE.get_or_init(|| modes.clone().into());
        termios::cfmakeraw(&mut modes);
        termios::tcsetattr(&stdin, SetArg::TCSADRAIN, &modes)
            .context("set the terminal to raw mode")?;
        Ok(RawMode(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Sets the terminal back to what it was; nothing when it was never raw.
/// Async-signal-safe: it reads memory that is written once and makes one ioctl.
pub fn restore() {
    if let Some(modes) = BEFORE.get() {
        // A terminal that has gone needs no modes.
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSANOW, &Termios::from(*modes));
    }
}

/// Rows and columns of the terminal on standard input or output, if either is one.
pub fn size() -> Option<(u16, u16)> {
    let (stdin, stdout) = (io::stdin(), io::stdout());
    if stdin.is_terminal() {
        size_of(&stdin)
    } else if stdout.is_terminal() {
        size_of(&stdout)
    } else {
        None
    }
}

fn size_of(terminal: &impl AsFd) -> Option<(u16, u16)> {
    let mut size = MaybeUninit::<libc::winsize>::zeroed();
    // SAFETY: the request fills a winsize, which `size` has room for.
    let result = unsafe {
        libc::ioctl(
            terminal.as_fd().as_raw_fd(),
            libc::TIOCGWINSZ,
            size.as_mut_ptr(),
        )
    };
    // SAFETY: all fields are integers, for which the zeros it began with are valid.
    let size = unsafe { size.assume_init() };
    // Terminals without a size of their own say zero.
    (result == 0 && size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}
