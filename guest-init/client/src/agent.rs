//! The agent as a whole: greeting, services of the control connection, starting processes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use guest_protocol::{
    Answer, Exec, FromAgent, Hello, HostEntry, Interface, MessageError, Open, ProcessMessage,
    Request, RequestBody, Resolver,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::error::{ClientError, ExecError};
use crate::port::{AgentPort, Connect};
use crate::process::Process;
use crate::stream::{Connection, Stream};

/// How long the greeting may take once the agent has connected.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// How long any answer may take; generous, because a guest may be starved of
/// processor time and a sync has to write everything out.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(60);

/// The agent in a guest that has booted. All methods may be called from any
/// thread at any time.
#[derive(Debug)]
pub struct Agent {
    hello: Hello,
    control: Mutex<Control>,
    /// A second handle on the control connection, to wait for its end while a
    /// request holds the lock.
    control_fd: OwnedFd,
    port: Arc<AgentPort>,
}

#[derive(Debug)]
struct Control {
    connection: Connection,
    next_id: u32,
}

impl Agent {
    /// Greets the agent that has connected on [`CONTROL_PORT`](guest_protocol::CONTROL_PORT).
    ///
    /// # Errors
    /// [`ClientError::VersionMismatch`] when the agent is of another release
    /// (it is told so), [`ClientError::Timeout`] after [`HANDSHAKE_DEADLINE`],
    /// or whatever else is wrong with it.
    pub fn handshake(control: UnixStream, connect: Connect) -> Result<Self, ClientError> {
        let control_fd = control
            .as_fd()
            .try_clone_to_owned()
            .map_err(ClientError::Io)?;
        let mut connection = Connection::new(Stream::new(control));
        let hello = connection.with_deadline(HANDSHAKE_DEADLINE, "the greeting", greet)?;
        log::debug!(
            "guest agent {} is ready: {:?}",
            hello.agent_version,
            hello.boot_times
        );
        Ok(Self {
            hello,
            control: Mutex::new(Control {
                connection,
                next_id: 0,
            }),
            control_fd,
            port: Arc::new(AgentPort::new(connect)),
        })
    }

    /// What the agent said about itself and its boot.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Starts a process and returns once its program runs.
    ///
    /// # Errors
    /// [`ExecError::Failed`] when the agent could not start it, else
    /// [`ExecError::Client`].
    pub fn exec(&self, exec: Exec) -> Result<Process, ExecError> {
        let has_stdin = exec.stdin;
        let mut connection = self.port.open()?;
        let started =
            connection.with_deadline(REQUEST_DEADLINE, "start a process", |connection| {
                connection.open(&Open::Exec(exec))?;
                connection.receive_message()
            })?;
        match started {
            ProcessMessage::Started { pid } => Ok(Process::new(
                connection,
                pid,
                has_stdin,
                Arc::clone(&self.port),
            )?),
            ProcessMessage::Failed(failure) => Err(ExecError::Failed(failure)),
            ProcessMessage::Exit(_) => Err(ClientError::unexpected("exit of a process").into()),
        }
    }

    /// Appends to the guest's `/etc/hosts` the entries that it does not have.
    ///
    /// # Errors
    /// [`ClientError::Failed`] when the guest cannot write it.
    pub fn hosts(&self, entries: Vec<HostEntry>) -> Result<(), ClientError> {
        self.request("set host entries", RequestBody::Hosts(entries))
    }

    /// Gives a network interface of the guest its addresses and routes, and
    /// brings it up. The same again is no error.
    ///
    /// # Errors
    /// [`ClientError::Failed`] with `ENODEV` when there is no such interface,
    /// else with the error number of the step that the guest's kernel refused;
    /// the steps before it are done.
    pub fn set_interface(&self, interface: Interface) -> Result<(), ClientError> {
        self.request("set up an interface", RequestBody::Interface(interface))
    }

    /// Replaces the guest's `/etc/resolv.conf`.
    ///
    /// # Errors
    /// [`ClientError::Failed`] when the guest cannot write it.
    pub fn set_resolver(&self, resolver: Resolver) -> Result<(), ClientError> {
        self.request("set name servers", RequestBody::Resolver(resolver))
    }

