//! The device against a driver of our own, on a real event loop that is run
//! until nothing is left to do. Nothing sleeps; deadlines are made short.

mod bulk;
mod closing;
mod connect;
mod device;
mod driver;
mod flow;
mod hostile;
mod random;
mod unix_clients;

use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use device_model::{Incoming, StreamHost, Subscriber, stream_port};
use event_manager::{EventManager, SubscriberId, SubscriberOps};

use crate::buffers::Side;
use crate::host::{Host, HostSlot, Lease};
use crate::muxer::{Frontend, Muxer, Patience};
use crate::packet::{Header, Op};
use crate::queue::DeviceQueue;
use crate::unix::UnixSide;

use driver::{CID, Driver, Packet};

/// The longest a test waits for an event that must come.
const LIMIT_MS: i32 = 20_000;

/// A device with its driver and its owner.
struct Bench {
    driver: Driver,
    owner: StreamHost,
    manager: EventManager<Subscriber>,
    id: SubscriberId,
    slot: HostSlot,
}

/// What a bench can be asked for.
#[derive(Default)]
struct Setup {
    patience: Patience,
    event_idx: bool,
    unix: Option<UnixSide>,
}

impl Bench {
    /// An active device whose driver has offered 32 receive buffers.
    fn new() -> Self {
        let mut bench = Bench::with(Setup::default());
        bench.driver.offer_many(32);
        bench.run();
        bench
    }

    /// An active device whose driver has offered nothing.
    fn with(setup: Setup) -> Self {
        let (owner, backend) = stream_port().unwrap();
        let slot = Arc::new(Mutex::new(Some(Host::new(Some(backend), setup.unix))));
        let driver = Driver::new();
        let mut manager = EventManager::new().unwrap();
        let muxer = muxer(&driver, &slot, setup.patience, setup.event_idx);
        let id = manager.add_subscriber(Box::new(muxer) as Subscriber);
        let mut bench = Bench {
            driver,
            owner,
            manager,
            id,
            slot,
        };
        bench.run();
        bench
    }

    /// Runs the event loop until nothing is ready.
    fn run(&mut self) {
        while self.manager.run_with_timeout(0).unwrap() > 0 {}
    }

    /// Waits for a deadline of the device, and runs until nothing is ready.
    fn run_deadline(&mut self) {
        assert!(self.manager.run_with_timeout(LIMIT_MS).unwrap() > 0);
        self.run();
    }

    /// The driver resets the device.
    fn deactivate(&mut self) {
        drop(self.manager.remove_subscriber(self.id).unwrap());
    }

    /// A new driver, with four receive buffers, activates the device.
    fn activate(&mut self) {
        self.driver = Driver::new();
        self.driver.offer_many(4);
        let muxer = muxer(&self.driver, &self.slot, Patience::default(), false);
        self.id = self.manager.add_subscriber(Box::new(muxer));
    }

    /// All packets that the device sends until nothing is ready.
    fn packets(&mut self) -> Vec<Packet> {
        self.run();
        std::iter::from_fn(|| self.driver.take()).collect()
    }

    /// The one packet that the device sends.
    fn packet(&mut self) -> Packet {
        let mut packets = self.packets();
        assert_eq!(packets.len(), 1, "{packets:?}");
        packets.remove(0)
    }

    /// Sends a packet of the guest and runs.
    fn send(&mut self, header: Header, payload: &[u8]) {
        self.driver.send_raw(header, payload, &[44, 10_000]);
        self.run();
    }

    /// Listens to `port` in this process.
    fn listen(&mut self, port: u32) -> Incoming {
        let incoming = self.owner.listen(port).unwrap();
        self.run();
        incoming
    }

    /// A connection of the guest from port 7000 to a listener at `port`.
    fn guest_connects(&mut self, port: u32) -> (Peer, UnixStream) {
        let incoming = self.listen(port);
        self.send(Driver::header(Op::Request, 7000, port), &[]);
        let response = self.packet();
        assert_eq!(response.op(), Op::Response);
        let peer = Peer::new(7000, port, &response.header);
        (peer, incoming.try_recv().unwrap())
    }

