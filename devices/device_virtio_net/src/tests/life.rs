//! The device as its transport sees it, with an event loop on another thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use device_model::{Activation, EventHandle, Threads};
use event_manager::{EventOps, EventSet, Events, MutEventSubscriber};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::*;

/// An event loop on a thread of its own, ended and joined when dropped.
struct Loop {
    events: EventHandle,
    end: Arc<AtomicBool>,
    wake: EventFd,
    thread: Option<JoinHandle<()>>,
}

struct Waker(EventFd);

impl MutEventSubscriber for Waker {
    fn process(&mut self, _: Events, _: &mut EventOps) {
        let _ = self.0.read();
    }

    fn init(&mut self, ops: &mut EventOps) {
        ops.add(Events::new(&self.0, EventSet::IN)).unwrap();
    }
}

impl Loop {
    fn start() -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let wake = EventFd::new(EFD_NONBLOCK).unwrap();
        let waker = Waker(wake.try_clone().unwrap());
        let (handles, handle) = std::sync::mpsc::channel();
        let ended = Arc::clone(&end);
        let thread = std::thread::spawn(move || {
            let mut manager = EventManager::<Subscriber>::new().unwrap();
            manager.add_subscriber(Box::new(waker));
            let events = EventHandle::new(manager.remote_endpoint());
            handles.send(events).unwrap();
            while !ended.load(Ordering::Acquire) {
                manager.run().unwrap();
            }
        });
        Loop {
            events: handle.recv().unwrap(),
            end,
            wake,
            thread: Some(thread),
        }
    }

    fn activation(&self, driver: &Driver) -> Activation {
        Activation {
            memory: driver.memory.clone(),
            queues: driver.device_side(),
            interrupt: Arc::clone(&driver.interrupts) as _,
            events: self.events.clone(),
            threads: Threads::new(|_| Ok(())),
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
        self.wake.write(1).unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn device(settings: Settings) -> (NetDevice, World) {
    let (backend, world) = MockBackend::new(info());
    let mut device = NetDevice::new("net0", Box::new(backend), settings);
    device.ack_features(device.features());
    (device, world)
}

/// Calls `look` until it finds something.
fn wait<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_millis(LIMIT_MS as u64);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "it does not come");
        std::thread::yield_now();
    }
}

#[test]
fn device_serves_an_activation_and_the_next() {
    let event_loop = Loop::start();
    let (mut device, world) = device(Settings::default());
    for round in 0..3 {
        let mut driver = Driver::new(2);
        driver.offer_many(RX, 4);
        device.activate(event_loop.activation(&driver)).unwrap();
        world.frame(&pattern(60, round));
        let got = wait(|| driver.take(RX));
        assert_eq!(got.frame, pattern(60, round));
        driver.send(TX, &PLAIN, &pattern(70, round), &[]);
        wait(|| (driver.returned(TX) == 1).then_some(()));
        assert_eq!(world.sent(), [(0, pattern(70, round))]);
        device.deactivate();
        assert!(world.state().setup.is_none());
    }
    assert_eq!(world.state().starts, 3);
    device.deactivate();
}

#[test]
fn nothing_stalls_while_driver_and_device_race() {
    const FRAMES: u32 = 2000;
    // Steps by which the driver is late, to meet the device in each of its own.
    const LATENESS: u32 = 400;
    for event_idx in [true, false] {
        let event_loop = Loop::start();
        let (mut device, world) = device(Settings::default());
        let mut driver = Driver::new(2);
        driver.event_idx = event_idx;
        (0..FRAMES).for_each(|seed| world.frame(&pattern(20, seed)));
        device.activate(event_loop.activation(&driver)).unwrap();
        // One buffer and one frame of the guest at a time, so that both queues are
        // empty all the time.
        let place = driver.place(1536);
        for seed in 0..FRAMES {
            (0..seed % LATENESS).for_each(|_| std::hint::spin_loop());
            driver.offer_parts(RX, &[(place, 1536)]);
            wait(|| driver.has_used(RX).then_some(()));
            if seed % 2 == 0 {
                driver.send(TX, &PLAIN, &pattern(20, seed), &[]);
                wait(|| driver.take_used(TX));
            }
            driver.take_used(RX).unwrap();
        }
        assert_eq!(world.sent().len(), FRAMES as usize / 2);
    }
}

#[test]
fn active_device_that_is_dropped_stops_its_backend() {
    let event_loop = Loop::start();
    let (mut device, world) = device(Settings::default());
    let driver = Driver::new(2);
    device.activate(event_loop.activation(&driver)).unwrap();
    assert!(world.state().setup.is_some());
    drop(device);
    assert!(world.state().setup.is_none());
}

#[test]
fn activation_without_a_queue_is_refused_and_can_be_repeated() {
    let event_loop = Loop::start();
    let (mut device, _world) = device(Settings::default());
    let driver = Driver::new(2);
    for missing in [0, 1] {
        let mut activation = event_loop.activation(&driver);
        activation.queues[missing] = None;
        let error = device.activate(activation).unwrap_err().to_string();
        assert_eq!(error, format!("queue {missing} is needed and not ready"));
    }
    device.activate(event_loop.activation(&driver)).unwrap();
}

#[test]
fn activation_after_the_event_loop_ended_is_an_error() {
    let event_loop = Loop::start();
    let driver = Driver::new(2);
    let activation = event_loop.activation(&driver);
    drop(event_loop);
    let (mut device, world) = device(Settings::default());
    let error = device.activate(activation).unwrap_err().to_string();
    assert_eq!(error, "join the event loop");
    assert!(world.state().setup.is_none(), "it was stopped");
}

#[test]
fn limits_go_by_real_time_outside_of_tests() {
    let event_loop = Loop::start();
    let (mut device, world) = device(Settings {
        send_rate: Some(crate::Rate {
            bytes: 1_000_000.try_into().unwrap(),
            burst: 1.try_into().unwrap(),
        }),
        ..Settings::default()
    });
    let mut driver = Driver::new(2);
    device.activate(event_loop.activation(&driver)).unwrap();
    let start = Instant::now();
    for seed in 0..20 {
        driver.send(TX, &PLAIN, &pattern(1000, seed), &[]);
    }
    let mut returned = 0;
    wait(|| {
        returned += driver.returned(TX);
        (returned == 20).then_some(())
    });
    assert!(start.elapsed() >= Duration::from_millis(18));
    assert_eq!(world.sent().len(), 20);
}
