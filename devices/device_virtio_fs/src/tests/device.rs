//! The device as a transport drives it, with its threads, and as a
//! configuration makes it.

use std::any::Any;
use std::io;
use std::sync::Mutex;

use device_model::{
    Activation, ActiveQueue, DeviceEnv, DeviceFactory, DeviceSpec, EventHandle, NewDevice,
    Subscriber, ThreadKind, VirtioDevice,
};
use event_manager::EventManager;
use serde_json::{Value, json};

use super::*;
use crate::tests::locks::lk_in;
use crate::{Factory, FileSystem, FileSystemDevice, Tag};

fn threads() -> Threads {
    Threads::new(|_| Ok(()))
}

fn device(mock: &Arc<Mock>, vcpus: u8) -> FileSystemDevice {
    let tag = Tag::new("work").unwrap();
    let options = options(Cache::Coherent, false);
    FileSystemDevice::new(
        "share",
        &tag,
        Arc::clone(mock) as _,
        options,
        vcpus,
        &threads(),
    )
    .unwrap()
}

/// An activation with a queue for each of `drivers`, and the queues' kicks.
fn activation(
    memory: &GuestMemory,
    line: &Arc<Line>,
    drivers: &[Option<Driver>],
) -> (Activation, Vec<EventFd>) {
    let kicks: Vec<EventFd> = drivers.iter().map(|_| event()).collect();
    let queues = drivers
        .iter()
        .zip(&kicks)
        .map(|(driver, kick)| {
            let queue = driver.as_ref()?.queue();
            let kick = kick.try_clone().unwrap();
            Some(ActiveQueue { queue, kick })
        })
        .collect();
    let events = EventManager::<Subscriber>::new().unwrap();
    let activation = Activation {
        memory: memory.clone(),
        queues,
        interrupt: Arc::clone(line) as _,
        events: EventHandle::new(events.remote_endpoint()),
        threads: threads(),
    };
    (activation, kicks)
}

/// Sends a request through a queue that a thread serves, and gives its reply.
fn exchange(driver: &mut Driver, kick: &EventFd, line: &Line, request: &[u8]) -> Reply {
    driver.put(request, REQUEST);
    driver.send(&[sent(REQUEST, request.len()), wanted(REPLY, 4096)]);
    kick.write(1).unwrap();
    await_event(&line.queue);
    let (_, used) = driver.used().expect("the chain comes back");
    reply(driver, REPLY, used, UNIQUE)
}

fn handshake() -> Vec<u8> {
    request(Opcode::Init as u32, UNIQUE, &init())
}

#[test]
fn configuration_space_has_the_tag_and_the_number_of_request_queues() {
    for (vcpus, queues) in [(0, 1), (1, 1), (2, 2), (4, 4), (32, 4)] {
        let device = device(&Arc::new(Mock::new()), vcpus);
        assert_eq!(device.device_type(), 26);
        assert_eq!(device.features(), 0);
        let mut sizes = vec![128];
        sizes.extend(vec![1024; queues]);
        assert_eq!(device.queue_max_sizes(), sizes);
        let mut config = [0xaa; 48];
        device.read_config(0, &mut config);
        assert_eq!(config[..5], *b"work\0");
        assert_eq!(config[4..36], [0; 32]);
        assert_eq!(config[36..40], (queues as u32).to_le_bytes());
        assert_eq!(config[40..], [0; 8]);
    }
    let device = device(&Arc::new(Mock::new()), 1);
    for offset in [40, 4000, u64::MAX - 3, u64::MAX] {
        let mut config = [0xaa; 4];
        device.read_config(offset, &mut config);
        assert_eq!(config, [0; 4]);
    }
}

#[test]
fn every_queue_is_served_until_deactivation() {
    let memory = memory();
    let line = Line::new();
    let mock = Arc::new(Mock::new());
    let mut device = device(&mock, 2);
    for _ in 0..3 {
        let drivers = [0, 1, 2].map(|index| Some(Driver::new(&memory, index)));
        let (activation, kicks) = activation(&memory, &line, &drivers);
        device.activate(activation).unwrap();
        let mut drivers = drivers.map(Option::unwrap);
        let reply = exchange(&mut drivers[1], &kicks[1], &line, &handshake());
        assert!(matches!(reply, Reply::Body(_)));
        for (driver, kick) in drivers.iter_mut().zip(&kicks) {
            let request = request(Opcode::Statfs as u32, UNIQUE, &[]);
            let reply = exchange(driver, kick, &line, &request);
            assert!(matches!(reply, Reply::Body(_)));
        }
        mock.calls();
        device.deactivate();
        assert_eq!(mock.calls(), ["reset"], "what the guest had open is closed");
        // No queue is touched any more.
        let head = drivers[1].send(&[sent(REQUEST, 40), wanted(REPLY, 4096)]);
        kicks[1].write(1).unwrap();
        device.deactivate();
        assert_eq!(drivers[1].used(), None, "{head}");
        assert!(mock.calls().is_empty());
    }
}

