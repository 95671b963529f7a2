//! Files of the guest: read, replace, look at, by stream and without an end in memory.

use std::ffi::OsStr;
use std::io::{Read, Write};

use guest_protocol::{
    FileMessage, FileRequest, FileStat, FileWrite, FrameKind, MAX_DATA, Open, decode,
};

use crate::agent::REQUEST_DEADLINE;
use crate::error::ClientError;
use crate::port::AgentPort;
use crate::stream::Connection;

impl AgentPort {
    /// Copies a regular file of the guest into `into`; returns its length in bytes.
    ///
    /// # Errors
    /// [`ClientError::Failed`] with the guest's error number,
    /// [`ClientError::OutputLimit`] when the file is longer than `limit` bytes,
    /// [`ClientError::Local`] when `into` fails, and [`ClientError::Timeout`]
    /// when nothing moves for [`REQUEST_DEADLINE`].
    pub fn read_file(
        &self,
        path: impl AsRef<OsStr>,
        into: &mut dyn Write,
        limit: u64,
    ) -> Result<u64, ClientError> {
        let mut connection = self.open()?;
        timed(&mut connection, "read a file", |connection| {
            connection.open(&Open::FileRead {
                path: path.as_ref().into(),
            })
        })?;
        let mut total: u64 = 0;
        while let Some(len) = timed(&mut connection, "read a file", |connection| {
            receive_part(connection, into)
        })? {
            total = total.saturating_add(len);
            if total > limit {
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                return Err(ClientError::OutputLimit { limit });
            }
        }
        Ok(total)
    }

    /// Replaces a regular file of the guest with what `from` has; returns its
    /// length in bytes. Until it is complete the old one stays.
    ///
    /// # Errors
    /// As for [`read_file`](Self::read_file).
    pub fn write_file(&self, file: FileWrite, from: &mut dyn Read) -> Result<u64, ClientError> {
        const WHAT: &str = "write a file";
        let mut connection = self.open()?;
        timed(&mut connection, WHAT, |connection| {
            connection.open(&Open::FileWrite(file))?;
            expect(connection, FileMessage::Ready)
        })?;
        let mut buffer = vec![0; MAX_DATA];
        let mut total: u64 = 0;
        loop {
            let len = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(len) => len,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(ClientError::Local(e)),
            };
            let sent = timed(&mut connection, WHAT, |connection| {
                connection.send_data(FrameKind::File, &buffer[..len])
            });
            match sent {
                Ok(()) => total = total.saturating_add(len as u64),
                // The agent says why it hung up.
                Err(ClientError::Lost) => break,
                Err(e) => return Err(e),
            }
        }
        timed(&mut connection, WHAT, |connection| {
            match connection.send(&FileRequest::End) {
                Ok(()) | Err(ClientError::Lost) => expect(connection, FileMessage::End),
                Err(e) => Err(e),
            }
        })?;
        Ok(total)
    }

    /// What a path of the guest is; the last link is followed.
    ///
    /// # Errors
    /// [`ClientError::Failed`] with the guest's error number.
    pub fn stat_file(&self, path: impl AsRef<OsStr>) -> Result<FileStat, ClientError> {
        timed(&mut self.open()?, "look at a file", |connection| {
            connection.open(&Open::FileStat {
                path: path.as_ref().into(),
            })?;
            match connection.receive_message()? {
                FileMessage::Stat(stat) => Ok(stat),
                FileMessage::Failed(failure) => Err(ClientError::Failed(failure)),
                FileMessage::Ready | FileMessage::End => Err(ClientError::unexpected("message")),
            }
        })
    }
}

/// One step of a transfer, with a limit of its own: long files take long.
pub(crate) fn timed<T>(
    connection: &mut Connection,
    what: &'static str,
    step: impl FnOnce(&mut Connection) -> Result<T, ClientError>,
) -> Result<T, ClientError> {
    connection.with_deadline(REQUEST_DEADLINE, what, step)
}

/// Passes one data frame on and returns its length, or `None` at the end.
fn receive_part(
    connection: &mut Connection,
    into: &mut dyn Write,
) -> Result<Option<u64>, ClientError> {
    let frame = connection.receive()?;
    match frame.kind {
        FrameKind::File => {
            into.write_all(frame.body).map_err(ClientError::Local)?;
            Ok(Some(frame.body.len() as u64))
        }
        FrameKind::Message => match decode(frame.body).map_err(ClientError::from_message)? {
            FileMessage::End => Ok(None),
            FileMessage::Failed(failure) => Err(ClientError::Failed(failure)),
            FileMessage::Ready | FileMessage::Stat(_) => Err(ClientError::unexpected("message")),
        },
        _ => Err(ClientError::unexpected("kind of data")),
    }
}

pub(crate) fn expect(connection: &mut Connection, wanted: FileMessage) -> Result<(), ClientError> {
    match connection.receive_message()? {
        FileMessage::Failed(failure) => Err(ClientError::Failed(failure)),
        message if message == wanted => Ok(()),
        _ => Err(ClientError::unexpected("message")),
    }
}
