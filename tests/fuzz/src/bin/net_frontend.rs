//! The network card on any rings, frames and commands of the guest, and any answers
//! of a backend.
//!
//! Holds: the device becomes quiet; what reaches the backend is a frame of a queue
//! pair in use, not too long, in not too many pieces, and asks for nothing that was
//! not negotiated; the backend always gets room for its longest frame. As long as
//! the rings are sound, every chain comes back when it can, with a length that it
//! has, and the device asks for no reset.

#![cfg_attr(fuzzing, no_main)]

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use device_model::net::{
    Directions, MAX_FRAME_PIECES, NET_HEADER, NetBackend, NetError, NetInfo, NetNews, NetSetup,
    Offloads,
};
use device_model::{ActiveQueue, GuestMemory, Interrupt, Subscriber, VirtioDevice};
use device_virtio_net::{NetDevice, Settings};
use event_manager::{EventManager, SubscriberId, SubscriberOps};
use fuzz::Choices;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, VolatileSlice};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

fuzz::target!(check);

const QUEUE: u16 = 16;
/// Descriptors that a good chain may have: each has its own part of the table.
const PARTS: u16 = 4;
const PLACES: u16 = QUEUE / PARTS;
const PAIRS: u16 = 2;
const CONTROL: usize = 2 * PAIRS as usize;
const RING: u64 = 0x1000;
/// Rings, and after them the memory of chains, in two regions.
const DATA: u64 = 0x8000;
const SEAM: u64 = 0x1_0000;
const RAM: u64 = 0x2_0000;
/// VIRTIO_NET_F_MRG_RXBUF.
const MERGEABLE: u64 = 1 << 15;
/// Bytes of input for one step, on average.
const STEP_BYTES: usize = 6;
/// Frames that wait for the guest at most.
const WAITING: usize = 16;
/// Rounds of the event loop after which a device is not quiet.
const ROUNDS: usize = 1000;

fn check(data: &[u8]) {
    let mut choices = Choices::new(data);
    let mut bench = Bench::new(&mut choices);
    for _ in 0..data.len() / STEP_BYTES {
        bench.step(&mut choices);
        bench.settle();
        if bench.sound {
            bench.rings_hold();
        }
    }
}

struct Bench {
    memory: GuestMemory,
    rings: Vec<Ring>,
    world: World,
    device: NetDevice,
    interrupt: Arc<Resets>,
    manager: EventManager<Subscriber>,
    active: SubscriberId,
    /// The driver has kept to the rules of its rings, and the backend has not failed.
    sound: bool,
    mergeable: bool,
}

impl Bench {
    fn new(choices: &mut Choices<'_>) -> Self {
        let [flags, offloads, length, features] = [(); 4].map(|()| choices.byte());
        let header = flags & 1 != 0;
        let of = |bits: u8| Offloads {
            checksum: bits & 1 != 0,
            tso4: bits & 2 != 0,
            tso6: bits & 4 != 0,
            uso: bits & 8 != 0,
        };
        let info = NetInfo {
            mac: None,
            mtu: None,
            queue_pairs: 1 + u16::from(flags >> 1) % PAIRS,
            header,
            send: of(offloads),
            receive: of(offloads >> 4),
            max_frame: 60 + usize::from(length) * 20,
            link_up: true,
        };
        let (backend, world) = Backend::new(info);
        let settings = Settings {
            mac: [2, 0, 0, 0, 0, 1],
            mtu: (flags & 4 != 0).then_some(68),
            queue_pairs: PAIRS,
            ..Settings::default()
        };
        let mut device = NetDevice::new("net0", Box::new(backend), settings);
        // Which of the offered features a driver accepts is its affair.
        let spread = u64::from(features).wrapping_mul(0x0101_0101_0101_0101);
        let accepted = device.features() & !spread;
        device.ack_features(accepted);
        let memory = GuestMemory::from_ranges(&[
            (GuestAddress(0), SEAM as usize),
            (GuestAddress(SEAM), (RAM - SEAM) as usize),
        ]);
        let memory = memory.expect("little memory");
        let interrupt = Arc::new(Resets::default());
        let mut manager = EventManager::new().expect("an epoll descriptor");
        let event_idx = flags & 8 != 0;
        let bases = (0..=CONTROL as u64).map(|index| RING * (1 + index));
        let rings: Vec<_> = bases.map(|base| Ring::new(base, event_idx)).collect();
        let active = activate(&device, &memory, &rings, &interrupt, &mut manager);
        Bench {
            memory,
            rings,
            world,
            device,
            interrupt,
            manager,
            active,
            sound: true,
            mergeable: accepted & MERGEABLE != 0,
        }
    }

