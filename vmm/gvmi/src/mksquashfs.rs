//! The program `mksquashfs` as a child that writes into an open file and ends
//! with us. What it is asked to pack is not decided here.

// UNSAFETY: a child's inherited descriptor and its death signal can be set
// only between fork and exec, which the standard library calls unsafe.
#![expect(unsafe_code, reason = "pre_exec, with two system calls in it")]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::getppid;

use crate::builder::BuildError;
use crate::display::display_path;

const PROGRAM: &str = "mksquashfs";
/// The environment's variable for the time of the file system. What is newer,
/// as the root folder of an archive is, which has the time of now, gets it too.
const CLOCK: &str = "SOURCE_DATE_EPOCH";
/// Bytes in the pipe to its standard input, the most that any user may ask
/// for: each fill costs two switches between processes.
const PIPE: i32 = 1 << 20;
/// Bytes of its messages that are kept: the last ones, which say why it ended.
const MESSAGES: usize = 8 << 10;

/// A running `mksquashfs`. Dropped before its end, it is killed.
pub(crate) struct Mksquashfs {
    child: Child,
    messages: Option<JoinHandle<Vec<u8>>>,
}

impl Mksquashfs {
    /// Starts it to pack `source` into `to`, with `options` behind the two. No
    /// time in the file system is after `clock`. The calling thread has to live
    /// until it ends.
    pub(crate) fn start<O: AsRef<OsStr>>(
        source: &OsStr,
        to: &File,
        options: impl IntoIterator<Item = O>,
        clock: Option<u32>,
        stdin: Stdio,
    ) -> Result<Self, BuildError> {
        let to = to.as_raw_fd();
        let parent = nix::unistd::getpid();
        let mut command = Command::new(PROGRAM);
        command
            .arg(source)
            .arg(format!("/proc/self/fd/{to}"))
            .args(options)
            .stdin(stdin)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        match clock {
            Some(seconds) => command.env(CLOCK, seconds.to_string()),
            None => command.env_remove(CLOCK),
        };
        let before_exec = move || {
            set_pdeathsig(Signal::SIGKILL)?;
            // Had the parent ended before, nobody would be told.
            if getppid() != parent {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            // SAFETY: F_SETFD on any number is sound; the file outlives the
            // fork, so in this copy of the process the number is its.
            match unsafe { libc::fcntl(to, libc::F_SETFD, 0) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        // SAFETY: the closure makes system calls only; it neither allocates
        // nor takes a lock that another thread may have held at the fork.
        unsafe { command.pre_exec(before_exec) };
        let mut child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => BuildError::NoMksquashfs,
            _ => BuildError::Start(error),
        })?;
        let stderr = child.stderr.take().expect("it was asked for above");
        let mut running = Self {
            child,
            messages: None,
        };
        let messages = std::thread::Builder::new()
            .name("mksquashfs-log".to_owned())
            .spawn(move || last_bytes(stderr))
            .map_err(BuildError::Start)?;
        running.messages = Some(messages);
        Ok(running)
    }

    /// Its standard input, if that was asked for; once.
    pub(crate) fn stdin(&mut self) -> Option<ChildStdin> {
        let stdin = self.child.stdin.take()?;
        // Where that is not allowed it works as well, only slower.
        let _ = fcntl(&stdin, FcntlArg::F_SETPIPE_SZ(PIPE));
        Some(stdin)
    }

    /// Waits until it ends; returns its warnings, one line each.
    pub(crate) fn finish(mut self) -> Result<Vec<String>, BuildError> {
        drop(self.child.stdin.take());
        let status = self.child.wait().map_err(BuildError::Start)?;
        let messages = self.join_messages();
        let mut lines = messages
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(|line| display_path(line.as_bytes()))
            .collect::<Vec<_>>();
        if status.success() {
            return Ok(lines);
        }
        // Its last lines are the reason; before them may be warnings.
        let lines = lines.split_off(lines.len().saturating_sub(3));
        Err(BuildError::Mksquashfs {
            status,
            messages: lines.join("; "),
        })
    }

    fn join_messages(&mut self) -> String {
        let bytes = self.messages.take().and_then(|thread| thread.join().ok());
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    }
}

impl Drop for Mksquashfs {
    fn drop(&mut self) {
        if self.messages.is_some() || !matches!(self.child.try_wait(), Ok(Some(_))) {
            // Both fail only when it has ended already.
            let _ = self.child.kill();
            let _ = self.child.wait();
            self.join_messages();
        }
    }
}

/// Reads all of `from` and returns its end, at most [`MESSAGES`] bytes.
fn last_bytes(mut from: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut buf = [0; 4096];
    loop {
        match from.read(&mut buf) {
            Ok(0) => return kept,
            Ok(len) => {
                kept.extend_from_slice(&buf[..len]);
                let excess = kept.len().saturating_sub(MESSAGES);
                kept.drain(..excess);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return kept,
        }
    }
}