    /// Writes the guest's file systems out.
    ///
    /// # Errors
    /// As in [`ClientError`].
    pub fn sync(&self) -> Result<(), ClientError> {
        self.request("sync", RequestBody::Sync)
    }

    /// Sets the guest's wall clock to `unix_nanos` nanoseconds after the epoch.
    ///
    /// # Errors
    /// [`ClientError::Failed`] when the guest's kernel refuses.
    pub fn set_time(&self, unix_nanos: u64) -> Result<(), ClientError> {
        self.request("set the time", RequestBody::SetTime { unix_nanos })
    }

    /// Makes the guest write its file systems out and power off. The VM's stop
    /// follows; that the power went before the answer came is a success.
    ///
    /// # Errors
    /// As in [`ClientError`], but never [`ClientError::Lost`].
    pub fn shutdown(&self) -> Result<(), ClientError> {
        self.shutdown_within(REQUEST_DEADLINE)
    }

    /// As [`shutdown`](Self::shutdown), with a limit of the caller's for the answer.
    ///
    /// # Errors
    /// As for [`shutdown`](Self::shutdown).
    pub fn shutdown_within(&self, limit: Duration) -> Result<(), ClientError> {
        match self.request_within(limit, "shut down", RequestBody::Shutdown) {
            Err(ClientError::Lost) => Ok(()),
            other => other,
        }
    }

    /// Waits until the control connection has ended, which means that the
    /// agent, or the VM, is gone.
    ///
    /// # Errors
    /// When the connection cannot be waited for.
    pub fn wait_lost(&self) -> io::Result<()> {
        loop {
            let hang_up = PollFlags::from_bits_retain(nix::libc::POLLRDHUP);
            let mut fds = [PollFd::new(self.control_fd(), hang_up)];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => return Ok(()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// The control connection, for an event loop: `EPOLLRDHUP` on it means
    /// what [`wait_lost`](Self::wait_lost) waits for. Do not read from it.
    pub fn control_fd(&self) -> BorrowedFd<'_> {
        self.control_fd.as_fd()
    }

    /// Its port, for files, archives and ports of the guest.
    pub fn port(&self) -> &Arc<AgentPort> {
        &self.port
    }

    fn request(&self, what: &'static str, body: RequestBody) -> Result<(), ClientError> {
        self.request_within(REQUEST_DEADLINE, what, body)
    }

    fn request_within(
        &self,
        limit: Duration,
        what: &'static str,
        body: RequestBody,
    ) -> Result<(), ClientError> {
        // A panic under the lock leaves at worst an unread response, which the
        // next request skips by its id.
        let mut control = self.control.lock().unwrap_or_else(PoisonError::into_inner);
        let id = control.next_id;
        control.next_id = id.wrapping_add(1);
        control.connection.with_deadline(limit, what, |connection| {
            connection.send(&Request { id, body })?;
            loop {
                match connection.receive_message()? {
                    FromAgent::Response { id: of, result } if of == id => {
                        return result.map_err(ClientError::Failed);
                    }
                    // The late answer to a request that timed out.
                    FromAgent::Response { .. } => {}
                }
            }
        })
    }
}

fn greet(connection: &mut Connection) -> Result<Hello, ClientError> {
    let hello = match Hello::decode(connection.receive_body()?) {
        Ok(hello) => hello,
        Err(error) => {
            refuse(connection, &error);
            return Err(ClientError::from_message(error));
        }
    };
    connection.send_with(|stream| Answer::Welcome.write_to(stream))?;
    Ok(hello)
}

/// Tells the agent why nobody will talk to it; its console line helps to find out.
fn refuse(connection: &mut Connection, error: &MessageError) {
    let answer = Answer::Refuse {
        reason: error.to_string(),
    };
    if let Err(error) = connection.send_with(|stream| answer.write_to(stream)) {
        log::debug!("the refused guest agent was not told: {error}");
    }
}
