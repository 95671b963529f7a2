//! The device against a driver and a backend of our own, on a real event loop that
//! is run until nothing is left to do. Nothing sleeps, and time is what a test says.

mod backend;
mod configuration;
mod driver;
mod ends;
mod hostile;
mod lengths;
mod life;
mod limits;
mod multiqueue;
mod random;
mod receive;
mod transmit;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use device_model::net::{NET_HEADER, NetCounters, NetInfo};
use device_model::{Subscriber, VirtioDevice};
use event_manager::{EventManager, SubscriberId, SubscriberOps};

use crate::{NetDevice, Settings};

use backend::{Incoming, MockBackend, World, info};
use driver::{Driver, Received};

/// The longest a test waits for an event that must come.
const LIMIT_MS: i32 = 20_000;
/// Rounds of the event loop after which a device is not quiet.
const ROUNDS: usize = 10_000;

const RX: u16 = 0;
const TX: u16 = 1;
const PLAIN: [u8; NET_HEADER] = [0; NET_HEADER];

/// A device with its driver and what is behind it.
struct Bench {
    driver: Driver,
    world: World,
    device: NetDevice,
    counters: Arc<NetCounters>,
    time: Arc<Mutex<Instant>>,
    manager: EventManager<Subscriber>,
    id: Option<SubscriberId>,
}

/// What a bench can be asked for.
struct Wish {
    info: NetInfo,
    settings: Settings,
    /// Features that the driver does not accept.
    without: u64,
    event_idx: bool,
}

impl Default for Wish {
    fn default() -> Self {
        Wish {
            info: info(),
            settings: Settings {
                mac: [2, 0, 0, 0, 0, 1],
                queue_pairs: 8,
                ..Settings::default()
            },
            without: 0,
            event_idx: true,
        }
    }
}

impl Bench {
    /// An active device whose driver has offered 32 receive buffers.
    fn new() -> Self {
        let mut bench = Bench::with(Wish::default());
        bench.driver.offer_many(RX, 32);
        bench.run();
        bench
    }

    /// An active device whose driver has offered nothing.
    fn with(wish: Wish) -> Self {
        let (backend, world) = MockBackend::new(wish.info);
        let counters = Arc::clone(&wish.settings.counters);
        let time = Arc::new(Mutex::new(Instant::now()));
        let clock = Arc::clone(&time);
        let mut device = NetDevice::with_clock(
            "net0".into(),
            Box::new(backend),
            wish.settings,
            Arc::new(move || *clock.lock().unwrap()),
        );
        device.ack_features(device.features() & !wish.without);
        let mut driver = Driver::new(device.queue_max_sizes().len());
        driver.event_idx = wish.event_idx;
        let mut bench = Bench {
            driver,
            world,
            device,
            counters,
            time,
            manager: EventManager::new().unwrap(),
            id: None,
        };
        bench.activate();
        bench.run();
        bench
    }

    /// The driver starts the device.
    fn activate(&mut self) {
        let subscriber = self
            .device
            .subscriber(
                self.driver.memory.clone(),
                self.driver.device_side(),
                Arc::clone(&self.driver.interrupts) as _,
            )
            .unwrap();
        self.id = Some(self.manager.add_subscriber(subscriber));
    }

    /// The driver resets the device.
    fn deactivate(&mut self) {
        let id = self.id.take().unwrap();
        drop(self.manager.remove_subscriber(id).unwrap());
    }

    /// Runs the event loop until nothing is ready.
    fn run(&mut self) {
        let quiet = (0..ROUNDS).any(|_| self.manager.run_with_timeout(0).unwrap() == 0);
        assert!(quiet, "the device does not become quiet");
    }

    /// One round of the event loop, which must have something to do.
    fn round(&mut self) {
        assert!(self.manager.run_with_timeout(LIMIT_MS).unwrap() > 0);
    }

    /// Time passes.
    fn pass(&mut self, time: Duration) {
        *self.time.lock().unwrap() += time;
    }

    /// All frames that the guest gets until nothing is ready.
    fn received(&mut self) -> Vec<Received> {
        self.run();
        std::iter::from_fn(|| self.driver.take(RX)).collect()
    }

    /// All frames that the guest gets, in one buffer each with a plain header.
    fn frames(&mut self) -> Vec<Vec<u8>> {
        let plain = |received: Received| {
            assert_eq!(received.buffers, 1);
            assert_eq!(received.header[..10], PLAIN[..10]);
            received.frame
        };
        self.received().into_iter().map(plain).collect()
    }

    /// Sends a frame of the guest and runs.
    fn send(&mut self, frame: &[u8]) {
        self.driver.send(TX, &PLAIN, frame, &[NET_HEADER]);
        self.run();
    }
}

/// Bytes without a short period.
fn pattern(len: usize, seed: u32) -> Vec<u8> {
    let mut state = 0x2545_f491_u32 ^ seed.wrapping_mul(0x9e37_79b9);
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    })
    .take(len)
    .collect()
}
