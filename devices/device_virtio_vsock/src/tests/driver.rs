//! The guest's side: a driver with two rings in a memory of its own, which can
//! do everything that a good driver does and most of what a bad one does.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use device_model::{ActiveQueue, GuestMemory, Interrupt};
use virtio_bindings::bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::packet::{HEADER_LEN, HOST_CID, Header, Op, TYPE_STREAM};

pub const CID: u64 = 3;
pub const QUEUE_SIZE: u16 = 64;
/// What a good driver says it can buffer.
pub const GUEST_ALLOC: u32 = 256 * 1024;

const MEMORY: usize = 32 << 20;
const RX_RING: u64 = 0x1000;
const TX_RING: u64 = 0x8000;
const RX_DATA: u64 = 4 << 20;
const TX_DATA: u64 = 16 << 20;
/// Room for each receive buffer.
const RX_STRIDE: u64 = 128 << 10;

/// Counts what the device tells the driver.
#[derive(Default)]
pub struct Interrupts {
    pub rx: AtomicUsize,
    pub tx: AtomicUsize,
    pub needs_reset: AtomicUsize,
}

impl Interrupt for Interrupts {
    fn notify_queue(&self, index: u16) {
        let counter = if index == 0 { &self.rx } else { &self.tx };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn notify_config(&self) {}

    fn needs_reset(&self) {
        self.needs_reset.fetch_add(1, Ordering::Relaxed);
    }
}

struct Ring {
    base: u64,
    next_descriptor: u16,
    avail: u16,
    used: u16,
    /// Descriptors of the chain by its head, and how many are in no chain.
    lens: Vec<usize>,
    free: usize,
    kick: EventFd,
    /// `VIRTIO_F_EVENT_IDX` is negotiated.
    event_idx: Cell<bool>,
}

impl Ring {
    fn new(base: u64) -> Self {
        Ring {
            base,
            next_descriptor: 0,
            avail: 0,
            used: 0,
            lens: vec![0; usize::from(QUEUE_SIZE)],
            free: usize::from(QUEUE_SIZE),
            kick: EventFd::new(EFD_NONBLOCK).unwrap(),
            event_idx: Cell::new(false),
        }
    }

    fn avail_ring(&self) -> u64 {
        self.base + 0x1000
    }

    fn used_ring(&self) -> u64 {
        self.base + 0x2000
    }

    fn device_side(&self, event_idx: bool) -> ActiveQueue {
        self.event_idx.set(event_idx);
        let mut queue = Queue::new(QUEUE_SIZE).unwrap();
        queue.set_desc_table_address(Some(self.base as u32), None);
        queue.set_avail_ring_address(Some(self.avail_ring() as u32), None);
        queue.set_used_ring_address(Some(self.used_ring() as u32), None);
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        ActiveQueue {
            queue,
            kick: self.kick.try_clone().unwrap(),
        }
    }

    /// Kicks for the chain just added, if the device wants to know of it.
    fn kick(&self, memory: &GuestMemory) {
        let wanted = if self.event_idx.get() {
            let event = self.used_ring() + 4 + u64::from(QUEUE_SIZE) * 8;
            let event: u16 = memory.read_obj(GuestAddress(event)).unwrap();
            event == self.avail.wrapping_sub(1)
        } else {
            let flags: u16 = memory.read_obj(GuestAddress(self.used_ring())).unwrap();
            flags == 0
        };
        if wanted {
            self.kick.write(1).unwrap();
        }
    }

    /// Makes one chain of `pieces` (address, length) available.
    fn add(&mut self, memory: &GuestMemory, pieces: &[(u64, u32)], flags: u32) -> u16 {
        assert!(self.free >= pieces.len(), "the test overruns the ring");
        self.free -= pieces.len();
        let head = self.next_descriptor;
        self.lens[usize::from(head)] = pieces.len();
        for (index, &(address, len)) in pieces.iter().enumerate() {
            let this = self.next_descriptor;
            self.next_descriptor = (this + 1) % QUEUE_SIZE;
            let next = if index + 1 < pieces.len() {
                VRING_DESC_F_NEXT
            } else {
                0
            };
            let descriptor =
                Descriptor::new(address, len, (flags | next) as u16, self.next_descriptor);
            memory
                .write_obj(descriptor, GuestAddress(self.base + u64::from(this) * 16))
                .unwrap();
        }
        let slot = self.avail_ring() + 4 + u64::from(self.avail % QUEUE_SIZE) * 2;
        memory.write_obj(head, GuestAddress(slot)).unwrap();
        self.avail = self.avail.wrapping_add(1);
        self.set_avail(memory, self.avail);
        head
    }

    fn set_avail(&self, memory: &GuestMemory, index: u16) {
        let address = GuestAddress(self.avail_ring() + 2);
        memory.store(index, address, Ordering::Release).unwrap();
    }

