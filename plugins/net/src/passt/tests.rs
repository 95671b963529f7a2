//! Programs in passt's place, and passt itself where it is installed.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::testing::{RECEIVE, Rig, in_namespace};

/// A shell script in passt's place.
fn script(text: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passt");
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).unwrap();
    let config = format!(r#"{{ "program": "{}" }}"#, path.display());
    (folder, config)
}

/// Sends back what it gets.
const ECHO: &str = "exec cat <&0 >&0";

fn arguments(config: &str) -> String {
    let config: Config = serde_json::from_str(config).unwrap();
    config.arguments().unwrap().join(" ")
}

#[test]
fn the_guests_side_is_known_without_asking() {
    assert_eq!(
        arguments("{}"),
        "--foreground --stderr --fd 0 --address 10.0.2.15 --netmask 24 --gateway 10.0.2.2 \
         --dns-forward 10.0.2.3 --mtu 65520 --ipv4-only --no-map-gw -t none -u none"
    );
    let config = r#"{
        "address": "192.168.7.2", "prefix": 30, "gateway": "192.168.7.1", "dns": "192.168.7.1",
        "mtu": 1500, "ipv6": true, "host_loopback": true, "ports": ["8080:80", "53:53/udp"]
    }"#;
    assert_eq!(
        arguments(config),
        "--foreground --stderr --fd 0 --address 192.168.7.2 --netmask 30 --gateway 192.168.7.1 \
         --dns-forward 192.168.7.1 --mtu 1500 -t 8080:80 -u 53:53"
    );
    assert!(arguments(r#"{ "ports": ["53:53/udp"] }"#).ends_with("-u 53:53 -t none"));
}

#[test]
fn frames_go_to_the_process_and_come_from_it() {
    let (_folder, config) = script(ECHO);
    let mut rig = Rig::<Passt>::new(&config).unwrap();
    let info = rig.device.describe().unwrap();
    assert_eq!((info.mtu, info.link_up), (Some(65520), true));
    // The answer to the question whether it runs.
    assert_eq!(rig.frame().len(), 42);
    for len in [14, 60, 1_514] {
        let mut sent = vec![7; len];
        sent[12..14].copy_from_slice(&[8, 6]);
        rig.send(&sent).unwrap();
        assert_eq!(rig.frame(), sent);
    }
}

#[test]
fn passts_end_takes_more_than_a_socket_as_it_comes() {
    let taken = |widened: bool| {
        let (mut theirs, _ours) = UnixStream::pair().unwrap();
        if widened {
            widen(&theirs).unwrap();
        }
        theirs.set_nonblocking(true).unwrap();
        let mut frames = 0;
        while theirs.write(&[0; 1_518]).is_ok() {
            frames += 1;
        }
        frames
    };
    assert!(taken(true) > taken(false) * 3 / 2);
}

#[test]
fn a_process_that_refuses_is_quoted() {
    let (_folder, config) = script("echo 'Failed to bind any port for -t 80' >&2; exit 1");
    let error = Rig::<Passt>::refusal(&config);
    assert_eq!(
        error,
        "passt has ended: exit status: 1: Failed to bind any port for -t 80"
    );
    let error = Rig::<Passt>::refusal(r#"{ "program": "/nowhere/passt" }"#);
    assert!(error.contains("install the package passt"), "{error}");
    let error = Rig::<Passt>::refusal(r#"{ "ports": ["[::1]:80:80"] }"#);
    assert!(error.contains("IPv6 address needs ipv6"), "{error}");
    let error = Rig::<Passt>::refusal(r#"{ "ports": ["80"] }"#);
    assert!(error.starts_with("port \"80\""), "{error}");
}

#[test]
fn a_process_that_ends_takes_the_link_down_and_has_its_last_words() {
    // The first frame is the question whether it runs, the second its end.
    let (_folder, config) = script(
        "echo hello >&2; head -c 46 <&0 >&0; head -c 64 <&0 >/dev/null; echo farewell >&2; exit 3",
    );
    let mut rig = Rig::<Passt>::new(&config).unwrap();
    let mut sent = rig.frame();
    sent.resize(60, 7);
    rig.send(&sent).unwrap();
    rig.until("its end", |rig| {
        rig.device.set_interest(0, RECEIVE).unwrap();
        rig.try_frame();
        rig.device.process.is_none()
    });
    assert_eq!(rig.mock.asked().link, Some(false));
    assert!(rig.mock.asked().fds.is_empty());
    assert!(rig.logged("exit status: 3: hello; farewell"));
    rig.send(&[7; 60]).unwrap();
}

#[test]
fn a_process_that_says_too_much_is_not_written_down() {
    let (_folder, config) = script(&format!("seq 100000 >&2; {ECHO}"));
    let mut rig = Rig::<Passt>::new(&config).unwrap();
    rig.until("the answer", |rig| {
        rig.device.set_interest(0, RECEIVE).unwrap();
        rig.try_frame().is_some()
    });
    rig.until("its words", |rig| rig.logged("passt: and so on"));
    let logged = rig.mock.asked().log.len();
    assert_eq!(logged, MAX_LOGGED as usize);
}

#[test]
fn the_process_ends_with_the_device_and_not_by_its_terminal() {
    // One that does not end with its socket.
    let (_folder, config) = script("cat <&0 >&0; exec sleep 100");
    let rig = Rig::<Passt>::new(&config).unwrap();
    let pid = rig.device.process.as_ref().unwrap().id();
    let process = rustix::process::Pid::from_raw(pid as i32);
    assert_eq!(rustix::process::getpgid(process).ok(), process);
    let proc = format!("/proc/{pid}");
    assert!(std::fs::exists(&proc).unwrap());
    drop(rig);
    assert!(!std::fs::exists(&proc).unwrap());
}

/// A network in which passt finds a way out.
const SET_UP: &str = "passt --version
    ip link add eth0 type veth peer name eth1
    ip link set eth0 up
    ip link set eth1 up
    ip addr add 192.0.2.2/24 dev eth0
    ip route add default via 192.0.2.1";

/// Makes the guest known by what it sends: it asks for the gateway. The gateway's
/// address on its card.
fn introduce(rig: &mut Rig<Passt>) -> [u8; 6] {
    let mut question = rig.frame();
    question[..6].fill(0xff);
    question[6..12].copy_from_slice(&GUEST);
    question[20..28].copy_from_slice(&[0, 1, 2, 0, 0, 0, 0, 1]);
    question[28..32].copy_from_slice(&ADDRESS.octets());
    question[38..42].copy_from_slice(&GATEWAY.octets());
    rig.send(&question).unwrap();
    let answer = rig.frame();
    assert_eq!(answer[28..32], GATEWAY.octets());
    *answer[6..].first_chunk().unwrap()
}

/// The guest's card.
const GUEST: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// The next frame of TCP over IPv4.
fn tcp(rig: &mut Rig<Passt>) -> Vec<u8> {
    loop {
        let frame = rig.frame();
        if frame[12..14] == [8, 0] && frame[23] == 6 {
            return frame;
        }
    }
}

/// The guest opens a connection to `to`, by a frame to the card `card`.
fn syn(card: [u8; 6], to: SocketAddrV4) -> Vec<u8> {
    let mut frame = vec![0; 54];
    frame[..6].copy_from_slice(&card);
    frame[6..12].copy_from_slice(&GUEST);
    // An IPv4 packet of 40 bytes, which lives for 64 hops, of TCP.
    frame[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6]);
    frame[26..30].copy_from_slice(&ADDRESS.octets());
    frame[30..34].copy_from_slice(&to.ip().octets());
    frame[34..36].copy_from_slice(&40_000u16.to_be_bytes());
    frame[36..38].copy_from_slice(&to.port().to_be_bytes());
    // A header of 20 bytes, SYN, and a window.
    frame[46..50].copy_from_slice(&[0x50, 2, 0xff, 0xff]);
    frame
}

#[test]
fn what_the_host_keeps_to_itself_is_out_of_the_guests_reach() {
    if !in_namespace(
        "passt::tests::what_the_host_keeps_to_itself_is_out_of_the_guests_reach",
        SET_UP,
    ) {
        return;
    }
    let kept = TcpListener::bind("127.0.0.1:0").unwrap();
    kept.set_nonblocking(true).unwrap();
    let port = kept.local_addr().unwrap().port();
    let offered = TcpListener::bind("192.0.2.2:0").unwrap();
    let SocketAddr::V4(place) = offered.local_addr().unwrap() else {
        unreachable!();
    };
    let mut rig = Rig::<Passt>::new("{}").unwrap();
    let gateway = introduce(&mut rig);
    for address in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED] {
        let frame = syn(gateway, SocketAddrV4::new(address, port));
        rig.send(&frame).unwrap();
    }
    // passt takes one after the other.
    rig.send(&syn(gateway, place)).unwrap();
    let answer = tcp(&mut rig);
    assert_eq!(answer[26..30], place.ip().octets());
    assert_eq!(answer[47] & 0x12, 0x12, "it is open");
    assert_eq!(kept.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    rig.device.stop();
    assert!(rig.logged("2 frames went nowhere"));
}

#[test]
fn a_connection_to_a_published_port_reaches_the_guest() {
    if !in_namespace(
        "passt::tests::a_connection_to_a_published_port_reaches_the_guest",
        SET_UP,
    ) {
        return;
    }
    let ports = r#"{ "ports": ["127.0.0.1:8080:80"] }"#;
    let mut rig = Rig::<Passt>::new(ports).unwrap();
    introduce(&mut rig);
    let client = std::thread::spawn(|| TcpStream::connect("127.0.0.1:8080"));
    let syn = tcp(&mut rig);
    assert_eq!(syn[..6], GUEST);
    assert_eq!(syn[26..30], GATEWAY.octets());
    assert_eq!(syn[30..34], ADDRESS.octets());
    assert_eq!(syn[36..38], 80u16.to_be_bytes());
    assert_eq!(syn[47] & 2, 2, "it opens a connection");
    client.join().unwrap().unwrap();
    // The same port again is nobody's.
    let error = Rig::<Passt>::refusal(ports);
    assert!(error.contains("Failed to bind"), "{error}");
}
