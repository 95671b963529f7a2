//! What Golem's exe-unit is to a VM's network card: an address that sends and takes
//! Ethernet frames as datagrams, with an IP stack of its own that looks at checksums.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::{tcp, udp};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, IpCidr};

/// Longest frame that fits into a datagram.
const MAX_FRAME: usize = 65_507;
/// Bytes that a connection may have on their way to and from a program.
const BUFFER: usize = 256 << 10;
/// Connections at a time.
const CONNECTIONS: usize = 4;
/// The port at which everything is given back.
pub const ECHO: u16 = 7;
/// Sent to oneself, it ends the thread: too short to be a frame.
const END: &[u8] = b"end";

/// A peer at an address of the loopback, and its thread.
pub struct Peer {
    address: SocketAddr,
    thread: Option<JoinHandle<Seen>>,
}

/// Where a peer will be, for a VM that does not say yet where it is.
pub struct PeerSocket(UdpSocket);

/// What a peer saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Frames both ways, the lost ones among them.
    pub frames: usize,
    /// Those that it lost on purpose.
    pub lost: usize,
}

impl PeerSocket {
    /// At a free port of the loopback.
    pub fn bind() -> Self {
        PeerSocket(UdpSocket::bind("127.0.0.1:0").unwrap())
    }

    /// Where it takes frames, as the VM is told.
    pub fn endpoint(&self) -> String {
        format!("udp://{}", self.0.local_addr().unwrap())
    }

    /// A peer that is `ip` of a network with 24 bits. It takes the VM to be at `vm`,
    /// loses one of `loses_one_of` frames both ways, and gives back what comes to
    /// port [`ECHO`].
    pub fn start(
        self,
        ip: Ipv4Addr,
        mtu: usize,
        vm: SocketAddr,
        loses_one_of: Option<usize>,
    ) -> Peer {
        let address = self.0.local_addr().unwrap();
        let wire = Wire {
            socket: self.0,
            vm,
            mtu,
            arrived: VecDeque::new(),
            loses_one_of,
            seen: Seen::default(),
        };
        let thread = Some(thread::spawn(move || live(wire, ip)));
        Peer { address, thread }
    }
}

impl Peer {
    /// One at a free port: see [`PeerSocket::start`].
    pub fn start(ip: Ipv4Addr, mtu: usize, vm: SocketAddr, loses_one_of: Option<usize>) -> Self {
        PeerSocket::bind().start(ip, mtu, vm, loses_one_of)
    }

    /// Where it takes frames, as the VM is told.
    pub fn endpoint(&self) -> String {
        format!("udp://{}", self.address)
    }

    /// Ends it.
    pub fn end(mut self) -> Seen {
        self.finish()
    }

    fn finish(&mut self) -> Seen {
        let Some(thread) = self.thread.take() else {
            return Seen::default();
        };
        let sent = UdpSocket::bind("127.0.0.1:0").and_then(|own| own.send_to(END, self.address));
        sent.expect("the loopback works");
        thread.join().expect("the peer does not panic")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A free port of the loopback, for somebody who will bind it soon.
pub fn free_port() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap()
}

struct Wire {
    socket: UdpSocket,
    vm: SocketAddr,
    mtu: usize,
    arrived: VecDeque<Vec<u8>>,
    loses_one_of: Option<usize>,
    seen: Seen,
}

impl Wire {
    /// Whether this frame is lost; each call is for one.
    fn loses(&mut self) -> bool {
        self.seen.frames += 1;
        let frames = self.seen.frames;
        let lost = self
            .loses_one_of
            .is_some_and(|one| frames.is_multiple_of(one));
        self.seen.lost += usize::from(lost);
        lost
    }

    /// Waits for a frame, but no longer than `limit`, and takes those that came
    /// with it. `false` when this is the end.
    fn wait(&mut self, limit: Option<Duration>) -> bool {
        let mut buffer = vec![0; MAX_FRAME];
        self.socket.set_read_timeout(limit).unwrap();
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(len) if &buffer[..len] == END => return false,
                Ok(len) => {
                    if !self.loses() {
                        self.arrived.push_back(buffer[..len].to_vec());
                    }
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => break,
                // A VM that is gone.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(error) => panic!("receive a frame: {error}"),
            }
            self.socket.set_nonblocking(true).unwrap();
        }
        self.socket.set_nonblocking(false).unwrap();
        true
    }
}

struct Arrived(Vec<u8>);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

struct Leaving<'a>(&'a mut Wire);

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut frame = vec![0; len];
        let result = write(&mut frame);
        if !self.0.loses() {
            // A VM that is not there yet, or not any more, loses it too.
            let _ = self.0.socket.send_to(&frame, self.0.vm);
        }
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Arrived, Leaving<'_>)> {
        let frame = self.arrived.pop_front()?;
        Some((Arrived(frame), Leaving(self)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Leaving<'_>> {
        Some(Leaving(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut can = DeviceCapabilities::default();
        can.medium = Medium::Ethernet;
        // With the Ethernet header. All checksums are made and looked at.
        can.max_transmission_unit = self.mtu + 14;
        can
    }
}

/// The peer's life.
fn live(mut wire: Wire, ip: Ipv4Addr) -> Seen {
    let [a, b, c, d] = ip.octets();
    let address = EthernetAddress([0xa0, 0x13, a, b, c, d]);
    let mut interface = Interface::new(Config::new(address.into()), &mut wire, Instant::now());
    interface.update_ip_addrs(|addresses| {
        let own = IpCidr::new(ip.into(), 24);
        addresses.push(own).expect("there is room for one");
    });
    let mut sockets = SocketSet::new(Vec::new());
    let connections: Vec<SocketHandle> = (0..CONNECTIONS)
        .map(|_| {
            let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
            sockets.add(tcp::Socket::new(buffer(), buffer()))
        })
        .collect();
    let packets = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 64], vec![0; BUFFER]);
    let datagrams = sockets.add(udp::Socket::new(packets(), packets()));
    let bound = sockets.get_mut::<udp::Socket>(datagrams).bind(ECHO);
    bound.expect("the port is free");
    loop {
        let now = Instant::now();
        interface.poll(now, &mut wire, &mut sockets);
        for connection in &connections {
            give_back(sockets.get_mut(*connection));
        }
        let socket = sockets.get_mut::<udp::Socket>(datagrams);
        while socket.can_recv() && socket.can_send() {
            let (bytes, from) = socket.recv().map(|(b, m)| (b.to_vec(), m)).expect("can");
            socket.send_slice(&bytes, from.endpoint).expect("can");
        }
        interface.poll(now, &mut wire, &mut sockets);
        let delay = interface.poll_delay(Instant::now(), &sockets);
        // Zero would be no limit.
        let limit = delay.map(|delay| Duration::from(delay).max(Duration::from_micros(1)));
        if !wire.wait(limit) {
            return wire.seen;
        }
    }
}

fn give_back(socket: &mut tcp::Socket<'_>) {
    if !socket.is_open() {
        socket.listen(ECHO).expect("it is closed");
    }
    while socket.can_recv() && socket.can_send() {
        let room = socket.send_capacity() - socket.send_queue();
        let bytes = socket.recv(|bytes| {
            let len = bytes.len().min(room);
            (len, bytes[..len].to_vec())
        });
        socket.send_slice(&bytes.expect("can")).expect("can");
    }
    if !socket.may_recv() && socket.may_send() {
        socket.close();
    }
}
