//! Between a process and its connection: output out, stdin in, and at the end the exit.
//!
//! One thread, one poll, and nothing that blocks: the buffers hold one chunk
//! each way, and while one is full its source is not read. So a slow reader
//! slows the process and no byte is lost.
//!
//! When the process has ended, exactly what its pipes hold then is sent and
//! the exit after it: everything the process wrote is among it, and whoever
//! else has the pipes open neither delays the exit nor is harmed ([`Drain`]).
//! Of a terminal everything is sent until it is empty.
//!
//! [`Drain`]: super::drain::Drain

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use guest_protocol::{
    Exit, ExitStatus, FrameError, FrameKind, FrameReader, HEADER_LEN, MAX_DATA, ProcessMessage,
    ProcessRequest, decode, frame_header, write_message,
};

use super::oom::OomWatch;
use super::{Agent, Target};
use crate::sys;

/// Status of a shell whose command was killed by SIGKILL.
const KILLED_CHILD: ExitStatus = ExitStatus::Code(128 + libc::SIGKILL);

/// A process that runs.
pub struct Child {
    pub pid: u32,
    pub target: Arc<Target>,
    /// To its stdin; does not block.
    pub stdin: Option<File>,
    /// From its stdout and stderr; they do not block.
    pub outputs: [Option<File>; 2],
    pub oom: OomWatch,
}

/// The host has gone: nobody is left to relay to.
struct HungUp;

struct Relay {
    connection: FrameReader<File>,
    pid: u32,
    target: Arc<Target>,
    stdin: Option<File>,
    /// Stdin that the process has not taken yet.
    pending: Pending,
    sources: [Source; 2],
    /// A frame on its way to the host.
    out: Pending,
    exited: bool,
}

/// Bytes of which some are already passed on.
#[derive(Default)]
struct Pending {
    bytes: Vec<u8>,
    done: usize,
}

struct Source {
    kind: FrameKind,
    file: Option<File>,
    /// What is still to be sent of it, known once the process has ended.
    left: usize,
}

/// Relays until the exit is sent or the host hangs up, which kills the
/// process with its group.
pub fn run(agent: &Agent, connection: FrameReader<File>, child: Child) {
    let [stdout, stderr] = child.outputs;
    let source = |kind, file| Source {
        kind,
        file,
        left: usize::MAX,
    };
    let mut relay = Relay {
        connection,
        pid: child.pid,
        target: child.target,
        stdin: child.stdin,
        pending: Pending::default(),
        sources: [
            source(FrameKind::Stdout, stdout),
            source(FrameKind::Stderr, stderr),
        ],
        out: Pending::default(),
        exited: false,
    };
    let unblocked = sys::set_nonblocking(relay.connection.get_ref().as_fd());
    let result = match unblocked {
        Ok(()) => relay.until_exit(),
        Err(_) => Err(HungUp),
    };
    if result.is_err() && !relay.exited {
        // The process leads its group and is not reaped, so the id is its own.
        let _ = sys::kill_group(relay.pid, libc::SIGKILL);
        let _ = sys::pidfd_signal(relay.target.pidfd.as_fd(), libc::SIGKILL);
    }
    relay.stdin = None;
    agent.processes().remove(&relay.pid);
    let status = sys::pidfd_wait(relay.target.pidfd.as_fd());
    if let (Ok(()), Ok(status)) = (result, status) {
        let killed = matches!(
            status,
            ExitStatus::Signal {
                signal: libc::SIGKILL,
                ..
            }
        );
        let oom_killed = (killed || status == KILLED_CHILD) && child.oom.saw_kill();
        relay.send_exit(Exit { status, oom_killed });
    }
    for source in relay.sources {
        if let Some(file) = source.file {
            agent.drain.take(file.into());
        }
    }
}

impl Relay {
    /// Returns when the process has ended and all its output is sent.
    fn until_exit(&mut self) -> Result<(), HungUp> {
        loop {
            if self.out.is_empty() && self.exited && !self.fill() {
                return Ok(());
            }
            self.flush()?;
            if self.exited && self.out.is_empty() {
                continue;
            }
            let mut entries = self.poll_entries();
            sys::poll(&mut entries).map_err(|_| HungUp)?;
            let [connection, process, stdin, stdout, stderr] = entries.map(|entry| entry.revents);

            if connection & libc::POLLIN != 0 {
                self.receive()?;
            } else if connection & (libc::POLLHUP | libc::POLLERR | libc::POLLRDHUP) != 0 {
                return Err(HungUp);
            }
            if stdin != 0 {
                self.feed();
            }
            if process != 0 {
                self.note_exit();
            } else if stdout | stderr != 0 {
                self.fill();
            }
        }
    }

