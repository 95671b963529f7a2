//! One connection: its state, and what each packet and each event makes of it.
//!
//! ```text
//!  guest REQUEST ─▶ RESPONSE due ─▶ [open] ◀─ RESPONSE ◀─ REQUEST due ◀─ host
//!                                    │  │
//!       guest RST or SHUTDOWN both ──┘  └── host closed, all delivered
//!                 ▼                                  ▼
//!     [orphan: what we hold still       [lingering: SHUTDOWN both is out,
//!      goes to the host, then close]     until the guest's RST or the limit]
//! ```
//!
//! Touches its own stream and nothing else: queues, event loop and other
//! connections are its caller's. VIRTIO 1.2 section 5.10.6.

mod from_guest;
mod from_host;

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use crate::backlog::Backlog;
use crate::credit::{Inbound, Outbound};
use crate::packet::{Header, Op, SHUTDOWN_BOTH, TYPE_STREAM};

/// What names a connection: one guest and one host are all there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub host_port: u32,
    pub guest_port: u32,
}

/// What becomes of a connection after a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Keep,
    /// The guest is done with it; `answer` says whether it waits for a RST.
    LetGo { answer: bool },
    /// The guest broke the rules, or the host is gone: RST and forget.
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The host asked; the guest has not answered.
    Connecting {
        /// The client waits for the line that says OK.
        wants_line: bool,
    },
    Open,
    /// The guest has let go of the connection and no longer hears of it.
    Orphan,
}

/// A connection between a guest socket and a host stream.
pub struct Connection {
    key: Key,
    phase: Phase,
    /// `None` once the host is gone and everything from it has been delivered.
    stream: Option<UnixStream>,
    inbound: Inbound,
    outbound: Outbound,
    backlog: Backlog,
    /// The stream may hold bytes or its end: edge-triggered, so remembered.
    readable: bool,
    /// The host can neither send nor receive any more, beyond what is queued.
    hung_up: bool,
    /// SHUTDOWN flags the guest has sent.
    guest_shut: u32,
    /// SHUTDOWN flags that are true of the host: its end was read, or it takes
    /// nothing more.
    host_shut: u32,
    /// SHUTDOWN flags we have sent.
    told_shut: u32,
    /// REQUEST or RESPONSE, still to be sent.
    opening: Option<Op>,
    credit_update_due: bool,
    credit_request_due: bool,
    /// Credit was asked for and none has come since.
    credit_requested: bool,
    /// A probe is out: no packet has come since the last deadline passed.
    probed: bool,
    /// When the caller has to look at it: see [`Connection::on_deadline`].
    pub deadline: Option<Instant>,
    /// It stands in its caller's list of connections with packets to send.
    pub queued: bool,
    /// Its caller watches the stream for room.
    pub watches_room: bool,
}

impl Connection {
    /// The guest asked and `stream` is the host's answer. `header` is the
    /// REQUEST; `alloc` is how many bytes from the guest may wait here.
    pub fn from_guest(key: Key, stream: UnixStream, alloc: u32, header: &Header) -> Self {
        let mut connection = Connection::new(key, stream, alloc, Phase::Open, Op::Response);
        connection
            .outbound
            .refresh(header.buf_alloc, header.fwd_cnt);
        connection
    }

    /// The host asks through `stream`; with `wants_line` the client there is to
    /// be told in Firecracker's form once the guest has agreed.
    pub fn from_host(key: Key, stream: UnixStream, alloc: u32, wants_line: bool) -> Self {
        Connection::new(
            key,
            stream,
            alloc,
            Phase::Connecting { wants_line },
            Op::Request,
        )
    }

    fn new(key: Key, stream: UnixStream, alloc: u32, phase: Phase, opening: Op) -> Self {
        Connection {
            key,
            phase,
            stream: Some(stream),
            inbound: Inbound::new(alloc),
            outbound: Outbound::default(),
            backlog: Backlog::default(),
            readable: true,
            hung_up: false,
            guest_shut: 0,
            host_shut: 0,
            told_shut: 0,
            opening: Some(opening),
            credit_update_due: false,
            credit_request_due: false,
            credit_requested: false,
            probed: false,
            deadline: None,
            queued: false,
            watches_room: false,
        }
    }

    pub fn key(&self) -> Key {
        self.key
    }

    pub fn stream(&self) -> Option<&UnixStream> {
        self.stream.as_ref()
    }

    /// Takes the stream away, to be closed.
    pub fn take_stream(&mut self) -> Option<UnixStream> {
        self.stream.take()
    }

    /// Bytes that the guest has been promised room for.
    pub fn promised(&self) -> u32 {
        self.inbound.alloc()
    }

    /// The guest no longer has this connection.
    pub fn is_orphan(&self) -> bool {
        self.phase == Phase::Orphan
    }

    /// Bytes wait for room in the host's stream.
    pub fn wants_room(&self) -> bool {
        !self.backlog.is_empty()
    }

    /// The host is done in both directions and the stream is of no more use.
    pub fn host_is_gone(&self) -> bool {
        self.host_shut == SHUTDOWN_BOTH
    }

    /// Nothing is left to do: an orphan without anything to deliver.
    pub fn is_finished(&self) -> bool {
        self.is_orphan() && (self.backlog.is_empty() || self.stream.is_none())
    }

    /// The guest lets go; what it sent before still goes to the host.
    pub fn orphan(&mut self) {
        self.phase = Phase::Orphan;
        self.deadline = None;
        if let Some(stream) = &self.stream {
            // A host that is stuck in a write must not wait for ever for a
            // reader, and so never come to read what we hold for it.
            let _ = stream.shutdown(Shutdown::Read);
        }
    }
}

/// What goes to the guest.
impl Connection {
    /// There is a packet to send, given room for it.
    pub fn wants_to_send(&mut self) -> bool {
        // Asking for what is sendable may make a control packet due.
        let data = self.sendable() > 0;
        data || self.control_due().is_some()
    }

    /// The control packet to send next, and its flags. Stays due until
    /// [`Connection::sent`].
    pub fn control_due(&self) -> Option<(Op, u32)> {
        if self.is_orphan() {
            return None;
        }
        if let Some(op) = self.opening {
            return Some((op, 0));
        }
        if self.phase != Phase::Open {
            return None;
        }
        if self.host_shut & !self.told_shut != 0 {
            return Some((Op::Shutdown, self.host_shut));
        }
        if self.credit_update_due {
            return Some((Op::CreditUpdate, 0));
        }
        self.credit_request_due.then_some((Op::CreditRequest, 0))
    }

    /// The control packet has been sent.
    pub fn sent(&mut self, op: Op, flags: u32) {
        match op {
            Op::Request | Op::Response => self.opening = None,
            Op::Shutdown => self.told_shut |= flags,
            Op::CreditRequest => self.credit_request_due = false,
            Op::CreditUpdate | Op::Reset | Op::ReadWrite => {}
        }
    }

    /// The header of a packet that is now being sent, without the context ids.
    /// Every packet tells our account, so that no update is due after it.
    pub fn header(&mut self, op: Op, flags: u32, len: u32) -> Header {
        self.credit_update_due = false;
        Header {
            src_port: self.key.host_port,
            dst_port: self.key.guest_port,
            len,
            kind: TYPE_STREAM,
            op: op as u16,
            flags,
            buf_alloc: self.inbound.alloc(),
            fwd_cnt: self.inbound.announce(),
            ..Header::default()
        }
    }
}
