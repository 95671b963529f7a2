//! The guest's side: a driver with its rings in a memory of its own, which can do
//! everything that a good driver does and most of what a bad one does.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex};

use device_model::net::NET_HEADER;
use device_model::{ActiveQueue, GuestMemory, Interrupt};
use virtio_bindings::bindings::virtio_ring::{
    VRING_AVAIL_F_NO_INTERRUPT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE,
};
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

pub(crate) const QUEUE_SIZE: u16 = 256;

/// Where two regions of memory meet, so that one buffer can need two pieces.
pub(crate) const SEAM: u64 = 16 << 20;
pub(crate) const MEMORY: u64 = 64 << 20;
const RING_STRIDE: u64 = 0x1_0000;
const DATA: u64 = 4 << 20;

/// Counts what the device tells the driver.
#[derive(Default)]
pub(crate) struct Interrupts {
    queues: Mutex<BTreeMap<u16, usize>>,
    pub(crate) config: AtomicUsize,
    pub(crate) resets: AtomicUsize,
}

impl Interrupts {
    pub(crate) fn of(&self, queue: u16) -> usize {
        *self.queues.lock().unwrap().get(&queue).unwrap_or(&0)
    }

    pub(crate) fn resets(&self) -> usize {
        self.resets.load(Ordering::Relaxed)
    }
}

impl Interrupt for Interrupts {
    fn notify_queue(&self, index: u16) {
        *self.queues.lock().unwrap().entry(index).or_default() += 1;
    }

    fn notify_config(&self) {
        self.config.fetch_add(1, Ordering::Relaxed);
    }

    fn needs_reset(&self) {
        self.resets.fetch_add(1, Ordering::Relaxed);
    }
}

/// A part of a buffer: address and length.
pub(crate) type Part = (u64, u32);

struct Ring {
    base: u64,
    avail: u16,
    used: u16,
    free: Vec<u16>,
    /// Descriptors and memory of the chains under way, by their heads.
    chains: BTreeMap<u16, (Vec<u16>, Vec<Part>)>,
    kick: EventFd,
}

impl Ring {
    fn avail_ring(&self) -> u64 {
        self.base + 0x2000
    }

    fn used_ring(&self) -> u64 {
        self.base + 0x4000
    }
}

/// A frame that the guest got.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) header: [u8; NET_HEADER],
    pub(crate) frame: Vec<u8>,
    pub(crate) buffers: u16,
}

/// The driver. Queues have the device's numbers.
pub(crate) struct Driver {
    pub(crate) memory: GuestMemory,
    pub(crate) interrupts: Arc<Interrupts>,
    pub(crate) event_idx: bool,
    rings: Vec<Ring>,
    next_data: u64,
}

impl Driver {
    pub(crate) fn new(queues: usize) -> Self {
        let memory = GuestMemory::from_ranges(&[
            (GuestAddress(0), SEAM as usize),
            (GuestAddress(SEAM), (MEMORY - SEAM) as usize),
        ])
        .unwrap();
        let ring = |index| Ring {
            base: RING_STRIDE * (index as u64 + 1),
            avail: 0,
            used: 0,
            free: (0..QUEUE_SIZE).rev().collect(),
            chains: BTreeMap::new(),
            kick: EventFd::new(EFD_NONBLOCK).unwrap(),
        };
        Driver {
            memory,
            interrupts: Arc::default(),
            event_idx: true,
            rings: (0..queues).map(ring).collect(),
            next_data: 0,
        }
    }

    /// The device's ends of the queues.
    pub(crate) fn device_side(&self) -> Vec<Option<ActiveQueue>> {
        let side = |ring: &Ring| {
            let mut queue = Queue::new(QUEUE_SIZE).unwrap();
            queue.set_desc_table_address(Some(ring.base as u32), None);
            queue.set_avail_ring_address(Some(ring.avail_ring() as u32), None);
            queue.set_used_ring_address(Some(ring.used_ring() as u32), None);
            queue.set_event_idx(self.event_idx);
            queue.set_ready(true);
            let kick = ring.kick.try_clone().unwrap();
            Some(ActiveQueue { queue, kick })
        };
        self.rings.iter().map(side).collect()
    }

