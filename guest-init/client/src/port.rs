//! The agent's port: connections for processes, files, archives and TCP ports,
//! from the process that runs the VM or from another one.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use guest_protocol::{AGENT_PORT, Done, Open};

use crate::agent::{HANDSHAKE_DEADLINE, REQUEST_DEADLINE};
use crate::error::ClientError;
use crate::stream::{Connection, Stream};

/// Connects to a vsock port of the guest.
pub type Connect = Box<dyn Fn(u32) -> io::Result<UnixStream> + Send + Sync>;

/// Bytes of the longest line that answers `CONNECT`.
const MAX_LINE: usize = 32;

/// The port on which the agent takes requests. Whoever has it needs no control
/// connection, and finds out whether the agent is of the same release only when
/// an answer makes no sense.
pub struct AgentPort {
    connect: Connect,
}

impl AgentPort {
    /// The port of a VM whose ports are reached by `connect`.
    pub fn new(connect: Connect) -> Self {
        Self { connect }
    }

    /// The port of a VM of any process, behind a Unix socket in Firecracker's
    /// form: `CONNECT <port>` and `OK <port>`.
    pub fn behind_socket(path: PathBuf) -> Self {
        Self::new(Box::new(move |port| {
            let mut stream = UnixStream::connect(&path)?;
            ask_for(port, &mut stream)?;
            Ok(stream)
        }))
    }

    /// A new connection.
    pub(crate) fn open(&self) -> Result<Connection, ClientError> {
        let socket = (self.connect)(AGENT_PORT).map_err(ClientError::Connect)?;
        Ok(Connection::new(Stream::new(socket)))
    }

    /// Asks for a connection to a TCP port of the guest, at its loopback
    /// interface, and does not wait for it.
    ///
    /// # Errors
    /// [`ClientError::Connect`] when the agent cannot be reached at all.
    pub fn dial(&self, port: u16) -> Result<Dialling, ClientError> {
        let mut connection = self.open()?;
        connection.open(&Open::Connect { port })?;
        Ok(Dialling(connection))
    }

    /// A connection that asks for one thing and gets one answer.
    pub(crate) fn ask(&self, what: &'static str, open: &Open) -> Result<(), ClientError> {
        self.open()?
            .with_deadline(REQUEST_DEADLINE, what, |connection| {
                connection.open(open)?;
                let Done(result) = connection.receive_message()?;
                result.map_err(ClientError::Failed)
            })
    }
}

/// A connection to a TCP port of the guest that was asked for.
#[derive(Debug)]
pub struct Dialling(Connection);

impl Dialling {
    /// A second handle on the stream: to shut it down ends the wait.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn try_clone(&self) -> io::Result<UnixStream> {
        self.0.stream().try_clone_socket()
    }

    /// Waits until somebody there has accepted. The stream then is the
    /// connection, and each way of it ends by itself.
    ///
    /// # Errors
    /// [`ClientError::Failed`] with the guest's error number: `ECONNREFUSED`
    /// when nobody listens. [`ClientError::Timeout`] after [`REQUEST_DEADLINE`].
    pub fn connected(mut self) -> Result<UnixStream, ClientError> {
        let Done(result) =
            self.0
                .with_deadline(REQUEST_DEADLINE, "connect to a port", |connection| {
                    connection.receive_message()
                })?;
        result.map_err(ClientError::Failed)?;
        Ok(self.0.into_socket())
    }
}

/// Has the stream lead to `port`, and waits until somebody there took it.
fn ask_for(port: u32, stream: &mut UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(HANDSHAKE_DEADLINE))?;
    stream.write_all(format!("CONNECT {port}\n").as_bytes())?;
    // By the byte, because what follows is not ours.
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        let mut byte = [0];
        if line.len() == MAX_LINE || stream.read(&mut byte)? == 0 {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        line.extend_from_slice(&byte);
    }
    if !line.starts_with(b"OK ") {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    stream.set_read_timeout(None)
}

impl fmt::Debug for AgentPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentPort").finish_non_exhaustive()
    }
}
