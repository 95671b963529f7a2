//! An interface of the kernel's, in a network namespace of each test's own.

use std::net::UdpSocket;

use super::*;
use crate::testing::{BOTH, RECEIVE, Rig, in_namespace, ip};

/// The guest's address, to which the host's interface is no stranger.
const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
/// Set in a frame's header when its checksum is not there yet (VIRTIO 1.2, 5.1.6).
const NEEDS_CHECKSUM: u8 = 1;

/// An interface with an address.
const SET_UP: &str = "test -w /dev/net/tun
    ip tuntap add tap0 mode tap vnet_hdr
    ip link set tap0 mtu 9000
    ip addr add 192.0.2.1/24 dev tap0";

/// A card on the interface, which then comes up with its cable in: one that is up
/// already drops frames until the kernel has seen to the cable.
fn rig(config: &str) -> Rig<Tap> {
    let rig = Rig::new(config).unwrap();
    ip("link set tap0 up");
    ip("neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev tap0");
    rig
}

/// A frame without offloads.
fn with_header(frame: &[u8]) -> Vec<u8> {
    [&[0; HEADER], frame].concat()
}

/// Asks who has 192.0.2.1 (RFC 826).
fn arp() -> Vec<u8> {
    let mut frame = vec![0; 42];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&GUEST_MAC);
    frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&GUEST_MAC);
    frame[28..32].copy_from_slice(&[192, 0, 2, 9]);
    frame[38..].copy_from_slice(&[192, 0, 2, 1]);
    frame
}

/// The next frame of EtherType `kind` that is for the guest.
fn frame_of(rig: &mut Rig<Tap>, kind: [u8; 2]) -> Vec<u8> {
    loop {
        let frame = rig.frame();
        if frame[HEADER..][..6] == GUEST_MAC && frame[HEADER + 12..][..2] == kind {
            return frame;
        }
    }
}

const ARP: [u8; 2] = [8, 6];
const IPV4: [u8; 2] = [8, 0];

