//! The process passt: started with a socket, heard, ended.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ChildStderr, Command, ExitStatus, Stdio};
use std::time::Duration;

use plugin_sdk::{Error, Host, Level, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};

/// Longest line that is kept.
const MAX_LINE: usize = 512;
/// The last lines, which an error has.
const LAST_WORDS: usize = 3;
/// Bytes that are read of its words in one go.
const BATCH: usize = 4096;
/// What it says of a system without a system log, after every line.
const NOISE: &str = "Failed to send ";

/// How long one that is ended may take. Killed, one ends at once; without its socket,
/// as soon as it has seen that.
const END_LIMIT: Duration = Duration::from_secs(2);

/// A running passt. Dropped, it is ended; close its socket before. It is known by its
/// descriptor: a number is another process's once this one has ended, in a VMM that
/// ignores `SIGCHLD`.
pub struct Process {
    host: Host,
    #[cfg(test)]
    id: u32,
    /// Readable when it has ended.
    pidfd: OwnedFd,
    stderr: ChildStderr,
    words: Words,
}

impl Process {
    /// Starts `program` with its end of the link as standard input.
    pub fn start(host: Host, program: &str, arguments: &[String], socket: OwnedFd) -> Result<Self> {
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
        let (Some(pid), Some(stderr)) =
            (Pid::from_raw(child.id().cast_signed()), child.stderr.take())
        else {
            return Err(Error::new("passt has no number, or no words"));
        };
        // One that nobody watches ends with its socket.
        let pidfd = pidfd_open(pid, PidfdFlags::empty())
            .map_err(|error| Error::from(error).context("watch passt, which needs Linux 5.3"))?;
        let process = Process {
            host,
            #[cfg(test)]
            id: child.id(),
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
        self.id
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
        let status = self.bury();
        // What is in the pipe is all there will be, and a pipe has a size.
        while self.has_words() && self.hear(|_| {}) {}
        self.words.epitaph(status)
    }

    fn has_words(&self) -> bool {
        is_readable(self.stderr(), Duration::ZERO)
    }

    /// How it ended, unless it runs, or somebody else has asked.
    fn bury(&self) -> Option<ExitStatus> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status = waitid(WaitId::PidFd(self.exit()), options).ok()??;
        let code = status.exit_status().map(|code| (code & 0xff) << 8);
        code.or(status.terminating_signal())
            .map(ExitStatus::from_raw)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already. Root's has become somebody else whom a VMM without
        // `CAP_KILL` cannot kill, and ends because its socket is closed.
        let killed = pidfd_send_signal(&self.pidfd, Signal::KILL);
        if is_readable(self.exit(), END_LIMIT) {
            self.bury();
            return;
        }
        let why = killed
            .err()
            .map_or("killed".into(), |error| error.to_string());
        let text = format!("passt is left behind, it has not ended: {why}");
        self.host.log(Level::Warn, &text);
    }
}

/// Whether `fd` is readable, or its other end closed, within `limit`.
fn is_readable(fd: BorrowedFd<'_>, limit: Duration) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    let limit = Timespec {
        tv_sec: limit.as_secs().cast_signed(),
        tv_nsec: limit.subsec_nanos().into(),
    };
    loop {
        match poll(&mut fds, Some(&limit)) {
            Err(Errno::INTR) => {}
            answer => return answer.is_ok_and(|count| count > 0),
        }
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
        let mock = plugin_sdk::testing::MockHost::new();
        let error = Process::start(mock.host(), "/nowhere/passt", &[], ours.into()).err();
        let text = error.unwrap().to_string();
        assert!(text.starts_with("install the package passt"), "{text}");
    }
}
