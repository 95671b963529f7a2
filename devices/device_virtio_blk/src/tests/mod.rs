//! The device from the driver's side: a driver that writes its own rings, and a
//! backend in memory.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use device_model::{GuestMemory, Interrupt};
use virtio_bindings::bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::backend::{BlockBackend, Slice};
use crate::disk::Disk;
use crate::queue::QueueServer;
use crate::request::{gather, scatter};

mod device;
mod engines;
mod factory;
mod requests;
mod rings;
mod splits;

/// A test that waits longer than this has failed.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) const SECTORS: u64 = 64;
pub(crate) const SERIAL: [u8; 20] = *b"twenty bytes, right!";

/// Two regions side by side, so that one descriptor can need two slices.
pub(crate) const SEAM: u64 = 0x20_0000;
pub(crate) const RAM: u64 = 0x40_0000;

pub(crate) fn memory() -> GuestMemory {
    GuestMemory::from_ranges(&[
        (GuestAddress(0), SEAM as usize),
        (GuestAddress(SEAM), (RAM - SEAM) as usize),
    ])
    .unwrap()
}

/// A disk in memory that can fail and counts what is asked of it.
pub(crate) struct Store {
    pub(crate) bytes: Mutex<Vec<u8>>,
    /// What it says it has, for limits that `bytes` does not reach.
    pub(crate) size: AtomicU64,
    pub(crate) read_only: bool,
    pub(crate) failing: AtomicBool,
    pub(crate) flushes: AtomicUsize,
    pub(crate) discards: Mutex<Vec<(u64, u64)>>,
    pub(crate) zeroes: Mutex<Vec<(u64, u64, bool)>>,
}

impl Store {
    pub(crate) fn new(read_only: bool) -> Arc<Self> {
        let bytes = (0..SECTORS * 512).map(|at| (at % 251) as u8).collect();
        Arc::new(Store {
            bytes: Mutex::new(bytes),
            size: AtomicU64::new(SECTORS * 512),
            read_only,
            failing: AtomicBool::new(false),
            flushes: AtomicUsize::new(0),
            discards: Mutex::default(),
            zeroes: Mutex::default(),
        })
    }