    /// A connection of the host to the guest's port 1025, with an answer that
    /// says the guest has room for `alloc` bytes.
    fn host_connects_with(&mut self, alloc: u32) -> (Peer, UnixStream) {
        let stream = self.owner.connect(1025).unwrap();
        let request = self.packet();
        assert_eq!(request.op(), Op::Request);
        assert_eq!(request.header.dst_port, 1025);
        let mut peer = Peer::new(1025, request.header.src_port, &request.header);
        peer.alloc = alloc;
        self.send(peer.header(Op::Response), &[]);
        (peer, stream)
    }

    fn host_connects(&mut self) -> (Peer, UnixStream) {
        self.host_connects_with(driver::GUEST_ALLOC)
    }
}

fn muxer(driver: &Driver, slot: &HostSlot, patience: Patience, event_idx: bool) -> Muxer {
    let (rx, tx) = driver.device_side(event_idx);
    let frontend = Frontend {
        guest_cid: CID,
        memory: driver.memory.clone(),
        interrupt: Arc::clone(&driver.interrupts) as _,
        rx: DeviceQueue::new(0, rx, Side::Writable),
        tx: DeviceQueue::new(1, tx, Side::Readable),
    };
    Muxer::new(frontend, Lease::take(slot).unwrap(), patience).unwrap()
}

/// The guest's end of a connection.
#[derive(Clone, Debug)]
struct Peer {
    guest_port: u32,
    host_port: u32,
    /// What it says it can buffer, and has passed on.
    alloc: u32,
    forwarded: u32,
    sent: u32,
    device_alloc: u32,
    device_forwarded: u32,
}

impl Peer {
    fn new(guest_port: u32, host_port: u32, from_device: &Header) -> Self {
        Peer {
            guest_port,
            host_port,
            alloc: driver::GUEST_ALLOC,
            forwarded: 0,
            sent: 0,
            device_alloc: from_device.buf_alloc,
            device_forwarded: from_device.fwd_cnt,
        }
    }

    fn header(&self, op: Op) -> Header {
        Header {
            buf_alloc: self.alloc,
            fwd_cnt: self.forwarded,
            ..Driver::header(op, self.guest_port, self.host_port)
        }
    }

    fn data(&mut self, len: usize) -> Header {
        self.sent = self.sent.wrapping_add(len as u32);
        Header {
            len: len as u32,
            ..self.header(Op::ReadWrite)
        }
    }

    fn shutdown(&self, flags: u32) -> Header {
        Header {
            flags,
            ..self.header(Op::Shutdown)
        }
    }

    /// How much it may send.
    fn credit(&self) -> usize {
        self.device_alloc
            .wrapping_sub(self.sent.wrapping_sub(self.device_forwarded)) as usize
    }

    /// Takes account of a packet from the device and returns its bytes.
    fn take(&mut self, packet: &Packet) -> Vec<u8> {
        assert_eq!(packet.header.src_port, self.host_port);
        assert_eq!(packet.header.dst_port, self.guest_port);
        self.device_alloc = packet.header.buf_alloc;
        self.device_forwarded = packet.header.fwd_cnt;
        packet.payload.clone()
    }
}

/// Short limits, all the same.
fn impatient() -> Setup {
    let short = Duration::from_millis(20);
    Setup {
        patience: Patience {
            line: short,
            answer: short,
            shutdown: short,
        },
        ..Setup::default()
    }
}

/// All bytes in `stream` now, and whether its end was reached.
fn drain(stream: &UnixStream) -> (Vec<u8>, bool) {
    stream.set_nonblocking(true).unwrap();
    let mut stream = stream;
    let mut bytes = Vec::new();
    let outcome = stream.read_to_end(&mut bytes);
    stream.set_nonblocking(false).unwrap();
    match outcome {
        Ok(_) => (bytes, true),
        Err(error) if error.kind() == ErrorKind::WouldBlock => (bytes, false),
        Err(error) => panic!("{error}"),
    }
}

/// The bytes of all packets, which must all be data of `peer`.
fn payload(peer: &mut Peer, packets: &[Packet]) -> Vec<u8> {
    packets
        .iter()
        .flat_map(|packet| {
            assert_eq!(packet.op(), Op::ReadWrite, "{packet:?}");
            peer.take(packet)
        })
        .collect()
}

/// Bytes without a short period.
fn pattern(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    })
    .take(len)
    .collect()
}
