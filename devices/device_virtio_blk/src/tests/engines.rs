//! Both engines against real files, through the page cache and past it: the
//! same is expected of all four.

use std::fs;
use std::os::unix::fs::MetadataExt;

use device_model::{Activation, ActiveQueue, EventHandle, Subscriber, Threads, VirtioDevice};
use event_manager::EventManager;
use tempfile::NamedTempFile;
use virtio_bindings::bindings::virtio_blk as spec;

use super::*;
use crate::device::BlockDevice;
use crate::file::FileBackend;

const NEXT: u16 = VRING_DESC_F_NEXT as u16;
/// Requests under way at most, each with three descriptors.
const LANES: u64 = 16;
/// Bytes of the disk and of guest memory that belong to one lane.
const LANE: u64 = 0x1_0000;
/// Where the buffers of the first lane are; those of the others follow.
const BUFFERS: u64 = 0x10_0000;
const OK: u8 = 0;
const IOERR: u8 = 1;

struct Rig {
    name: String,
    file: NamedTempFile,
    line: Arc<Line>,
    driver: Driver,
    kick: EventFd,
    device: BlockDevice,
}

/// A rig for each engine and cache that this machine has. What it has not is
/// said aloud.
fn rigs() -> Vec<Rig> {
    let mut rigs = Vec::new();
    for rings in [false, true] {
        for direct in [false, true] {
            let name = format!("rings {rings}, direct {direct}");
            match Rig::new(&name, rings, direct) {
                Ok(rig) => rigs.push(rig),
                Err(error) => eprintln!("NOT TESTED, {name}: {error:#}"),
            }
        }
    }
    assert!(!rigs.is_empty());
    rigs
}

impl Rig {
    fn new(name: &str, rings: bool, direct: bool) -> anyhow::Result<Self> {
        let file = NamedTempFile::new()?;
        let bytes: Vec<u8> = (0..LANES * LANE).map(|at| (at % 251) as u8).collect();
        fs::write(file.path(), bytes)?;
        let mut backend = FileBackend::open(file.path(), false, None)?;
        if direct {
            backend.use_direct(file.path())?;
        }
        let mut device = BlockDevice::new("disk", Disk::new(Box::new(backend), SERIAL), 1);
        if rings {
            device.use_rings()?;
        }
        let mut rig = Rig {
            name: name.into(),
            file,
            line: Line::new(),
            driver: Driver::new(&memory(), 0, true),
            kick: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            device,
        };
        rig.device.ack_features(1 << spec::VIRTIO_BLK_F_FLUSH);
        Ok(rig)
    }

    /// Starts over with empty rings.
    fn activate(&mut self) {
        let memory = self.driver.memory.clone();
        memory
            .write_slice(&[0; 0x2000], GuestAddress(0x1000))
            .unwrap();
        self.driver = Driver::new(&memory, 0, true);
        self.activate_as_it_is();
    }

    fn activate_as_it_is(&mut self) {
        let events = EventManager::<Subscriber>::new().unwrap();
        let queue = ActiveQueue {
            queue: self.driver.queue(),
            kick: self.kick.try_clone().unwrap(),
        };
        self.device
            .activate(Activation {
                memory: self.driver.memory.clone(),
                queues: vec![Some(queue)],
                interrupt: Arc::clone(&self.line) as _,
                events: EventHandle::new(events.remote_endpoint()),
                threads: Threads::new(|_| Ok(())),
            })
            .unwrap();
    }

    /// Offers a request with the header, data and status of `lane`; `at` is
    /// where its data lies among the lane's memory.
    fn send(&mut self, lane: u64, kind: u32, sector: u64, at: u64, length: u32) {
        let (header, status) = self.header(lane, kind, sector);
        let data = BUFFERS + lane * LANE + at;
        let data = if kind == spec::VIRTIO_BLK_T_IN {
            wanted(data, length)
        } else {
            sent(data, length)
        };
        let first = 3 * lane as u16;
        self.driver.describe(first, header, NEXT, first + 1);
        self.driver.describe(first + 1, data, NEXT, first + 2);
        self.driver.describe(first + 2, status, 0, 0);
        self.offer(first);
    }