    fn outcome(&self) -> io::Result<()> {
        if self.failing.load(Ordering::Relaxed) {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }
}

impl BlockBackend for Arc<Store> {
    fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read_at(&self, to: &[Slice<'_>], offset: u64) -> io::Result<()> {
        self.outcome()?;
        scatter(to, &self.bytes.lock().unwrap()[offset as usize..]);
        Ok(())
    }

    fn write_at(&self, from: &[Slice<'_>], offset: u64) -> io::Result<()> {
        self.outcome()?;
        gather(from, &mut self.bytes.lock().unwrap()[offset as usize..]);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.outcome()
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.discards.lock().unwrap().push((offset, length));
        self.outcome()
    }

    fn write_zeroes(&self, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
        self.zeroes.lock().unwrap().push((offset, length, unmap));
        self.outcome()
    }
}

/// Notifications as a driver sees them.
pub(crate) struct Line {
    pub(crate) queue: EventFd,
    pub(crate) needs_reset: EventFd,
    pub(crate) last: AtomicU16,
}

impl Line {
    pub(crate) fn new() -> Arc<Self> {
        let event = || EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).unwrap();
        Arc::new(Line {
            queue: event(),
            needs_reset: event(),
            last: AtomicU16::new(u16::MAX),
        })
    }
}

impl Interrupt for Line {
    fn notify_queue(&self, index: u16) {
        self.last.store(index, Ordering::Relaxed);
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
    let ready = loop {
        match epoll.wait(LIMIT.as_millis() as i32, &mut [EpollEvent::default()]) {
            // A ring that is closed makes itself felt in the thread that made it.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => break outcome.unwrap(),
        }
    };
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
pub(crate) fn sent(at: u64, len: u32) -> Buffer {
    Buffer { at, len, flags: 0 }
}

/// For the device to write.
pub(crate) fn wanted(at: u64, len: u32) -> Buffer {
    let flags = VRING_DESC_F_WRITE as u16;
    Buffer { at, len, flags }
}

pub(crate) const QUEUE: u16 = 64;
/// Where requests put things.
pub(crate) const HEADER: u64 = 0x1_0000;
pub(crate) const STATUS: u64 = 0x1_1000;
pub(crate) const DATA: u64 = 0x2_0000;
/// A status that no device writes.
pub(crate) const UNTOUCHED: u8 = 0xee;

/// The driver's half of one queue. Queue `n` has its rings at `n * 0x2000`
/// from 0x1000, below everything else.
pub(crate) struct Driver {
    memory: GuestMemory,
    base: u64,
    event_idx: bool,
    next_descriptor: u16,
    next_avail: u16,
    next_used: u16,
}

impl Driver {
    pub(crate) fn new(memory: &GuestMemory, index: u64, event_idx: bool) -> Self {
        Driver {
            memory: memory.clone(),
            base: 0x1000 + index * 0x2000,
            event_idx,
            next_descriptor: 0,
            next_avail: 0,
            next_used: 0,
        }
    }

    pub(crate) fn avail(&self) -> u64 {
        self.base + 0x800
    }

    fn used_ring(&self) -> u64 {
        self.base + 0x1000
    }

    /// The device's half.
    pub(crate) fn queue(&self) -> Queue {
        let mut queue = Queue::new(QUEUE).unwrap();
        queue.set_desc_table_address(Some(self.base as u32), Some(0));
        queue.set_avail_ring_address(Some(self.avail() as u32), Some(0));
        queue.set_used_ring_address(Some(self.used_ring() as u32), Some(0));
        queue.set_event_idx(self.event_idx);
        queue.set_ready(true);
        assert!(queue.is_valid(&self.memory));
        queue
    }

    pub(crate) fn put<T: vm_memory::ByteValued>(&self, value: T, at: u64) {
        self.memory.write_obj(value, GuestAddress(at)).unwrap();
    }

    pub(crate) fn get<T: vm_memory::ByteValued>(&self, at: u64) -> T {
        self.memory.read_obj(GuestAddress(at)).unwrap()
    }

    pub(crate) fn put_bytes(&self, bytes: &[u8], at: u64) {
        self.memory.write_slice(bytes, GuestAddress(at)).unwrap();
    }

    pub(crate) fn get_bytes(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.memory
            .read_slice(&mut bytes, GuestAddress(at))
            .unwrap();
        bytes
    }

    /// Writes a descriptor of the table as it is.
    pub(crate) fn describe(&self, index: u16, buffer: Buffer, flags: u16, next: u16) {
        let descriptor = Descriptor::new(buffer.at, buffer.len, buffer.flags | flags, next);
        let at = self.base + 16 * u64::from(index);
        self.put(RawDescriptor::from(descriptor), at);
    }

    /// Makes `head` available.
    pub(crate) fn offer(&mut self, head: u16) {
        let slot = u64::from(self.next_avail % QUEUE);
        self.put(head, self.avail() + 4 + 2 * slot);
        self.next_avail = self.next_avail.wrapping_add(1);
        self.memory
            .store(
                self.next_avail,
                GuestAddress(self.avail() + 2),
                Ordering::Release,
            )
            .unwrap();
    }

    /// Makes a chain of `buffers` available and gives its head.
    pub(crate) fn send(&mut self, buffers: &[Buffer]) -> u16 {
        let head = self.next_descriptor;
        for (position, buffer) in buffers.iter().enumerate() {
            let index = self.next_descriptor;
            self.next_descriptor = (index + 1) % QUEUE;
            let last = position + 1 == buffers.len();
            let flags = if last { 0 } else { VRING_DESC_F_NEXT as u16 };
            self.describe(index, *buffer, flags, self.next_descriptor);
        }
        self.offer(head);
        head
    }

    /// A header at `HEADER`, and a status that shows whether it is written.
    pub(crate) fn header(&self, kind: u32, sector: u64) {
        self.put(kind, HEADER);
        self.put(0_u32, HEADER + 4);
        self.put(sector, HEADER + 8);
        self.put(UNTOUCHED, STATUS);
    }

    pub(crate) fn status(&self) -> u8 {
        self.get(STATUS)
    }

    /// The next used chain: its head and length.
    pub(crate) fn used(&mut self) -> Option<(u32, u32)> {
        let index: u16 = self
            .memory
            .load(GuestAddress(self.used_ring() + 2), Ordering::Acquire)
            .unwrap();
        if index == self.next_used {
            return None;
        }
        let slot = u64::from(self.next_used % QUEUE);
        let at = self.used_ring() + 4 + 8 * slot;
        self.next_used = self.next_used.wrapping_add(1);
        Some((self.get(at), self.get(at + 4)))
    }

    /// Asks to be notified of the next used chain; says whether one is there already.
    pub(crate) fn arm(&self) -> bool {
        let used_event = self.avail() + 4 + 2 * u64::from(QUEUE);
        self.put(self.next_used, used_event);
        fence(Ordering::SeqCst);
        self.get::<u16>(self.used_ring() + 2) != self.next_used
    }

    /// Whether the device wants to hear of chains offered since `before`.
    pub(crate) fn kick_wanted(&self, before: u16) -> bool {
        fence(Ordering::SeqCst);
        let avail_event: u16 = self.get(self.used_ring() + 4 + 8 * u64::from(QUEUE));
        let since = self.next_avail.wrapping_sub(avail_event).wrapping_sub(1);
        since < self.next_avail.wrapping_sub(before)
    }

    pub(crate) fn next_avail(&self) -> u16 {
        self.next_avail
    }
}

/// A queue served on the test's own thread.
pub(crate) struct Bench {
    pub(crate) store: Arc<Store>,
    pub(crate) line: Arc<Line>,
    pub(crate) driver: Driver,
    pub(crate) server: QueueServer,
}

impl Bench {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        let memory = memory();
        let driver = Driver::new(&memory, 0, false);
        let line = Line::new();
        let server = QueueServer {
            index: 0,
            queue: driver.queue(),
            memory,
            interrupt: Arc::clone(&line) as _,
            disk: Arc::new(Disk::new(Box::new(Arc::clone(&store)), SERIAL)),
            write_through: false,
        };
        Bench {
            store,
            line,
            driver,
            server,
        }
    }

    pub(crate) fn writable() -> Self {
        Bench::new(Store::new(false))
    }

    /// The disk as if its storage had `bytes`.
    pub(crate) fn resize(&mut self, bytes: u64) {
        self.store.size.store(bytes, Ordering::Relaxed);
        self.server.disk = Arc::new(Disk::new(Box::new(Arc::clone(&self.store)), SERIAL));
    }

    pub(crate) fn serve(&mut self) -> Result<(), virtio_queue::Error> {
        self.server.serve(&AtomicBool::new(false))
    }

    /// One chain from header to used length. The status is left at `STATUS`.
    pub(crate) fn request(&mut self, kind: u32, sector: u64, buffers: &[Buffer]) -> u32 {
        self.driver.header(kind, sector);
        let head = self.driver.send(buffers);
        self.serve().unwrap();
        let (id, len) = self.driver.used().expect("the chain comes back");
        assert_eq!(id, u32::from(head));
        assert_eq!(self.driver.used(), None);
        self.line.queue.read().expect("the driver is notified");
        len
    }
}
