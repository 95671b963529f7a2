//! Signals during a copy. Where nothing has to be tidied up they end the
//! process at once. Where something has, the first one ends the waits of the copy,
//! so that it fails and nothing half done stays behind, and the second one ends
//! the process.

use std::io::{self, PipeReader, PipeWriter, Read};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use crate::{interrupt, status, stdin};

/// What signals do to one copy.
pub struct Interrupt {
    state: Arc<Mutex<State>>,
    /// Ends with the first signal.
    came: PipeReader,
}

struct State {
    /// Whether there is something to tidy up.
    in_order: bool,
    /// The first signal.
    signal: Option<Signal>,
    /// What the copy waits for, and which way of it.
    stream: Option<(UnixStream, Shutdown)>,
    /// Closed by the first signal.
    wake: Option<PipeWriter>,
}

impl Interrupt {
    /// One that still leaves signals to their default actions.
    pub fn new() -> Result<Self> {
        let (came, wake) = io::pipe().context("make a pipe")?;
        let state = State {
            in_order: false,
            signal: None,
            stream: None,
            wake: Some(wake),
        };
        Ok(Self {
            state: Arc::new(Mutex::new(state)),
            came,
        })
    }

    /// Takes the signals from their default actions in this thread and those
    /// that it starts.
    pub fn take_signals(&self) -> Result<()> {
        let state = Arc::clone(&self.state);
        interrupt::take_signals(move |signal| lock(&state).take(signal))
    }

    /// From now on there is something to tidy up.
    pub fn hold(&self) {
        lock(&self.state).in_order = true;
    }

    /// As [`hold`](Self::hold), and a signal ends this way of `stream`.
    pub fn watch(&self, stream: UnixStream, way: Shutdown) {
        let mut state = lock(&self.state);
        state.in_order = true;
        state.stream = Some((stream, way));
        if state.signal.is_some() {
            state.end_stream();
        }
    }

    /// Reads `input` until a signal comes, which is an error.
    pub fn over<F: AsFd>(&self, input: F) -> Input<'_, F> {
        let came = &self.came;
        Input { input, came }
    }

    /// The exit status when a signal came.
    pub fn status(&self) -> Option<u8> {
        let signal = lock(&self.state).signal?;
        Some(status::signalled(signal as i32))
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// Ends the copy by `signal`, or tells with which status the process is to end.
    fn take(&mut self, signal: Signal) -> Option<u8> {
        if !self.in_order || self.signal.is_some() {
            return Some(status::signalled(signal as i32));
        }
        self.signal = Some(signal);
        self.wake = None;
        self.end_stream();
        None
    }

    fn end_stream(&self) {
        if let Some((stream, way)) = &self.stream {
            // It fails only when the other side has hung up, which ends the wait too.
            let _ = stream.shutdown(*way);
        }
    }
}

/// Input that may never come, read while no signal does.
pub struct Input<'a, F> {
    input: F,
    came: &'a PipeReader,
}

impl<F: AsFd> Read for Input<'_, F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if !stdin::wait(&self.input, self.came) {
            return Err(io::Error::other("a signal came"));
        }
        Ok(nix::unistd::read(&self.input, into)?)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TERM: Option<u8> = Some(143);

    fn take(interrupt: &Interrupt) -> Option<u8> {
        lock(&interrupt.state).take(Signal::SIGTERM)
    }

    #[test]
    fn signal_ends_the_process_where_nothing_has_to_be_tidied_up() {
        let interrupt = Interrupt::new().unwrap();
        assert_eq!(take(&interrupt), TERM);
        assert_eq!(interrupt.status(), None);
    }

    #[test]
    fn first_signal_ends_the_copy_and_the_second_one_the_process() {
        let interrupt = Interrupt::new().unwrap();
        interrupt.hold();
        assert_eq!(take(&interrupt), None);
        assert_eq!(interrupt.status(), TERM);
        assert_eq!(take(&interrupt), TERM);
    }

    #[test]
    fn input_that_never_comes_ends_with_a_signal() {
        let interrupt = Interrupt::new().unwrap();
        interrupt.hold();
        let (pipe, mut typed) = io::pipe().unwrap();
        let mut input = interrupt.over(pipe);
        typed.write_all(b"word").unwrap();
        let mut word = [0; 8];
        assert_eq!(input.read(&mut word).unwrap(), 4);
        std::thread::scope(|scope| {
            let read = scope.spawn(|| input.read(&mut word));
            take(&interrupt);
            assert!(read.join().unwrap().is_err());
        });
    }

    #[test]
    fn write_that_waits_ends_with_a_signal_and_the_answer_still_comes() {
        let interrupt = Interrupt::new().unwrap();
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        interrupt.watch(ours.try_clone().unwrap(), Shutdown::Write);
        std::thread::scope(|scope| {
            // Nobody reads, so it waits at last.
            let writer = &mut ours;
            let write = scope.spawn(move || while writer.write_all(&[0; 4096]).is_ok() {});
            take(&interrupt);
            write.join().unwrap();
        });
        theirs.write_all(b"answer").unwrap();
        let mut answer = [0; 6];
        ours.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
    }

    #[test]
    fn signal_before_the_stream_ends_the_stream() {
        let interrupt = Interrupt::new().unwrap();
        interrupt.hold();
        take(&interrupt);
        let (mut ours, _theirs) = UnixStream::pair().unwrap();
        interrupt.watch(ours.try_clone().unwrap(), Shutdown::Read);
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    }
}
