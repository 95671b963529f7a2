//! Feeds our standard input to the command, on a thread of its own that can be
//! told to end while it waits for input that may never come.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Most bytes read and sent at once.
const PIECE: usize = 64 << 10;

/// Where input goes: the command's standard input. An error means that it
/// takes no more, which is not ours to report.
pub trait Sink: Send {
    /// Waits while the command does not read.
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Closed>;
    /// There is no more input.
    fn close(&mut self);
}

/// The command has ended or takes no input.
#[derive(Debug)]
pub struct Closed;

/// The thread. Dropping it ends and joins it; a write that blocks has to be
/// ended first, by ending the command's connection.
pub struct Feeder {
    thread: Option<JoinHandle<()>>,
    /// Closed to end the thread.
    stop: Option<PipeWriter>,
}

impl Feeder {
    /// Starts to feed `sink` from standard input.
    pub fn start(sink: impl Sink + 'static) -> Result<Self> {
        let (stopped, stop) = io::pipe().context("make a pipe")?;
        let thread = std::thread::Builder::new()
            .name("stdin".into())
            .spawn(move || feed(io::stdin(), &stopped, sink))
            .context("start the thread for standard input")?;
        Ok(Feeder {
            thread: Some(thread),
            stop: Some(stop),
        })
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It returns nothing, and its panic was printed.
            let _ = thread.join();
        }
    }
}

fn feed(input: impl AsFd, stopped: &PipeReader, mut sink: impl Sink) {
    let mut piece = vec![0; PIECE];
    while wait(&input, stopped) {
        match nix::unistd::read(&input, &mut piece) {
            Ok(0) => break,
            Ok(len) => {
                let bytes = piece.get(..len).unwrap_or_default();
                if sink.write_all(bytes).is_err() {
                    return;
                }
            }
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(error) => {
                log::warn!("standard input cannot be read: {error}");
                break;
            }
        }
    }
    sink.close();
}

/// Waits for input or its end: true, or for being told to end: false.
pub fn wait(input: &impl AsFd, stopped: &PipeReader) -> bool {
    loop {
        let mut fds = [
            PollFd::new(input.as_fd(), PollFlags::POLLIN),
            PollFd::new(stopped.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            Err(_) => return false,
            Ok(_) if fds[1].any() == Some(true) => return false,
            Ok(_) => return true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<(Vec<u8>, bool)>>);

    impl Sink for Seen {
        fn write_all(&mut self, bytes: &[u8]) -> Result<(), Closed> {
            self.0.lock().unwrap().0.extend(bytes);
            Ok(())
        }

        fn close(&mut self) {
            self.0.lock().unwrap().1 = true;
        }
    }

    #[test]
    fn every_byte_is_fed_and_then_the_end() {
        let (input, mut typed) = io::pipe().unwrap();
        let (stopped, _stop) = io::pipe().unwrap();
        typed.write_all(b"one two").unwrap();
        drop(typed);
        let seen = Seen::default();
        feed(input, &stopped, seen.clone());
        assert_eq!(*seen.0.lock().unwrap(), (b"one two".to_vec(), true));
    }

    #[test]
    fn feeder_ends_when_told_to_though_no_input_comes() {
        let (input, _typed) = io::pipe().unwrap();
        let (stopped, stop) = io::pipe().unwrap();
        drop(stop);
        let seen = Seen::default();
        feed(input, &stopped, seen.clone());
        assert_eq!(*seen.0.lock().unwrap(), (Vec::new(), true));
    }

    #[test]
    fn feeder_ends_when_the_command_takes_no_more() {
        struct Full;
        impl Sink for Full {
            fn write_all(&mut self, _bytes: &[u8]) -> Result<(), Closed> {
                Err(Closed)
            }
            fn close(&mut self) {
                panic!("a command that is gone is not told of the end of input");
            }
        }
        let (input, mut typed) = io::pipe().unwrap();
        let (stopped, _stop) = io::pipe().unwrap();
        typed.write_all(b"x").unwrap();
        feed(input, &stopped, Full);
    }
}