    /// Waits only for what can be dealt with: no source is read while a frame
    /// is on its way, no request while stdin is stuck.
    fn poll_entries(&self) -> [libc::pollfd; 5] {
        let takes_input = !self.exited && self.pending.is_empty();
        let mut connection = libc::POLLRDHUP;
        if takes_input {
            connection |= libc::POLLIN;
        }
        if !self.out.is_empty() {
            connection |= libc::POLLOUT;
        }
        let process = (!self.exited).then(|| self.target.pidfd.as_fd());
        let stdin = self.stdin.as_ref().filter(|_| !self.pending.is_empty());
        let source = |source: &Source| {
            let file = source
                .file
                .as_ref()
                .filter(|_| self.out.is_empty() && !self.exited);
            sys::poll_entry(file.map(AsFd::as_fd), libc::POLLIN)
        };
        [
            sys::poll_entry(Some(self.connection.get_ref().as_fd()), connection),
            sys::poll_entry(process, libc::POLLIN),
            sys::poll_entry(stdin.map(AsFd::as_fd), libc::POLLOUT),
            source(&self.sources[0]),
            source(&self.sources[1]),
        ]
    }

    /// Makes a frame of what a source has; `false` when none has anything.
    fn fill(&mut self) -> bool {
        // The one that was not served last goes first.
        self.sources.swap(0, 1);
        let filled = self
            .sources
            .iter_mut()
            .any(|source| source.read_into(&mut self.out));
        if filled {
            // Most often the connection takes it at once, without a poll.
            // A host that is gone shows at the next turn.
            let _ = self.flush();
        }
        filled
    }

    fn flush(&mut self) -> Result<(), HungUp> {
        self.out
            .write_to(self.connection.get_ref())
            .map_err(|_| HungUp)
    }

    /// Takes one frame, so that a host that never stops sending keeps nothing
    /// else from being noticed.
    fn receive(&mut self) -> Result<(), HungUp> {
        match self.connection.read_frame() {
            Ok(Some(frame)) => match frame.kind {
                FrameKind::Stdin => {
                    self.pending.set(frame.body);
                    self.feed();
                    Ok(())
                }
                FrameKind::Message => match decode(frame.body) {
                    Ok(ProcessRequest::CloseStdin) => {
                        self.close_stdin();
                        Ok(())
                    }
                    Err(_) => Err(HungUp),
                },
                _ => Err(HungUp),
            },
            Err(FrameError::Io(e)) if e.kind() == ErrorKind::WouldBlock => Ok(()),
            Ok(None) | Err(_) => Err(HungUp),
        }
    }

    /// Passes on what the process takes. Once it takes no more, the rest and
    /// all that comes is dropped, as a shell's pipe would.
    fn feed(&mut self) {
        let fed = match &self.stdin {
            Some(stdin) => self.pending.write_to(stdin),
            None => Err(()),
        };
        if fed.is_err() {
            self.stdin = None;
            self.pending.clear();
        }
    }

    /// A pipe is closed; a terminal, which others have open, gets the
    /// character that its settings give for end of file.
    fn close_stdin(&mut self) {
        let Some(stdin) = self.stdin.take() else {
            return;
        };
        if self.target.terminal.is_none() {
            return;
        }
        if let Ok(settings) = nix::sys::termios::tcgetattr(&stdin) {
            let eof = settings.control_chars[libc::VEOF];
            self.pending.set(&[eof]);
            self.stdin = Some(stdin);
            self.feed();
        }
    }

    /// The process is a zombie now, and nothing it wrote comes after this.
    fn note_exit(&mut self) {
        self.exited = true;
        self.stdin = None;
        self.pending.clear();
        if self.target.terminal.is_none() {
            for source in &mut self.sources {
                let held = source
                    .file
                    .as_ref()
                    .map(|file| sys::readable_bytes(file.as_fd()));
                source.left = held.and_then(Result::ok).unwrap_or(0);
            }
        }
    }

    fn send_exit(&mut self, exit: Exit) {
        let mut frame = Vec::new();
        if write_message(&mut frame, &ProcessMessage::Exit(exit)).is_err() {
            return;
        }
        self.out.set(&frame);
        while self.flush().is_ok() && !self.out.is_empty() {
            let fd = self.connection.get_ref().as_fd();
            if sys::poll(&mut [sys::poll_entry(Some(fd), libc::POLLOUT)]).is_err() {
                return;
            }
        }
    }
}

impl Source {
    /// Reads once into a frame; a source that has ended is closed.
    fn read_into(&mut self, out: &mut Pending) -> bool {
        let Some(file) = &mut self.file else {
            return false;
        };
        let len = MAX_DATA.min(self.left);
        if len == 0 {
            return false;
        }
        out.bytes.resize(HEADER_LEN + len, 0);
        out.done = 0;
        let result = file.read(&mut out.bytes[HEADER_LEN..]);
        let len = *result.as_ref().unwrap_or(&0);
        if len > 0 {
            out.bytes.truncate(HEADER_LEN + len);
            out.bytes[..HEADER_LEN].copy_from_slice(&frame_header(self.kind, len));
            if self.left != usize::MAX {
                self.left -= len;
            }
            return true;
        }
        out.clear();
        match result {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // End of file, or the EIO of a terminal that nobody has open.
            _ => self.file = None,
        }
        false
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.done == self.bytes.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.done = 0;
    }

    fn set(&mut self, bytes: &[u8]) {
        self.clear();
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes as much as is taken without waiting.
    fn write_to(&mut self, mut file: &File) -> Result<(), ()> {
        while !self.is_empty() {
            match file.write(&self.bytes[self.done..]) {
                Ok(0) => return Err(()),
                Ok(len) => self.done += len,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(_) => return Err(()),
            }
        }
        self.clear();
        Ok(())
    }
}
