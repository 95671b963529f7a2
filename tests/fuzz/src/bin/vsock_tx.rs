//! The socket device on any packets of the guest, cut in any way, while the
//! host writes, reads and leaves as it likes.
//!
//! Holds: every chain comes back, the device never asks for a reset as long as
//! the rings are sound, it says nothing to the guest that is not a packet of a
//! stream socket, and it becomes quiet.

#![cfg_attr(fuzzing, no_main)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use device_model::{ActiveQueue, GuestMemory, Interrupt, Subscriber, stream_port};
use device_virtio_vsock::Vsock;
use event_manager::{EventManager, SubscriberOps};
use fuzz::Choices;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

fuzz::target!(check);

const QUEUE: u16 = 16;
const RX_RING: u64 = 0;
const TX_RING: u64 = 0x1000;
const RX_DATA: u64 = 0x2000;
const RX_BUFFER: u32 = 0x200;
const TX_DATA: u64 = 0x6000;
const RAM: usize = 0x1_0000;
const HEADER: usize = 44;
/// Bytes of input for one step, on average.
const STEP_BYTES: usize = 5;
/// Rounds of the event loop after which a device is not quiet.
const ROUNDS: usize = 1000;

fn check(data: &[u8]) {
    let mut choices = Choices::new(data);
    let event_idx = choices.byte() & 1 != 0;
    let memory = GuestMemory::from_ranges(&[(GuestAddress(0), RAM)]).expect("little memory");
    let mut rx = Ring::new(&memory, RX_RING, event_idx);
    let mut tx = Ring::new(&memory, TX_RING, event_idx);
    let (owner, backend) = stream_port().expect("an eventfd");
    let device = Vsock::new(3, Some(backend), None).expect("no socket to listen at");
    let queues = vec![Some(rx.active()), Some(tx.active())];
    let subscriber = device
        .subscriber(memory.clone(), queues, Arc::new(NoReset))
        .expect("the first activation");
    let mut manager = EventManager::<Subscriber>::new().expect("an epoll descriptor");
    manager.add_subscriber(subscriber);
    let incoming = owner.listen(1024).expect("there is a device");
    let mut streams = Vec::new();

    for _ in 0..data.len() / STEP_BYTES {
        match choices.byte() % 8 {
            0 => streams.extend(owner.connect(1025).ok()),
            1 => use_stream(&mut streams, &mut choices),
            2 => rx.add(&memory, &[(RX_DATA, RX_BUFFER)], 2),
            _ => tx.add(&memory, &packet(&memory, &mut choices), 0),
        }
        settle(&mut manager);
        streams.extend(incoming.try_iter());
        assert_eq!(tx.available, tx.used(&memory), "a chain did not come back");
        rx.check_packets(&memory);
    }
}

/// Runs the event loop until the device has nothing to do.
fn settle(manager: &mut EventManager<Subscriber>) {
    let quiet = (0..ROUNDS).any(|_| manager.run_with_timeout(0).expect("epoll works") == 0);
    assert!(quiet, "the device does not become quiet");
}

/// The host writes to a stream, reads it, or leaves it.
fn use_stream(streams: &mut Vec<UnixStream>, choices: &mut Choices) {
    let Some(mut stream) = streams.pop() else {
        return;
    };
    let what = choices.byte();
    stream.set_nonblocking(true).expect("an open stream");
    let mut bytes = [0; 4096];
    if what & 1 != 0 {
        let _ = stream.write(&bytes[..usize::from(what) * 16]);
    }
    if what & 2 != 0 {
        let _ = stream.read(&mut bytes);
    }
    if what & 4 != 0 {
        let _ = stream.shutdown(std::net::Shutdown::Write);
    }
    if what & 8 == 0 {
        streams.insert(0, stream);
    }
}

