//! Peers of each kind, as exe-unit is one.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};

use super::*;
use crate::testing::{BOTH, PATIENCE, RECEIVE, Rig, SEND};

/// A request for an address (RFC 826), which a peer answers.
const ARP: [u8; 42] = {
    let mut frame = [0xff; 42];
    frame[12] = 8;
    frame[13] = 6;
    frame
};

/// A peer by datagrams.
fn peer() -> (UdpSocket, String) {
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let url = format!("udp://{}", peer.local_addr().unwrap());
    (peer, url)
}

fn over_udp(more: &str) -> (Rig<Golem>, UdpSocket) {
    let (peer, url) = peer();
    let rig = Rig::new(&format!(r#"{{ "endpoint": "{url}"{more} }}"#));
    (rig.unwrap(), peer)
}

fn at(endpoint: &str, more: &str) -> Rig<Golem> {
    Rig::new(&format!(r#"{{ "endpoint": "{endpoint}"{more} }}"#)).unwrap()
}

/// A frame of a stream.
fn read_tcp(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).unwrap();
    let mut frame = vec![0; u32::from_be_bytes(head) as usize];
    stream.read_exact(&mut frame).unwrap();
    frame
}

fn write_tcp(stream: &mut TcpStream, frame: &[u8]) {
    let head = (frame.len() as u32).to_be_bytes();
    stream.write_all(&[&head, frame].concat()).unwrap();
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A peer by a stream, and the card that has connected to it.
fn over_tcp() -> (Rig<Golem>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let rig = at(&format!("tcp://{}", listener.local_addr().unwrap()), "");
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    (rig, stream)
}

/// A card that waits for a peer, and where.
fn listening() -> (Rig<Golem>, String) {
    let rig = at("tcp://127.0.0.1:0", r#", "listen": true"#);
    let line = rig.mock.asked().log[0].1.clone();
    let address = line.rsplit(' ').next().unwrap().to_owned();
    (rig, address)
}

#[test]
fn the_card_is_as_golems_networks_have_it() {
    let (mut rig, _) = over_udp("");
    let info = rig.device.describe().unwrap();
    assert_eq!((info.mtu, info.max_frame), (Some(1220), 1238));
    assert!(info.link_up && !info.header && info.offloads == 0 && info.mac.is_none());
    let (mut rig, _) = over_udp(r#", "network": "inet", "mac": "90:13:0a:2a:2a:02""#);
    let info = rig.device.describe().unwrap();
    assert_eq!((info.mtu, info.max_frame), (Some(65_521), 65_507));
    assert_eq!(info.mac, Some([0x90, 0x13, 10, 42, 42, 2]));
}

#[test]
fn frames_go_and_come_by_datagrams() {
    let (mut rig, peer) = over_udp("");
    rig.send(&ARP).unwrap();
    let mut request = [0; 2048];
    let (len, card) = peer.recv_from(&mut request).unwrap();
    assert_eq!(request[..len], ARP);
    assert!(card.ip().is_loopback());
    assert!(rig.logged(&format!("udp {card} to ")));
    let mut answer = ARP;
    answer[21] = 2;
    peer.send_to(&answer, card).unwrap();
    assert_eq!(rig.frame(), answer);
    // Many at the same time, in both directions.
    for number in 0..50 {
        rig.send(&[number; 1234]).unwrap();
        peer.send_to(&[number; 1234], card).unwrap();
    }
    for number in 0..50 {
        let len = peer.recv(&mut request).unwrap();
        assert_eq!(request[..len], [number; 1234]);
        assert_eq!(rig.frame(), [number; 1234]);
    }
}

#[test]
fn frames_come_from_the_endpoint_alone() {
    let (local, _) = peer();
    let address = local.local_addr().unwrap();
    drop(local);
    let (mut rig, peer) = over_udp(&format!(r#", "local": "{address}""#));
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.send_to(&[1; 60], address).unwrap();
    peer.send_to(&[2; 60], address).unwrap();
    assert_eq!(rig.frame(), [2; 60]);
}

#[test]
fn what_udp_cannot_carry_is_dropped() {
    let (mut rig, peer) = over_udp(r#", "network": "inet""#);
    rig.send(&[7; 65_507]).unwrap();
    let error = rig.send(&[7; 65_508]).unwrap_err();
    assert_eq!(error.errno(), libc::EMSGSIZE);
    rig.send(&[8; 60]).unwrap();
    let mut frame = vec![0; 66_000];
    assert_eq!(peer.recv(&mut frame).unwrap(), 65_507);
    assert_eq!(peer.recv(&mut frame).unwrap(), 60);
}

#[test]
fn a_peer_by_datagrams_may_go_and_come_back() {
    let (mut rig, peer) = over_udp("");
    let (address, card) = (peer.local_addr().unwrap(), {
        rig.send(&ARP).unwrap();
        peer.recv_from(&mut [0; 100]).unwrap().1
    });
    drop(peer);
    for _ in 0..10 {
        rig.send(&ARP).unwrap();
        for (fd, events, token) in rig.mock.due(std::time::Duration::ZERO) {
            rig.device.on_event(fd, events, token).unwrap();
        }
    }
    let refused = |rig: &Rig<Golem>| {
        let asked = rig.mock.asked();
        let lines = asked.log.iter();
        lines
            .filter(|(_, line)| line.contains("was not taken"))
            .count()
    };
    assert_eq!((refused(&rig), rig.mock.asked().link), (1, None));
    let peer = UdpSocket::bind(address).unwrap();
    peer.send_to(&[3; 60], card).unwrap();
    assert_eq!(rig.frame(), [3; 60]);
    rig.device.stop();
    assert!(rig.logged("frames went nowhere"));
}

#[test]
fn the_owner_may_bind_the_socket_itself() {
    let (peer, url) = peer();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..10 {
        stranger.send_to(&[1; 60], address).unwrap();
    }
    let mut rig = at(&url, &format!(r#", "fd": {}"#, socket.as_raw_fd()));
    drop(socket);
    peer.send_to(&[4; 60], address).unwrap();
    assert_eq!(rig.frame(), [4; 60]);
}

#[test]
fn frames_go_and_come_by_a_stream() {
    let (mut rig, mut peer) = over_tcp();
    assert!(rig.device.describe().unwrap().link_up);
    rig.send(&ARP).unwrap();
    assert_eq!(read_tcp(&mut peer), ARP);
    for number in 0..50 {
        write_tcp(&mut peer, &[number; 1000]);
    }
    for number in 0..50 {
        assert_eq!(rig.frame(), [number; 1000]);
    }
}

#[test]
fn a_frame_of_a_stream_may_come_byte_by_byte() {
    let (mut rig, mut peer) = over_tcp();
    let bytes = [&60u32.to_be_bytes()[..], &[9; 60]].concat();
    let (last, first) = bytes.split_last().unwrap();
    for byte in first {
        peer.write_all(&[*byte]).unwrap();
        rig.device.set_interest(0, RECEIVE).unwrap();
        rig.until("a byte", |rig| rig.told().receive);
        assert_eq!(rig.try_frame(), None);
    }
    peer.write_all(&[*last]).unwrap();
    assert_eq!(rig.frame(), [9; 60]);
}

#[test]
fn a_stream_of_nonsense_takes_the_link_down_and_nothing_more() {
    for nonsense in [[0; 4], [0xff; 4]] {
        let (mut rig, mut peer) = over_tcp();
        write_tcp(&mut peer, &[5; 60]);
        peer.write_all(&nonsense).unwrap();
        assert_eq!(rig.frame(), [5; 60]);
        rig.device.set_interest(0, RECEIVE).unwrap();
        rig.until("the end of the link", |rig| {
            rig.try_frame();
            rig.mock.asked().link == Some(false)
        });
        assert!(rig.logged("it sent a frame of "));
        assert!(rig.mock.asked().fds.is_empty());
        // To the guest it is a card without a cable.
        rig.send(&ARP).unwrap();
        assert_eq!(rig.try_frame(), None);
        rig.device.stop();
        assert!(rig.logged("1 frames went nowhere"));
    }
}

#[test]
fn a_peer_that_goes_is_seen_without_a_frame() {
    let (mut rig, peer) = over_tcp();
    drop(peer);
    rig.device.set_interest(0, BOTH).unwrap();
    rig.until("the end of the link", |rig| {
        rig.try_frame();
        rig.mock.asked().link == Some(false)
    });
    assert!(rig.told().send, "what waits is to be dropped");
}

#[test]
fn a_listening_card_takes_one_peer_after_the_other() {
    let (mut rig, address) = listening();
    assert!(!rig.device.describe().unwrap().link_up);
    rig.send(&ARP).unwrap();
    for number in 0..3 {
        let mut peer = connect(&address);
        rig.until("the link", |rig| rig.mock.asked().link == Some(true));
        rig.send(&[number; 60]).unwrap();
        assert_eq!(read_tcp(&mut peer), [number; 60]);
        // Another one waits in line.
        let mut next = connect(&address);
        write_tcp(&mut peer, &[number; 99]);
        assert_eq!(rig.frame(), [number; 99]);
        drop(peer);
        rig.device.set_interest(0, RECEIVE).unwrap();
        rig.until("the next one", |rig| {
            rig.try_frame();
            rig.device.peers.count() == 2 * (u64::from(number) + 1)
        });
        rig.send(&[number; 70]).unwrap();
        assert_eq!(read_tcp(&mut next), [number; 70]);
        drop(next);
        rig.device.set_interest(0, RECEIVE).unwrap();
        rig.until("the end of the link", |rig| {
            rig.try_frame();
            rig.mock.asked().link == Some(false)
        });
    }
}

#[test]
fn peers_that_come_and_go_do_not_fill_the_log() {
    let (mut rig, address) = listening();
    for number in 1..=20 {
        drop(connect(&address));
        rig.device.set_interest(0, RECEIVE).unwrap();
        rig.until("a peer to come and go", |rig| {
            rig.try_frame();
            rig.device.peers.count() == number && !rig.device.cable.is_plugged()
        });
    }
    for text in ["the link is up", "the link is down"] {
        let asked = rig.mock.asked();
        let lines = asked.log.iter().filter(|(_, line)| line.contains(text));
        assert_eq!(lines.count(), 5, "{text}");
    }
}

#[test]
fn a_peer_by_datagrams_that_is_now_there_and_now_not_does_not_fill_the_log() {
    let (mut rig, peer) = over_udp("");
    rig.send(&ARP).unwrap();
    let card = peer.recv_from(&mut [0; 100]).unwrap().1;
    let address = peer.local_addr().unwrap();
    drop(peer);
    for _ in 0..20 {
        for _ in 0..2 {
            rig.send(&ARP).unwrap();
        }
        let peer = UdpSocket::bind(address).unwrap();
        peer.send_to(&[3; 60], card).unwrap();
        assert_eq!(rig.frame(), [3; 60]);
    }
    let asked = rig.mock.asked();
    let lines = asked.log.iter();
    let lines = lines.filter(|(_, line)| line.contains("was not taken"));
    assert_eq!(lines.count(), 5);
}

#[test]
fn a_slow_peer_holds_frames_back_and_is_told_to_go_on() {
    let (mut rig, mut peer) = over_tcp();
    let mut sent = 0usize;
    let full = loop {
        match rig.send(&[sent as u8; 1200]) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 100_000, "a socket without end");
    };
    assert_eq!(full.errno(), libc::EAGAIN);
    rig.device.set_interest(0, SEND).unwrap();
    assert!(!rig.told().send, "there is no room yet");
    let reader = std::thread::spawn(move || {
        let frames = (0..=sent).map(|number| {
            assert_eq!(read_tcp(&mut peer), [number as u8; 1200]);
        });
        frames.count()
    });
    rig.until("room", |rig| rig.told().send);
    rig.send(&[sent as u8; 1200]).unwrap();
    // A part of it may be with us still.
    rig.device.set_interest(0, crate::testing::NONE).unwrap();
    rig.until("all of it to go", |rig| !rig.mock.asked().fds[0].1.write);
    assert_eq!(reader.join().unwrap(), sent + 1);
}

#[test]
fn unix_streams_have_short_lengths() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let mut rig = at(&format!("unix://{}", path.display()), "");
    let (mut peer, _) = listener.accept().unwrap();
    rig.send(&ARP).unwrap();
    let mut got = [0; 44];
    peer.read_exact(&mut got).unwrap();
    assert_eq!((&got[..2], &got[2..]), (&42u16.to_ne_bytes()[..], &ARP[..]));
    peer.write_all(&got).unwrap();
    assert_eq!(rig.frame(), ARP);
}

#[test]
fn a_listening_card_takes_the_place_of_a_socket_that_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    let endpoint = format!("unix://{}", path.display());
    let mut rig = at(&endpoint, r#", "listen": true"#);
    let mut peer = UnixStream::connect(&path).unwrap();
    rig.until("the link", |rig| rig.mock.asked().link == Some(true));
    rig.send(&ARP).unwrap();
    peer.read_exact(&mut [0; 44]).unwrap();
    let config = format!(r#"{{ "endpoint": "{endpoint}", "listen": true }}"#);
    let error = Rig::<Golem>::refusal(&config);
    assert!(
        error.ends_with("Address already in use (os error 98)"),
        "{error}"
    );
    rig.device.before_stop();
    assert!(!path.exists());
}

#[test]
fn a_listener_that_takes_nobody_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let busy = socket_with(family, kind, SocketFlags::CLOEXEC, None).unwrap();
    rustix::net::bind(&busy, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&busy, 0).unwrap();
    let _first = UnixStream::connect(&path).unwrap();
    let endpoint = format!("unix://{}", path.display());
    let error = Rig::<Golem>::refusal(&format!(r#"{{ "endpoint": "{endpoint}" }}"#));
    assert!(error.contains("timed out"), "{error}");
}

#[test]
fn a_card_that_was_short_of_descriptors_takes_its_peer_later() {
    let (mut rig, address) = listening();
    let _peer = connect(&address);
    let (_, door) = rig.device.listener.as_mut().unwrap();
    let shortage = std::io::Error::from_raw_os_error(libc::EMFILE);
    door.failed(&shortage).unwrap();
    assert!(rig.mock.due(Duration::ZERO).is_empty());
    rig.device.on_timer(LISTENER).unwrap();
    rig.until("the link", |rig| rig.mock.asked().link == Some(true));
    // The timer of before does not let a second one in.
    rig.device.on_timer(LISTENER).unwrap();
    let _next = connect(&address);
    assert!(rig.mock.due(Duration::ZERO).is_empty());
}

#[test]
fn a_file_that_is_no_socket_is_not_taken_for_one_that_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("letter");
    std::fs::write(&path, "dear").unwrap();
    let place = path.display();
    let config = format!(r#"{{ "endpoint": "unix://{place}", "listen": true }}"#);
    let error = Rig::<Golem>::refusal(&config);
    assert!(error.contains(&format!("{place} is no socket")), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), b"dear");
}

#[test]
fn what_cannot_be_opened_is_named() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("tcp://{}", unused.local_addr().unwrap());
    drop(unused);
    for (config, said) in [
        (
            format!(r#"{{ "endpoint": "{url}" }}"#),
            "Connection refused",
        ),
        (
            r#"{ "endpoint": "unix:///nowhere/socket" }"#.into(),
            "endpoint \"unix:///nowhere/socket\": No such file",
        ),
        (
            r#"{ "endpoint": "udp://127.0.0.1:9", "listen": true }"#.into(),
            "a udp one has no connections",
        ),
        (
            r#"{ "endpoint": "tcp://127.0.0.1:9", "fd": 1 }"#.into(),
            "local and fd are for udp",
        ),
        (
            r#"{ "endpoint": "udp://127.0.0.1:9", "local": "192.0.2.77:0" }"#.into(),
            "bind local \"192.0.2.77:0\"",
        ),
        (
            r#"{ "endpoint": "udp://127.0.0.1:9", "mac": "90:13" }"#.into(),
            "mac \"90:13\"",
        ),
    ] {
        let error = Rig::<Golem>::refusal(&config);
        assert!(error.contains(said), "{config}: {error}");
    }
}
