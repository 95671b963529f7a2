//! A connection to the agent with deadlines and without SIGPIPE.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use guest_protocol::{Frame, FrameError, FrameKind, FrameReader, MAX_REPLY, Message, Open, decode};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, sendmsg};

use crate::error::ClientError;

/// A Unix stream whose reads and writes may have a deadline.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: UnixStream,
    deadline: Option<Instant>,
}

impl Stream {
    pub(crate) fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            deadline: None,
        }
    }

    /// A second handle on the same connection, without a deadline of its own.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::new(self.socket.try_clone()?))
    }

    /// A second handle on the socket itself.
    pub(crate) fn try_clone_socket(&self) -> io::Result<UnixStream> {
        self.socket.try_clone()
    }

    /// Ends the connection for all handles and wakes who waits on them.
    pub(crate) fn hang_up(&self) {
        // It fails only when the other side has hung up before.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Says that nothing more comes; answers still can.
    pub(crate) fn end(&self) {
        // As above.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// What is left of the deadline, for the socket's own time-out.
    fn remaining(&self) -> io::Result<Option<Duration>> {
        let Some(deadline) = self.deadline else {
            return Ok(None);
        };
        match deadline.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => Ok(Some(left)),
            _ => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.deadline.is_some() {
            self.socket.set_read_timeout(self.remaining()?)?;
        }
        self.socket.read(into)
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.deadline.is_some() {
            self.socket.set_write_timeout(self.remaining()?)?;
        }
        let fd = self.socket.as_raw_fd();
        Ok(sendmsg::<()>(fd, parts, &[], MsgFlags::MSG_NOSIGNAL, None)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A connection read in frames.
#[derive(Debug)]
pub(crate) struct Connection {
    reader: FrameReader<Stream>,
}

impl Connection {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            reader: FrameReader::new(stream, MAX_REPLY),
        }
    }

    pub(crate) fn stream(&self) -> &Stream {
        self.reader.get_ref()
    }

    /// The socket, for what follows the last frame.
    pub(crate) fn into_socket(self) -> UnixStream {
        self.reader.into_inner().socket
    }

    /// Runs `call` with a deadline for all its reads and writes together; a
    /// deadline that passes becomes a [`ClientError::Timeout`] about `what`.
    pub(crate) fn with_deadline<T>(
        &mut self,
        limit: Duration,
        what: &'static str,
        call: impl FnOnce(&mut Self) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        self.reader.get_mut().deadline = Some(Instant::now() + limit);
        let result = call(self);
        let stream = self.reader.get_mut();
        stream.deadline = None;
        stream
            .socket
            .set_read_timeout(None)
            .map_err(ClientError::Io)?;
        stream
            .socket
            .set_write_timeout(None)
            .map_err(ClientError::Io)?;
        result.map_err(|error| match error {
            ClientError::Io(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                ClientError::Timeout {
                    what,
                    seconds: limit.as_secs(),
                }
            }
            other => other,
        })
    }

    pub(crate) fn send<M: Message>(&mut self, message: &M) -> Result<(), ClientError> {
        Ok(guest_protocol::write_message(
            self.reader.get_mut(),
            message,
        )?)
    }

    /// Sends the first message. An agent that has hung up may have said why
    /// before: what [`receive`](Self::receive) finds counts.
    pub(crate) fn open(&mut self, message: &Open) -> Result<(), ClientError> {
        match self.send(message) {
            Err(ClientError::Lost) => Ok(()),
            other => other,
        }
    }

    pub(crate) fn send_data(&mut self, kind: FrameKind, data: &[u8]) -> Result<(), ClientError> {
        Ok(guest_protocol::write_data(
            self.reader.get_mut(),
            kind,
            data,
        )?)
    }

    /// Writes through the stream itself, for messages with a form of their own.
    pub(crate) fn send_with(
        &mut self,
        write: impl FnOnce(&mut Stream) -> Result<(), FrameError>,
    ) -> Result<(), ClientError> {
        Ok(write(self.reader.get_mut())?)
    }

    /// The next frame; the end of the stream is [`ClientError::Lost`].
    pub(crate) fn receive(&mut self) -> Result<Frame<'_>, ClientError> {
        self.reader.read_frame()?.ok_or(ClientError::Lost)
    }

    /// Whether a frame begins before `deadline`; where one does, or the stream ends,
    /// [`receive`](Self::receive) does not wait for long.
    pub(crate) fn waits_for_frame(&self, deadline: Instant) -> io::Result<bool> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, so that it does not spin within the last millisecond.
            let millis = left.as_nanos().div_ceil(1_000_000);
            let limit = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.stream().as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, limit) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The next frame, which has to be a message.
    pub(crate) fn receive_message<M: Message>(&mut self) -> Result<M, ClientError> {
        decode(self.receive_body()?).map_err(ClientError::from_message)
    }

    /// The body of the next frame, which has to be a message.
    pub(crate) fn receive_body(&mut self) -> Result<&[u8], ClientError> {
        let frame = self.receive()?;
        match frame.kind {
            FrameKind::Message => Ok(frame.body),
            _ => Err(ClientError::unexpected("data")),
        }
    }
}

#[cfg(test)]
mod tests {
    use guest_protocol::MAX_DATA;

    use super::*;

    #[test]
    fn peer_that_trickles_does_not_put_the_deadline_off() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let trickle = std::thread::spawn(move || {
            // A long frame, a byte at a time until nobody listens.
            let header = guest_protocol::frame_header(FrameKind::Stdout, MAX_DATA);
            theirs.write_all(&header).unwrap();
            (1..MAX_DATA)
                .take_while(|_| theirs.write_all(b"x").is_ok())
                .count()
        });
        let mut connection = Connection::new(Stream::new(ours));
        let limit = Duration::from_millis(1);
        let result =
            connection.with_deadline(limit, "a test", |connection| connection.receive().map(drop));
        assert!(matches!(
            result,
            Err(ClientError::Timeout { what: "a test", .. })
        ));
        drop(connection);
        trickle.join().unwrap();
    }

    #[test]
    fn deadline_does_not_outlive_its_call() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut connection = Connection::new(Stream::new(ours));
        let limit = Duration::from_millis(1);
        let result = connection.with_deadline(limit, "a test", |c| c.receive_body().map(drop));
        assert!(matches!(result, Err(ClientError::Timeout { .. })));
        assert_eq!(connection.stream().socket.read_timeout().unwrap(), None);
        guest_protocol::write_data(&mut theirs, FrameKind::Stdout, b"late").unwrap();
        assert_eq!(connection.receive().unwrap().body, b"late");
    }
}