    fn step(&mut self, choices: &mut Choices<'_>) {
        let what = choices.byte();
        let pair = usize::from(what >> 4) % usize::from(PAIRS);
        let (receive, transmit) = (2 * pair, 2 * pair + 1);
        match what % 16 {
            0 | 1 => {
                let parts = parts(choices, 0x4000);
                self.rings[receive].add(&self.memory, &parts, 2);
            }
            2 | 3 => {
                let parts = parts(choices, 0);
                let header = choices.bytes(NET_HEADER);
                self.write(parts[0].0, header);
                self.rings[transmit].add(&self.memory, &parts, 0);
            }
            4 | 5 => self.world.comes(pair as u16, choices),
            6 => self.world.allow(usize::from(choices.byte() % 4)),
            7 => self.command(choices),
            8 => self.write(u64::from(choices.byte()) * 0x200, choices.bytes(16)),
            9 => self.reset(),
            10 => {
                self.world.state().link = Some(choices.byte() & 1 != 0);
                self.world.wake();
            }
            11 => self.rings[usize::from(what >> 4) % 5].kick(),
            // From here on the driver breaks its rings.
            12 | 13 => self.break_descriptor(usize::from(what >> 4) % 5, choices),
            14 => self.break_index(usize::from(what >> 4) % 5, choices),
            _ => {
                self.sound = false;
                self.world.state().broken = choices.byte() & 1 != 0;
            }
        }
    }

    /// Writes where a chain may be, and where rings may be when `at` is there.
    fn write(&mut self, at: u64, bytes: &[u8]) {
        if at < DATA {
            self.sound = false;
        }
        // The last bytes of memory may be fewer.
        let _ = self.memory.write(bytes, GuestAddress(at));
    }

    fn command(&mut self, choices: &mut Choices<'_>) {
        let [class, command, pairs, answer] = [(); 4].map(|()| choices.byte() % 5);
        let place = DATA + 0x1000;
        self.write(place, &[class, command, pairs, 0]);
        let parts = [(place, 4), (place + 4, u32::from(answer))];
        self.rings[CONTROL].add_mixed(&self.memory, &parts);
    }

    /// Makes a descriptor anything, and mostly a chain that begins with it available.
    fn break_descriptor(&mut self, ring: usize, choices: &mut Choices<'_>) {
        self.sound = false;
        let [index, place, len, flags] = [(); 4].map(|()| choices.byte());
        let address = match place & 7 {
            0 => u64::MAX - u64::from(place),
            1 => RAM - u64::from(len),
            2 => SEAM - u64::from(len),
            // Rings are memory as well.
            3 => u64::from(place) * 16,
            _ => DATA + u64::from(place) * 16,
        };
        let len = match len & 7 {
            0 => u32::MAX - u32::from(len),
            1 => u32::from(len) << 12,
            _ => u32::from(len) * 16,
        };
        let ring = &mut self.rings[ring];
        let index = u16::from(index) % (QUEUE + 1);
        let next = u16::from(choices.byte()) % (QUEUE + 2);
        let descriptor = Descriptor::new(address, len, u16::from(flags & 7), next);
        let at = GuestAddress(ring.base + u64::from(index) * 16);
        self.memory
            .write_obj(descriptor, at)
            .expect("it is in memory");
        if flags & 8 == 0 {
            ring.make_available(&self.memory, index);
        }
        ring.kick();
    }

    fn break_index(&mut self, ring: usize, choices: &mut Choices<'_>) {
        self.sound = false;
        let ring = &mut self.rings[ring];
        ring.available = ring.available.wrapping_add(u16::from(choices.byte() % 32));
        ring.publish(&self.memory);
        ring.kick();
    }

    /// The driver resets the card and starts it again, with rings that are sound.
    fn reset(&mut self) {
        let subscriber = self.manager.remove_subscriber(self.active);
        drop(subscriber.expect("it is there"));
        assert!(self.world.state().setup.is_none(), "it runs after a reset");
        {
            let mut state = self.world.state();
            state.broken = false;
            state.incoming.iter_mut().for_each(VecDeque::clear);
        }
        self.interrupt.0.store(false, Ordering::Relaxed);
        for ring in &mut self.rings {
            *ring = Ring::new(ring.base, ring.event_idx);
            self.memory
                .write_slice(&[0; RING as usize], GuestAddress(ring.base))
                .expect("it is in memory");
        }
        self.sound = true;
        self.active = activate(
            &self.device,
            &self.memory,
            &self.rings,
            &self.interrupt,
            &mut self.manager,
        );
    }

