//! The device from the driver's side: a driver that writes its own rings and
//! requests, and a file system that writes down what it is asked.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use device_model::{GuestMemory, Interrupt, Threads};
use virtio_bindings::bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use zerocopy::{FromBytes, IntoBytes};

use crate::queue::GATHERED_MS;
use crate::wire::{InHeader, InitIn, InitMore, Opcode, OutHeader};
use crate::{Cache, Errno, QueueServer, Server, ServerOptions};
use mock::Mock;

mod device;
mod listings;
mod locks;
mod mock;
mod operations;
mod refusals;
mod session;
mod transfers;

/// A test that waits longer than this has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Two regions side by side, so that one descriptor can need two slices.
pub(crate) const SEAM: u64 = 0x20_0000;
pub(crate) const RAM: u64 = 0x60_0000;

/// Where a request is put.
pub(crate) const REQUEST: u64 = 0x6_0000;
/// Where its reply goes: its header lies in both regions.
pub(crate) const REPLY: u64 = SEAM - 5;

pub(crate) const QUEUE: u16 = 64;

/// The guest's number of each request.
pub(crate) const UNIQUE: u64 = 0x1122_3344_5566_7788;

pub(crate) fn memory() -> GuestMemory {
    GuestMemory::from_ranges(&[
        (GuestAddress(0), SEAM as usize),
        (GuestAddress(SEAM), (RAM - SEAM) as usize),
    ])
    .unwrap()
}

pub(crate) fn event() -> EventFd {
    EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).unwrap()
}

/// Notifications as a driver sees them.
pub(crate) struct Line {
    pub(crate) queue: EventFd,
    pub(crate) needs_reset: EventFd,
}

impl Line {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Line {
            queue: event(),
            needs_reset: event(),
        })
    }
}

impl Interrupt for Line {
    fn notify_queue(&self, _: u16) {
        self.queue.write(1).unwrap();
    }

    fn notify_config(&self) {
        panic!("the configuration never changes");
    }

    fn needs_reset(&self) {
        self.needs_reset.write(1).unwrap();
    }
}

/// Waits until `event` is written, and takes that. Panics when it takes too long.
pub(crate) fn await_event(event: &EventFd) {
    let epoll = Epoll::new().unwrap();
    let interest = EpollEvent::new(EventSet::IN, 0);
    epoll
        .ctl(ControlOperation::Add, event.as_raw_fd(), interest)
        .unwrap();
    let ready = epoll
        .wait(LIMIT.as_millis() as i32, &mut [EpollEvent::default()])
        .unwrap();
    assert_eq!(ready, 1, "no event within {LIMIT:?}");
    event.read().unwrap();
}

/// A descriptor's worth of guest memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffer {
    pub(crate) at: u64,
    pub(crate) len: u32,
    pub(crate) flags: u16,
}

/// For the device to read.
pub(crate) fn sent(at: u64, len: usize) -> Buffer {
    let len = len as u32;
    Buffer { at, len, flags: 0 }
}

/// For the device to write.
pub(crate) fn wanted(at: u64, len: usize) -> Buffer {
    let flags = VRING_DESC_F_WRITE as u16;
    Buffer {
        flags,
        ..sent(at, len)
    }
}

/// The driver's half of one queue. Queue `n` has its rings at `n * 0x4000`
/// from 0x1000, below everything else.
pub(crate) struct Driver {
    pub(crate) memory: GuestMemory,
    base: u64,
    next_descriptor: u16,
    next_avail: u16,
    next_used: u16,
}

impl Driver {
    pub(crate) fn new(memory: &GuestMemory, index: u64) -> Self {
        let base = 0x1000 + index * 0x4000;
        memory
            .write_slice(&[0; 0x4000], GuestAddress(base))
            .unwrap();
        Driver {
            memory: memory.clone(),
            base,
            next_descriptor: 0,
            next_avail: 0,
            next_used: 0,
        }
    }

    /// The device's half.
    pub(crate) fn queue(&self) -> Queue {
        self.queue_with(false)
    }

    fn queue_with(&self, event_idx: bool) -> Queue {
        let mut queue = Queue::new(QUEUE).unwrap();
        queue.set_event_idx(event_idx);
        queue.set_desc_table_address(Some(self.base as u32), Some(0));
        queue.set_avail_ring_address(Some(self.base as u32 + 0x1000), Some(0));
        queue.set_used_ring_address(Some(self.base as u32 + 0x2000), Some(0));
        queue.set_ready(true);
        assert!(queue.is_valid(&self.memory));
        queue
    }

    pub(crate) fn put(&self, bytes: &[u8], at: u64) {
        self.memory.write_slice(bytes, GuestAddress(at)).unwrap();
    }

    pub(crate) fn get(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory
            .read_slice(&mut bytes, GuestAddress(at))
            .unwrap();
        bytes
    }