#[test]
fn session_ends_with_the_activation() {
    let memory = memory();
    let line = Line::new();
    let mut device = device(&Arc::new(Mock::new()), 1);
    let statfs = request(Opcode::Statfs as u32, UNIQUE, &[]);
    for _ in 0..2 {
        let drivers = [0, 1].map(|index| Some(Driver::new(&memory, index)));
        let (activation, kicks) = activation(&memory, &line, &drivers);
        device.activate(activation).unwrap();
        let [_, Some(mut driver)] = drivers else {
            unreachable!()
        };
        let early = exchange(&mut driver, &kicks[1], &line, &statfs);
        assert_eq!(early, Reply::Error(Errno::IO));
        exchange(&mut driver, &kicks[1], &line, &handshake());
        let reply = exchange(&mut driver, &kicks[1], &line, &statfs);
        assert!(matches!(reply, Reply::Body(_)));
        device.deactivate();
    }
}

#[test]
fn kick_before_activation_is_not_lost() {
    let memory = memory();
    let line = Line::new();
    let mut driver = Driver::new(&memory, 1);
    driver.put(&handshake(), REQUEST);
    driver.send(&[sent(REQUEST, handshake().len()), wanted(REPLY, 4096)]);
    let drivers = [Some(Driver::new(&memory, 0)), Some(driver)];
    let (activation, _kicks) = activation(&memory, &line, &drivers);
    let mut device = device(&Arc::new(Mock::new()), 1);
    device.activate(activation).unwrap();
    await_event(&line.queue);
}

#[test]
fn what_is_gathered_comes_back_though_nobody_kicks_for_it() {
    let memory = memory();
    let line = Line::new();
    let mut device = device(&Arc::new(Mock::new()), 1);
    let drivers = [0, 1].map(|index| Some(Driver::new(&memory, index)));
    let (mut activation, kicks) = activation(&memory, &line, &drivers);
    let [Some(mut driver), _] = drivers else {
        unreachable!()
    };
    let queue = driver.queue_with(true);
    activation.queues[0].as_mut().unwrap().queue = queue;
    device.activate(activation).unwrap();
    let forget = request(Opcode::Forget as u32, UNIQUE, &1u64.to_le_bytes());
    driver.put(&forget, REQUEST);
    let mut sent_so_far = 0;
    for count in [1, 3, 1, 50, 2] {
        driver.notify_after(sent_so_far + count - 1);
        for _ in 0..count {
            driver.send(&[sent(REQUEST, forget.len())]);
            sent_so_far += 1;
            if driver.kick_after() == sent_so_far {
                kicks[0].write(1).unwrap();
            }
        }
        await_event(&line.queue);
        for _ in 0..count {
            assert!(driver.used().is_some());
        }
    }
    device.deactivate();
}