    /// Runs the event loop until the device has nothing to do.
    fn settle(&mut self) {
        let mut rounds = 0..ROUNDS;
        let quiet = rounds.any(|_| self.manager.run_with_timeout(0).expect("epoll works") == 0);
        assert!(quiet, "the device does not become quiet");
    }

    fn rings_hold(&mut self) {
        assert!(
            !self.interrupt.0.load(Ordering::Relaxed),
            "the rings were sound"
        );
        let state = self.world.state();
        let used = state.setup.map_or(0, |setup| setup.queue_pairs);
        for (index, ring) in self.rings.iter_mut().enumerate() {
            ring.take_back(&self.memory, true);
            let pair = index / 2;
            let all_back = ring.available == ring.used(&self.memory);
            match index {
                // Without a control queue, or with it elsewhere, nobody looks there.
                CONTROL => {}
                // A queue that the driver does not say it has may be no queue.
                _ if pair >= usize::from(used) => {}
                _ if index % 2 == 1 => {
                    assert!(all_back || state.room == 0, "a frame was not sent");
                }
                // Where a frame may take several buffers, it may wait for them.
                _ if self.mergeable => {}
                _ => {
                    let none = state.incoming[pair].is_empty();
                    assert!(all_back || none, "a frame did not come");
                }
            }
        }
    }
}

fn activate(
    device: &NetDevice,
    memory: &GuestMemory,
    rings: &[Ring],
    interrupt: &Arc<Resets>,
    manager: &mut EventManager<Subscriber>,
) -> SubscriberId {
    let count = device.queue_max_sizes().len();
    let queues = rings.iter().take(count).map(|ring| Some(ring.active()));
    let interrupt = Arc::clone(interrupt) as _;
    let subscriber = device.subscriber(memory.clone(), queues.collect(), interrupt);
    manager.add_subscriber(subscriber.expect("the backend starts"))
}

/// Up to four pieces of the guest's memory, of all lengths.
fn parts(choices: &mut Choices<'_>, offset: u64) -> Vec<(u64, u32)> {
    let count = 1 + usize::from(choices.byte()) % usize::from(PARTS);
    let mut at = DATA + offset;
    (0..count)
        .map(|_| {
            let len = u32::from(choices.byte());
            let len = if len & 1 == 0 { len } else { len * 16 };
            let part = (at, len);
            at += u64::from(len);
            part
        })
        .collect()
}

#[derive(Default)]
struct Resets(AtomicBool);

impl Interrupt for Resets {
    fn notify_queue(&self, _index: u16) {}

    fn notify_config(&self) {}

