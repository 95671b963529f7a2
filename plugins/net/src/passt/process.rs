//! The process passt: started with a socket, heard, ended.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use plugin_sdk::{Error, Result};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Longest line that is kept.
const MAX_LINE: usize = 512;
/// The last lines, which an error has.
const LAST_WORDS: usize = 3;
/// Bytes that are read of its words in one go.
const BATCH: usize = 4096;
/// What it says of a system without a system log, after every line.
const NOISE: &str = "Failed to send ";

/// A running passt. Dropped, it is ended.
pub struct Process {
    child: Child,
    /// Readable when it has ended.
    pidfd: OwnedFd,
    stderr: ChildStderr,
    words: Words,
}

impl Process {
    /// Starts `program` with its end of the link as standard input.
    pub fn start(program: &str, arguments: &[String], socket: OwnedFd) -> Result<Self> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(socket)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // What a terminal sends to the VMM is not for passt.
            .process_group(0);
        let mut child = command.spawn().map_err(|error| {
            let is_missing = error.kind() == io::ErrorKind::NotFound;
            let error = Error::from(error).context(&format!("run {program}"));
            if is_missing {
                error.context("install the package passt, or name the program")
            } else {
                error
            }
        })?;
        let pidfd =
            Pid::from_raw(child.id().cast_signed()).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
        let (Some(Ok(pidfd)), Some(stderr)) = (pidfd, child.stderr.take()) else {
            end(&mut child);
            return Err(Error::new("watch passt: this needs Linux 5.3"));
        };
        let process = Process {
            child,
            pidfd,
            stderr,
            words: Words::default(),
        };
        let flags = fcntl_getfl(&process.stderr)? | OFlags::NONBLOCK;
        fcntl_setfl(&process.stderr, flags)?;
        Ok(process)
    }

    /// Readable when it has ended.
    pub fn exit(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Its number.
    #[cfg(test)]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Readable when it has said something.
    pub fn stderr(&self) -> BorrowedFd<'_> {
        self.stderr.as_fd()
    }

    /// The lines that it has said since. `false`: there will be no more.
    pub fn hear(&mut self, line: impl FnMut(&str)) -> bool {
        let mut bytes = [0; BATCH];
        match self.stderr.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                self.words.take(&bytes[..count], line);
                true
            }
            Err(error) => matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ),
        }
    }

    /// How it ended, when [`Process::exit`] is readable, with its last words.
    pub fn ended(&mut self) -> String {
        let status = self.child.try_wait().ok().flatten();
        // What is in the pipe is all there will be, and a pipe has a size.
        while self.has_words() && self.hear(|_| {}) {}
        self.words.epitaph(status)
    }

    fn has_words(&self) -> bool {
        let mut fds = [rustix::event::PollFd::new(
            &self.stderr,
            rustix::event::PollFlags::IN,
        )];
        let now = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut fds, Some(&now)).is_ok_and(|count| count > 0)
    }
}

fn end(child: &mut Child) {
    // It fails for one that has ended already. Killed, one ends at once.
    let _ = child.kill();
    let _ = child.wait();
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Lines out of a stream of bytes, and the last of them.
#[derive(Default)]
struct Words {
    line: Vec<u8>,
    last: Vec<String>,
}

impl Words {
    fn take(&mut self, bytes: &[u8], mut told: impl FnMut(&str)) {
        for byte in bytes {
            if *byte == b'\n' {
                self.end_line(&mut told);
            } else if self.line.len() < MAX_LINE {
                self.line.push(*byte);
            }
        }
    }

    fn end_line(&mut self, told: &mut impl FnMut(&str)) {
        let text = String::from_utf8_lossy(&self.line).trim().to_owned();
        self.line.clear();
        if text.is_empty() || text.starts_with(NOISE) {
            return;
        }
        told(&text);
        if self.last.len() == LAST_WORDS {
            self.last.remove(0);
        }
        self.last.push(text);
    }

    fn epitaph(&mut self, status: Option<ExitStatus>) -> String {
        self.end_line(&mut |_| {});
        let status = status.map_or("it ended".into(), |status| status.to_string());
        match self.last.as_slice() {
            [] => format!("passt has ended: {status}, without a word"),
            last => format!("passt has ended: {status}: {}", last.join("; ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_bounded_and_the_last_ones_are_kept() {
        let mut words = Words::default();
        let mut lines = Vec::new();
        let long = [b'x'; 2 * MAX_LINE];
        words.take(b"one\ntw", |line| lines.push(line.to_owned()));
        words.take(b"o\nFailed to send 3 bytes to syslog\n\n", |line| {
            lines.push(line.to_owned());
        });
        words.take(&long, |_| {});
        words.take(b"\nthree\nlast", |line| lines.push(line.len().to_string()));
        assert_eq!(lines, ["one", "two", &MAX_LINE.to_string(), "5"]);
        let said = words.epitaph(None);
        assert!(said.ends_with("; three; last"), "{said}");
        assert!(!said.contains("one"), "{said}");
    }

    #[test]
    fn a_program_that_is_missing_is_named_with_its_package() {
        let (ours, _) = std::os::unix::net::UnixStream::pair().unwrap();
        let error = Process::start("/nowhere/passt", &[], ours.into()).err();
        let text = error.unwrap().to_string();
        assert!(text.starts_with("install the package passt"), "{text}");
    }
}