#[test]
fn driver_may_leave_request_queues_but_not_the_first_two_queues() {
    let memory = memory();
    let line = Line::new();
    let driver = |index| Some(Driver::new(&memory, index));
    let mut device = device(&Arc::new(Mock::new()), 2);
    let (three, _kicks) = activation(&memory, &line, &[driver(0), driver(1), None]);
    device.activate(three).unwrap();
    device.deactivate();
    for (missing, drivers) in [
        (0, [None, driver(1), driver(2)]),
        (1, [driver(0), None, driver(2)]),
    ] {
        let (activation, _kicks) = activation(&memory, &line, &drivers);
        let error = device.activate(activation).unwrap_err();
        let expected = format!("queue {missing} is needed and not ready");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn deactivation_ends_a_wait_for_a_lock() {
    let memory = memory();
    let line = Line::new();
    let mock = Arc::new(Mock::new());
    let _held = mock.hold_lock().unwrap();
    let mut device = device(&mock, 1);
    for round in 0..10 {
        let drivers = [0, 1].map(|index| Some(Driver::new(&memory, index)));
        let (activation, kicks) = activation(&memory, &line, &drivers);
        device.activate(activation).unwrap();
        let [_, Some(mut driver)] = drivers else {
            unreachable!()
        };
        exchange(&mut driver, &kicks[1], &line, &handshake());
        let lock = lk_in(libc::F_WRLCK, 0, 9, false);
        let setlkw = request(Opcode::Setlkw as u32, 7, &lock);
        driver.put(&setlkw, REQUEST + 0x1000);
        driver.send(&[
            sent(REQUEST + 0x1000, setlkw.len()),
            wanted(REPLY + 0x2000, 16),
        ]);
        kicks[1].write(1).unwrap();
        // The queue is served on: it waits in another thread by now.
        let statfs = request(Opcode::Statfs as u32, UNIQUE, &[]);
        exchange(&mut driver, &kicks[1], &line, &statfs);
        if round % 2 == 0 {
            device.deactivate();
            assert_eq!(mock.calls().last().unwrap(), "reset");
        } else {
            // As when the machine is dropped.
            drop(std::mem::replace(&mut device, self::device(&mock, 1)));
        }
        assert_eq!(driver.used(), None, "the chain of the wait is not touched");
    }
    drop(device);
    assert_eq!(Arc::strong_count(&mock), 1, "no thread waits any more");
}

#[test]
fn broken_rings_ask_for_a_reset() {
    let memory = memory();
    let line = Line::new();
    let mut broken = Driver::new(&memory, 1);
    broken.offer(QUEUE);
    let drivers = [Some(Driver::new(&memory, 0)), Some(broken)];
    let (activation, _kicks) = activation(&memory, &line, &drivers);
    let mut device = device(&Arc::new(Mock::new()), 1);
    device.activate(activation).unwrap();
    await_event(&line.needs_reset);
    device.deactivate();
}

#[test]
fn threads_start_with_the_device_and_end_with_it() {
    let names = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&names);
    let threads = Threads::new(move |kind| {
        let name = std::thread::current().name().unwrap_or_default().to_owned();
        assert!(matches!(kind, ThreadKind::FileServer(_)));
        noted.lock().unwrap().push(name);
        Ok(())
    });
    let tag = Tag::new("t").unwrap();
    let options = options(Cache::Coherent, false);
    let mock = Arc::new(Mock::new());
    let fs = Arc::clone(&mock) as Arc<dyn FileSystem>;
    let device = FileSystemDevice::new("x", &tag, fs, options, 1, &threads).unwrap();
    let expected = ["fs0-x", "fs1-x"].map(str::to_owned);
    assert_eq!(*names.lock().unwrap(), expected);
    drop(device);
    assert_eq!(Arc::strong_count(&mock), 1, "no thread has it any more");
}

fn create(
    options: Value,
    attachment: Option<Box<dyn Any + Send>>,
    threads: Threads,
) -> anyhow::Result<Box<dyn VirtioDevice>> {
    let spec = DeviceSpec {
        id: "fs0".into(),
        driver: "virtio-fs".into(),
        options,
        attachment,
    };
    let env = DeviceEnv {
        vcpus: 1,
        line: Arc::new(event()),
        threads,
    };
    match Factory.create(spec, &env)? {
        NewDevice::Virtio(device) => Ok(device),
        _ => panic!("not a virtio device"),
    }
}

fn file_system() -> Option<Box<dyn Any + Send>> {
    Some(Box::new(Arc::new(Mock::new()) as Arc<dyn FileSystem>))
}

fn refusal(options: Value, attachment: Option<Box<dyn Any + Send>>) -> String {
    match create(options, attachment, threads()) {
        Ok(_) => panic!("accepted"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn device_is_made_of_options_and_a_file_system() {
    create(json!({"tag": "x"}), file_system(), threads()).unwrap();
    let all = json!({"tag": "x".repeat(36), "cache": "exclusive", "read_only": true});
    create(all, file_system(), threads()).unwrap();
}

#[test]
fn options_that_are_wrong_are_named() {
    assert!(refusal(json!({}), file_system()).contains("missing field `tag`"));
    assert!(refusal(json!({"tag": "x", "color": 1}), file_system()).contains("color"));
    let cache = refusal(json!({"tag": "x", "cache": "big"}), file_system());
    assert_eq!(cache, "unknown cache \"big\": use coherent or exclusive");
    for tag in ["", &"x".repeat(37), "a\0b"] {
        let error = refusal(json!({"tag": tag}), file_system());
        assert!(
            error.ends_with("is not 1 to 36 bytes without a zero"),
            "{error}"
        );
    }
    let path = json!({"tag": "x", "path": "/nonexistent"});
    assert!(refusal(path, None).starts_with("open shared folder /nonexistent"));
    let owner = json!({"tag": "x", "path": "/", "ownership": "mine"});
    assert!(refusal(owner, None).starts_with("unknown ownership \"mine\""));
    assert_eq!(
        refusal(json!({"tag": "x"}), None),
        "it has no path: the folder to share"
    );
    assert_eq!(
        refusal(json!({"tag": "x"}), Some(Box::new(7))),
        "its attachment is not a file system"
    );
}

#[test]
fn thread_that_cannot_be_confined_makes_no_device() {
    let threads = Threads::new(|_| Err(io::ErrorKind::PermissionDenied.into()));
    let Err(error) = create(json!({"tag": "x"}), file_system(), threads) else {
        panic!("accepted");
    };
    assert_eq!(format!("{error:#}"), "start its threads: permission denied");
}
