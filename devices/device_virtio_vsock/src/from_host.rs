//! New streams of the host: the asks of the owner in this process, and the
//! clients of the Unix socket until they have said where they want to go.

use std::os::unix::net::UnixStream;
use std::time::Instant;

use device_model::Ask;
use event_manager::{EventOps, EventSet};

use crate::connection::Connection;
use crate::muxer::{Muxer, unwatch, watch};
use crate::table::Token;
use crate::unix::{Line, read_line};

/// Asks taken, and clients accepted, in one turn.
const ARRIVALS_PER_TURN: usize = 32;

/// Clients that have not finished their CONNECT line. One more is closed.
const MAX_CLIENTS: usize = 64;

/// A client of the Unix socket, before its CONNECT line is complete.
pub struct Client {
    stream: UnixStream,
    /// When it is closed.
    pub deadline: Instant,
}

impl Muxer {
    /// Takes asks of the owner. True when some may be left.
    pub(crate) fn take_asks(&mut self, ops: &mut EventOps) -> bool {
        if !self.asks_wait {
            return false;
        }
        for _ in 0..ARRIVALS_PER_TURN {
            match self
                .host
                .backend
                .as_ref()
                .and_then(|backend| backend.next())
            {
                None => {
                    self.asks_wait = false;
                    return false;
                }
                Some(Ask::Listen { port, accepted }) => self.host.listen(port, accepted),
                Some(Ask::Connect { port, stream }) => {
                    let token = self.new_token();
                    if watch(ops, &stream, token) {
                        self.connect(token, port, stream, false, ops);
                    }
                }
            }
        }
        true
    }

    /// Accepts clients of the Unix socket. True when some may be left.
    pub(crate) fn take_clients(&mut self, ops: &mut EventOps) -> bool {
        if !self.clients_wait {
            return false;
        }
        for _ in 0..ARRIVALS_PER_TURN {
            let Some(unix) = &self.host.unix else {
                self.clients_wait = false;
                return false;
            };
            match unix.accept() {
                Ok(stream) => self.admit(stream, ops),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    self.clients_wait = false;
                    return false;
                }
                Err(error) => {
                    // Out of descriptors, most likely: the client waits in the
                    // backlog until something else ends or comes.
                    self.warnings.note(format_args!("accept a client: {error}"));
                    self.clients_wait = false;
                    return false;
                }
            }
        }
        true
    }

    fn admit(&mut self, stream: UnixStream, ops: &mut EventOps) {
        if self.clients.len() >= MAX_CLIENTS {
            self.warnings.note(format_args!(
                "{MAX_CLIENTS} clients have not said CONNECT, one more is closed"
            ));
            return;
        }
        let token = self.new_token();
        if !watch(ops, &stream, token) {
            return;
        }
        let deadline = Instant::now() + self.patience.line;
        self.timer.ring_by(deadline);
        self.clients.insert(token, Client { stream, deadline });
    }

    /// A client wrote, or left.
    pub(crate) fn on_client(&mut self, token: Token, events: EventSet, ops: &mut EventOps) {
        let Some(client) = self.clients.get(&token) else {
            return;
        };
        let ended = EventSet::READ_HANG_UP | EventSet::HANG_UP | EventSet::ERROR;
        let line = match read_line(&client.stream) {
            Line::Incomplete if events.intersects(ended) => Line::Bad,
            line => line,
        };
        if line == Line::Incomplete {
            return;
        }
        let Some(client) = self.clients.remove(&token) else {
            return;
        };
        match line {
            Line::Connect(port) => self.connect(token, port, client.stream, true, ops),
            Line::Bad | Line::Incomplete => {
                unwatch(ops, &client.stream);
                self.clients_wait = true;
            }
        }
    }

    /// Closes the clients whose time is up.
    pub(crate) fn drop_late_clients(&mut self, now: Instant, ops: &mut EventOps) {
        self.clients.retain(|_, client| {
            let keep = client.deadline > now;
            if !keep {
                unwatch(ops, &client.stream);
            }
            keep
        });
    }

    /// Asks the guest for a connection for `stream`, which is watched already.
    fn connect(
        &mut self,
        token: Token,
        port: u32,
        stream: UnixStream,
        wants_line: bool,
        ops: &mut EventOps,
    ) {
        if self.broken || self.connections.is_full() {
            self.warnings.note(format_args!(
                "a connection to guest port {port} is refused: there are too many"
            ));
            unwatch(ops, &stream);
            return;
        }
        let key = self.connections.key_to(port);
        let alloc = self.connections.next_alloc();
        let mut connection = Connection::from_host(key, stream, alloc, wants_line);
        connection.deadline = Some(Instant::now() + self.patience.answer);
        self.begin(token, connection, ops);
    }
}
