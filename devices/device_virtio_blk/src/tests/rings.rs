//! Rings and chains that no rule-abiding driver makes, and the notifications
//! between two sides that work at the same time.

use std::sync::mpsc;
use std::time::Instant;

use device_model::{ActiveQueue, Threads};
use virtio_bindings::bindings::virtio_blk::{VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_IN};
use virtio_bindings::bindings::virtio_ring::VRING_DESC_F_INDIRECT;
use virtio_queue::Error;

use super::*;
use crate::queue::Worker;
use crate::ring::RingPlace;

const NEXT: u16 = VRING_DESC_F_NEXT as u16;
const INDIRECT: u16 = VRING_DESC_F_INDIRECT as u16;

/// One request that must still work after the mischief.
fn still_serves(bench: &mut Bench) {
    let buffers = [sent(HEADER, 16), wanted(DATA, 512), wanted(STATUS, 1)];
    assert_eq!(bench.request(VIRTIO_BLK_T_IN, 0, &buffers), 513);
}

/// Offers `head` and expects it back without a byte written.
fn comes_back_empty(bench: &mut Bench, head: u16) {
    bench.driver.header(VIRTIO_BLK_T_IN, 0);
    bench.driver.offer(head);
    bench.serve().unwrap();
    assert_eq!(bench.driver.used(), Some((head.into(), 0)));
    assert_eq!(bench.driver.status(), UNTOUCHED);
    bench.line.queue.read().unwrap();
}

#[test]
fn chain_that_loops_comes_back_empty() {
    let mut bench = Bench::writable();
    bench.driver.describe(40, sent(HEADER, 16), NEXT, 41);
    bench.driver.describe(41, wanted(DATA, 512), NEXT, 41);
    comes_back_empty(&mut bench, 40);
    still_serves(&mut bench);
}

#[test]
fn chain_that_leaves_the_table_comes_back_empty() {
    let mut bench = Bench::writable();
    bench.driver.describe(40, sent(HEADER, 16), NEXT, 41);
    bench.driver.describe(41, wanted(DATA, 513), NEXT, QUEUE);
    comes_back_empty(&mut bench, 40);
    assert_eq!(bench.driver.get_bytes(DATA, 513), [0; 513]);
    still_serves(&mut bench);
}

#[test]
fn chain_of_more_than_4_gib_comes_back_empty() {
    let mut bench = Bench::writable();
    bench.driver.describe(40, sent(HEADER, 16), NEXT, 41);
    bench.driver.describe(41, wanted(DATA, u32::MAX), NEXT, 42);
    bench.driver.describe(42, wanted(STATUS, 1), 0, 0);
    comes_back_empty(&mut bench, 40);
    still_serves(&mut bench);
}

/// Indirect descriptors are not offered; virtio-queue follows them all the same.
#[test]
fn indirect_table_longer_than_any_queue_comes_back_empty() {
    let mut bench = Bench::writable();
    for (entries, length) in [(256_u16, 1), (257, 0)] {
        for entry in 0..entries {
            let (at, len, flags) = match entry {
                0 => (HEADER, 16, NEXT),
                _ if entry + 1 < entries => (DATA, 0, NEXT),
                _ => (STATUS, 1, VRING_DESC_F_WRITE as u16),
            };
            let descriptor = Descriptor::new(at, len, flags, entry + 1);
            let at = SEAM + 16 * u64::from(entry);
            bench.driver.put(RawDescriptor::from(descriptor), at);
        }
        let table = sent(SEAM, 16 * u32::from(entries));
        bench.driver.describe(40, table, INDIRECT, 0);
        bench.driver.header(u32::MAX, 0);
        bench.driver.offer(40);
        bench.serve().unwrap();
        assert_eq!(bench.driver.used(), Some((40, length)));
        assert_eq!(bench.driver.status() == UNTOUCHED, length == 0);
    }
}

#[test]
fn head_outside_the_table_ends_the_queue() {
    for head in [QUEUE, u16::MAX] {
        let mut bench = Bench::writable();
        bench.driver.offer(head);
        assert!(matches!(bench.serve(), Err(Error::InvalidDescriptorIndex)));
        assert_eq!(bench.driver.used(), None);
    }
}

#[test]
fn available_index_too_far_ahead_ends_the_queue() {
    let mut bench = Bench::writable();
    bench.driver.put(QUEUE + 1, bench.driver.avail() + 2);
    assert!(matches!(bench.serve(), Err(Error::InvalidAvailRingIndex)));
}

#[test]
fn full_ring_of_one_chain_is_served_once_each() {
    let mut bench = Bench::writable();
    bench.driver.header(VIRTIO_BLK_T_FLUSH, 0);
    let head = bench.driver.send(&[sent(HEADER, 16), wanted(STATUS, 1)]);
    for _ in 1..QUEUE {
        bench.driver.offer(head);
    }
    bench.serve().unwrap();
    let served = std::iter::from_fn(|| bench.driver.used()).count();
    assert_eq!(served, usize::from(QUEUE));
    assert_eq!(
        bench.store.flushes.load(Ordering::Relaxed),
        usize::from(QUEUE)
    );
}

#[test]
fn rings_wrap_around() {
    let mut bench = Bench::writable();
    for _ in 0..3 * u32::from(QUEUE) {
        still_serves(&mut bench);
    }
}

/// Holds every read until it may go on.
struct Gate {
    store: Arc<Store>,
    entered: mpsc::Sender<()>,
    leave: Mutex<mpsc::Receiver<()>>,
}

