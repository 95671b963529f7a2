//! The subscriber that serves the device's queues and all its streams on the
//! event loop: what is watched, what happens in a turn, how things end.
//!
//! Packets of the guest are in `from_guest`, packets to it in `to_guest`, new
//! streams of the host in `from_host`.
//!
//! Streams are watched edge-triggered and what an edge said is remembered in
//! the connection, so that neither a connection without credit nor a full
//! receive queue has to change what is watched. A turn has budgets; when one
//! is used up, the subscriber wakes itself and lets others have their turn.

use std::collections::{HashMap, VecDeque};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use device_model::{GuestMemory, Interrupt};
use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::connection::Connection;
use crate::from_guest::Refusal;
use crate::from_host::Client;
use crate::host::Lease;
use crate::queue::{DeviceQueue, QueueError};
use crate::table::{MAX_CONNECTIONS, Table, Token};
use crate::timer::Timer;
use crate::warnings::Warnings;

/// Tokens of what is watched for the whole activation.
const RX_KICK: Token = 0;
const TX_KICK: Token = 1;
const RESUME: Token = 2;
const TIMER: Token = 3;
const ASKS: Token = 4;
const CLIENTS: Token = 5;
/// The first token of a stream.
const FIRST_STREAM: Token = 16;

/// How long the parties may take before a connection is given up. Nothing
/// happens when these pass but the end of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From a client's connect to the end of its CONNECT line.
    pub line: Duration,
    /// From our REQUEST to the guest's answer, which its kernel gives.
    pub answer: Duration,
    /// From our SHUTDOWN to the guest's RST, or between two of the guest's
    /// signs of life while it still has bytes to read.
    pub shutdown: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            line: Duration::from_secs(10),
            answer: Duration::from_secs(60),
            shutdown: Duration::from_secs(10),
        }
    }
}

/// What an activation brings.
pub struct Frontend {
    pub guest_cid: u64,
    pub memory: GuestMemory,
    pub interrupt: Arc<dyn Interrupt>,
    pub rx: DeviceQueue,
    pub tx: DeviceQueue,
}

/// Serves one activation; the streams end with it.
pub struct Muxer {
    pub(crate) guest_cid: u64,
    pub(crate) memory: Arc<GuestMemory>,
    interrupt: Arc<dyn Interrupt>,
    pub(crate) rx: DeviceQueue,
    pub(crate) tx: DeviceQueue,
    pub(crate) host: Lease,
    pub(crate) patience: Patience,
    pub(crate) connections: Table,
    /// Clients whose CONNECT line is not complete.
    pub(crate) clients: HashMap<Token, Client>,
    next_token: Token,
    /// Connections with something to send to the guest, each at most once.
    pub(crate) ready: VecDeque<Token>,
    /// RSTs for what is not, or no longer, a connection.
    pub(crate) refusals: VecDeque<Refusal>,
    pub(crate) timer: Timer,
    /// Written when a turn leaves work for the next.
    resume: EventFd,
    /// There may be asks, clients, or chains from the guest.
    pub(crate) asks_wait: bool,
    pub(crate) clients_wait: bool,
    pub(crate) packets_wait: bool,
    pub(crate) warnings: Warnings,
    /// The driver broke a queue; nothing is served until it resets the device.
    pub(crate) broken: bool,
}

impl Muxer {
    /// Fails when the process is out of descriptors.
    pub fn new(frontend: Frontend, host: Lease, patience: Patience) -> std::io::Result<Self> {
        Ok(Muxer {
            guest_cid: frontend.guest_cid,
            memory: Arc::new(frontend.memory),
            interrupt: frontend.interrupt,
            rx: frontend.rx,
            tx: frontend.tx,
            host,
            patience,
            connections: Table::new(),
            clients: HashMap::new(),
            next_token: FIRST_STREAM,
            ready: VecDeque::new(),
            refusals: VecDeque::new(),
            timer: Timer::new()?,
            resume: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            asks_wait: true,
            clients_wait: true,
            packets_wait: true,
            warnings: Warnings::default(),
            broken: false,
        })
    }

