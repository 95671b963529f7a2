//! What the host's stream makes of a connection: bytes for the guest, room for
//! bytes of the guest, its end, and what the time that passes means.

use std::io;

use vm_memory::VolatileSlice;

use super::{Connection, Phase};
use crate::packet::{SHUTDOWN_RECEIVE, SHUTDOWN_SEND};
use crate::socket;

impl Connection {
    /// The stream may have bytes, or its end.
    pub fn on_readable(&mut self) {
        self.readable = true;
    }

    /// Both directions of the stream are closed; bytes may still be queued in it.
    pub fn on_hang_up(&mut self) {
        self.hung_up = true;
        self.readable = true;
        if self.guest_shut & SHUTDOWN_RECEIVE != 0 {
            // What the host may have sent before has no taker.
            self.host_shut |= SHUTDOWN_SEND;
        }
        if self.is_orphan() || self.host_shut & SHUTDOWN_SEND != 0 {
            self.host_stops_receiving();
        }
    }

    /// The stream has room again.
    pub fn on_room(&mut self) {
        let Some(stream) = &self.stream else { return };
        if self.backlog.is_empty() {
            return;
        }
        match self.backlog.flush(stream) {
            Ok(sent) => {
                self.book_forwarded(sent);
                self.pass_on_end();
            }
            Err(_) => self.host_stops_receiving(),
        }
    }

    /// Bytes that may be read from the stream and sent to the guest now. Asks
    /// the guest for credit when only that is missing.
    pub fn sendable(&mut self) -> usize {
        if !self.has_input() {
            return 0;
        }
        let credit = self.outbound.available();
        if credit == 0 && !self.credit_requested {
            self.credit_requested = true;
            self.credit_request_due = true;
        }
        credit as usize
    }

    fn has_input(&self) -> bool {
        self.phase == Phase::Open
            && self.stream.is_some()
            && self.readable
            && self.host_shut & SHUTDOWN_SEND == 0
            && self.guest_shut & SHUTDOWN_RECEIVE == 0
    }

    /// Reads from the stream into `room`, which is not larger than
    /// [`Connection::sendable`] allowed, and not empty. Returns how many bytes
    /// that were: 0 when there are none, now or ever.
    pub fn receive(&mut self, room: &[VolatileSlice<'_>]) -> usize {
        let Some(stream) = &self.stream else {
            return 0;
        };
        match socket::receive(stream, room) {
            Ok(0) => self.on_end(),
            Ok(count) => {
                let len = u32::try_from(count).expect("the room is within credit, a u32");
                self.outbound.send(len);
                return count;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
            // All bytes have been read before an error is reported, which only
            // says that the host closed without having read everything.
            Err(_) => {
                self.hung_up = true;
                self.on_end();
            }
        }
        0
    }

    fn on_end(&mut self) {
        self.readable = false;
        self.host_shut |= SHUTDOWN_SEND;
        if self.hung_up {
            self.host_stops_receiving();
        }
    }

    /// The deadline has passed: true when the connection is to be reset, false
    /// when it has another `deadline` to wait for.
    ///
    /// A guest that still has bytes to read may take its time: it is asked for
    /// its account, and only silence ends the connection.
    pub fn on_deadline(&mut self) -> bool {
        if self.phase != Phase::Open || self.probed || self.outbound.in_flight() == 0 {
            return true;
        }
        self.probed = true;
        self.credit_request_due = true;
        false
    }
}
