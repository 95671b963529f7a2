//! What a packet of the guest makes of a connection, and where its bytes go:
//! to the host's stream, or into the backlog until there is room.

use std::io;
use std::net::Shutdown;

use super::{Connection, Phase, Verdict};
use crate::backlog::send_now;
use crate::buffers::Buffers;
use crate::packet::{Header, Op, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};
use crate::socket;

impl Connection {
    /// Takes a packet of the guest. `payload` holds exactly `header.len` bytes
    /// for [`Op::ReadWrite`] and is of no interest otherwise.
    pub fn on_packet(&mut self, op: Option<Op>, header: &Header, payload: &Buffers<'_>) -> Verdict {
        self.outbound.refresh(header.buf_alloc, header.fwd_cnt);
        self.probed = false;
        if self.outbound.available() > 0 {
            self.credit_requested = false;
        }
        match (op, self.phase) {
            (Some(Op::Reset), _) => Verdict::LetGo { answer: false },
            (Some(Op::Response), Phase::Connecting { wants_line }) => self.on_response(wants_line),
            (_, Phase::Connecting { .. }) => Verdict::Reset,
            (Some(Op::Shutdown), _) => self.on_shutdown(header.flags),
            (Some(Op::ReadWrite), _) => self.on_data(header.len, payload),
            (Some(Op::CreditUpdate), _) => Verdict::Keep,
            (Some(Op::CreditRequest), _) => {
                self.credit_update_due = true;
                Verdict::Keep
            }
            (None | Some(Op::Request | Op::Response), _) => Verdict::Reset,
        }
    }

    fn on_response(&mut self, wants_line: bool) -> Verdict {
        self.phase = Phase::Open;
        self.deadline = None;
        // A guest that answers before it was asked has not earned a connection.
        if self.opening.is_some() {
            return Verdict::Reset;
        }
        let line = format!("OK {}\n", self.key.host_port);
        match &self.stream {
            // Nothing was sent before, so that a stream without room for the
            // line is one whose client has gone.
            Some(stream) if wants_line => match send_now(stream, line.as_bytes()) {
                Ok(sent) if sent == line.len() => Verdict::Keep,
                _ => Verdict::Reset,
            },
            _ => Verdict::Keep,
        }
    }

    fn on_shutdown(&mut self, flags: u32) -> Verdict {
        self.guest_shut |= flags & SHUTDOWN_BOTH;
        if self.guest_shut == SHUTDOWN_BOTH {
            return Verdict::LetGo { answer: true };
        }
        if let Some(stream) = &self.stream
            && self.guest_shut & SHUTDOWN_RECEIVE != 0
        {
            // The host's writes fail from here on, as with any socket whose
            // peer reads no more.
            let _ = stream.shutdown(Shutdown::Read);
        }
        self.pass_on_end();
        Verdict::Keep
    }

    fn on_data(&mut self, len: u32, payload: &Buffers<'_>) -> Verdict {
        if self.guest_shut & SHUTDOWN_SEND != 0 || !self.inbound.receive(len) {
            return Verdict::Reset;
        }
        let Some(stream) = self
            .stream
            .as_ref()
            .filter(|_| self.host_shut & SHUTDOWN_RECEIVE == 0)
        else {
            // The host is gone and the guest will hear of it, or has.
            self.inbound.forward_all();
            return Verdict::Keep;
        };
        let sent = if self.backlog.is_empty() && payload.len() > 0 {
            match socket::send(stream, payload.pieces()) {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => {
                    self.host_stops_receiving();
                    return Verdict::Keep;
                }
            }
        } else {
            0
        };
        self.backlog
            .push(payload, sent, self.inbound.alloc() as usize);
        self.book_forwarded(sent);
        Verdict::Keep
    }

    /// Passes on the end of what the guest sends, when everything before it is.
    pub(super) fn pass_on_end(&mut self) {
        if let Some(stream) = &self.stream
            && self.guest_shut & SHUTDOWN_SEND != 0
            && self.backlog.is_empty()
        {
            // An error says that the host is gone, of which an event tells.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    pub(super) fn book_forwarded(&mut self, len: usize) {
        let len = u32::try_from(len).expect("no more waits here than was promised, a u32");
        self.inbound.forward(len);
        if self.inbound.update_due() {
            self.credit_update_due = true;
        }
    }

    pub(super) fn host_stops_receiving(&mut self) {
        self.host_shut |= SHUTDOWN_RECEIVE;
        self.backlog.clear();
        self.inbound.forward_all();
    }
}
