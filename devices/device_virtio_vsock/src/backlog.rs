//! Bytes from the guest that the host's stream had no room for yet. Bounded by
//! its user, who promised the guest so much and no more.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};

use crate::buffers::Buffers;

/// A queue of bytes. Holds no memory while it is empty.
#[derive(Debug, Default)]
pub struct Backlog {
    bytes: Vec<u8>,
    /// Bytes at the front of `bytes` that are sent already.
    sent: usize,
}

impl Backlog {
    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Adds the bytes of `buffers` from `skip` on. The caller sees to it that
    /// no more than `limit` bytes wait, and the queue takes no more memory.
    pub fn push(&mut self, buffers: &Buffers<'_>, skip: usize, limit: usize) {
        let added = buffers.len().saturating_sub(skip);
        if added == 0 {
            return;
        }
        self.bytes
            .reserve_exact(limit.saturating_sub(self.bytes.len()));
        if self.bytes.len() + added > limit {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        buffers.copy_tail(skip, &mut self.bytes);
    }

    /// Discards everything.
    pub fn clear(&mut self) {
        *self = Backlog::default();
    }

    /// Sends as much as `stream` takes now and returns how much that was.
    /// `Err` when the host takes nothing more, ever.
    pub fn flush(&mut self, stream: &UnixStream) -> io::Result<usize> {
        let before = self.sent;
        while let Some(rest) = self.bytes.get(self.sent..).filter(|rest| !rest.is_empty()) {
            match send_now(stream, rest)? {
                0 => return Ok(self.sent - before),
                sent => self.sent += sent,
            }
        }
        let sent = self.sent - before;
        self.clear();
        Ok(sent)
    }
}

/// Sends the first bytes of `bytes` and returns how many, 0 when the stream is
/// full. Does not block and does not raise SIGPIPE.
pub fn send_now(stream: &UnixStream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match send(
            stream.as_raw_fd(),
            bytes,
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
        ) {
            Ok(sent) => return Ok(sent),
            Err(Errno::EAGAIN) => return Ok(0),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
