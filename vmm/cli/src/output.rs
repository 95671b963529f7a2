//! What the command writes, on our standard output and error: every byte, in
//! order, at the reader's pace.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// A standard stream without a buffer of ours in between.
pub struct Output(File);

impl Output {
    /// Writes to what `stream` writes to.
    pub fn new(stream: impl AsFd) -> Result<Self> {
        let fd = stream.as_fd().try_clone_to_owned();
        Ok(Output(fd.context("duplicate an output descriptor")?.into()))
    }

    /// Writes all of `bytes`, waiting for the reader. `BrokenPipe` when there
    /// is none any more.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.0.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(len) => bytes = bytes.get(len..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Another process that shares the stream made it non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.wait()?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wait(&self) -> io::Result<()> {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn non_blocking_stream_gets_every_byte() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let mut output = Output::new(&ours).unwrap();
        drop(ours);
        let sent: Vec<u8> = (0..1_000_000u32).map(|i| i as u8).collect();
        let received = std::thread::scope(|scope| {
            let reader = scope.spawn(move || {
                let mut received = Vec::new();
                theirs.read_to_end(&mut received).map(|_| received).unwrap()
            });
            output.write(&sent).unwrap();
            drop(output);
            reader.join().unwrap()
        });
        assert!(received == sent);
    }

    #[test]
    fn reader_that_went_away_is_a_broken_pipe() {
        let (reader, writer) = io::pipe().unwrap();
        let mut output = Output::new(&writer).unwrap();
        drop(reader);
        assert_eq!(
            output.write(b"x").unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
    }
}