    fn header(&self, lane: u64, kind: u32, sector: u64) -> (Buffer, Buffer) {
        let at = HEADER + 32 * lane;
        self.driver.put(kind, at);
        self.driver.put(0_u32, at + 4);
        self.driver.put(sector, at + 8);
        self.driver.put(UNTOUCHED, at + 16);
        (sent(at, 16), wanted(at + 16, 1))
    }

    fn offer(&mut self, head: u16) {
        let before = self.driver.next_avail();
        self.driver.offer(head);
        if self.driver.kick_wanted(before) {
            self.kick.write(1).unwrap();
        }
    }

    /// Waits for the next request to end: its lane, length and status.
    fn receive(&mut self) -> (u64, u32, u8) {
        loop {
            if let Some((head, length)) = self.driver.used() {
                let lane = u64::from(head) / 3;
                let status = self.driver.get(HEADER + 32 * lane + 16);
                return (lane, length, status);
            }
            if !self.driver.arm() {
                await_event(&self.line.queue);
            }
        }
    }

    /// One request alone: its length and status.
    fn request(&mut self, kind: u32, sector: u64, length: u32) -> (u32, u8) {
        self.send(0, kind, sector, 0, length);
        let (lane, length, status) = self.receive();
        assert_eq!(lane, 0, "{}", self.name);
        (length, status)
    }
}

/// A small generator, the same each time.
struct Choices(u64);

impl Choices {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % limit
    }
}

/// Each lane has its part of the disk and of memory, and one request at a time;
/// the lanes have theirs all at the same time.
#[test]
fn bytes_arrive_where_they_belong_with_many_requests_under_way() {
    for mut rig in rigs() {
        let mut choices = Choices(7);
        let mut expected: Vec<Vec<u8>> = (0..LANES)
            .map(|lane| {
                (0..LANE)
                    .map(|at| ((lane * LANE + at) % 251) as u8)
                    .collect()
            })
            .collect();
        // What each lane is doing: kind, first byte in its part, where in memory, length.
        let mut under_way = [(0, 0, 0, 0); LANES as usize];
        rig.activate();
        let mut left = 1500;
        let mut idle: Vec<u64> = (0..LANES).collect();
        while left > 0 || idle.len() < LANES as usize {
            while left > 0
                && let Some(lane) = idle.pop()
            {
                left -= 1;
                let kind = match choices.below(40) {
                    0 => spec::VIRTIO_BLK_T_FLUSH,
                    1..4 => spec::VIRTIO_BLK_T_WRITE_ZEROES,
                    4..22 => spec::VIRTIO_BLK_T_OUT,
                    _ => spec::VIRTIO_BLK_T_IN,
                };
                let first = 512 * choices.below(64);
                let length = 512 * (1 + choices.below(32));
                // Most drivers align memory to sectors, and none has to.
                let at = match choices.below(4) {
                    0 => choices.below(512),
                    _ => 512 * choices.below(8),
                };
                let sector = (lane * LANE + first) / 512;
                under_way[lane as usize] = (kind, first, at, length);
                let data = BUFFERS + lane * LANE + at;
                let part = &mut expected[lane as usize][first as usize..][..length as usize];
                match kind {
                    spec::VIRTIO_BLK_T_OUT => {
                        let byte = choices.below(256) as u8;
                        for (index, byte_there) in (0_u8..=255).cycle().zip(part.iter_mut()) {
                            *byte_there = byte ^ index;
                        }
                        rig.driver.put_bytes(part, data);
                        rig.send(lane, kind, sector, at, length as u32);
                    }
                    spec::VIRTIO_BLK_T_WRITE_ZEROES => {
                        part.fill(0);
                        rig.driver.put(sector, data);
                        rig.driver.put(length as u32 / 512, data + 8);
                        rig.driver.put(choices.below(2) as u32, data + 12);
                        rig.send(lane, kind, 0, at, 16);
                    }
                    spec::VIRTIO_BLK_T_FLUSH => rig.send(lane, kind, 0, at, 0),
                    _ => rig.send(lane, kind, sector, at, length as u32),
                }
            }
            let (lane, used, status) = rig.receive();
            assert_eq!(status, OK, "{}", rig.name);
            let (kind, first, at, length) = under_way[lane as usize];
            if kind == spec::VIRTIO_BLK_T_IN {
                assert_eq!(u64::from(used), length + 1);
                let data = BUFFERS + lane * LANE + at;
                let read = rig.driver.get_bytes(data, length as usize);
                let part = &expected[lane as usize][first as usize..][..length as usize];
                assert!(read == part, "{}, lane {lane}", rig.name);
            } else {
                assert_eq!(used, 1);
            }
            idle.push(lane);
        }
        rig.device.deactivate();
        assert!(
            fs::read(rig.file.path()).unwrap() == expected.concat(),
            "{}",
            rig.name
        );
    }
}