    /// Does what there is to do, within the budgets of a turn.
    fn turn(&mut self, ops: &mut EventOps) {
        let mut more = self.take_asks(ops);
        more |= self.take_clients(ops);
        match self.serve_queues(ops) {
            Ok(more_packets) => more |= more_packets,
            Err(error) => self.fail(error, ops),
        }
        if more {
            // The counter of an eventfd cannot overflow by ones.
            let _ = self.resume.write(1);
        }
    }

    fn serve_queues(&mut self, ops: &mut EventOps) -> Result<bool, QueueError> {
        if self.broken {
            return Ok(false);
        }
        let mut more = self.take_packets(ops)?;
        more |= self.send_packets(ops)?;
        let interrupt = Arc::clone(&self.interrupt);
        self.tx.notify(&self.memory, &*interrupt)?;
        self.rx.notify(&self.memory, &*interrupt)?;
        Ok(more)
    }

    /// Ends all connections, and service until the driver resets the device.
    fn fail(&mut self, error: QueueError, ops: &mut EventOps) {
        let error = anyhow::Error::from(error);
        log::error!("vsock: the driver broke the protocol: {error:#}");
        self.broken = true;
        for token in self.connections.tokens() {
            self.remove(token, ops);
        }
        self.interrupt.needs_reset();
    }

    fn on_timer(&mut self, ops: &mut EventOps) {
        let now = Instant::now();
        for token in self.connections.expired(now) {
            let Some(connection) = self.connections.get_mut(token) else {
                continue;
            };
            if connection.on_deadline() {
                self.reset(token, ops);
            } else {
                connection.deadline = Some(now + self.patience.shutdown);
                self.settle(token, ops);
            }
        }
        self.drop_late_clients(now, ops);
        let clients = self.clients.values().map(|client| client.deadline).min();
        let connections = self.connections.next_deadline();
        self.timer.set(clients.into_iter().chain(connections).min());
    }

    fn on_stream(&mut self, token: Token, events: EventSet, ops: &mut EventOps) {
        if self.clients.contains_key(&token) {
            self.on_client(token, events, ops);
            return;
        }
        let Some(connection) = self.connections.get_mut(token) else {
            return;
        };
        if events.intersects(EventSet::IN | EventSet::READ_HANG_UP) {
            connection.on_readable();
        }
        if events.contains(EventSet::OUT) {
            connection.on_room();
        }
        if events.intersects(EventSet::HANG_UP | EventSet::ERROR) {
            connection.on_hang_up();
        }
        self.settle(token, ops);
    }
}

/// What the other parts of the muxer do with a connection.
impl Muxer {
    /// A token for a new stream.
    pub(crate) fn new_token(&mut self) -> Token {
        let token = self.next_token;
        // A guest would need days for a round, in which old tokens are long gone.
        self.next_token = token.checked_add(1).unwrap_or(FIRST_STREAM);
        token
    }

    /// Puts a connection into the table and sees to its first packet. Its
    /// stream is watched already.
    pub(crate) fn begin(&mut self, token: Token, connection: Connection, ops: &mut EventOps) {
        if let Some(deadline) = connection.deadline {
            self.timer.ring_by(deadline);
        }
        self.connections.insert(token, connection);
        self.settle(token, ops);
    }

    /// Draws the consequences of what has happened to a connection: closes what
    /// is over, watches for room when that is needed, lets it send when it has
    /// something for the guest.
    pub(crate) fn settle(&mut self, token: Token, ops: &mut EventOps) {
        let Some(connection) = self.connections.get_mut(token) else {
            return;
        };
        if connection.host_is_gone()
            && let Some(stream) = connection.take_stream()
        {
            unwatch(ops, &stream);
            let deadline = Instant::now() + self.patience.shutdown;
            connection.deadline = Some(deadline);
            self.timer.ring_by(deadline);
        }
        if connection.is_finished() {
            self.remove(token, ops);
            return;
        }
        let wants_room = connection.wants_room();
        if let Some(stream) = connection.stream()
            && wants_room != connection.watches_room
        {
            let interest = stream_events(stream, token, wants_room);
            match ops.modify(interest) {
                Ok(()) => connection.watches_room = wants_room,
                Err(error) => {
                    log::error!("vsock: watch a stream for room: {error:?}");
                    self.reset(token, ops);
                    return;
                }
            }
        }
        if !connection.queued && connection.wants_to_send() {
            connection.queued = true;
            self.ready.push_back(token);
            debug_assert!(self.ready.len() <= MAX_CONNECTIONS);
        }
    }