/// Writes a packet to the guest's memory, mostly of or for a connection that
/// there may be, and returns the pieces it is cut into.
fn packet(memory: &GuestMemory, choices: &mut Choices) -> Vec<(u64, u32)> {
    let [op, ports, len, oddity, alloc, forwarded, flags, cut] = [(); 8].map(|()| choices.byte());
    let (guest, host) = match ports % 4 {
        0 => (1025, (1 << 30) + u32::from(ports >> 2) % 4),
        1 => (1, 1024),
        2 => (2, 1024),
        _ => (3, 1023),
    };
    let wide = |byte: u8| u32::from(byte).rotate_right(u32::from(byte & 3) * 8);
    let mut bytes = Vec::new();
    bytes.extend(3_u64.to_le_bytes());
    bytes.extend(2_u64.to_le_bytes());
    bytes.extend(u32::to_le_bytes(guest));
    bytes.extend(u32::to_le_bytes(host));
    bytes.extend(u32::from(len).to_le_bytes());
    bytes.extend(1_u16.to_le_bytes());
    bytes.extend(u16::from(op % 10).to_le_bytes());
    bytes.extend(u32::from(flags % 5).to_le_bytes());
    bytes.extend(wide(alloc).to_le_bytes());
    bytes.extend(wide(forwarded).to_le_bytes());
    // Now and then a field, or the length of the chain, is not what it should be.
    if oddity & 0x80 != 0 {
        bytes[usize::from(oddity) % HEADER] ^= alloc;
    }
    let mut chain = HEADER + usize::from(len);
    if oddity & 0xc0 == 0x40 {
        chain -= usize::from(oddity & 0x3f).min(chain);
    }
    memory
        .write_slice(&bytes, GuestAddress(TX_DATA))
        .expect("it is in memory");
    let first = usize::from(cut).min(chain);
    let second = first + (chain - first) / 2;
    vec![
        (TX_DATA, first as u32),
        (TX_DATA + first as u64, (second - first) as u32),
        (TX_DATA + second as u64, (chain - second) as u32),
    ]
}

/// A ring of the driver, whose chains are used at once and in order.
struct Ring {
    base: u64,
    event_idx: bool,
    kick: EventFd,
    available: u16,
    checked: u16,
}

impl Ring {
    fn new(memory: &GuestMemory, base: u64, event_idx: bool) -> Self {
        let zeros = [0_u8; 0x1000];
        memory
            .write_slice(&zeros, GuestAddress(base))
            .expect("it is in memory");
        Ring {
            base,
            event_idx,
            kick: EventFd::new(EFD_NONBLOCK).expect("an eventfd"),
            available: 0,
            checked: 0,
        }
    }

    fn active(&self) -> ActiveQueue {
        let mut queue = Queue::new(QUEUE).expect("a power of two");
        queue.set_desc_table_address(Some(self.base as u32), None);
        queue.set_avail_ring_address(Some(self.base as u32 + 0x400), None);
        queue.set_used_ring_address(Some(self.base as u32 + 0x800), None);
        queue.set_event_idx(self.event_idx);
        queue.set_ready(true);
        ActiveQueue {
            queue,
            kick: self.kick.try_clone().expect("a descriptor"),
        }
    }

    fn used(&self, memory: &GuestMemory) -> u16 {
        memory
            .load(GuestAddress(self.base + 0x802), Ordering::Acquire)
            .expect("it is in memory")
    }

    /// Makes a chain available, unless too many are under way.
    fn add(&mut self, memory: &GuestMemory, pieces: &[(u64, u32)], flags: u16) {
        if self.available.wrapping_sub(self.used(memory)) >= QUEUE / 4 {
            return;
        }
        let head = self.available % (QUEUE / 4) * 4;
        for (index, &(address, len)) in (head..).zip(pieces) {
            let last = usize::from(index - head) + 1 == pieces.len();
            let descriptor = Descriptor::new(address, len, flags | u16::from(!last), index + 1);
            memory
                .write_obj(descriptor, GuestAddress(self.base + u64::from(index) * 16))
                .expect("it is in memory");
        }
        let slot = self.base + 0x404 + u64::from(self.available % QUEUE) * 2;
        memory
            .write_obj(head, GuestAddress(slot))
            .expect("it is in memory");
        self.available = self.available.wrapping_add(1);
        memory
            .store(
                self.available,
                GuestAddress(self.base + 0x402),
                Ordering::Release,
            )
            .expect("it is in memory");
        self.kick.write(1).expect("the counter is small");
    }

    /// Checks the length of each buffer that came back, and the last packet.
    fn check_packets(&mut self, memory: &GuestMemory) {
        while self.checked != self.used(memory) {
            let slot = self.base + 0x804 + u64::from(self.checked % QUEUE) * 8;
            self.checked = self.checked.wrapping_add(1);
            let len: u32 = memory
                .read_obj(GuestAddress(slot + 4))
                .expect("it is in memory");
            assert!((HEADER as u32..=RX_BUFFER).contains(&len), "{len}");
        }
    }
}

struct NoReset;

impl Interrupt for NoReset {
    fn notify_queue(&self, _index: u16) {}

    fn notify_config(&self) {}

    fn needs_reset(&self) {
        panic!("the rings were sound");
    }
}
