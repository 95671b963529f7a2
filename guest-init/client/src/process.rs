//! A process in the guest: its events, its stdin, its signals.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use guest_protocol::{
    Exit, FrameKind, Open, ProcessMessage, ProcessRequest, WindowSize, decode, write_data,
    write_message,
};

use crate::error::ClientError;
use crate::port::AgentPort;
use crate::stream::{Connection, Stream};

/// Something that a process did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// It wrote to stdout or its terminal; 1 byte to
    /// [`MAX_DATA`](guest_protocol::MAX_DATA).
    Stdout(Vec<u8>),
    /// It wrote to stderr; sizes as for stdout.
    Stderr(Vec<u8>),
    /// It ended, and all its output came before.
    Exit(Exit),
}

/// All that a process wrote, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// How it ended.
    pub exit: Exit,
    /// Its stdout, or what it wrote to its terminal.
    pub stdout: Vec<u8>,
    /// Its stderr.
    pub stderr: Vec<u8>,
}

/// A process in the guest. Not reading its events slows it down in the end.
/// Dropping it before its exit was seen kills it with its process group.
#[derive(Debug)]
pub struct Process {
    connection: Connection,
    stdin: Stdin,
    exit: Option<Exit>,
}

/// The way to a process: stdin, signals, window size. Clones are handles on the
/// same process, for use beside [`Process::next_event`] in another thread.
#[derive(Clone)]
pub struct Stdin {
    pid: u32,
    /// `None` once it is closed, and from the start without stdin.
    data: Arc<Mutex<Option<Stream>>>,
    port: Arc<AgentPort>,
}

impl Process {
    pub(crate) fn new(
        connection: Connection,
        pid: u32,
        has_stdin: bool,
        port: Arc<AgentPort>,
    ) -> Result<Self, ClientError> {
        let stream = match has_stdin {
            true => Some(connection.stream().try_clone().map_err(ClientError::Io)?),
            false => None,
        };
        let stdin = Stdin {
            pid,
            data: Arc::new(Mutex::new(stream)),
            port,
        };
        Ok(Self {
            connection,
            stdin,
            exit: None,
        })
    }

    /// Its process id in the guest, never 0.
    pub fn pid(&self) -> u32 {
        self.stdin.pid
    }

    /// A handle for stdin, signals and window size.
    pub fn stdin(&self) -> Stdin {
        self.stdin.clone()
    }

    /// Waits for the next event. After [`Event::Exit`] it returns that again.
    ///
    /// # Errors
    /// [`ClientError::Lost`] when the VM stopped first.
    pub fn next_event(&mut self) -> Result<Event, ClientError> {
        if let Some(exit) = self.exit {
            return Ok(Event::Exit(exit));
        }
        let frame = self.connection.receive()?;
        match frame.kind {
            FrameKind::Stdout => Ok(Event::Stdout(frame.body.to_vec())),
            FrameKind::Stderr => Ok(Event::Stderr(frame.body.to_vec())),
            FrameKind::Message => match decode(frame.body).map_err(ClientError::from_message)? {
                ProcessMessage::Exit(exit) => {
                    self.exit = Some(exit);
                    Ok(Event::Exit(exit))
                }
                ProcessMessage::Started { .. } | ProcessMessage::Failed(_) => {
                    Err(ClientError::unexpected("start of a process"))
                }
            },
            FrameKind::Stdin | FrameKind::File => Err(ClientError::unexpected("kind of data")),
        }
    }

    /// As [`next_event`](Self::next_event), but `None` when there is none before
    /// `deadline`.
    ///
    /// # Errors
    /// As for [`next_event`](Self::next_event).
    pub fn next_event_before(&mut self, deadline: Instant) -> Result<Option<Event>, ClientError> {
        let comes = self.exit.is_some()
            || (self.connection.waits_for_frame(deadline)).map_err(ClientError::Io)?;
        comes.then(|| self.next_event()).transpose()
    }

    /// Closes stdin and collects everything until the exit.
    ///
    /// # Errors
    /// [`ClientError::OutputLimit`] when stdout and stderr together exceed
    /// `limit` bytes, which also kills the process.
    pub fn wait_with_output(mut self, limit: usize) -> Result<Output, ClientError> {
        match self.stdin.close() {
            Ok(()) | Err(ClientError::Lost) => {}
            Err(e) => return Err(e),
        }
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            match self.next_event()? {
                Event::Stdout(bytes) => stdout.extend(bytes),
                Event::Stderr(bytes) => stderr.extend(bytes),
                Event::Exit(exit) => {
                    return Ok(Output {
                        exit,
                        stdout,
                        stderr,
                    });
                }
            }
            if stdout.len() + stderr.len() > limit {
                return Err(ClientError::OutputLimit { limit });
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The agent takes the hang-up for the order to kill; a writer blocked
        // in `Stdin` wakes with `Lost`.
        self.connection.stream().hang_up();
    }
}

impl Stdin {
    /// Writes to the process's stdin; waits while the process does not read.
    /// Does nothing for a process without stdin and after [`close`](Self::close).
    ///
    /// # Errors
    /// [`ClientError::Lost`] when the process has ended.
    pub fn write_all(&self, bytes: &[u8]) -> Result<(), ClientError> {
        match &mut *self.data.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(stream) => Ok(write_data(stream, FrameKind::Stdin, bytes)?),
            None => Ok(()),
        }
    }

    /// Ends stdin: the process reads what is there and then end of file, at a
    /// terminal as if its end-of-file character was typed.
    ///
    /// # Errors
    /// [`ClientError::Lost`] when the process has ended.
    pub fn close(&self) -> Result<(), ClientError> {
        match self
            .data
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            Some(mut stream) => Ok(write_message(&mut stream, &ProcessRequest::CloseStdin)?),
            None => Ok(()),
        }
    }

    /// Sends a Linux signal to the process, also while stdin is blocked.
    ///
    /// # Errors
    /// [`ClientError::Failed`] with `ESRCH` when the process has ended.
    pub fn signal(&self, signal: i32) -> Result<(), ClientError> {
        self.port.ask(
            "send a signal",
            &Open::Signal {
                pid: self.pid,
                signal,
            },
        )
    }

    /// Sets the window size of the process's terminal, also while stdin is blocked.
    ///
    /// # Errors
    /// [`ClientError::Failed`] with `ENOTTY` when it has none and `ESRCH` when
    /// it has ended.
    pub fn resize(&self, size: WindowSize) -> Result<(), ClientError> {
        self.port.ask(
            "resize a terminal",
            &Open::Resize {
                pid: self.pid,
                size,
            },
        )
    }
}

impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stdin")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}
