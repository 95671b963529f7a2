//! Bytes between two connected stream sockets, both ways at once, until both
//! ways have ended.
//!
//! Each way ends by itself: what one side has shut down is shut down for the
//! other once everything before it has gone. One thread, one poll and a buffer
//! for each way; while that is full its source is not read, so that a slow
//! reader slows the writer down. It opens nothing, and knows no frames.
#![forbid(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};

/// Bytes that one way holds at most.
pub const BUFFER: usize = 64 * 1024;

/// Relays between `a` and `b`, which may be of any two families and may block
/// otherwise. Shutting either down makes it return.
///
/// # Errors
/// What ended a way before its time, or that a side is gone for good; all that
/// could be passed on then has been.
pub fn relay(a: BorrowedFd<'_>, b: BorrowedFd<'_>) -> nix::Result<()> {
    let mut ways = [Way::new(a, b), Way::new(b, a)];
    let mut gone = [false; 2];
    loop {
        let [there, back] = &mut ways;
        let moved = there.step() | back.step();
        if ways.iter().all(|way| way.done) {
            let [there, back] = ways;
            return there.failed.or(back.failed).map_or(Ok(()), Err);
        }
        if !moved {
            wait(&ways, &mut gone)?;
        }
    }
}

/// From one side to the other.
struct Way<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    buffer: Box<[u8]>,
    /// Of the buffer, what is still to be written.
    start: usize,
    end: usize,
    /// The source has no more.
    ended: bool,
    /// Nothing more is done.
    done: bool,
    failed: Option<Errno>,
}

impl<'a> Way<'a> {
    fn new(from: BorrowedFd<'a>, to: BorrowedFd<'a>) -> Self {
        Self {
            from,
            to,
            buffer: vec![0; BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            ended: false,
            done: false,
            failed: None,
        }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Reads once and writes once, as far as that needs no wait; `false` when
    /// it was not possible at all.
    fn step(&mut self) -> bool {
        let mut moved = false;
        if !self.done && self.is_empty() && !self.ended {
            let flags = MsgFlags::MSG_DONTWAIT;
            match recv(self.from.as_raw_fd(), &mut self.buffer, flags) {
                Ok(0) => self.ended = true,
                Ok(len) => (self.start, self.end) = (0, len),
                Err(Errno::EAGAIN) => return false,
                Err(Errno::EINTR) => {}
                Err(errno) => self.fail(errno),
            }
            moved = true;
        }
        if !self.done && !self.is_empty() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(
                self.to.as_raw_fd(),
                &self.buffer[self.start..self.end],
                flags,
            ) {
                Ok(len) => self.start += len,
                Err(Errno::EAGAIN) => return moved,
                Err(Errno::EINTR) => {}
                Err(errno) => self.fail(errno),
            }
            moved = true;
        }
        if !self.done && self.ended && self.is_empty() {
            self.finish();
        }
        moved
    }

    /// Either the source was cut off, or the other side takes nothing more:
    /// both sides hear of it.
    fn fail(&mut self, errno: Errno) {
        self.failed = Some(errno);
        // It fails when the side is gone, and then nobody is there to tell.
        let _ = shutdown(self.from.as_raw_fd(), Shutdown::Read);
        self.finish();
    }

    fn finish(&mut self) {
        self.done = true;
        // As above.
        let _ = shutdown(self.to.as_raw_fd(), Shutdown::Write);
    }
}

/// Waits for what the ways can go on with. A side that neither is read nor has
/// to take anything now is watched for its end only, of which `gone` keeps note:
/// it would be told again and again.
fn wait(ways: &[Way<'_>; 2], gone: &mut [bool; 2]) -> nix::Result<()> {
    let [there, back] = ways;
    let interest = |read: &Way<'_>, written: &Way<'_>| {
        let mut events = PollFlags::empty();
        events.set(PollFlags::POLLIN, !read.done && read.is_empty());
        events.set(PollFlags::POLLOUT, !written.done && !written.is_empty());
        events
    };
    let sides = [
        (there.from, interest(there, back)),
        (back.from, interest(back, there)),
    ];
    let watched = |at: usize| !sides[at].1.is_empty() || !gone[at];
    let indexes: Vec<usize> = (0..sides.len()).filter(|&at| watched(at)).collect();
    let mut entries: Vec<PollFd<'_>> = indexes
        .iter()
        .map(|&at| PollFd::new(sides[at].0, sides[at].1))
        .collect();
    match poll(&mut entries, PollTimeout::NONE) {
        Err(Errno::EINTR) => return Ok(()),
        other => other?,
    };
    for (at, entry) in indexes.into_iter().zip(entries) {
        let found = entry.revents().unwrap_or(PollFlags::empty());
        if sides[at].1.is_empty() && !found.is_empty() {
            if found.contains(PollFlags::POLLERR) {
                return Err(Errno::ECONNRESET);
            }
            gone[at] = true;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
