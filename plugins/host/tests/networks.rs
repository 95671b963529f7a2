//! The plugin `net` as a frontend sees it, over the ABI.

mod support;

use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use device_model::net::{Directions, NetBackend, NetError, NetSetup, Offloads};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use plugin_host::{Plugin, PluginDevice};
use serde_json::{Value, json};
use support::{PATIENCE, create, package};
use vm_memory::VolatileSlice;

const RECEIVE: Directions = Directions {
    receive: true,
    send: false,
};

fn networks() -> Plugin {
    Plugin::load(&package("net")).unwrap()
}

/// A card of `driver` whose frames go.
fn card(plugin: &Plugin, driver: &str, config: Value) -> (PluginDevice, Box<dyn NetBackend>) {
    let device = create(plugin, driver, config).unwrap();
    let mut backend = device.net_backend().expect("a backend").unwrap();
    let none = Offloads::default();
    let setup = NetSetup {
        queue_pairs: 1,
        send: none,
        receive: none,
    };
    backend.start(&setup).unwrap();
    (device, backend)
}

fn send(backend: &mut dyn NetBackend, bytes: &[u8]) {
    let (mut head, mut rest) = (bytes[..14].to_vec(), bytes[14..].to_vec());
    let pieces = [
        VolatileSlice::from(head.as_mut_slice()),
        VolatileSlice::from(rest.as_mut_slice()),
    ];
    backend.send(0, &pieces).unwrap();
    backend.flush(0).unwrap();
}

/// The next frame, waited for as a frontend does.
fn receive(backend: &mut dyn NetBackend) -> Vec<u8> {
    backend.set_interest(0, RECEIVE).unwrap();
    let mut room = vec![0; backend.info().max_frame];
    loop {
        match backend.receive(0, &[VolatileSlice::from(room.as_mut_slice())]) {
            Ok(len) => return room[..len].to_vec(),
            Err(NetError::WouldBlock) => {}
            Err(error) => panic!("{error}"),
        }
        let mut fds = [PollFd::new(backend.descriptor(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(PATIENCE).unwrap();
        assert_eq!(nix::poll::poll(&mut fds, limit).unwrap(), 1, "no frame");
        backend.process().unwrap();
    }
}

#[test]
fn the_plugin_says_what_it_is_and_needs() {
    let plugin = networks();
    let drivers: Vec<_> = plugin.drivers.iter().map(|driver| &*driver.name).collect();
    assert_eq!(drivers, ["net-golem", "net-tap", "net-passt", "net-hub"]);
    for driver in &plugin.drivers {
        assert!(driver.schema.is_some(), "{}", driver.name);
        assert_ne!(driver.summary, plugin.summary);
    }
    for needed in ["sendmsg", "recvmsg", "accept4", "ioctl"] {
        assert!(plugin.syscalls.iter().any(|call| call == needed));
    }
}

#[test]
fn golems_frames_go_and_come() {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let ours = UdpSocket::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("udp://{}", peer.local_addr().unwrap());
    let config = json!({ "endpoint": endpoint, "fd": ours.as_raw_fd() });
    let (_device, mut backend) = card(&networks(), "net-golem", config);
    assert_eq!(backend.info().mtu, Some(1220));
    send(&mut *backend, &[1; 60]);
    let mut frame = [0; 2048];
    let (len, from) = peer.recv_from(&mut frame).unwrap();
    assert_eq!(
        (&frame[..len], from),
        (&[1; 60][..], ours.local_addr().unwrap())
    );
    peer.send_to(&[2; 61], from).unwrap();
    assert_eq!(receive(&mut *backend), [2; 61]);
}

#[test]
fn two_cards_of_one_process_meet_in_a_hub() {
    let plugin = networks();
    let folder = tempfile::tempdir().unwrap();
    let config = json!({ "path": folder.path().join("hub") });
    let (first_device, mut first) = card(&plugin, "net-hub", config.clone());
    let (_device, mut second) = card(&plugin, "net-hub", config);
    send(&mut *second, &[0xff; 60]);
    assert_eq!(receive(&mut *first), [0xff; 60]);
    send(&mut *first, &[0xff; 61]);
    assert_eq!(receive(&mut *second), [0xff; 61]);
    first_device.before_stop();
    assert_eq!(
        std::fs::read_dir(folder.path().join("hub"))
            .unwrap()
            .count(),
        1
    );
}

#[test]
fn a_configuration_that_does_not_fit_is_explained() {
    let plugin = networks();
    for (driver, config, said) in [
        ("net-golem", json!({}), "/endpoint: expected string"),
        (
            "net-tap",
            json!({ "queues": 9 }),
            "/queues: expected at most 8",
        ),
        (
            "net-passt",
            json!({ "port": ["80:80"] }),
            "did you mean ports?",
        ),
        (
            "net-hub",
            json!({ "mtu": "1500" }),
            "/mtu: expected integer",
        ),
    ] {
        let error = create(&plugin, driver, config).err().unwrap();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains(said), "{cause}");
    }
}
