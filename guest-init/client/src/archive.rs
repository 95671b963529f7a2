//! Trees of the guest as tar archives, by stream. What is in an archive is
//! looked at by nobody here, and one from the guest is not to be trusted.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use guest_protocol::{ArchiveRead, FileMessage, FileRequest, FrameKind, MAX_DATA, Open, decode};

use crate::error::ClientError;
use crate::files::{expect, timed};
use crate::port::AgentPort;
use crate::stream::Connection;

const READ: &str = "read an archive";
const WRITE: &str = "write an archive";

impl AgentPort {
    /// Begins to read a file or a tree of the guest.
    ///
    /// # Errors
    /// [`ClientError::Failed`] with the guest's error number, as when the path
    /// leads nowhere. What goes wrong later, reading tells.
    pub fn read_archive(&self, read: ArchiveRead) -> Result<ArchiveReader, ClientError> {
        let mut connection = self.open()?;
        timed(&mut connection, READ, |connection| {
            connection.open(&Open::ArchiveRead(read))
        })?;
        let mut reader = ArchiveReader {
            connection,
            data: Vec::new(),
            used: 0,
            ended: false,
        };
        reader.receive()?;
        Ok(reader)
    }

    /// Begins to unpack an archive into an existing folder of the guest.
    ///
    /// # Errors
    /// [`ClientError::Failed`] with the guest's error number, as when the path
    /// is no folder. What goes wrong later, writing tells.
    pub fn write_archive(&self, path: impl AsRef<OsStr>) -> Result<ArchiveWriter, ClientError> {
        let mut connection = self.open()?;
        timed(&mut connection, WRITE, |connection| {
            connection.open(&Open::ArchiveWrite {
                path: path.as_ref().into(),
            })?;
            expect(connection, FileMessage::Ready)
        })?;
        Ok(ArchiveWriter {
            connection,
            data: Vec::with_capacity(MAX_DATA),
        })
    }
}

/// An archive that comes from the guest. Its errors hold a [`ClientError`]; the
/// guest may take [`REQUEST_DEADLINE`](crate::REQUEST_DEADLINE) for each part.
/// Dropping it before its end makes the guest give up.
#[derive(Debug)]
pub struct ArchiveReader {
    connection: Connection,
    /// The part that is being read, and how much of it was.
    data: Vec<u8>,
    used: usize,
    ended: bool,
}

impl ArchiveReader {
    /// A second handle on the stream: to shut it down ends a wait in another thread.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn try_clone_stream(&self) -> io::Result<UnixStream> {
        self.connection.stream().try_clone_socket()
    }

    fn receive(&mut self) -> Result<(), ClientError> {
        let Self {
            connection,
            data,
            used,
            ended,
        } = self;
        timed(connection, READ, |connection| {
            let frame = connection.receive()?;
            (*used, *ended) = (0, false);
            data.clear();
            match frame.kind {
                FrameKind::File => data.extend_from_slice(frame.body),
                FrameKind::Message => {
                    match decode(frame.body).map_err(ClientError::from_message)? {
                        FileMessage::End => *ended = true,
                        FileMessage::Failed(failure) => return Err(ClientError::Failed(failure)),
                        FileMessage::Ready | FileMessage::Stat(_) => {
                            return Err(ClientError::unexpected("message"));
                        }
                    }
                }
                _ => return Err(ClientError::unexpected("kind of data")),
            }
            Ok(())
        })
    }
}

impl Read for ArchiveReader {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.used == self.data.len() && !self.ended {
            self.receive().map_err(io::Error::other)?;
        }
        let left = &self.data[self.used..];
        let len = left.len().min(into.len());
        into[..len].copy_from_slice(&left[..len]);
        self.used += len;
        Ok(len)
    }
}

/// An archive on its way to the guest. Nothing appears there before
/// [`finish`](Self::finish), and nothing at all when this is dropped before.
/// Its errors hold a [`ClientError`].
#[derive(Debug)]
pub struct ArchiveWriter {
    connection: Connection,
    /// What makes no full frame yet.
    data: Vec<u8>,
}

impl ArchiveWriter {
    /// As [`ArchiveReader::try_clone_stream`]. When it is shut down for writing
    /// only, the guest still tells when it has removed what it had unpacked.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn try_clone_stream(&self) -> io::Result<UnixStream> {
        self.connection.stream().try_clone_socket()
    }

    /// Says that the archive is complete and waits until all is in place.
    ///
    /// # Errors
    /// [`ClientError::Failed`] with the guest's error number.
    pub fn finish(mut self) -> Result<(), ClientError> {
        self.send()?;
        timed(&mut self.connection, WRITE, |connection| {
            match connection.send(&FileRequest::End) {
                Ok(()) | Err(ClientError::Lost) => expect(connection, FileMessage::End),
                Err(error) => Err(error),
            }
        })
    }

    /// Gives up, and waits until the guest has removed what it had unpacked.
    ///
    /// # Errors
    /// When the guest cannot say that it has.
    pub fn abort(mut self) -> Result<(), ClientError> {
        self.connection.stream().end();
        timed(&mut self.connection, WRITE, |connection| {
            match connection.receive_message()? {
                FileMessage::Failed(_) => Ok(()),
                _ => Err(ClientError::unexpected("message")),
            }
        })
    }

    fn send(&mut self) -> Result<(), ClientError> {
        let Self { connection, data } = self;
        timed(connection, WRITE, |connection| {
            match connection.send_data(FrameKind::File, data) {
                // The agent says why it hung up.
                Err(ClientError::Lost) => match connection.receive_message()? {
                    FileMessage::Failed(failure) => Err(ClientError::Failed(failure)),
                    _ => Err(ClientError::Lost),
                },
                other => other,
            }
        })?;
        data.clear();
        Ok(())
    }
}

impl Write for ArchiveWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.data.len() == MAX_DATA {
            self.send().map_err(io::Error::other)?;
        }
        let len = bytes.len().min(MAX_DATA - self.data.len());
        self.data.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    /// Full frames go by themselves.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
