//! Packets of the guest: checked, and given to the connection they belong to.
//! VIRTIO 1.2 sections 5.10.6.1 to 5.10.6.5.

use std::sync::Arc;

use event_manager::EventOps;

use crate::buffers::Buffers;
use crate::connection::{Connection, Key, Verdict};
use crate::muxer::{Muxer, watch};
use crate::packet::{HOST_CID, Header, MAX_PAYLOAD, Op, TYPE_STREAM};
use crate::queue::QueueError;
use crate::table::Token;

/// Chains taken in one turn: at most 2 MiB of payload.
const CHAINS_PER_TURN: usize = 32;

/// RSTs that wait for room in the receive queue. Beyond it they are dropped: a
/// guest that offers no room does not want to know.
const MAX_REFUSALS: usize = 256;

/// An RST to be sent without a connection.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    pub key: Key,
    /// The socket type of the packet that is answered.
    pub kind: u16,
}

impl Refusal {
    /// For a stream socket.
    pub fn stream(key: Key) -> Self {
        Refusal {
            key,
            kind: TYPE_STREAM,
        }
    }
}

impl Muxer {
    /// Takes chains from the transmit queue. True when some may be left.
    pub(crate) fn take_packets(&mut self, ops: &mut EventOps) -> Result<bool, QueueError> {
        if !self.packets_wait {
            return Ok(false);
        }
        let memory = Arc::clone(&self.memory);
        for _ in 0..CHAINS_PER_TURN {
            let Some(chain) = self.tx.pop(&memory)? else {
                self.packets_wait = false;
                return Ok(false);
            };
            self.on_chain(chain.buffers, ops);
            self.tx.complete(&memory, chain.head, 0)?;
        }
        Ok(true)
    }

    /// Queues an RST to the guest.
    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        if self.refusals.len() < MAX_REFUSALS {
            self.refusals.push_back(refusal);
        } else {
            self.warnings.note("the guest offers no room for resets");
        }
    }

    fn on_chain(&mut self, mut buffers: Buffers<'_>, ops: &mut EventOps) {
        let Some(bytes) = buffers.read_header() else {
            self.warnings
                .note("the guest sent a chain without a packet header");
            return;
        };
        let header = Header::parse(&bytes);
        if header.src_cid != self.guest_cid || header.dst_cid != HOST_CID {
            self.warnings
                .note("the guest sent a packet of or for somebody else");
            return;
        }
        let op = Op::from_wire(header.op);
        let key = Key {
            host_port: header.dst_port,
            guest_port: header.src_port,
        };
        if header.kind != TYPE_STREAM {
            self.warnings
                .note("the guest sent a packet of an unknown socket type");
            if op != Some(Op::Reset) {
                self.refuse(Refusal {
                    key,
                    kind: header.kind,
                });
            }
            return;
        }
        let token = self.connections.find(key);
        if op == Some(Op::ReadWrite) {
            if header.len > MAX_PAYLOAD || (header.len as usize) > buffers.len() {
                self.warnings
                    .note("the guest sent a payload of impossible length");
                self.refuse_or_reset(token, key, ops);
                return;
            }
            buffers.truncate(header.len as usize);
        }
        match token {
            Some(token) => self.on_packet(token, op, &header, &buffers, ops),
            None if op == Some(Op::Request) => self.on_request(key, &header, ops),
            // Two sides that answered each RST by another would never stop.
            None if op == Some(Op::Reset) => {}
            None => self.refuse(Refusal::stream(key)),
        }
    }

    fn on_packet(
        &mut self,
        token: Token,
        op: Option<Op>,
        header: &Header,
        payload: &Buffers<'_>,
        ops: &mut EventOps,
    ) {
        let Some(connection) = self.connections.get_mut(token) else {
            return;
        };
        let key = connection.key();
        match connection.on_packet(op, header, payload) {
            Verdict::Keep => self.settle(token, ops),
            Verdict::LetGo { answer } => {
                self.connections.orphan(token);
                if answer {
                    self.refuse(Refusal::stream(key));
                }
                self.settle(token, ops);
            }
            Verdict::Reset => self.reset(token, ops),
        }
    }

    fn refuse_or_reset(&mut self, token: Option<Token>, key: Key, ops: &mut EventOps) {
        match token {
            Some(token) => self.reset(token, ops),
            None => self.refuse(Refusal::stream(key)),
        }
    }

    fn on_request(&mut self, key: Key, header: &Header, ops: &mut EventOps) {
        if self.connections.is_full() {
            self.warnings
                .note("the guest has as many connections as it can have");
            self.refuse(Refusal::stream(key));
            return;
        }
        let Some(stream) = self.host.open(key.host_port) else {
            self.refuse(Refusal::stream(key));
            return;
        };
        let token = self.new_token();
        if !watch(ops, &stream, token) {
            self.refuse(Refusal::stream(key));
            return;
        }
        let alloc = self.connections.next_alloc();
        let connection = Connection::from_guest(key, stream, alloc, header);
        self.begin(token, connection, ops);
    }
}