    /// Writes a descriptor of the table as it is.
    pub(crate) fn describe(&self, index: u16, buffer: Buffer, flags: u16, next: u16) {
        let descriptor = Descriptor::new(buffer.at, buffer.len, buffer.flags | flags, next);
        let at = GuestAddress(self.base + 16 * u64::from(index));
        self.memory
            .write_obj(RawDescriptor::from(descriptor), at)
            .unwrap();
    }

    /// Makes `head` available.
    pub(crate) fn offer(&mut self, head: u16) {
        let slot = u64::from(self.next_avail % QUEUE);
        let ring = self.base + 0x1000;
        self.put(&head.to_le_bytes(), ring + 4 + 2 * slot);
        self.next_avail = self.next_avail.wrapping_add(1);
        self.memory
            .store(self.next_avail, GuestAddress(ring + 2), Ordering::Release)
            .unwrap();
    }

    /// Makes a chain of `buffers` available and gives its head.
    pub(crate) fn send(&mut self, buffers: &[Buffer]) -> u16 {
        let head = self.next_descriptor % QUEUE;
        for (at, buffer) in buffers.iter().enumerate() {
            let this = self.next_descriptor % QUEUE;
            self.next_descriptor += 1;
            let next = self.next_descriptor % QUEUE;
            let flags = if at + 1 < buffers.len() {
                VRING_DESC_F_NEXT as u16
            } else {
                0
            };
            self.describe(this, *buffer, flags, next);
        }
        self.offer(head);
        head
    }

    /// Asks to be notified when this many chains and one more have been used.
    fn notify_after(&self, used: u16) {
        let used_event = self.base + 0x1000 + 4 + 2 * u64::from(QUEUE);
        self.put(&used.to_le_bytes(), used_event);
    }

    /// How many chains have been made available when the device wants a kick.
    fn kick_after(&self) -> u16 {
        let avail_event = self.base + 0x2000 + 4 + 8 * u64::from(QUEUE);
        let event: u16 = self.memory.read_obj(GuestAddress(avail_event)).unwrap();
        event.wrapping_add(1)
    }

    /// The next used chain: its head and length.
    pub(crate) fn used(&mut self) -> Option<(u32, u32)> {
        let ring = self.base + 0x2000;
        let index: u16 = self
            .memory
            .load(GuestAddress(ring + 2), Ordering::Acquire)
            .unwrap();
        if index == self.next_used {
            return None;
        }
        let slot = u64::from(self.next_used % QUEUE);
        let at = ring + 4 + 8 * slot;
        self.next_used = self.next_used.wrapping_add(1);
        let get = |at| self.memory.read_obj::<u32>(GuestAddress(at)).unwrap();
        Some((get(at), get(at + 4)))
    }
}

/// A request of node 5 by user 1000, group 1001.
pub(crate) fn request(opcode: u32, unique: u64, arguments: &[u8]) -> Vec<u8> {
    let header = InHeader {
        len: (size_of::<InHeader>() + arguments.len()) as u32,
        opcode,
        unique,
        nodeid: 5,
        uid: 1000,
        gid: 1001,
        pid: 1002,
        total_extlen: 0,
        padding: 0,
    };
    [header.as_bytes(), arguments].concat()
}

/// INIT of a guest that can do everything.
pub(crate) fn init() -> Vec<u8> {
    init_with(7, 41, u64::MAX)
}

pub(crate) fn init_with(major: u32, minor: u32, flags: u64) -> Vec<u8> {
    let first = InitIn {
        major,
        minor,
        max_readahead: 0x2_0000,
        flags: flags as u32,
    };
    let more = InitMore {
        flags2: (flags >> 32) as u32,
        unused: [0; 11],
    };
    [first.as_bytes(), more.as_bytes()].concat()
}

/// What came back for a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The driver got its buffers back, and nothing in them.
    Nothing,
    Error(Errno),
    Body(Vec<u8>),
}

impl Reply {
    pub(crate) fn body<T: FromBytes>(self) -> T {
        match self {
            Reply::Body(body) => T::read_from_bytes(&body).expect("the length is right"),
            other => panic!("{other:?}"),
        }
    }
}

/// What a reply at `at` says, of which `used` bytes were written.
pub(crate) fn reply(driver: &Driver, at: u64, used: u32, unique: u64) -> Reply {
    if used == 0 {
        return Reply::Nothing;
    }
    let header = OutHeader::read_from_bytes(&driver.get(at, 16)).unwrap();
    assert_eq!(header.len, used, "the length in the reply is the ring's");
    assert_eq!(header.unique, unique);
    if header.error == 0 {
        Reply::Body(driver.get(at + 16, used as usize - 16))
    } else {
        assert_eq!(used, 16, "an error has no body");
        Reply::Error(Errno::from_raw_os_error(-header.error))
    }
}

pub(crate) fn options(cache: Cache, read_only: bool) -> ServerOptions {
    ServerOptions {
        tag: "test".into(),
        cache,
        read_only,
    }
}

