//! Ports of this host that lead to ports of a guest, through its agent: TCP, as
//! raw bytes, without a network card.
//!
//! One thread takes the connections, and each has a thread of its own until both
//! ways of it have ended. Clients are untrusted: what they can take up is bounded,
//! and so is what waits for them here.

use std::collections::HashMap;
use std::io::{self, ErrorKind, PipeReader, PipeWriter};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle, Scope};
use std::time::Duration;

use device_model::{ThreadKind, Threads};
use guest_client::{AgentPort, ClientError};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};

/// Connections of one forwarder at a time: half of what the agent takes. Others
/// wait in their listener's backlog until one ends.
const MAX_CONNECTIONS: usize = guest_protocol::MAX_FORWARDED / 2;

/// Stack of a connection's thread; its buffers are on the heap.
const THREAD_STACK: usize = 128 * 1024;

/// How long a client is silent before it is asked whether it is still there, how
/// often, and how many questions without an answer are the end of its connection:
/// one that vanished gives its place back after a minute.
const SILENCE: Duration = Duration::from_secs(30);
const QUESTION_INTERVAL: Duration = Duration::from_secs(10);
const QUESTIONS: u32 = 3;

/// How long nothing is accepted when this process has run out of descriptors or
/// threads and none of its connections ends.
const SHORTAGE: Duration = Duration::from_millis(100);

/// Why ports are not forwarded.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The address is taken, is not this host's, or takes more rights.
    #[error("listen at {host}")]
    Listen {
        /// The address.
        host: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The thread that takes the connections cannot start.
    #[error("start to forward ports")]
    Start(#[source] io::Error),
}

/// A port of this host, which is ours from now on, and the guest's to which it
/// leads.
#[derive(Debug)]
pub struct PortForward {
    listener: TcpListener,
    host: SocketAddr,
    guest: u16,
}

impl PortForward {
    /// Listens at `host`, whose port is any that is free when it is 0, for the TCP
    /// port `guest`. Who connects waits until a VM forwards it.
    pub fn bind(host: SocketAddr, guest: u16) -> Result<Self, ForwardError> {
        let failed = |source| ForwardError::Listen { host, source };
        let listener = TcpListener::bind(host).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let host = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            host,
            guest,
        })
    }

    /// Where it listens.
    pub fn host(&self) -> SocketAddr {
        self.host
    }

    /// The port of the guest.
    pub fn guest(&self) -> u16 {
        self.guest
    }
}

/// Forwards ports until it is dropped, which ends all its connections.
#[derive(Debug)]
pub struct Forwarder {
    connections: Arc<Connections>,
    /// Closed to wake the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Starts with `ports` of the guest that `agent` belongs to.
    pub(crate) fn start(
        ports: Vec<PortForward>,
        agent: Arc<AgentPort>,
        threads: &Threads,
    ) -> Result<Self, ForwardError> {
        let (stopped, stop) = io::pipe().map_err(ForwardError::Start)?;
        let connections = Arc::new(Connections::default());
        let acceptor = Acceptor {
            ports,
            agent,
            connections: Arc::clone(&connections),
        };
        let body = move || acceptor.run(&stopped);
        let thread = threads
            .spawn("ports".into(), ThreadKind::Forwarder, body)
            .map_err(ForwardError::Start)?;
        Ok(Self {
            connections,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.connections.close();
        if let Some(thread) = self.thread.take() {
            // It returns nothing, and its panic was printed.
            let _ = thread.join();
        }
    }
}

/// What the thread that takes connections has.
struct Acceptor {
    ports: Vec<PortForward>,
    agent: Arc<AgentPort>,
    connections: Arc<Connections>,
}

impl Acceptor {
    /// Returns when it is stopped and all connections have ended.
    fn run(&self, stopped: &PipeReader) {
        thread::scope(|scope| {
            while let Ok(Some(ready)) = self.wait(stopped) {
                for port in ready {
                    if !self.connections.wait_for_room() {
                        return;
                    }
                    self.accept(scope, port);
                }
            }
        });
    }

    /// The ports at which somebody waits; `None` when it is over.
    fn wait(&self, stopped: &PipeReader) -> nix::Result<Option<Vec<&PortForward>>> {
        let listeners = self.ports.iter().map(|port| port.listener.as_fd());
        let mut entries: Vec<PollFd<'_>> = [stopped.as_fd()]
            .into_iter()
            .chain(listeners)
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        while let Err(errno) = poll(&mut entries, PollTimeout::NONE) {
            if errno != Errno::EINTR {
                log::error!("ports are no longer forwarded: wait for connections: {errno}");
                return Err(errno);
            }
        }
        let mut reported = entries.iter().map(|entry| entry.any().unwrap_or(false));
        if reported.next().unwrap_or(true) {
            return Ok(None);
        }
        let ready = self.ports.iter().zip(reported);
        Ok(Some(
            ready.filter(|(_, is)| *is).map(|(port, _)| port).collect(),
        ))
    }

    /// Takes one connection and starts its thread.
    fn accept<'scope>(&'scope self, scope: &'scope Scope<'scope, '_>, port: &'scope PortForward) {
        let client = match port.listener.accept() {
            Ok((client, _)) => Arc::new(client),
            // One that went away again.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) => {
                log::debug!("accept at {}: {error}", port.host);
                if is_shortage(&error) {
                    self.connections.wait_for_an_end();
                }
                return;
            }
        };
        if let Err(errno) = watch_over(&client) {
            // It went away again, or it is served without.
            log::debug!("keep-alive at {}: {errno}", port.host);
        }
        let place = self.connections.add(Arc::clone(&client));
        let thread = thread::Builder::new()
            .name("port".into())
            .stack_size(THREAD_STACK)
            .spawn_scoped(scope, move || {
                serve(&self.agent, &client, port.guest, &place);
            });
        if let Err(error) = thread {
            // Clients cause it as often as they like.
            log::debug!("a connection to {} is closed: {error}", port.host);
            self.connections.wait_for_an_end();
        }
    }
}