    /// Memory for `len` bytes, used again after a while.
    pub(crate) fn place(&mut self, len: usize) -> u64 {
        const ROOM: u64 = 8 << 20;
        let len = len as u64;
        if self.next_data + len > ROOM {
            self.next_data = 0;
        }
        let place = DATA + self.next_data;
        self.next_data += len;
        place
    }

    /// Makes a chain of `parts` available, the first `readable` of which the device
    /// may read and the others write. Does not kick.
    pub(crate) fn add(&mut self, queue: u16, parts: &[Part], readable: usize) -> u16 {
        let ring = &mut self.rings[usize::from(queue)];
        let ids = ring.free.split_off(ring.free.len() - parts.len());
        for (index, &(address, len)) in parts.iter().enumerate() {
            let mut flags = 0;
            if index + 1 < parts.len() {
                flags |= VRING_DESC_F_NEXT;
            }
            if index >= readable {
                flags |= VRING_DESC_F_WRITE;
            }
            let next = ids.get(index + 1).copied().unwrap_or(0);
            let descriptor = Descriptor::new(address, len, flags as u16, next);
            let place = GuestAddress(ring.base + u64::from(ids[index]) * 16);
            self.memory.write_obj(descriptor, place).unwrap();
        }
        let head = ids[0];
        ring.chains.insert(head, (ids, parts.to_vec()));
        self.make_available(queue, head);
        head
    }

    /// Puts `head` into the available ring, whatever it is.
    pub(crate) fn make_available(&mut self, queue: u16, head: u16) {
        let ring = &mut self.rings[usize::from(queue)];
        let slot = ring.avail_ring() + 4 + u64::from(ring.avail % QUEUE_SIZE) * 2;
        self.memory.write_obj(head, GuestAddress(slot)).unwrap();
        ring.avail = ring.avail.wrapping_add(1);
        let index = GuestAddress(ring.avail_ring() + 2);
        self.memory
            .store(ring.avail, index, Ordering::Release)
            .unwrap();
    }

    /// Writes to a descriptor of the table.
    pub(crate) fn spoil(&self, queue: u16, index: u16, descriptor: Descriptor) {
        let base = self.rings[usize::from(queue)].base;
        let place = GuestAddress(base + u64::from(index) * 16);
        self.memory.write_obj(descriptor, place).unwrap();
    }

    /// Claims that so many chains more are available.
    pub(crate) fn claim(&mut self, queue: u16, chains: u16) {
        let ring = &self.rings[usize::from(queue)];
        let index = GuestAddress(ring.avail_ring() + 2);
        let claimed = ring.avail.wrapping_add(chains);
        self.memory
            .store(claimed, index, Ordering::Release)
            .unwrap();
    }

    /// Kicks for the chain added last, if the device wants to know of it.
    pub(crate) fn kick(&self, queue: u16) -> bool {
        let ring = &self.rings[usize::from(queue)];
        let used = ring.used_ring();
        // What the device wants is read after it could see the chain.
        fence(Ordering::SeqCst);
        let wanted = if self.event_idx {
            let event = GuestAddress(used + 4 + u64::from(QUEUE_SIZE) * 8);
            let event: u16 = self.memory.read_obj(event).unwrap();
            event == ring.avail.wrapping_sub(1)
        } else {
            self.memory.read_obj::<u16>(GuestAddress(used)).unwrap() == 0
        };
        if wanted {
            self.force_kick(queue);
        }
        wanted
    }

    /// Kicks whether or not the device wants it.
    pub(crate) fn force_kick(&self, queue: u16) {
        self.rings[usize::from(queue)].kick.write(1).unwrap();
    }

    /// Asks the device for no interrupts of a queue, where there is no event index.
    pub(crate) fn want_no_interrupts(&self, queue: u16) {
        let flags = GuestAddress(self.rings[usize::from(queue)].avail_ring());
        let none = VRING_AVAIL_F_NO_INTERRUPT as u16;
        self.memory.write_obj(none, flags).unwrap();
    }

    /// Offers a receive buffer in parts of these lengths, and kicks.
    pub(crate) fn offer(&mut self, queue: u16, lens: &[u32]) {
        let total: u32 = lens.iter().sum();
        let mut address = self.place(total as usize);
        let mut parts = Vec::new();
        for &len in lens {
            parts.push((address, len));
            address += u64::from(len);
        }
        self.offer_parts(queue, &parts);
    }

