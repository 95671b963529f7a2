//! The guest's console on our standard error, without ever holding the guest up.

use std::io::{self, Stderr, Write};
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What a pipe that polls as writable takes without blocking (pipe(7)).
const PIPE_BUF: usize = 4096;

/// Copies the console to standard error as long as that is writable at once.
/// It is written to by vCPUs: what does not fit is lost.
pub struct ConsoleToStderr(Stderr);

impl ConsoleToStderr {
    pub fn new() -> Self {
        ConsoleToStderr(io::stderr())
    }
}

impl Write for ConsoleToStderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
        poll(&mut fds, PollTimeout::ZERO)?;
        if fds[0].any() != Some(true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let piece = bytes.get(..PIPE_BUF).unwrap_or(bytes);
        // Not through Stderr, whose lock another thread may hold while it blocks.
        Ok(nix::unistd::write(&self.0, piece)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