    /// The next chain that came back: its head and length.
    fn take_used(&mut self, memory: &GuestMemory) -> Option<(u32, u32)> {
        let address = GuestAddress(self.used_ring() + 2);
        let index: u16 = memory.load(address, Ordering::Acquire).unwrap();
        if index == self.used {
            return None;
        }
        let slot = self.used_ring() + 4 + u64::from(self.used % QUEUE_SIZE) * 8;
        self.used = self.used.wrapping_add(1);
        // Ask for an interrupt for the next one (VIRTIO_F_EVENT_IDX).
        let event = self.avail_ring() + 4 + u64::from(QUEUE_SIZE) * 2;
        memory.write_obj(self.used, GuestAddress(event)).unwrap();
        let head: u32 = memory.read_obj(GuestAddress(slot)).unwrap();
        self.free += self.lens[head as usize];
        let len = memory.read_obj(GuestAddress(slot + 4)).unwrap();
        Some((head, len))
    }
}

/// A packet that the device sent.
#[derive(Clone, Debug)]
pub struct Packet {
    pub header: Header,
    pub payload: Vec<u8>,
}

impl Packet {
    pub fn op(&self) -> Op {
        Op::from_wire(self.header.op).unwrap()
    }
}

/// The driver.
pub struct Driver {
    pub memory: GuestMemory,
    pub interrupts: Arc<Interrupts>,
    rx: Ring,
    tx: Ring,
    /// Pieces of the receive chain by its head.
    offered: Vec<Vec<(u64, u32)>>,
    next_rx_data: u64,
    next_tx_data: u64,
    /// Chains that came back and [`Driver::sent`] has not told of.
    sent: usize,
}

impl Driver {
    pub fn new() -> Self {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY)]).unwrap();
        Driver {
            memory,
            interrupts: Arc::default(),
            rx: Ring::new(RX_RING),
            tx: Ring::new(TX_RING),
            offered: vec![Vec::new(); usize::from(QUEUE_SIZE)],
            next_rx_data: 0,
            next_tx_data: 0,
            sent: 0,
        }
    }

    /// The device's ends of receive and transmit queue.
    pub fn device_side(&self, event_idx: bool) -> (ActiveQueue, ActiveQueue) {
        (
            self.rx.device_side(event_idx),
            self.tx.device_side(event_idx),
        )
    }

    /// Offers one receive buffer, cut into pieces of these lengths, and kicks.
    pub fn offer(&mut self, lens: &[u32]) {
        let mut address = RX_DATA + (self.next_rx_data % 64) * RX_STRIDE;
        self.next_rx_data += 1;
        let mut pieces = Vec::new();
        for &len in lens {
            pieces.push((address, len));
            address += u64::from(len);
        }
        let head = self.rx.add(&self.memory, &pieces, VRING_DESC_F_WRITE);
        self.offered[usize::from(head)] = pieces;
        self.rx.kick(&self.memory);
    }

    /// Offers `count` receive buffers in the size that Linux drivers use.
    pub fn offer_many(&mut self, count: usize) {
        for _ in 0..count {
            self.offer(&[3776]);
        }
    }

    /// The next packet from the device.
    pub fn take(&mut self) -> Option<Packet> {
        let (head, len) = self.rx.take_used(&self.memory)?;
        let mut bytes = Vec::new();
        for &(address, piece) in &self.offered[head as usize] {
            let mut part = vec![0; piece as usize];
            self.memory
                .read_slice(&mut part, GuestAddress(address))
                .unwrap();
            bytes.extend(part);
        }
        bytes.truncate(len as usize);
        let header = Header::parse(bytes.first_chunk::<HEADER_LEN>().unwrap());
        let payload = bytes.split_off(HEADER_LEN);
        assert_eq!(header.len as usize, payload.len());
        assert_eq!((header.src_cid, header.dst_cid), (HOST_CID, CID));
        Some(Packet { header, payload })
    }

    /// Sends `header` and `payload` as they are, cut at the given offsets.
    pub fn send_raw(&mut self, header: Header, payload: &[u8], cuts: &[usize]) {
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend(payload);
        self.send_bytes(&bytes, cuts);
    }

    /// Sends a chain of these bytes.
    pub fn send_bytes(&mut self, bytes: &[u8], cuts: &[usize]) {
        let base = TX_DATA + (self.next_tx_data % 64) * RX_STRIDE;
        self.next_tx_data += 1;
        self.memory.write_slice(bytes, GuestAddress(base)).unwrap();
        let mut edges: Vec<usize> = cuts.iter().map(|&cut| cut.min(bytes.len())).collect();
        edges.extend([0, bytes.len()]);
        edges.sort_unstable();
        let pieces: Vec<(u64, u32)> = edges
            .windows(2)
            .map(|pair| (base + pair[0] as u64, (pair[1] - pair[0]) as u32))
            .collect();
        self.send_pieces(&pieces);
    }

    /// Sends a chain of these pieces of memory.
    pub fn send_pieces(&mut self, pieces: &[(u64, u32)]) {
        self.reclaim();
        self.tx.add(&self.memory, pieces, 0);
        self.tx.kick(&self.memory);
    }

    /// Chains that the device gave back on the transmit queue since the last call.
    pub fn sent(&mut self) -> usize {
        self.reclaim();
        std::mem::take(&mut self.sent)
    }

    fn reclaim(&mut self) {
        while self.tx.take_used(&self.memory).is_some() {
            self.sent += 1;
        }
    }

    /// There is room in the receive ring for a buffer of so many pieces.
    pub fn can_offer(&self, pieces: usize) -> bool {
        self.rx.free >= pieces
    }

    /// Claims more available chains than the transmit queue has.
    pub fn break_tx(&mut self) {
        let index = self.tx.avail.wrapping_add(QUEUE_SIZE + 1);
        self.tx.set_avail(&self.memory, index);
        self.tx.kick.write(1).unwrap();
    }

    /// A stream packet's header from guest port `guest` to host port `host`.
    pub fn header(op: Op, guest: u32, host: u32) -> Header {
        Header {
            src_cid: CID,
            dst_cid: HOST_CID,
            src_port: guest,
            dst_port: host,
            len: 0,
            kind: TYPE_STREAM,
            op: op as u16,
            flags: 0,
            buf_alloc: GUEST_ALLOC,
            fwd_cnt: 0,
        }
    }
}