/// Has the kernel end the connection of a client that is silent because it is gone.
fn watch_over(client: &TcpStream) -> nix::Result<()> {
    let seconds = |time: Duration| time.as_secs() as u32;
    setsockopt(client, sockopt::TcpKeepIdle, &seconds(SILENCE))?;
    setsockopt(
        client,
        sockopt::TcpKeepInterval,
        &seconds(QUESTION_INTERVAL),
    )?;
    setsockopt(client, sockopt::TcpKeepCount, &QUESTIONS)?;
    setsockopt(client, sockopt::KeepAlive, &true)
}

/// Whether there may be enough of it again when a connection has ended.
fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS)
    )
}

/// Is the connection between a client and a port of the guest, from its beginning
/// to its end.
fn serve(agent: &AgentPort, client: &TcpStream, guest: u16, place: &Place<'_>) {
    match connect(agent, guest, place) {
        Ok(server) => {
            // What comes in pieces was sent in pieces. A client that has gone
            // already shows below.
            let _ = client.set_nodelay(true);
            if let Err(errno) = stream_relay::relay(client.as_fd(), server.as_fd()) {
                log::debug!("a connection to port {guest} of the guest: {errno}");
            }
        }
        Err(error) => {
            log::debug!("no connection to port {guest}: {error}");
            // The client is to hear of a refusal, not of an empty answer.
            let at_once = libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            // Without it the connection is closed all the same.
            let _ = setsockopt(client, sockopt::Linger, &at_once);
        }
    }
}

fn connect(agent: &AgentPort, guest: u16, place: &Place<'_>) -> Result<UnixStream, ClientError> {
    let dialling = agent.dial(guest)?;
    place.set_server(dialling.try_clone().map_err(ClientError::Io)?);
    dialling.connected()
}

/// The connections that there are, so that others can end them.
#[derive(Debug, Default)]
struct Connections {
    state: Mutex<State>,
    /// One has ended, or all are to end.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    closed: bool,
    next: u64,
    ends: HashMap<u64, Ends>,
}

/// The two streams of a connection, to be shut down.
#[derive(Debug)]
struct Ends {
    client: Arc<TcpStream>,
    server: Option<UnixStream>,
}

impl Ends {
    fn shut_down(&self) {
        // These fail when the other side has gone already.
        let _ = self.client.shutdown(Shutdown::Both);
        if let Some(server) = &self.server {
            let _ = server.shutdown(Shutdown::Both);
        }
    }
}

impl Connections {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for one more; `false` when there will be none.
    fn wait_for_room(&self) -> bool {
        let full = |state: &mut State| !state.closed && state.ends.len() >= MAX_CONNECTIONS;
        let state = self.changed.wait_while(self.state(), full);
        !state.unwrap_or_else(PoisonError::into_inner).closed
    }

    /// Waits until one ends, or for [`SHORTAGE`].
    fn wait_for_an_end(&self) {
        let state = self.state();
        if !state.closed {
            let _ = self.changed.wait_timeout(state, SHORTAGE);
        }
    }

    fn add(&self, client: Arc<TcpStream>) -> Place<'_> {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        let server = None;
        let ends = Ends { client, server };
        if state.closed {
            ends.shut_down();
        }
        state.ends.insert(id, ends);
        Place {
            connections: self,
            id,
        }
    }

    /// Ends all there are and lets no more begin.
    fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.ends.values().for_each(Ends::shut_down);
        self.changed.notify_all();
    }
}

/// One connection's among the others, given back when dropped.
struct Place<'a> {
    connections: &'a Connections,
    id: u64,
}

impl Place<'_> {
    fn set_server(&self, server: UnixStream) {
        let mut state = self.connections.state();
        let closed = state.closed;
        if let Some(ends) = state.ends.get_mut(&self.id) {
            ends.server = Some(server);
            if closed {
                ends.shut_down();
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.connections.state().ends.remove(&self.id);
        self.connections.changed.notify_all();
    }
}

#[cfg(test)]
mod tests;
