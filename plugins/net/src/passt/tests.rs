//! Programs in passt's place, and passt itself where it is installed.

use std::net::TcpStream;
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
         --dns-forward 10.0.2.3 --mtu 1500 --ipv4-only --no-map-gw -t none -u none"
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
    assert_eq!((info.mtu, info.link_up), (Some(1500), true));
    // The answer to the question whether it runs.
    assert_eq!(rig.frame().len(), 42);
    for len in [14, 60, 1_514] {
        rig.send(&vec![7; len]).unwrap();
        assert_eq!(rig.frame(), vec![7; len]);
    }
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
    rig.frame();
    rig.send(&[7; 60]).unwrap();
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
    let (_folder, config) = script(ECHO);
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
    // The guest is known by what it sends: it asks for the gateway.
    let mut question = rig.frame();
    question[..6].fill(0xff);
    question[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    question[20..28].copy_from_slice(&[0, 1, 2, 0, 0, 0, 0, 1]);
    question[28..32].copy_from_slice(&ADDRESS.octets());
    question[38..42].copy_from_slice(&GATEWAY.octets());
    rig.send(&question).unwrap();
    let answer = rig.frame();
    assert_eq!(answer[28..32], GATEWAY.octets());
    let client = std::thread::spawn(|| TcpStream::connect("127.0.0.1:8080"));
    let syn = loop {
        let frame = rig.frame();
        // TCP over IPv4.
        if frame[12..14] == [8, 0] && frame[23] == 6 {
            break frame;
        }
    };
    assert_eq!(syn[..6], [2, 0, 0, 0, 0, 1]);
    assert_eq!(syn[26..30], GATEWAY.octets());
    assert_eq!(syn[30..34], ADDRESS.octets());
    assert_eq!(syn[36..38], 80u16.to_be_bytes());
    assert_eq!(syn[47] & 2, 2, "it opens a connection");
    client.join().unwrap().unwrap();
    // The same port again is nobody's.
    let error = Rig::<Passt>::refusal(ports);
    assert!(error.contains("Failed to bind"), "{error}");
}
