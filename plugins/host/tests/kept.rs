//! The promise: plugins that were built once, with earlier versions of the ABI, are
//! loaded and used by this host. See `tests/plugins/kept/README.md`.

mod support;

use std::fs;

use device_model::NewDevice;
use device_model::net::{Directions, NetBackend, NetError, NetSetup, Offloads};
use plugin_host::Plugin;
use serde_json::json;
use support::{Driver, Loop, Told, create, kept};
use tempfile::TempDir;
use vm_memory::VolatileSlice;

/// The library of that name, in a folder that is its user's alone.
fn library(version: &str, name: &str) -> (TempDir, Plugin) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::copy(kept(version, name), &path).unwrap();
    let plugin = Plugin::load(&path).unwrap();
    (folder, plugin)
}

#[test]
fn a_plugin_of_1_0_says_what_it_is() {
    for (file, name) in [
        ("hello.so", "kept-hello"),
        ("net.so", "kept-net"),
        ("virtio.so", "kept-virtio"),
    ] {
        let (_folder, plugin) = library("1.0", file);
        assert_eq!((plugin.name.as_str(), plugin.abi), (name, (1, 0)));
        assert_eq!(plugin.entry_size, 120);
        assert_eq!(plugin.drivers[0].name, name);
        assert!(plugin.drivers[0].schema.is_some());
    }
}

#[test]
fn a_lifecycle_of_1_0_is_gone_through() {
    let (_folder, plugin) = library("1.0", "hello.so");
    let device = create(&plugin, "kept-hello", json!({})).unwrap();
    device.before_boot().unwrap();
    device.agent_ready().unwrap();
    device.join_network(&json!({})).unwrap();
    let error = device.join_network(&json!({ "id": 1 })).unwrap_err();
    assert!(
        error.to_string().ends_with("hello knows no networks"),
        "{error}"
    );
    device.before_stop();
    assert!(device.failure().is_none());
    // It has room for 8: those that were destroyed are gone.
    drop(device);
    for _ in 0..20 {
        create(&plugin, "kept-hello", json!({})).unwrap();
    }
}

#[test]
fn a_virtio_device_of_1_0_serves_its_queue() {
    let (_folder, plugin) = library("1.0", "virtio.so");
    let device = create(&plugin, "kept-virtio", json!({})).unwrap();
    let NewDevice::Virtio(mut virtio) = device.clone().into_new_device().unwrap() else {
        panic!("not a virtio device");
    };
    assert_eq!((virtio.device_type(), virtio.features()), (42, 5));
    assert_eq!(virtio.queue_max_sizes(), [64]);
    virtio.write_config(1, &[7, 8]);
    let mut space = [0xff; 6];
    virtio.read_config(0, &mut space);
    assert_eq!(space, [0, 7, 8, 0, 0, 0]);
    let event_loop = Loop::start();
    for _ in 0..2 {
        let mut driver = Driver::with_queues(&[16]);
        let room = driver.offer(b"HAL");
        let (activation, interrupts) = driver.activation(&event_loop.events);
        virtio.activate(activation).unwrap();
        assert_eq!(interrupts.next(), Told::Queue(0));
        assert_eq!(driver.read(room, 3), b"IBM");
        virtio.deactivate();
    }
    assert!(device.failure().is_none());
}

fn send(backend: &mut dyn NetBackend, frame: &mut [u8]) -> Result<(), NetError> {
    backend.send(0, &[VolatileSlice::from(frame)])
}

#[test]
fn a_network_backend_of_1_0_carries_frames() {
    let (_folder, plugin) = library("1.0", "net.so");
    let device = create(&plugin, "kept-net", json!({})).unwrap();
    let mut backend = device.net_backend().expect("a backend").unwrap();
    let info = backend.info();
    assert_eq!((info.queue_pairs, info.max_frame), (1, 1514));
    let setup = NetSetup {
        queue_pairs: 1,
        send: Offloads::default(),
        receive: Offloads::default(),
    };
    backend.start(&setup).unwrap();
    let mut sent = 0;
    while send(&mut *backend, &mut [sent; 60]).is_ok() {
        sent += 1;
    }
    assert_eq!(sent, 4, "it holds as many");
    assert!(matches!(
        send(&mut *backend, &mut [0; 1515]),
        Err(NetError::FrameSize)
    ));
    let receive = Directions {
        receive: true,
        send: false,
    };
    backend.set_interest(0, receive).unwrap();
    assert_eq!(backend.process().unwrap().ready, [(0, receive)]);
    for number in 0..sent {
        let mut room = [0xff; 1514];
        let len = backend.receive(0, &[VolatileSlice::from(&mut room[..])]);
        assert_eq!(room[..len.unwrap()], [number; 60]);
    }
    backend.stop();
    assert!(device.failure().is_none());
}

#[test]
fn a_network_backend_of_1_1_gathers_frames() {
    let (_folder, plugin) = library("1.1", "net.so");
    assert_eq!(plugin.abi, (1, 1));
    let device = create(&plugin, "kept-net", json!({})).unwrap();
    let mut backend = device.net_backend().expect("a backend").unwrap();
    let setup = NetSetup {
        queue_pairs: 1,
        send: Offloads::default(),
        receive: Offloads::default(),
    };
    backend.start(&setup).unwrap();
    let receive = |backend: &mut dyn NetBackend| {
        let mut room = [0xff; 1514];
        let len = backend.receive(0, &[VolatileSlice::from(&mut room[..])])?;
        Ok::<_, NetError>(room[..len].to_vec())
    };
    for round in 0..3 {
        for number in 0..3 {
            send(&mut *backend, &mut [round + number; 60]).unwrap();
        }
        let early = receive(&mut *backend);
        assert!(matches!(early, Err(NetError::WouldBlock)), "{early:?}");
        backend.flush(0).unwrap();
        for number in 0..3 {
            assert_eq!(receive(&mut *backend).unwrap(), [round + number; 60]);
        }
    }
    backend.stop();
    assert!(device.failure().is_none());
}
