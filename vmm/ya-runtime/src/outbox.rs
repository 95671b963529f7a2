//! What goes to exe-unit: one queue, written by one thread, in the order of its
//! filling.
//!
//! Who reads slowly slows the processes whose output it is: [`Outbox::send`] waits,
//! so that their pipes in the guest fill. Answers never wait, for nobody who handles
//! requests may hang on a reader; their number is bounded by that of the requests.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use runtime_api::response::Command;
use runtime_api::{ProcessStatus, Response, to_frame};

/// Bytes of events that may wait for the reader. One more may be added to less.
const BUDGET: usize = 512 * 1024;

/// Requests that may wait for their answers to be read.
const MAX_PENDING: usize = 1024;

/// The reader is gone.
#[derive(Debug)]
pub struct Closed;

/// More requests than are taken without an answer being read.
#[derive(Debug, thiserror::Error)]
#[error("{MAX_PENDING} requests whose answers nobody reads")]
pub struct TooManyRequests;

#[derive(Default)]
pub struct Outbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    frames: VecDeque<Frame>,
    /// Bytes of `frames`.
    bytes: usize,
    /// Taken off `frames`, and not written yet.
    writing: bool,
    /// Requests whose answers were not written yet.
    pending: usize,
    closed: bool,
}

struct Frame {
    bytes: Vec<u8>,
    is_answer: bool,
}

impl Outbox {
    /// A request was read, which [`Outbox::answer`] will answer.
    pub fn expect_answer(&self) -> Result<(), TooManyRequests> {
        let mut state = self.lock();
        if state.pending == MAX_PENDING {
            return Err(TooManyRequests);
        }
        state.pending += 1;
        Ok(())
    }

    /// Answers request `id`, at once.
    pub fn answer(&self, id: u64, command: Command) {
        self.push(&mut self.lock(), &answer(id, command), true);
    }

    /// Answers request `id` with the start of process `pid`, and tells the event of
    /// it before: who waits for a process takes the first event of one that it does
    /// not know for that.
    pub fn answer_started(&self, id: u64, pid: u64) {
        let started = ProcessStatus {
            pid,
            running: true,
            ..ProcessStatus::default()
        };
        let run = Command::Run(runtime_api::response::RunProcess { pid });
        let mut state = self.lock();
        self.push(&mut state, &event(Command::Status(started)), false);
        self.push(&mut state, &answer(id, run), true);
    }