    /// Ends a connection for the guest and drops it at once.
    pub(crate) fn reset(&mut self, token: Token, ops: &mut EventOps) {
        if let Some(connection) = self.connections.get_mut(token)
            && !connection.is_orphan()
        {
            let key = connection.key();
            self.refuse(Refusal::stream(key));
        }
        self.remove(token, ops);
    }

    /// Drops a connection; the host sees the end of its stream.
    pub(crate) fn remove(&mut self, token: Token, ops: &mut EventOps) {
        let Some(mut connection) = self.connections.remove(token) else {
            return;
        };
        if connection.queued {
            self.ready.retain(|&queued| queued != token);
        }
        if let Some(stream) = connection.take_stream() {
            unwatch(ops, &stream);
        }
        // A descriptor has come free, for which a client may have been waiting.
        self.clients_wait = true;
    }
}

/// Watches a new stream under `token`. False when that fails.
pub(crate) fn watch(ops: &mut EventOps, stream: &impl AsRawFd, token: Token) -> bool {
    ops.add(stream_events(stream, token, false))
        .inspect_err(|error| log::error!("vsock: watch a stream: {error:?}"))
        .is_ok()
}

/// Stops to watch a stream. Has to come before the stream is closed: the event
/// loop takes an event of a descriptor that it does not know for a bug.
pub(crate) fn unwatch(ops: &mut EventOps, stream: &impl AsRawFd) {
    if let Err(error) = ops.remove(Events::empty(stream)) {
        log::error!("vsock: stop to watch a stream: {error:?}");
    }
}

/// What is watched of a stream. Room only on demand: every read of the host
/// makes room, and would wake the event loop.
fn stream_events(stream: &impl AsRawFd, token: Token, room: bool) -> Events {
    let mut events = EventSet::IN | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED;
    events.set(EventSet::OUT, room);
    Events::with_data(stream, token, events)
}

impl MutEventSubscriber for Muxer {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        // Reading an eventfd only quiets it: what it stands for is looked up in
        // this turn in any case.
        match events.data() {
            RX_KICK => drop(self.rx.kick().read()),
            TX_KICK => {
                let _ = self.tx.kick().read();
                self.packets_wait = true;
            }
            RESUME => drop(self.resume.read()),
            TIMER => self.on_timer(ops),
            ASKS => {
                if let Some(backend) = &self.host.backend {
                    let _ = backend.wake().read();
                }
                self.asks_wait = true;
            }
            CLIENTS => self.clients_wait = true,
            token => self.on_stream(token, events.event_set(), ops),
        }
        self.turn(ops);
    }

    fn init(&mut self, ops: &mut EventOps) {
        let mut fixed = vec![
            Events::with_data(self.rx.kick(), RX_KICK, EventSet::IN),
            Events::with_data(self.tx.kick(), TX_KICK, EventSet::IN),
            Events::with_data(&self.resume, RESUME, EventSet::IN),
            Events::with_data_raw(
                std::os::fd::AsFd::as_fd(self.timer.fd()).as_raw_fd(),
                TIMER,
                EventSet::IN,
            ),
        ];
        if let Some(backend) = &self.host.backend {
            fixed.push(Events::with_data(backend.wake(), ASKS, EventSet::IN));
        }
        if let Some(unix) = &self.host.unix {
            let events = EventSet::IN | EventSet::EDGE_TRIGGERED;
            fixed.push(Events::with_data(unix.listener(), CLIENTS, events));
        }
        for events in fixed {
            if let Err(error) = ops.add(events) {
                log::error!("vsock: watch the device's own descriptors: {error:?}");
                self.broken = true;
                self.interrupt.needs_reset();
                return;
            }
        }
        // Asks, clients and packets may have come before anyone watched.
        let _ = self.resume.write(1);
    }
}