#[test]
fn every_kind_of_request_ends_as_it_should() {
    for mut rig in rigs() {
        rig.activate();
        let name = rig.name.clone();
        assert_eq!(
            rig.request(spec::VIRTIO_BLK_T_IN, 0, 1024),
            (1025, OK),
            "{name}"
        );
        assert_eq!(rig.request(spec::VIRTIO_BLK_T_IN, 0, 0), (1, OK), "{name}");
        assert_eq!(
            rig.request(spec::VIRTIO_BLK_T_IN, 0, 511),
            (1, IOERR),
            "{name}"
        );
        assert_eq!(
            rig.request(spec::VIRTIO_BLK_T_IN, LANES * LANE / 512, 512),
            (1, IOERR)
        );
        assert_eq!(
            rig.request(spec::VIRTIO_BLK_T_OUT, 5, 4096),
            (1, OK),
            "{name}"
        );
        assert_eq!(
            rig.request(spec::VIRTIO_BLK_T_FLUSH, 0, 0),
            (1, OK),
            "{name}"
        );
        assert_eq!(rig.request(99, 0, 0), (1, 2), "{name}");
        // Two ranges to discard, one of them empty.
        for (at, value) in [(0, 8_u64), (8, 16), (16, 64), (24, 0)] {
            rig.driver.put(value, BUFFERS + at);
        }
        let before = fs::metadata(rig.file.path()).unwrap();
        assert_eq!(
            rig.request(spec::VIRTIO_BLK_T_DISCARD, 0, 32),
            (1, OK),
            "{name}"
        );
        let after = fs::metadata(rig.file.path()).unwrap();
        assert!(after.blocks() < before.blocks(), "{name}");
        assert_eq!(after.len(), before.len());
    }
}

#[test]
fn writes_that_go_through_end_well() {
    for mut rig in rigs() {
        rig.device.ack_features(0);
        rig.activate();
        rig.driver.put_bytes(&[9; 512], BUFFERS);
        assert_eq!(
            rig.request(spec::VIRTIO_BLK_T_OUT, 3, 512),
            (1, OK),
            "{}",
            rig.name
        );
        for kind in [spec::VIRTIO_BLK_T_WRITE_ZEROES, spec::VIRTIO_BLK_T_DISCARD] {
            rig.driver.put(8_u64, BUFFERS);
            rig.driver.put(8_u64, BUFFERS + 8);
            assert_eq!(rig.request(kind, 0, 16), (1, OK), "{}", rig.name);
        }
        let bytes = fs::read(rig.file.path()).unwrap();
        assert_eq!(bytes[3 * 512..4 * 512], [9; 512]);
        assert_eq!(bytes[8 * 512..16 * 512], [0; 8 * 512]);
    }
}