    /// Sends an event when there is room for it.
    pub fn send(&self, command: Command) -> Result<(), Closed> {
        let full = |state: &mut State| state.bytes > BUDGET && !state.closed;
        let state = self.changed.wait_while(self.lock(), full);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return Err(Closed);
        }
        self.push(&mut state, &event(command), false);
        Ok(())
    }

    /// Sends an event unless that would have to wait.
    pub fn offer(&self, command: Command) {
        let mut state = self.lock();
        if state.bytes <= BUDGET {
            self.push(&mut state, &event(command), false);
        }
    }

    /// Writes what there is and comes until `out` fails or the outbox is closed.
    pub fn write_to(&self, mut out: impl Write) -> io::Result<()> {
        loop {
            let idle = |state: &mut State| state.frames.is_empty() && !state.closed;
            let state = self.changed.wait_while(self.lock(), idle);
            let mut state = state.unwrap_or_else(PoisonError::into_inner);
            let Some(frame) = state.frames.pop_front() else {
                return Ok(());
            };
            state.writing = true;
            drop(state);
            let written = out.write_all(&frame.bytes).and_then(|()| out.flush());
            let mut state = self.lock();
            state.writing = false;
            state.bytes -= frame.bytes.len();
            state.pending -= usize::from(frame.is_answer);
            if written.is_err() {
                state.closed = true;
                state.frames.clear();
            }
            self.changed.notify_all();
            drop(state);
            written?;
        }
    }

    /// Takes nothing more; what is there is still written. Waits for that until
    /// `limit` has passed, and tells whether it was.
    pub fn close(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        state.closed = true;
        self.changed.notify_all();
        while !state.frames.is_empty() || state.writing {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn push(&self, state: &mut State, response: &Response, is_answer: bool) {
        if state.closed {
            return;
        }
        let bytes = to_frame(response);
        state.bytes += bytes.len();
        state.frames.push_back(Frame { bytes, is_answer });
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic happens between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn answer(id: u64, command: Command) -> Response {
    Response {
        event: false,
        id,
        command: Some(command),
    }
}

fn event(command: Command) -> Response {
    Response {
        event: true,
        id: 0,
        command: Some(command),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, Read};
    use std::sync::Arc;
    use std::thread::{self, JoinHandle};

    use runtime_api::FrameReader;
    use runtime_api::response::{Hello, RunProcess};

    use super::*;

    fn outbox() -> (Arc<Outbox>, PipeReader, JoinHandle<io::Result<()>>) {
        let (reader, writer) = io::pipe().unwrap();
        let outbox = Arc::new(Outbox::default());
        let for_writer = Arc::clone(&outbox);
        let writing = thread::spawn(move || for_writer.write_to(writer));
        (outbox, reader, writing)
    }

    fn output(pid: u64, len: usize) -> Command {
        Command::Status(ProcessStatus {
            pid,
            running: true,
            stdout: vec![b'x'; len],
            ..ProcessStatus::default()
        })
    }

    #[test]
    fn event_of_a_new_process_comes_before_its_answer() {
        let (outbox, reader, writing) = outbox();
        outbox.expect_answer().unwrap();
        outbox.answer_started(7, 1);
        outbox.send(output(1, 3)).unwrap();
        assert!(outbox.close(Duration::from_secs(10)));
        writing.join().unwrap().unwrap();
        let mut frames = FrameReader::<_, Response>::new(reader);
        let mut next = || frames.read().unwrap().unwrap();
        let started = ProcessStatus {
            pid: 1,
            running: true,
            ..ProcessStatus::default()
        };
        assert_eq!(next(), event(Command::Status(started)));
        assert_eq!(next(), answer(7, Command::Run(RunProcess { pid: 1 })));
        assert_eq!(next(), event(output(1, 3)));
        assert_eq!(frames.read().unwrap(), None);
    }

    #[test]
    fn slow_reader_holds_up_output_and_no_answers() {
        let (outbox, mut reader, writing) = outbox();
        let sender = {
            let outbox = Arc::clone(&outbox);
            thread::spawn(move || (0..64).try_for_each(|_| outbox.send(output(1, 64 * 1024))))
        };
        // The queue is full when its sender waits: nobody reads.
        let full = |state: &mut State| state.bytes <= BUDGET;
        drop(outbox.changed.wait_while(outbox.lock(), full).unwrap());
        outbox.expect_answer().unwrap();
        outbox.answer(9, Command::Hello(Hello::default()));
        let most = BUDGET + 2 * 65 * 1024;
        let bytes = outbox.lock().bytes;
        assert!(bytes <= most, "{bytes}");
        let reading = thread::spawn(move || {
            let mut bytes = Vec::new();
            reader.read_to_end(&mut bytes).map(|_| bytes.len())
        });
        sender.join().unwrap().unwrap();
        assert!(outbox.close(Duration::from_secs(10)));
        writing.join().unwrap().unwrap();
        assert!(reading.join().unwrap().unwrap() > 64 * 64 * 1024);
        let state = outbox.lock();
        assert_eq!((state.bytes, state.pending), (0, 0));
    }

    #[test]
    fn reader_that_is_gone_ends_who_waits_for_it() {
        let (outbox, reader, writing) = outbox();
        drop(reader);
        while outbox.send(output(1, 64 * 1024)).is_ok() {}
        assert_eq!(
            writing.join().unwrap().unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }

    #[test]
    fn requests_without_a_reader_of_answers_are_bounded() {
        let outbox = Outbox::default();
        for id in 0..MAX_PENDING as u64 {
            outbox.expect_answer().unwrap();
            outbox.answer(id, Command::Hello(Hello::default()));
        }
        assert!(outbox.expect_answer().is_err());
        assert!(!outbox.close(Duration::ZERO), "nobody writes");
    }
}