#[test]
fn the_kernel_answers() {
    if !in_namespace("tap::tests::the_kernel_answers", SET_UP) {
        return;
    }
    let mut rig = rig(r#"{ "name": "tap0" }"#);
    let info = rig.device.describe().unwrap();
    assert_eq!((info.mtu, info.queue_pairs), (Some(9000), 1));
    assert!(info.header && info.offloads & abi::NET_SEND_TSO6 != 0);
    rig.send(&with_header(&arp())).unwrap();
    let answer = frame_of(&mut rig, ARP);
    assert_eq!(answer[HEADER + 20..][..2], [0, 2]);
    // What the guest makes up is refused by the kernel, and harms nothing.
    let mut nonsense = with_header(&arp());
    nonsense[..HEADER].fill(0xff);
    rig.send(&nonsense).unwrap();
    rig.send(&[0; HEADER]).unwrap();
    rig.send(&with_header(&arp())).unwrap();
    frame_of(&mut rig, ARP);
    rig.device.stop();
    assert!(rig.logged("2 frames were refused"));
}

#[test]
fn frames_are_finished_for_a_guest_that_cannot() {
    if !in_namespace(
        "tap::tests::frames_are_finished_for_a_guest_that_cannot",
        SET_UP,
    ) {
        return;
    }
    let mut rig = rig(r#"{ "name": "tap0" }"#);
    let host = UdpSocket::bind("192.0.2.1:0").unwrap();
    for (offloads, flags) in [(0, 0), (abi::NET_RECEIVE_CHECKSUM, NEEDS_CHECKSUM), (0, 0)] {
        rig.device.stop();
        rig.device
            .start(NetSetup {
                offloads,
                queue_pairs: 1,
                flushes: true,
            })
            .unwrap();
        host.send_to(b"hello", "192.0.2.9:9").unwrap();
        let frame = frame_of(&mut rig, IPV4);
        assert_eq!(frame[0] & NEEDS_CHECKSUM, flags);
        assert!(frame.ends_with(b"hello"));
    }
}

#[test]
fn frames_come_to_the_queues_in_use() {
    let set_up = SET_UP.replace("vnet_hdr", "vnet_hdr multi_queue");
    if !in_namespace("tap::tests::frames_come_to_the_queues_in_use", &set_up) {
        return;
    }
    let mut rig = rig(r#"{ "name": "tap0", "queues": 4 }"#);
    assert_eq!(rig.device.describe().unwrap().queue_pairs, 4);
    assert_eq!(rig.mock.asked().fds.len(), 1);
    let offloads = 0;
    for queue_pairs in [1, 4, 2, 3, 1] {
        rig.device.stop();
        let setup = NetSetup {
            offloads,
            queue_pairs,
            flushes: true,
        };
        rig.device.start(setup).unwrap();
        let watched = rig.mock.asked().fds.len();
        assert_eq!(watched, usize::from(queue_pairs));
        for queue in 0..queue_pairs {
            rig.device.set_interest(queue, RECEIVE).unwrap();
        }
        // Flows are spread over the queues in use.
        let hosts: Vec<_> = (0..32)
            .map(|_| UdpSocket::bind("192.0.2.1:0").unwrap())
            .collect();
        for host in &hosts {
            host.send_to(b"hello", "192.0.2.9:9").unwrap();
        }
        let mut room = plugin_sdk::testing::Frame::room(65_562);
        let mut came = 0;
        rig.until("frames", |rig| {
            let ready = std::mem::take(&mut rig.mock.asked().ready);
            for (queue, _) in ready {
                assert!(queue < queue_pairs);
                while let Ok(len) = rig.device.receive(queue, room.pieces()) {
                    came += usize::from(room.bytes()[..len].ends_with(b"hello"));
                }
            }
            came == hosts.len()
        });
    }
}

#[test]
fn an_interface_that_goes_takes_the_link_with_it_and_nothing_more() {
    if !in_namespace(
        "tap::tests::an_interface_that_goes_takes_the_link_with_it_and_nothing_more",
        SET_UP,
    ) {
        return;
    }
    let mut rig = rig(r#"{ "name": "tap0" }"#);
    ip("link del tap0");
    rig.until("the end of the link", |rig| {
        rig.mock.asked().link == Some(false)
    });
    rig.told();
    rig.device.set_interest(0, BOTH).unwrap();
    assert!(rig.told().send, "what waits is to be dropped");
    rig.send(&with_header(&arp())).unwrap();
    assert_eq!(rig.try_frame(), None);
    assert!(rig.mock.asked().fds.is_empty());
}

#[test]
fn the_owner_may_open_the_interface_itself() {
    if !in_namespace(
        "tap::tests::the_owner_may_open_the_interface_itself",
        SET_UP,
    ) {
        return;
    }
    let tap = tun::open("tap0", false).unwrap();
    let mut rig = rig(&format!(r#"{{ "fd": [{}] }}"#, tap.as_raw_fd()));
    drop(tap);
    rig.send(&with_header(&arp())).unwrap();
    frame_of(&mut rig, ARP);
    assert!(rig.logged("interface tap0, by 1 queues"));
    let error = Rig::<Tap>::refusal(r#"{ "name": "tap0" }"#);
    assert!(error.contains("another process uses it"), "{error}");
}

#[test]
fn what_is_no_interface_is_named() {
    for (config, said) in [
        ("{}", "it needs name, or fd"),
        (r#"{ "name": "tap0", "fd": [0] }"#, "it needs name, or fd"),
        (
            r#"{ "fd": [0], "queues": 2 }"#,
            "queues is for an interface by name",
        ),
        (r#"{ "fd": [1000000] }"#, "descriptor 1000000"),
    ] {
        let error = Rig::<Tap>::refusal(config);
        assert!(error.contains(said), "{config}: {error}");
    }
    let pipe = std::io::pipe().unwrap();
    let error = Rig::<Tap>::refusal(&format!(r#"{{ "fd": [{}] }}"#, pipe.0.as_raw_fd()));
    assert!(error.contains("no descriptor of a TAP"), "{error}");
}