    fn needs_reset(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A ring of the driver. Good chains have places of their own in the table.
struct Ring {
    base: u64,
    event_idx: bool,
    kick: EventFd,
    available: u16,
    checked: u16,
    /// What is under way in each place: bytes that the device may write.
    out: [Option<u32>; PLACES as usize],
}

impl Ring {
    fn new(base: u64, event_idx: bool) -> Self {
        Ring {
            base,
            event_idx,
            kick: EventFd::new(EFD_NONBLOCK).expect("an eventfd"),
            available: 0,
            checked: 0,
            out: [None; PLACES as usize],
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

    fn kick(&self) {
        self.kick.write(1).expect("the counter is small");
    }

    fn used(&self, memory: &GuestMemory) -> u16 {
        memory
            .load(GuestAddress(self.base + 0x802), Ordering::Acquire)
            .expect("it is in memory")
    }

    /// Makes a chain available whose first part the device reads and whose others it
    /// writes.
    fn add_mixed(&mut self, memory: &GuestMemory, parts: &[(u64, u32)]) {
        self.add_chain(memory, parts, |index| if index == 0 { 0 } else { 2 });
    }

    /// Makes a chain available, unless too many are under way.
    fn add(&mut self, memory: &GuestMemory, parts: &[(u64, u32)], flags: u16) {
        self.add_chain(memory, parts, |_| flags);
    }

    fn add_chain(
        &mut self,
        memory: &GuestMemory,
        parts: &[(u64, u32)],
        flags: impl Fn(usize) -> u16,
    ) {
        self.take_back(memory, false);
        let Some(place) = self.out.iter().position(Option::is_none) else {
            return;
        };
        let head = place as u16 * PARTS;
        let mut room = 0;
        for (index, &(address, len)) in parts.iter().enumerate() {
            let last = index + 1 == parts.len();
            let flags = flags(index);
            if flags & 2 != 0 {
                room += len;
            }
            let this = head + index as u16;
            let descriptor = Descriptor::new(address, len, flags | u16::from(!last), this + 1);
            memory
                .write_obj(descriptor, GuestAddress(self.base + u64::from(this) * 16))
                .expect("it is in memory");
        }
        self.out[place] = Some(room);
        self.make_available(memory, head);
        self.kick();
    }

    fn make_available(&mut self, memory: &GuestMemory, head: u16) {
        let slot = self.base + 0x404 + u64::from(self.available % QUEUE) * 2;
        memory
            .write_obj(head, GuestAddress(slot))
            .expect("it is in memory");
        self.available = self.available.wrapping_add(1);
        self.publish(memory);
    }

    fn publish(&self, memory: &GuestMemory) {
        let index = GuestAddress(self.base + 0x402);
        memory
            .store(self.available, index, Ordering::Release)
            .expect("it is in memory");
    }

    /// Takes back the chains that the device is done with, and checks what it says of
    /// them while the rings are `sound`.
    fn take_back(&mut self, memory: &GuestMemory, sound: bool) {
        while self.checked != self.used(memory) {
            let slot = self.base + 0x804 + u64::from(self.checked % QUEUE) * 8;
            self.checked = self.checked.wrapping_add(1);
            let [head, len]: [u32; 2] =
                [0, 4].map(|at| memory.read_obj(GuestAddress(slot + at)).expect("memory"));
            let place = self.out.get_mut(head as usize / usize::from(PARTS));
            let room = place.and_then(Option::take);
            assert!(
                !sound || room.is_some_and(|room| len <= room),
                "{len} bytes"
            );
        }
    }
}

/// What is behind the card.
struct State {
    /// Frames for the guest; `None`: one that is too long for anybody.
    incoming: Vec<VecDeque<Option<Frame>>>,
    room: usize,
    interest: Vec<Directions>,
    link: Option<bool>,
    setup: Option<NetSetup>,
    broken: bool,
}

struct Frame {
    bytes: Vec<u8>,
    /// The length that the backend says it has.
    claim: usize,
}

#[derive(Clone)]
struct World {
    state: Arc<Mutex<State>>,
    wake: Arc<UnixStream>,
    longest: usize,
}

impl World {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    fn wake(&self) {
        // Full when a card that has failed reads no more: it is awake then, too.
        let _ = (&*self.wake).write(&[0]);
    }

    /// Something comes for queue pair `pair`, if there is one.
    fn comes(&self, pair: u16, choices: &mut Choices<'_>) {
        let [len, oddity, byte] = [(); 3].map(|()| choices.byte());
        let len = (usize::from(len) * 20 + usize::from(oddity >> 4)).min(self.longest);
        let claim = match oddity & 7 {
            0 => len / 2,
            1 => usize::MAX,
            _ => len,
        };
        let frame = (oddity & 15 != 15).then(|| Frame {
            bytes: vec![byte; len],
            claim,
        });
        let mut state = self.state();
        let Some(queue) = state.incoming.get_mut(usize::from(pair)) else {
            return;
        };
        if queue.len() < WAITING {
            queue.push_back(frame);
        }
        if state.interest[usize::from(pair)].receive {
            self.wake();
        }
    }

    fn allow(&self, room: usize) {
        let mut state = self.state();
        state.room = room;
        if room > 0 && state.interest.iter().any(|interest| interest.send) {
            self.wake();
        }
    }
}

struct Backend {
    info: NetInfo,
    world: World,
    woken: UnixStream,
}

impl Backend {
    fn new(info: NetInfo) -> (Self, World) {
        let queues = usize::from(info.queue_pairs);
        let (woken, wake) = UnixStream::pair().expect("two descriptors");
        for end in [&woken, &wake] {
            end.set_nonblocking(true).expect("an open socket");
        }
        let state = State {
            incoming: (0..queues).map(|_| VecDeque::new()).collect(),
            room: 2,
            interest: vec![Directions::default(); queues],
            link: None,
            setup: None,
            broken: false,
        };
        let world = World {
            state: Arc::new(Mutex::new(state)),
            wake: Arc::new(wake),
            longest: info.max_frame,
        };
        let backend = Backend {
            info,
            world: world.clone(),
            woken,
        };
        (backend, world)
    }

    fn running(&self, queue: u16) -> Result<(MutexGuard<'_, State>, NetSetup), NetError> {
        let state = self.world.state();
        let setup = state.setup.expect("it is started");
        assert!(queue < setup.queue_pairs, "queue pair {queue} is not used");
        if state.broken {
            return Err(NetError::Failed("out of order".into()));
        }
        Ok((state, setup))
    }
}

impl NetBackend for Backend {
    fn info(&self) -> &NetInfo {
        &self.info
    }

    fn start(&mut self, setup: &NetSetup) -> Result<(), NetError> {
        let mut state = self.world.state();
        assert!(state.setup.is_none(), "started twice");
        assert!((1..=self.info.queue_pairs).contains(&setup.queue_pairs));
        state.setup = Some(*setup);
        state.interest.fill(Directions::default());
        Ok(())
    }

    fn stop(&mut self) {
        self.world.state().setup = None;
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }

    fn process(&mut self) -> Result<NetNews, NetError> {
        let _ = (&self.woken).read(&mut [0; 64]);
        let (mut state, _) = self.running(0)?;
        let mut news = NetNews {
            ready: Vec::new(),
            link: state.link.take(),
        };
        for (queue, interest) in (0..).zip(&state.interest) {
            let ready = Directions {
                receive: interest.receive && !state.incoming[usize::from(queue)].is_empty(),
                send: interest.send && state.room > 0,
            };
            news.ready.push((queue, ready));
        }
        // Of no queue that there is.
        news.ready.push((u16::MAX, Directions::default()));
        Ok(news)
    }

    fn flush(&mut self, queue: u16) -> Result<(), NetError> {
        self.running(queue).map(drop)
    }

    fn set_interest(&mut self, queue: u16, directions: Directions) -> Result<(), NetError> {
        let (mut state, _) = self.running(queue)?;
        state.interest[usize::from(queue)] = directions;
        let waiting = !state.incoming[usize::from(queue)].is_empty();
        if directions.receive && waiting || directions.send && state.room > 0 {
            self.world.wake();
        }
        Ok(())
    }

    fn send(&mut self, queue: u16, frame: &[VolatileSlice<'_>]) -> Result<(), NetError> {
        let (mut state, setup) = self.running(queue)?;
        assert!(frame.len() <= MAX_FRAME_PIECES);
        let len: usize = frame.iter().map(VolatileSlice::len).sum();
        assert!((14..=self.info.max_frame).contains(&len), "{len} bytes");
        if self.info.header {
            let mut header = [0_u8; NET_HEADER];
            assert_eq!(frame[0].copy_to(&mut header), NET_HEADER);
            assert!(header[0] & !1 == 0 && (header[0] == 0 || setup.send.checksum));
            let allowed = match header[1] {
                0 => true,
                1 => setup.send.tso4,
                4 => setup.send.tso6,
                5 => setup.send.uso,
                _ => false,
            };
            assert!(allowed, "{header:?}");
        }
        if state.room == 0 {
            return Err(NetError::WouldBlock);
        }
        state.room -= 1;
        if len == 77 {
            return Err(NetError::FrameSize);
        }
        Ok(())
    }

    fn receive(&mut self, queue: u16, room: &[VolatileSlice<'_>]) -> Result<usize, NetError> {
        let (mut state, _) = self.running(queue)?;
        assert!(room.len() <= MAX_FRAME_PIECES);
        let space: usize = room.iter().map(VolatileSlice::len).sum();
        assert!(space >= self.info.max_frame, "{space} bytes");
        let frame = match state.incoming[usize::from(queue)].pop_front() {
            None => return Err(NetError::WouldBlock),
            Some(None) => return Err(NetError::FrameSize),
            Some(Some(frame)) => frame,
        };
        let mut rest = frame.bytes.as_slice();
        for piece in room {
            let (now, later) = rest.split_at(piece.len().min(rest.len()));
            piece.copy_from(now);
            rest = later;
        }
        Ok(frame.claim)
    }
}
