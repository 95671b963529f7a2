//! The driver's side of a virtio device: guest memory with rings, kicks, and
//! interrupts as they come. VIRTIO 1.2 section 2.7.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use device_model::{Activation, ActiveQueue, EventHandle, GuestMemory, Interrupt, Threads};
use virtio_bindings::bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// How long is waited for what must come.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Guest memory in bytes, from address 0 on.
pub(crate) const MEMORY: u64 = 1 << 20;
/// The most descriptors of a queue.
pub(crate) const QUEUE_SIZE: u16 = 16;
/// Where the rings of queue 0 are, with those of the next one after [`RINGS_LEN`].
const RINGS: u64 = 0x1000;
const RINGS_LEN: u64 = 0x400;
/// In the rings of a queue.
const AVAIL: u64 = 0x100;
const USED: u64 = 0x200;
/// Where what is offered lies, behind the rings of the most queues.
const DATA: u64 = 0x40000;
const STRIDE: u64 = 0x1000;

/// Interrupts as they come.
pub struct Interrupts(pub mpsc::Receiver<Told>);

/// What an interrupt says.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// Chains of this queue came back.
    Queue(u16),
    /// Configuration space has changed.
    Config,
    /// The driver has to reset the device.
    NeedsReset,
}

impl Interrupts {
    /// Waits for the next one.
    ///
    /// # Panics
    ///
    /// When there is none within [`PATIENCE`].
    pub fn next(&self) -> Told {
        self.0.recv_timeout(PATIENCE).expect("an interrupt in time")
    }
}

struct Line(Mutex<mpsc::Sender<Told>>);

impl Line {
    fn tell(&self, told: Told) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // An error says that nobody is interested any more.
        let _ = sender.send(told);
    }
}

impl Interrupt for Line {
    fn notify_queue(&self, index: u16) {
        self.tell(Told::Queue(index));
    }

    fn notify_config(&self) {
        self.tell(Told::Config);
    }

    fn needs_reset(&self) {
        self.tell(Told::NeedsReset);
    }
}

/// The driver of a device. Its methods are of one queue, the first until
/// [`Driver::at`] chooses another, and panic where they leave guest memory.
pub struct Driver {
    /// All of the guest's.
    pub memory: GuestMemory,
    queues: Vec<Rings>,
    at: usize,
}

struct Rings {
    /// 0 when the driver does not use the queue.
    size: u16,
    kick: EventFd,
    descriptors: u16,
    avail: u16,
}

impl Default for Driver {
    fn default() -> Self {
        Self::new()
    }
}

impl Driver {
    /// One that uses the first of two queues.
    pub fn new() -> Self {
        Driver::with_queues(&[QUEUE_SIZE, 0])
    }

    /// One with queues of these sizes, of which it does not use those of 0.
    pub fn with_queues(sizes: &[u16]) -> Self {
        let rings = |size: &u16| Rings {
            size: (*size).min(QUEUE_SIZE),
            kick: EventFd::new(EFD_NONBLOCK).expect("an event descriptor"),
            descriptors: 0,
            avail: 0,
        };
        let ranges = [(GuestAddress(0), MEMORY as usize)];
        Driver {
            memory: GuestMemory::from_ranges(&ranges).expect("memory of the guest"),
            queues: sizes.iter().map(rings).collect(),
            at: 0,
        }
    }

    /// Begins anew with empty rings, as a driver does after it has reset the device.
    pub fn reset(&mut self) {
        let rings = vec![0; RINGS_LEN as usize];
        for index in 0..self.queues.len() {
            self.at = index;
            self.write(&rings, self.rings());
            let queue = &mut self.queues[index];
            (queue.descriptors, queue.avail) = (0, 0);
            // An error says that there is no kick to forget.
            let _ = queue.kick.read();
        }
        self.at = 0;
    }

    /// Has what follows be of queue `index`.
    pub fn at(&mut self, index: usize) -> &mut Self {
        self.at = index;
        self
    }

    fn rings(&self) -> u64 {
        RINGS + self.at as u64 * RINGS_LEN
    }

