//! A network backend of a C plugin as a frontend sees it: a cable from the guest
//! to itself.

mod support;

use std::net::UdpSocket;

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
fn what_is_told_while_events_are_dealt_with_is_told_once() {
    let (_library, plugin) = devices();
    let (_, mut backend) = backend(&plugin, json!({}));
    backend.set_interest(0, RECEIVE).unwrap();
    while readable(&*backend) {
        backend.process().unwrap();
    }
    send(&mut *backend, &mut [b"frame".to_vec()]).unwrap();
    assert!(readable(&*backend));
    assert_eq!(backend.process().unwrap().ready, [(0, RECEIVE)]);
    receive(&mut *backend).unwrap();
    assert!(!readable(&*backend), "the loop is woken for old news");
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
fn the_link_is_heard_of_after_a_stop_and_readiness_is_not() {
    let (_library, plugin) = devices();
    let (_device, mut backend) = backend(&plugin, json!({ "do": "unplug" }));
    backend.stop();
    backend.start(&SETUP).unwrap();
    assert!(readable(&*backend));
    let news = backend.process().unwrap();
    assert_eq!(news.link, Some(false));
    assert!(news.ready.is_empty());
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

/// The example of a cable between two VMs, and what its configurations are.
fn udp_link() -> (support::Library, Plugin) {
    let source = "plugins/examples/udp-link-c/udp_link.c";
    let library = support::library_at(source, &[]);
    let plugin = Plugin::load(&library.path).unwrap();
    (library, plugin)
}

/// A port of this host that nobody has, as it was a moment ago.
fn free(host: &str) -> String {
    let socket = UdpSocket::bind((host, 0)).unwrap();
    socket.local_addr().unwrap().to_string()
}

/// One end of the cable.
fn end(plugin: &Plugin, local: &str, peer: &str) -> (PluginDevice, Box<dyn NetBackend>) {
    let config = json!({ "local": local, "peer": peer });
    let device = create(plugin, "udp-link", config).unwrap();
    let mut backend = device.net_backend().expect("a backend").unwrap();
    backend.start(&SETUP).unwrap();
    (device, backend)
}

/// Waits for the backend to have something to tell.
fn news(backend: &mut dyn NetBackend) -> NetNews {
    let mut fds = [PollFd::new(backend.descriptor(), PollFlags::POLLIN)];
    let limit = PollTimeout::from(20_000u16);
    assert_eq!(nix::poll::poll(&mut fds, limit).unwrap(), 1, "in time");
    backend.process().unwrap()
}

#[test]
fn frames_go_through_the_udp_link_both_ways() {
    let (_library, plugin) = udp_link();
    let (a, b) = (free("127.0.0.2"), free("127.0.0.3"));
    let (_left_device, mut left) = end(&plugin, &a, &b);
    let (_right_device, mut right) = end(&plugin, &b, &a);
    assert!(matches!(receive(&mut *left), Err(NetError::WouldBlock)));
    right.set_interest(0, RECEIVE).unwrap();
    send(&mut *left, &mut [b"to the ".to_vec(), b"right".to_vec()]).unwrap();
    assert_eq!(news(&mut *right).ready, [(0, RECEIVE)]);
    assert_eq!(receive(&mut *right).unwrap(), b"to the right");
    left.set_interest(0, RECEIVE).unwrap();
    send(&mut *right, &mut [vec![7; 1514]]).unwrap();
    news(&mut *left);
    assert_eq!(receive(&mut *left).unwrap(), [7; 1514]);
    let error = send(&mut *left, &mut [vec![7; 1515]]).unwrap_err();
    assert!(matches!(error, NetError::FrameSize), "{error}");
}

#[test]
fn a_udp_link_whose_peer_is_gone_loses_frames_and_works_on() {
    let (_library, plugin) = udp_link();
    let (a, b) = (free("127.0.0.2"), free("127.0.0.3"));
    let (device, mut left) = end(&plugin, &a, &b);
    // Nobody listens there, which the second frame learns.
    for _ in 0..3 {
        send(&mut *left, &mut [b"lost".to_vec()]).unwrap();
        while readable(&*left) {
            left.process().unwrap();
        }
        assert!(matches!(receive(&mut *left), Err(NetError::WouldBlock)));
    }
    let (_right_device, mut right) = end(&plugin, &b, &a);
    right.set_interest(0, RECEIVE).unwrap();
    send(&mut *left, &mut [b"found".to_vec()]).unwrap();
    news(&mut *right);
    assert_eq!(receive(&mut *right).unwrap(), b"found");
    assert!(device.failure().is_none());
}

#[test]
fn a_udp_link_takes_nothing_that_is_no_frame_of_its_peer() {
    let (_library, plugin) = udp_link();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let local = free("127.0.0.2");
    let (_device, mut link) = end(&plugin, &local, &peer.local_addr().unwrap().to_string());
    link.set_interest(0, RECEIVE).unwrap();
    stranger.send_to(b"let me in", &local).unwrap();
    peer.send_to(&[], &local).unwrap();
    peer.send_to(&[1; 1515], &local).unwrap();
    peer.send_to(b"a frame", &local).unwrap();
    news(&mut *link);
    for _ in 0..2 {
        assert!(matches!(receive(&mut *link), Err(NetError::FrameSize)));
    }
    assert_eq!(receive(&mut *link).unwrap(), b"a frame");
    assert!(matches!(receive(&mut *link), Err(NetError::WouldBlock)));
}

#[test]
fn addresses_that_a_udp_link_cannot_have_are_refused_in_words() {
    let (_library, plugin) = udp_link();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (local, peer, said) in [
        ("127.0.0.1", "127.0.0.1:9", "write addresses as"),
        ("127.0.0.1:0", "127.0.0.1:65536", "write addresses as"),
        ("127.0.0.1:0", "127.0.0.1:9\"", "write addresses as"),
        ("127.0.0.256:1", "127.0.0.1:9", "write addresses as"),
        (&taken, "127.0.0.1:9", "local: this address cannot be had"),
        (
            "192.0.2.1:1",
            "127.0.0.1:9",
            "local: this address cannot be had",
        ),
    ] {
        let config = json!({ "local": local, "peer": peer });
        let error = create(&plugin, "udp-link", config).err().unwrap();
        assert!(error.to_string().contains(said), "{local} {peer}: {error}");
    }
}
