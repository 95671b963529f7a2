//! A network backend of a C plugin as a frontend sees it: a cable from the guest
//! to itself.

mod support;

use device_model::net::{Directions, NetBackend, NetError, NetNews, NetSetup, Offloads};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use plugin_host::{Plugin, PluginDevice};
use serde_json::{Value, json};
use support::{create, devices};
use vm_memory::VolatileSlice;

const RECEIVE: Directions = Directions {
    receive: true,
    send: false,
};
const NONE: Directions = Directions {
    receive: false,
    send: false,
};
const SETUP: NetSetup = NetSetup {
    queue_pairs: 1,
    send: Offloads {
        checksum: false,
        tso4: false,
        tso6: false,
        uso: false,
    },
    receive: Offloads {
        checksum: false,
        tso4: false,
        tso6: false,
        uso: false,
    },
};

fn backend(plugin: &Plugin, config: Value) -> (PluginDevice, Box<dyn NetBackend>) {
    let device = create(plugin, "c-net", config).unwrap();
    let mut backend = device.net_backend().expect("a backend").unwrap();
    backend.start(&SETUP).unwrap();
    (device, backend)
}

fn readable(backend: &dyn NetBackend) -> bool {
    let mut fds = [PollFd::new(backend.descriptor(), PollFlags::POLLIN)];
    nix::poll::poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
}

fn send(backend: &mut dyn NetBackend, pieces: &mut [Vec<u8>]) -> Result<(), NetError> {
    let slices: Vec<_> = pieces
        .iter_mut()
        .map(|piece| VolatileSlice::from(piece.as_mut_slice()))
        .collect();
    backend.send(0, &slices)
}

fn receive(backend: &mut dyn NetBackend) -> Result<Vec<u8>, NetError> {
    let (mut head, mut rest) = ([0; 10], [0; 1504]);
    let slices = [
        VolatileSlice::from(head.as_mut_slice()),
        VolatileSlice::from(rest.as_mut_slice()),
    ];
    let len = backend.receive(0, &slices)?;
    Ok([&head[..], &rest[..]].concat()[..len].to_vec())
}

#[test]
fn it_says_what_it_can_do() {
    let (_library, plugin) = devices();
    let (device, backend) = backend(&plugin, json!({}));
    assert!(device.is_net_backend());
    let info = backend.info();
    assert_eq!((info.mac, info.mtu), (Some([2, 0, 0, 0, 0, 0]), Some(1500)));
    assert_eq!((info.queue_pairs, info.max_frame), (1, 1514));
    assert!(info.link_up && !info.header);
}

#[test]
fn frames_go_and_come_whole_in_whatever_pieces() {
    let (_library, plugin) = devices();
    let (_, mut backend) = backend(&plugin, json!({}));
    send(&mut *backend, &mut [b"ab".to_vec(), vec![7; 60]]).unwrap();
    send(&mut *backend, &mut [b"second".to_vec()]).unwrap();
    let first = receive(&mut *backend).unwrap();
    assert_eq!((&first[..2], first.len()), (&b"ab"[..], 62));
    assert_eq!(receive(&mut *backend).unwrap(), b"second");
    assert!(matches!(receive(&mut *backend), Err(NetError::WouldBlock)));
}

#[test]
fn readiness_is_told_only_to_those_who_want_it_and_at_once_when_they_do() {
    let (_library, plugin) = devices();
    let (_, mut backend) = backend(&plugin, json!({}));
    send(&mut *backend, &mut [b"frame".to_vec()]).unwrap();
    assert!(!readable(&*backend), "nobody is interested yet");
    backend.set_interest(0, RECEIVE).unwrap();
    assert!(readable(&*backend));
    let news = backend.process().unwrap();
    assert_eq!(news.ready, [(0, RECEIVE)]);
    // The guest has no room: without interest nothing wakes anybody.
    backend.set_interest(0, NONE).unwrap();
    backend.process().unwrap();
    assert!(!readable(&*backend));
    backend.set_interest(0, RECEIVE).unwrap();
    assert!(readable(&*backend), "the frame is still there");
    receive(&mut *backend).unwrap();
    backend.process().unwrap();
    backend.process().unwrap();
    assert!(!readable(&*backend));
    assert_eq!(backend.process().unwrap(), NetNews::default());
}

#[test]
fn a_frame_that_cannot_be_carried_is_dropped() {
    let (_library, plugin) = devices();
    let (device, mut backend) = backend(&plugin, json!({}));
    let error = send(&mut *backend, &mut [vec![0; 2000]]).unwrap_err();
    assert!(matches!(error, NetError::FrameSize));
    let mut many = vec![vec![0u8; 1]; 65];
    assert!(matches!(
        send(&mut *backend, &mut many),
        Err(NetError::FrameSize)
    ));
    assert!(device.failure().is_none());
}

#[test]
fn a_full_backend_says_so_and_drops_nothing() {
    let (_library, plugin) = devices();
    let (_, mut backend) = backend(&plugin, json!({}));
    let mut sent = 0;
    while send(&mut *backend, &mut [vec![1; 1000]]).is_ok() {
        sent += 1;
        assert!(sent < 1000, "a pipe without end");
    }
    for _ in 0..sent {
        assert_eq!(receive(&mut *backend).unwrap().len(), 1000);
    }
}

#[test]
fn answers_that_are_none_fail_the_backend() {
    let (_library, plugin) = devices();
    for word in [
        "receive=0",
        "receive=1515",
        "receive=-5",
        "receive=2147483647",
    ] {
        let (device, mut backend) = backend(&plugin, json!({ "do": word }));
        send(&mut *backend, &mut [b"frame".to_vec()]).unwrap();
        let error = receive(&mut *backend).unwrap_err();
        assert!(matches!(error, NetError::Failed(_)), "{word}: {error}");
        assert_eq!(device.failure().unwrap().callback, "receive");
        assert!(matches!(
            send(&mut *backend, &mut [b"x".to_vec()]),
            Err(NetError::Failed(_))
        ));
    }
    for word in ["send=1", "send=-5"] {
        let (device, mut backend) = backend(&plugin, json!({ "do": word }));
        assert!(matches!(
            send(&mut *backend, &mut [b"x".to_vec()]),
            Err(NetError::Failed(_))
        ));
        assert_eq!(device.failure().unwrap().callback, "send");
    }
}

#[test]
fn a_backend_that_cannot_be_is_refused() {
    let (_library, plugin) = devices();
    for (word, said) in [
        ("dumb", "NULL for send"),
        ("giant", "max_frame 1048576"),
        ("describe=-19", "No such device"),
    ] {
        let device = create(&plugin, "c-net", json!({ "do": word })).unwrap();
        let error = device.net_backend().unwrap().err().expect("refused");
        assert!(error.to_string().contains(said), "{error}");
    }
}
