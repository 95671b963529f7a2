//! One frame in each datagram, with nothing before it: UDP, and pairs of Unix sockets
//! that keep the bounds of messages.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plugin_sdk::Pieces;
use rustix::net::sockopt;

use crate::link::{ETHERNET, Ended, Link, SOCKET_BUFFER, Stop, end_of};

/// The longest payload of a UDP datagram over IPv4.
pub const MAX_UDP: usize = 65_507;

/// What is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// An address. Whether somebody is there changes, and no error is an end.
    Address,
    /// The other socket of a pair, which ends with it.
    Pair,
}

/// A connected socket.
pub struct Datagram {
    socket: OwnedFd,
    peer: Peer,
    /// The longest frame either way.
    longest: usize,
}

impl Datagram {
    /// Of a connected socket, for frames of at most `longest` bytes.
    pub fn new(socket: OwnedFd, peer: Peer, longest: usize) -> rustix::io::Result<Self> {
        sockopt::set_socket_send_buffer_size(&socket, SOCKET_BUFFER)?;
        sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BUFFER)?;
        Ok(Datagram {
            socket,
            peer,
            longest,
        })
    }

    /// What an error of the socket means.
    fn stop(&self, error: io::Error) -> Stop {
        match error.raw_os_error() {
            Some(libc::EAGAIN) => Stop::WouldBlock,
            Some(libc::EMSGSIZE) => Stop::FrameSize,
            // The kernel is short of memory: so much for this frame.
            Some(libc::ENOBUFS | libc::ENOMEM) => Stop::Lost(error),
            _ if self.peer == Peer::Address => Stop::Lost(error),
            _ => Stop::Ended(Ended::Socket(error)),
        }
    }
}

impl Link for Datagram {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn send(&mut self, frame: Pieces<'_>) -> Result<(), Stop> {
        if !(ETHERNET..=self.longest).contains(&frame.len()) {
            return Err(Stop::FrameSize);
        }
        let sent = frame.send_to(self.socket.as_fd());
        sent.map(drop).map_err(|error| self.stop(error))
    }

    fn receive(&mut self, room: Pieces<'_>) -> Result<usize, Stop> {
        let len = room.receive_from(self.socket.as_fd());
        let len = len.map_err(|error| self.stop(error))?;
        if len == 0 && self.peer == Peer::Pair {
            return Err(Ended::Closed.into());
        }
        if !(ETHERNET..=self.longest.min(room.len())).contains(&len) {
            return Err(Stop::FrameSize);
        }
        Ok(len)
    }

    fn trouble(&mut self) -> Stop {
        let end = end_of(self.socket.as_fd());
        match (self.peer, end) {
            (Peer::Address, Ended::Socket(error)) => Stop::Lost(error),
            // Somebody else has taken the error already.
            (Peer::Address, _) => Stop::WouldBlock,
            (Peer::Pair, end) => Stop::Ended(end),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::unix::net::UnixDatagram;

    use plugin_sdk::testing::Frame;

    use super::*;

    const LONGEST: usize = 1500;

    fn udp() -> (Datagram, UdpSocket) {
        let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
        let theirs = UdpSocket::bind("127.0.0.1:0").unwrap();
        ours.connect(theirs.local_addr().unwrap()).unwrap();
        theirs.connect(ours.local_addr().unwrap()).unwrap();
        let link = Datagram::new(ours.into(), Peer::Address, LONGEST).unwrap();
        (link, theirs)
    }

    #[test]
    fn each_frame_is_one_datagram() {
        let (mut link, theirs) = udp();
        for len in [ETHERNET, 60, LONGEST] {
            let frame = vec![len as u8; len];
            link.send(Frame::cut(&frame, &[1, 13]).pieces()).unwrap();
            let mut got = [0; 2048];
            let count = theirs.recv(&mut got).unwrap();
            assert_eq!(got[..count], frame);
            theirs.send(&frame).unwrap();
            let mut room = Frame::room(LONGEST);
            assert_eq!(link.receive(room.pieces()).unwrap(), len);
            assert_eq!(room.bytes()[..len], frame);
        }
        let none = link.receive(Frame::room(LONGEST).pieces());
        assert!(matches!(none, Err(Stop::WouldBlock)));
    }

    #[test]
    fn what_is_no_frame_is_dropped_and_the_next_one_comes() {
        let (mut link, theirs) = udp();
        for len in [0, 13, LONGEST + 1, 9000] {
            let refused = link.send(Frame::room(len).pieces());
            assert!(matches!(refused, Err(Stop::FrameSize)), "{len}");
            theirs.send(&vec![0; len]).unwrap();
            let dropped = link.receive(Frame::room(LONGEST).pieces());
            assert!(matches!(dropped, Err(Stop::FrameSize)), "{len}");
        }
        theirs.send(&[7; 60]).unwrap();
        assert_eq!(link.receive(Frame::room(LONGEST).pieces()).unwrap(), 60);
    }

    #[test]
    fn a_datagram_that_nobody_takes_is_lost_and_nothing_more() {
        let (mut link, theirs) = udp();
        let address = theirs.local_addr().unwrap();
        drop(theirs);
        let mut frame = Frame::room(60);
        link.send(frame.pieces()).unwrap();
        assert!(matches!(link.send(frame.pieces()), Err(Stop::Lost(_))));
        link.send(frame.pieces()).unwrap();
        assert!(matches!(link.trouble(), Stop::Lost(_)));
        assert!(matches!(link.trouble(), Stop::WouldBlock));
        let theirs = UdpSocket::bind(address).unwrap();
        link.send(frame.pieces()).unwrap();
        assert_eq!(theirs.recv(&mut [0; 100]).unwrap(), 60);
    }

    #[test]
    fn a_pair_ends_with_its_other_socket() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let mut link = Datagram::new(ours.into(), Peer::Pair, LONGEST).unwrap();
        theirs.send(&[7; 60]).unwrap();
        assert_eq!(link.receive(Frame::room(LONGEST).pieces()).unwrap(), 60);
        drop(theirs);
        let ended = link.send(Frame::room(60).pieces());
        assert!(matches!(ended, Err(Stop::Ended(_))));
    }

    #[test]
    fn a_full_pair_takes_the_frame_later() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let mut link = Datagram::new(ours.into(), Peer::Pair, LONGEST).unwrap();
        let mut frame = Frame::room(LONGEST);
        let mut sent = 0;
        let full = loop {
            match link.send(frame.pieces()) {
                Ok(()) => sent += 1,
                Err(stop) => break stop,
            }
            assert!(sent < 100_000, "a socket without end");
        };
        assert!(matches!(full, Stop::WouldBlock), "{full:?}");
        for _ in 0..sent {
            assert_eq!(theirs.recv(&mut [0; 2000]).unwrap(), LONGEST);
        }
        link.send(frame.pieces()).unwrap();
    }
}