impl BlockBackend for Gate {
    fn size(&self) -> u64 {
        self.store.size()
    }

    fn read_only(&self) -> bool {
        false
    }

    fn read_at(&self, to: &[Slice<'_>], offset: u64) -> io::Result<()> {
        self.entered.send(()).unwrap();
        self.leave.lock().unwrap().recv().unwrap();
        self.store.read_at(to, offset)
    }

    fn write_at(&self, from: &[Slice<'_>], offset: u64) -> io::Result<()> {
        self.store.write_at(from, offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.store.flush()
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.store.discard(offset, length)
    }

    fn write_zeroes(&self, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
        self.store.write_zeroes(offset, length, unmap)
    }
}

/// A worker for `driver`'s queue, and the kick that the driver writes.
fn worker(driver: &Driver, line: &Arc<Line>, backend: Box<dyn BlockBackend>) -> (Worker, EventFd) {
    let kick = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).unwrap();
    let active = ActiveQueue {
        queue: driver.queue(),
        kick: kick.try_clone().unwrap(),
    };
    let server = |queue| QueueServer {
        index: 0,
        queue,
        memory: driver.memory.clone(),
        interrupt: Arc::clone(line) as _,
        disk: Arc::new(Disk::new(backend, SERIAL)),
        write_through: false,
    };
    let threads = Threads::new(|_| Ok(()));
    let worker = Worker::start(
        "blk0-test".into(),
        &threads,
        active,
        RingPlace::default(),
        server,
    )
    .unwrap();
    (worker, kick)
}

#[test]
fn stop_during_work_ends_after_the_request_at_hand() {
    let (entered, inside) = mpsc::channel();
    let (go, leave) = mpsc::channel();
    let gate = Gate {
        store: Store::new(false),
        entered,
        leave: Mutex::new(leave),
    };
    let mut driver = Driver::new(&memory(), 0, true);
    let line = Line::new();
    let (worker, kick) = worker(&driver, &line, Box::new(gate));

    driver.header(VIRTIO_BLK_T_IN, 0);
    for _ in 0..4 {
        driver.send(&[sent(HEADER, 16), wanted(DATA, 512), wanted(STATUS, 1)]);
    }
    kick.write(1).unwrap();
    inside.recv().unwrap();
    worker.stop();
    for _ in 0..4 {
        // Fails once the thread has ended and taken the other end along.
        let _ = go.send(());
    }
    drop(worker);

    let served = std::iter::from_fn(|| driver.used()).count();
    assert_eq!(served, 1);
}

#[test]
fn broken_ring_asks_for_a_reset_and_can_be_stopped() {
    let mut driver = Driver::new(&memory(), 0, true);
    let line = Line::new();
    let (worker, kick) = worker(&driver, &line, Box::new(Store::new(false)));
    driver.offer(QUEUE);
    kick.write(1).unwrap();
    await_event(&line.needs_reset);
    drop(worker);
}

/// With the event index both sides stay silent unless asked. A notification
/// that is lost leaves the driver waiting beyond its limit.
#[test]
fn no_notification_is_lost_when_both_sides_suppress_them() {
    let mut driver = Driver::new(&memory(), 0, true);
    let line = Line::new();
    let (worker, kick) = worker(&driver, &line, Box::new(Store::new(false)));
    driver.header(VIRTIO_BLK_T_IN, 0);
    let buffers = [sent(HEADER, 16), wanted(DATA, 512), wanted(STATUS, 1)];
    let (mut kicks, mut returned) = (0, 0);
    for round in 0..3000_usize {
        let batch = 1 + round % 7;
        let before = driver.next_avail();
        for _ in 0..batch {
            driver.send(&buffers);
        }
        if driver.kick_wanted(before) {
            kicks += 1;
            kick.write(1).unwrap();
        }
        // Drain to a different depth each time, so that both sides meet in
        // every state.
        let keep = round % 3;
        while in_flight(&driver) > keep {
            while driver.used().is_some() {
                returned += 1;
            }
            if in_flight(&driver) > keep && !driver.arm() {
                await_event(&line.queue);
            }
        }
    }
    drop(worker);
    while driver.used().is_some() {
        returned += 1;
    }
    assert!(returned + 2 >= usize::from(driver.next_avail()));
    assert!(kicks < 3000, "no kick was ever suppressed");
}

/// The driver offers the next chain while the device is about to fall asleep,
/// at a different moment each time.
#[test]
fn chain_that_comes_as_the_device_falls_asleep_is_served() {
    let mut driver = Driver::new(&memory(), 0, true);
    let line = Line::new();
    let (_worker, kick) = worker(&driver, &line, Box::new(Store::new(false)));
    driver.header(u32::MAX, 0);
    let buffers = [sent(HEADER, 16), wanted(STATUS, 1)];
    for round in 0..20_000 {
        let before = driver.next_avail();
        driver.send(&buffers);
        if driver.kick_wanted(before) {
            kick.write(1).unwrap();
        }
        let sent_at = Instant::now();
        while driver.used().is_none() {
            assert!(sent_at.elapsed() < LIMIT, "the device sleeps on");
            std::hint::spin_loop();
        }
        for _ in 0..round % 97 {
            std::hint::spin_loop();
        }
    }
}

fn in_flight(driver: &Driver) -> usize {
    usize::from(driver.next_avail.wrapping_sub(driver.next_used))
}
