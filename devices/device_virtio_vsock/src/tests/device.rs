//! The device as its transport sees it, with an event loop on another thread.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use device_model::{
    Activation, DeviceEnv, DeviceFactory, DeviceSpec, EventHandle, NewDevice, Subscriber, Threads,
    VirtioDevice, stream_port,
};
use event_manager::{EventManager, MutEventSubscriber};
use serde_json::json;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::driver::{Driver, Packet};
use crate::Factory;
use crate::packet::Op;

fn create(
    options: serde_json::Value,
    attachment: Option<Box<dyn std::any::Any + Send>>,
) -> anyhow::Result<Box<dyn VirtioDevice>> {
    let spec = DeviceSpec {
        id: "vsock0".into(),
        driver: "virtio-vsock".into(),
        options,
        attachment,
    };
    let env = DeviceEnv {
        vcpus: 1,
        line: Arc::new(EventFd::new(EFD_NONBLOCK).unwrap()),
        threads: Threads::new(|_| Ok(())),
    };
    match Factory.create(spec, &env)? {
        NewDevice::Virtio(device) => Ok(device),
        _ => panic!("not a serial port"),
    }
}

/// An event loop on a thread of its own, ended and joined when dropped.
struct Loop {
    events: EventHandle,
    end: Arc<AtomicBool>,
    wake: EventFd,
    thread: Option<JoinHandle<()>>,
}

struct Waker(EventFd);

impl MutEventSubscriber for Waker {
    fn process(&mut self, _: event_manager::Events, _: &mut event_manager::EventOps) {
        let _ = self.0.read();
    }

    fn init(&mut self, ops: &mut event_manager::EventOps) {
        ops.add(event_manager::Events::new(
            &self.0,
            event_manager::EventSet::IN,
        ))
        .unwrap();
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
            event_manager::SubscriberOps::add_subscriber(
                &mut manager,
                Box::new(waker) as Subscriber,
            );
            handles
                .send(EventHandle::new(manager.remote_endpoint()))
                .unwrap();
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
        let (rx, tx) = driver.device_side(true);
        Activation {
            memory: driver.memory.clone(),
            queues: vec![Some(rx), Some(tx), None],
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

/// The next packet, which the device sends from another thread.
fn next_packet(driver: &mut Driver) -> Packet {
    loop {
        if let Some(packet) = driver.take() {
            return packet;
        }
        std::thread::yield_now();
    }
}

fn read_to_end(mut stream: UnixStream) -> Vec<u8> {
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn device_serves_an_activation_and_the_next() {
    let event_loop = Loop::start();
    let (owner, backend) = stream_port().unwrap();
    let mut device = create(json!({"cid": 3}), Some(Box::new(backend))).unwrap();
    let early = owner.connect(1025).unwrap();
    for round in 0..3 {
        let mut driver = Driver::new();
        driver.offer_many(8);
        device.activate(event_loop.activation(&driver)).unwrap();
        let stream = match round {
            0 => early.try_clone().unwrap(),
            _ => owner.connect(1025).unwrap(),
        };
        let request = next_packet(&mut driver);
        assert_eq!(request.op(), Op::Request);
        let port = request.header.src_port;
        driver.send_raw(Driver::header(Op::Response, 1025, port), &[], &[]);
        let mut data = Driver::header(Op::ReadWrite, 1025, port);
        data.len = 5;
        driver.send_raw(data, b"hello", &[10, 46]);
        let mut five = [0; 5];
        (&stream).read_exact(&mut five).unwrap();
        assert_eq!(&five, b"hello");
        device.deactivate();
        assert!(read_to_end(stream).is_empty());
    }
    device.deactivate();
}

#[test]
fn dropped_device_ends_what_its_owner_waits_for() {
    let (owner, backend) = stream_port().unwrap();
    let device = create(json!({}), Some(Box::new(backend))).unwrap();
    let waiting = owner.connect(1025).unwrap();
    let incoming = owner.listen(1024).unwrap();
    drop(device);
    assert!(read_to_end(waiting).is_empty());
    assert!(incoming.recv().is_err());
    let error = owner.connect(1025).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotConnected);
}

#[test]
fn active_device_that_is_dropped_leaves_the_event_loop() {
    let event_loop = Loop::start();
    let (owner, backend) = stream_port().unwrap();
    let mut device = create(json!({}), Some(Box::new(backend))).unwrap();
    let mut driver = Driver::new();
    driver.offer_many(4);
    device.activate(event_loop.activation(&driver)).unwrap();
    let stream = owner.connect(1025).unwrap();
    assert_eq!(next_packet(&mut driver).op(), Op::Request);
    drop(device);
    assert!(read_to_end(stream).is_empty());
}

#[test]
fn activation_without_a_queue_is_refused_and_can_be_repeated() {
    let event_loop = Loop::start();
    let mut device = create(json!({}), None).unwrap();
    let driver = Driver::new();
    let mut activation = event_loop.activation(&driver);
    activation.queues[1] = None;
    let error = device.activate(activation).unwrap_err().to_string();
    assert_eq!(error, "queue 1 is needed and not ready");
    device.activate(event_loop.activation(&driver)).unwrap();
}

#[test]
fn activation_after_the_event_loop_ended_is_an_error() {
    let event_loop = Loop::start();
    let driver = Driver::new();
    let activation = event_loop.activation(&driver);
    drop(event_loop);
    let mut device = create(json!({}), None).unwrap();
    let error = device.activate(activation).unwrap_err().to_string();
    assert_eq!(error, "join the event loop");
}

#[test]
fn configuration_space_is_the_context_id_and_zeros() {
    let device = create(json!({"cid": 0x1234_5678_u32}), None).unwrap();
    let mut data = [0xff; 12];
    device.read_config(0, &mut data);
    assert_eq!(data, [0x78, 0x56, 0x34, 0x12, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut byte = [0xff];
    device.read_config(1, &mut byte);
    assert_eq!(byte, [0x56]);
    device.read_config(u64::MAX, &mut byte);
    assert_eq!(byte, [0]);
}

#[test]
fn wrong_options_are_refused_by_name() {
    let refused = |options| format!("{:#}", create(options, None).err().unwrap());
    let unknown = refused(json!({"cids": 3}));
    assert!(unknown.contains("unknown field `cids`"), "{unknown}");
    assert!(unknown.contains("`cid` or `uds`"), "{unknown}");
    assert!(refused(json!({"cid": 2})).contains("option cid is 2"));
    assert!(refused(json!({"cid": u32::MAX})).contains("option cid"));
    let missing = refused(json!({"uds": "/nonexistent/v.sock"}));
    assert!(missing.contains("option uds"), "{missing}");
    assert!(missing.contains("/nonexistent/v.sock"), "{missing}");
    let attachment = create(json!({}), Some(Box::new(5))).err().unwrap();
    assert!(attachment.to_string().contains("stream backend"));
}

#[test]
fn device_without_options_has_the_lowest_context_id() {
    let device = create(serde_json::Value::Null, None).unwrap();
    let mut data = [0; 8];
    device.read_config(0, &mut data);
    assert_eq!(u64::from_le_bytes(data), 3);
    assert_eq!(device.device_type(), 19);
    assert!(
        device
            .queue_max_sizes()
            .iter()
            .all(|size| size.is_power_of_two())
    );
}
