//! Keeps the reading ends of pipes whose process has ended, for those who still write.
//!
//! A background child may hold the pipe for as long as the guest runs. Closed,
//! it would die of SIGPIPE; unread, it would stop once the pipe is full.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use nix::fcntl::OFlag;
use nix::unistd::{pipe2, write};

use super::THREAD_STACK;
use crate::sys;

/// Read in one go; what is read goes nowhere.
const CHUNK: usize = 32 * 1024;

/// The thread that reads everything left over. It lives as long as the agent.
pub struct Drain {
    sender: Sender<OwnedFd>,
    /// Written to after each send, to end the thread's wait.
    wake: OwnedFd,
}

impl Drain {
    /// Starts the thread.
    pub fn start() -> io::Result<Self> {
        let (woken, wake) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let (sender, receiver) = channel();
        thread::Builder::new()
            .stack_size(THREAD_STACK)
            .spawn(move || run(&File::from(woken), &receiver))?;
        Ok(Self { sender, wake })
    }

    /// Reads from a pipe or terminal, which does not block, until nobody
    /// writes to it any more.
    pub fn take(&self, source: OwnedFd) {
        // Both fail only when the thread is gone, which no panic of its own
        // can cause; then the source is closed, as good as can be.
        if self.sender.send(source).is_ok() {
            // A full pipe wakes as well.
            let _ = write(&self.wake, &[0]);
        }
    }
}

fn run(woken: &File, receiver: &Receiver<OwnedFd>) {
    let mut sources: Vec<File> = Vec::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        let mut entries = vec![sys::poll_entry(Some(woken.as_fd()), libc::POLLIN)];
        entries.extend(
            sources
                .iter()
                .map(|s| sys::poll_entry(Some(s.as_fd()), libc::POLLIN)),
        );
        if sys::poll(&mut entries).is_err() {
            // Out of memory in the kernel: others must run to free some.
            thread::yield_now();
            continue;
        }
        let mut reported = entries[1..].iter().map(|entry| entry.revents != 0);
        sources.retain_mut(|source| {
            !reported.next().unwrap_or(false) || is_open(source.read(&mut buffer))
        });
        if entries[0].revents != 0 {
            if matches!((&mut &*woken).read(&mut buffer), Ok(0)) {
                return;
            }
            sources.extend(receiver.try_iter().map(File::from));
        }
    }
}

/// Whether more can come; a terminal that nobody has open gives EIO.
fn is_open(read: io::Result<usize>) -> bool {
    match read {
        Ok(len) => len > 0,
        Err(e) => matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
    }
}