    /// Offers a receive buffer of these parts, and kicks.
    pub(crate) fn offer_parts(&mut self, queue: u16, parts: &[Part]) {
        self.add(queue, parts, 0);
        self.kick(queue);
    }

    /// Offers `count` receive buffers in the size that Linux drivers use.
    pub(crate) fn offer_many(&mut self, queue: u16, count: usize) {
        for _ in 0..count {
            self.offer(queue, &[1536]);
        }
    }

    /// A chain has come back.
    pub(crate) fn has_used(&self, queue: u16) -> bool {
        let ring = &self.rings[usize::from(queue)];
        let index = GuestAddress(ring.used_ring() + 2);
        self.memory.load::<u16>(index, Ordering::Acquire).unwrap() != ring.used
    }

    /// The next chain that came back: its memory and how much of it was written.
    pub(crate) fn take_used(&mut self, queue: u16) -> Option<(Vec<Part>, u32)> {
        if !self.has_used(queue) {
            return None;
        }
        let ring = &mut self.rings[usize::from(queue)];
        let slot = ring.used_ring() + 4 + u64::from(ring.used % QUEUE_SIZE) * 8;
        ring.used = ring.used.wrapping_add(1);
        // The next one is worth an interrupt again.
        let event = ring.avail_ring() + 4 + u64::from(QUEUE_SIZE) * 2;
        self.memory
            .write_obj(ring.used, GuestAddress(event))
            .unwrap();
        let head: u32 = self.memory.read_obj(GuestAddress(slot)).unwrap();
        let len = self.memory.read_obj(GuestAddress(slot + 4)).unwrap();
        let (ids, parts) = ring.chains.remove(&(head as u16)).expect("it was out");
        ring.free.extend(ids);
        Some((parts, len))
    }

    fn take_bytes(&mut self, queue: u16) -> Option<Vec<u8>> {
        let (parts, len) = self.take_used(queue)?;
        let mut bytes = Vec::new();
        for (address, part) in parts {
            bytes.extend(self.read(address, part as usize));
        }
        assert!(len as usize <= bytes.len());
        bytes.truncate(len as usize);
        Some(bytes)
    }

    /// The next frame that the guest got. As Linux does it, the first buffer says
    /// how many there are, and these must be there by then.
    pub(crate) fn take(&mut self, queue: u16) -> Option<Received> {
        let mut bytes = self.take_bytes(queue)?;
        let header = *bytes.first_chunk::<NET_HEADER>().expect("a header");
        let buffers = u16::from_le_bytes([header[10], header[11]]);
        for _ in 1..buffers {
            let next = self.take_bytes(queue);
            bytes.extend(next.expect("all buffers of a frame come together"));
        }
        let frame = bytes.split_off(NET_HEADER);
        Some(Received {
            header,
            frame,
            buffers,
        })
    }

    /// Sends `frame` after `header`, cut at the given offsets, and kicks.
    pub(crate) fn send(&mut self, queue: u16, header: &[u8], frame: &[u8], cuts: &[usize]) {
        let bytes = [header, frame].concat();
        let base = self.place(bytes.len());
        self.write(base, &bytes);
        let mut edges: Vec<usize> = cuts.iter().map(|&cut| cut.min(bytes.len())).collect();
        edges.extend([0, bytes.len()]);
        edges.sort_unstable();
        let part = |pair: &[usize]| (base + pair[0] as u64, (pair[1] - pair[0]) as u32);
        let parts: Vec<Part> = edges.windows(2).map(part).collect();
        self.send_parts(queue, &parts);
    }

    /// Sends a chain of these parts of memory, and kicks.
    pub(crate) fn send_parts(&mut self, queue: u16, parts: &[Part]) {
        self.add(queue, parts, parts.len());
        self.kick(queue);
    }

    /// How many chains came back on a queue since the last call.
    pub(crate) fn returned(&mut self, queue: u16) -> usize {
        std::iter::from_fn(|| self.take_used(queue)).count()
    }

    pub(crate) fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory
            .read_slice(&mut bytes, GuestAddress(address))
            .unwrap();
        bytes
    }

    pub(crate) fn write(&self, address: u64, bytes: &[u8]) {
        self.memory
            .write_slice(bytes, GuestAddress(address))
            .unwrap();
    }
}