/// A queue served on the test's own thread.
pub(crate) struct Bench {
    pub(crate) mock: Arc<Mock>,
    pub(crate) line: Arc<Line>,
    pub(crate) driver: Driver,
    pub(crate) queue: QueueServer,
    pub(crate) wake: Arc<EventFd>,
}

impl Bench {
    /// Before the handshake.
    pub(crate) fn new(cache: Cache, read_only: bool) -> Self {
        Bench::with(1, cache, read_only, false)
    }

    /// Queue number `index` of a device.
    fn with(index: u16, cache: Cache, read_only: bool, event_idx: bool) -> Self {
        let memory = memory();
        let driver = Driver::new(&memory, 0);
        let line = Line::new();
        let wake = Arc::new(event());
        let mock = Arc::new(Mock::new());
        let threads = Threads::new(|_| Ok(()));
        let server = Server::new(Arc::clone(&mock) as _, options(cache, read_only), threads);
        let queue = QueueServer::new(
            index,
            driver.queue_with(event_idx),
            memory,
            Arc::clone(&line) as _,
            Arc::new(server),
            Arc::clone(&wake),
        );
        Bench {
            mock,
            line,
            driver,
            queue,
            wake,
        }
    }

    /// After a handshake of everything.
    pub(crate) fn ready(cache: Cache, read_only: bool) -> Self {
        let mut bench = Bench::new(cache, read_only);
        let reply = bench.ask(Opcode::Init, &init());
        assert!(matches!(reply, Reply::Body(_)), "{reply:?}");
        bench
    }

    pub(crate) fn coherent() -> Self {
        Bench::ready(Cache::Coherent, false)
    }

    pub(crate) fn serve(&mut self) {
        self.queue.serve(&AtomicBool::new(false)).unwrap();
    }

    /// One request from its bytes to its reply, with room for `room` bytes.
    pub(crate) fn raw(&mut self, request: &[u8], room: usize) -> Reply {
        self.driver.put(request, REQUEST);
        self.driver.put(&vec![0xee; room + 8], REPLY);
        let mut buffers = vec![sent(REQUEST, request.len())];
        if room > 0 {
            buffers.push(wanted(REPLY, room));
        }
        let head = self.driver.send(&buffers);
        self.serve();
        let (id, len) = self.driver.used().expect("the chain comes back");
        assert_eq!(id, u32::from(head));
        assert_eq!(self.driver.used(), None);
        self.line.queue.read().expect("the driver is notified");
        let beyond = self.driver.get(REPLY + room as u64, 8);
        assert_eq!(beyond, [0xee; 8], "nothing is written behind the room");
        reply(&self.driver, REPLY, len, UNIQUE)
    }

    pub(crate) fn ask(&mut self, opcode: Opcode, arguments: &[u8]) -> Reply {
        self.raw(&request(opcode as u32, UNIQUE, arguments), 4096)
    }
}

#[test]
fn driver_is_notified_when_it_asked_to_be() {
    let mut bench = Bench::with(1, Cache::Coherent, false, true);
    let statfs = request(Opcode::Statfs as u32, UNIQUE, &[]);
    bench.driver.put(&statfs, REQUEST);
    bench.driver.notify_after(1);
    for notified in [false, true, false] {
        let buffers = [sent(REQUEST, statfs.len()), wanted(REPLY, 4096)];
        bench.driver.send(&buffers);
        bench.serve();
        assert!(bench.driver.used().is_some());
        assert_eq!(bench.line.queue.read().is_ok(), notified);
    }
}

#[test]
fn chains_of_high_priority_are_gathered_while_they_come() {
    let mut bench = Bench::with(0, Cache::Coherent, false, true);
    let stop = AtomicBool::new(false);
    let forget = request(Opcode::Forget as u32, UNIQUE, &1u64.to_le_bytes());
    bench.driver.put(&forget, REQUEST);
    let mut sent_so_far = 0;
    for (count, wait, more) in [
        (0, -1, 1),
        (1, GATHERED_MS, QUEUE / 2),
        (3, GATHERED_MS, QUEUE / 2),
        (QUEUE, GATHERED_MS, QUEUE / 2),
        // None has come.
        (0, -1, 1),
        (0, -1, 1),
        (2, GATHERED_MS, QUEUE / 2),
    ] {
        bench.driver.notify_after(sent_so_far);
        for _ in 0..count {
            bench.driver.send(&[sent(REQUEST, forget.len())]);
        }
        sent_so_far += count;
        assert_eq!(bench.queue.gather(&stop).unwrap(), wait, "{count}");
        for _ in 0..count {
            assert!(bench.driver.used().is_some());
        }
        assert_eq!(bench.driver.used(), None);
        let notified = bench.line.queue.read().ok();
        assert_eq!(notified, (count > 0).then_some(1), "{count}");
        assert_eq!(bench.driver.kick_after(), sent_so_far + more, "{count}");
    }
}