#[test]
fn file_that_shrank_fails_requests_and_nothing_else() {
    for mut rig in rigs() {
        rig.activate();
        rig.file.as_file().set_len(4096).unwrap();
        assert_eq!(
            rig.request(spec::VIRTIO_BLK_T_IN, 64, 512).1,
            IOERR,
            "{}",
            rig.name
        );
        assert_eq!(
            rig.request(spec::VIRTIO_BLK_T_IN, 0, 512).1,
            OK,
            "{}",
            rig.name
        );
    }
}

/// More often than there are descriptors, as nobody counts what is offered.
#[test]
fn chain_offered_again_while_it_is_under_way_is_another_request() {
    for mut rig in rigs() {
        rig.activate();
        rig.send(0, spec::VIRTIO_BLK_T_IN, 0, 0, 4096);
        let (mut offered, mut returned) = (1, 0);
        while returned < 1000 {
            while offered < 1000 && offered - returned < usize::from(QUEUE) {
                rig.offer(0);
                offered += 1;
            }
            let (lane, length, status) = rig.receive();
            assert_eq!((lane, length, status), (0, 4097, OK), "{}", rig.name);
            returned += 1;
        }
        assert_eq!(rig.driver.used(), None);
    }
}

/// A driver that does not wait for answers finds no more served at a time than
/// the queue has room for, and loses answers, which is its own affair.
#[test]
fn driver_that_never_waits_does_no_harm() {
    for mut rig in rigs() {
        rig.activate();
        rig.send(0, spec::VIRTIO_BLK_T_IN, 0, 0, 4096);
        for _ in 0..5000 {
            rig.offer(0);
        }
        rig.device.deactivate();
        rig.activate();
        assert_eq!(
            rig.request(spec::VIRTIO_BLK_T_IN, 0, 512),
            (513, OK),
            "{}",
            rig.name
        );
    }
}

#[test]
fn nothing_is_touched_after_deactivation_and_the_next_driver_is_served() {
    for mut rig in rigs() {
        for _ in 0..20 {
            rig.activate();
            for lane in 0..LANES {
                rig.send(lane, spec::VIRTIO_BLK_T_IN, 128 * lane, 0, LANE as u32);
            }
            rig.device.deactivate();
            let marks = vec![0xd7; (LANES * LANE) as usize];
            rig.driver.put_bytes(&marks, BUFFERS);
            rig.activate();
            assert_eq!(
                rig.request(spec::VIRTIO_BLK_T_FLUSH, 0, 0),
                (1, OK),
                "{}",
                rig.name
            );
            rig.device.deactivate();
            let memory = rig.driver.get_bytes(BUFFERS, marks.len());
            assert!(memory == marks, "{}", rig.name);
        }
    }
}

#[test]
fn broken_ring_asks_for_a_reset_after_which_all_is_well() {
    for mut rig in rigs() {
        rig.activate();
        rig.send(0, spec::VIRTIO_BLK_T_IN, 0, 0, 4096);
        rig.offer(QUEUE);
        await_event(&rig.line.needs_reset);
        rig.device.deactivate();
        rig.activate();
        assert_eq!(
            rig.request(spec::VIRTIO_BLK_T_IN, 0, 512),
            (513, OK),
            "{}",
            rig.name
        );
    }
}

#[test]
fn chains_and_kicks_from_before_the_activation_count() {
    for mut rig in rigs() {
        rig.send(0, spec::VIRTIO_BLK_T_FLUSH, 0, 0, 0);
        rig.activate_as_it_is();
        assert_eq!(rig.receive(), (0, 1, OK), "{}", rig.name);
    }
}

#[test]
fn chain_that_comes_as_the_device_falls_asleep_is_served() {
    for mut rig in rigs() {
        rig.activate();
        for round in 0..3000 {
            let kind = [spec::VIRTIO_BLK_T_IN, u32::MAX][round % 2];
            rig.request(kind, 0, 512);
            for _ in 0..round % 97 {
                std::hint::spin_loop();
            }
        }
    }
}