    /// What the device gets.
    pub fn activation(&self, events: &EventHandle) -> (Activation, Interrupts) {
        let active = |(index, rings): (usize, &Rings)| {
            if rings.size == 0 {
                return None;
            }
            let at = RINGS + index as u64 * RINGS_LEN;
            let address = |offset| Some((at + offset) as u32);
            let mut queue = Queue::new(rings.size).expect("a power of two");
            queue.set_desc_table_address(address(0), None);
            queue.set_avail_ring_address(address(AVAIL), None);
            queue.set_used_ring_address(address(USED), None);
            queue.set_ready(true);
            let kick = rings.kick.try_clone().expect("an event descriptor");
            Some(ActiveQueue { queue, kick })
        };
        let (line, told) = mpsc::channel();
        let activation = Activation {
            memory: self.memory.clone(),
            queues: self.queues.iter().enumerate().map(active).collect(),
            interrupt: Arc::new(Line(Mutex::new(line))),
            events: events.clone(),
            threads: Threads::new(|_| Ok(())),
        };
        (activation, Interrupts(told))
    }

    /// Offers a chain: one readable piece with `text` and one writable of as many
    /// bytes, whose address is returned.
    pub fn offer(&mut self, text: &[u8]) -> u64 {
        let at = DATA + u64::from(self.queues[self.at].descriptors) * STRIDE;
        self.write(text, at);
        let len = text.len() as u32;
        let head = self.queues[self.at].descriptors;
        self.describe(at, len, VRING_DESC_F_NEXT as u16);
        self.describe(at + STRIDE, len, VRING_DESC_F_WRITE as u16);
        self.publish(head);
        at + STRIDE
    }

    /// Offers a chain of one writable descriptor.
    pub fn offer_room(&mut self, address: u64, len: u32) {
        let head = self.queues[self.at].descriptors;
        self.describe(address, len, VRING_DESC_F_WRITE as u16);
        self.publish(head);
    }

    /// Offers a chain of one readable descriptor.
    pub fn offer_text(&mut self, address: u64, len: u32) {
        let head = self.queues[self.at].descriptors;
        self.describe(address, len, 0);
        self.publish(head);
    }

    /// Descriptors that were not offered yet.
    pub fn left(&self) -> u16 {
        let rings = &self.queues[self.at];
        rings.size - rings.descriptors
    }

    fn describe(&mut self, address: u64, len: u32, flags: u16) {
        let place = self.rings();
        let rings = &mut self.queues[self.at];
        let this = rings.descriptors % rings.size;
        rings.descriptors = this + 1;
        let descriptor = Descriptor::new(address, len, flags, (this + 1) % rings.size);
        let place = GuestAddress(place + u64::from(this) * 16);
        let written = self.memory.write_obj(descriptor, place);
        written.expect("rings in guest memory");
    }

    /// Makes the chain at `head` available, without a kick.
    pub fn publish(&mut self, head: u16) {
        let rings = &mut self.queues[self.at];
        let (head, slot) = (head % rings.size, rings.avail % rings.size);
        rings.avail = rings.avail.wrapping_add(1);
        let index = rings.avail;
        let slot = self.rings() + AVAIL + 4 + u64::from(slot) * 2;
        let written = self.memory.write_obj(head, GuestAddress(slot));
        written.expect("rings in guest memory");
        self.set_avail(index);
    }

    /// Says that there are chains up to `index`.
    pub fn set_avail(&self, index: u16) {
        let place = GuestAddress(self.rings() + AVAIL + 2);
        let stored = self.memory.store(index, place, Ordering::Release);
        stored.expect("rings in guest memory");
    }

    /// Tells the device that there is something.
    pub fn kick(&self) {
        let kicked = self.queues[self.at].kick.write(1);
        kicked.expect("a counter that is not full");
    }

    /// Number of chains that came back, and the length of the last one.
    pub fn used(&self) -> (u16, u32) {
        let ring = self.rings() + USED;
        let index = self.memory.load(GuestAddress(ring + 2), Ordering::Acquire);
        let index: u16 = index.expect("rings in guest memory");
        let size = self.queues[self.at].size;
        let last = ring + 4 + u64::from(index.wrapping_sub(1) % size) * 8;
        let len = self.memory.read_obj(GuestAddress(last + 4));
        (index, len.expect("rings in guest memory"))
    }

    /// Bytes of guest memory.
    pub fn read(&self, address: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let read = self.memory.read_slice(&mut bytes, GuestAddress(address));
        read.expect("in guest memory");
        bytes
    }

    fn write(&self, bytes: &[u8], address: u64) {
        let written = self.memory.write_slice(bytes, GuestAddress(address));
        written.expect("in guest memory");
    }
}
