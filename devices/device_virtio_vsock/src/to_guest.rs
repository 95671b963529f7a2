//! Packets to the guest: resets first, then the connections in turn, each with
//! its control packets and one batch of bytes. Bytes go from the host's stream
//! straight into the driver's buffers. VIRTIO 1.2 sections 5.10.6.1 to 5.10.6.5.

use std::sync::Arc;

use event_manager::EventOps;

use device_model::GuestMemory;

use crate::buffers::Buffers;
use crate::muxer::Muxer;
use crate::packet::{HEADER_LEN, HOST_CID, Header, Op};
use crate::queue::QueueError;
use crate::table::Token;

/// Packets of control, or batches of bytes, sent in one turn: at most 2 MiB.
const STEPS_PER_TURN: usize = 32;

/// Bytes read from one stream at a time, before others have their turn.
const BATCH_BYTES: usize = 64 * 1024;

/// No more chains are added to a batch that consists of this many pieces. Far
/// below the 1024 that one system call takes.
const BATCH_PIECES: usize = 64;

/// [`HEADER_LEN`] as it is counted in the used ring.
const HEADER_BYTES: u32 = HEADER_LEN as u32;

/// A receive buffer, cut into what the header and what the payload may use.
struct Slot<'m> {
    head: u16,
    header: Buffers<'m>,
    room: usize,
}

impl Muxer {
    /// Sends what is ready, as far as the receive queue has room: when it has
    /// not, the driver's kick resumes it. True when something may be left that
    /// could be sent now.
    pub(crate) fn send_packets(&mut self, ops: &mut EventOps) -> Result<bool, QueueError> {
        let memory = Arc::clone(&self.memory);
        for _ in 0..STEPS_PER_TURN {
            if let Some(&refusal) = self.refusals.front() {
                let header = Header {
                    src_port: refusal.key.host_port,
                    dst_port: refusal.key.guest_port,
                    kind: refusal.kind,
                    op: Op::Reset as u16,
                    ..Header::default()
                };
                if !self.send_control(&memory, |_| Some(header))? {
                    return Ok(false);
                }
                self.refusals.pop_front();
                continue;
            }
            let Some(&token) = self.ready.front() else {
                return Ok(false);
            };
            if !self.serve_connection(&memory, token)? {
                return Ok(false);
            }
            // To the back of the list, if there is more.
            self.ready.pop_front();
            if let Some(connection) = self.connections.get_mut(token) {
                connection.queued = false;
            }
            self.settle(token, ops);
        }
        Ok(true)
    }

    /// Sends a control packet or a batch of bytes of one connection. False when
    /// the receive queue has no room.
    fn serve_connection(&mut self, memory: &GuestMemory, token: Token) -> Result<bool, QueueError> {
        let Some(connection) = self.connections.get_mut(token) else {
            return Ok(true);
        };
        if connection.control_due().is_some() {
            return self.send_control(memory, |muxer| {
                let connection = muxer.connections.get_mut(token)?;
                let (op, flags) = connection.control_due()?;
                connection.sent(op, flags);
                Some(connection.header(op, flags, 0))
            });
        }
        let wanted = connection.sendable().min(BATCH_BYTES);
        if wanted == 0 {
            return Ok(true);
        }
        self.send_bytes(memory, token, wanted)
    }

    /// Sends the packet without payload that `make` has when there is room.
    /// False when there is none.
    fn send_control(
        &mut self,
        memory: &GuestMemory,
        make: impl FnOnce(&mut Self) -> Option<Header>,
    ) -> Result<bool, QueueError> {
        let Some((slot, _)) = self.next_slot(memory)? else {
            return Ok(false);
        };
        match make(self) {
            Some(header) => self.finish(memory, &slot, header)?,
            None => self.rx.unpop(1),
        }
        Ok(true)
    }

    fn send_bytes(
        &mut self,
        memory: &GuestMemory,
        token: Token,
        wanted: usize,
    ) -> Result<bool, QueueError> {
        let mut slots = Vec::new();
        let mut room = Buffers::default();
        while room.len() < wanted && room.pieces().len() < BATCH_PIECES {
            let Some((mut slot, mut payload)) = self.next_slot(memory)? else {
                break;
            };
            payload.truncate(wanted - room.len());
            slot.room = payload.len();
            room.append(payload);
            slots.push(slot);
        }
        if slots.is_empty() {
            return Ok(false);
        }
        let connection = self.connections.get_mut(token);
        let mut rest = connection.map_or(0, |connection| connection.receive(room.pieces()));
        // What was read has filled the slots in order.
        for slot in slots {
            let len = rest.min(slot.room);
            rest -= len;
            if len == 0 {
                self.rx.unpop(1);
                continue;
            }
            let Some(connection) = self.connections.get_mut(token) else {
                continue;
            };
            let len = u32::try_from(len).expect("a batch is far smaller than 4 GiB");
            let header = connection.header(Op::ReadWrite, 0, len);
            self.finish(memory, &slot, header)?;
        }
        Ok(true)
    }

    /// The next buffer of the driver, and the part of it that is for payload.
    fn next_slot<'m>(
        &mut self,
        memory: &'m GuestMemory,
    ) -> Result<Option<(Slot<'m>, Buffers<'m>)>, QueueError> {
        let Some(chain) = self.rx.pop(memory)? else {
            return Ok(None);
        };
        let mut payload = chain.buffers;
        let len = payload.len();
        if len <= HEADER_LEN {
            return Err(QueueError::ReceiveBufferTooSmall { len });
        }
        let slot = Slot {
            head: chain.head,
            header: payload.split_to(HEADER_LEN),
            room: payload.len(),
        };
        Ok(Some((slot, payload)))
    }

    /// Writes the header and gives the buffer to the driver.
    fn finish(
        &mut self,
        memory: &GuestMemory,
        slot: &Slot<'_>,
        header: Header,
    ) -> Result<(), QueueError> {
        let header = Header {
            src_cid: HOST_CID,
            dst_cid: self.guest_cid,
            ..header
        };
        slot.header.write(&header.to_bytes());
        self.rx
            .complete(memory, slot.head, HEADER_BYTES + header.len)
    }
}
