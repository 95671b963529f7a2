//! Ports of this host that lead to servers in a guest without a network card.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Stdio;
use std::thread;

use e2e_tests::{Shem, builder, collect, demo_image, output, vm, with_each_kernel};
use shem::{Command, Event, ExitStatus, Forwarder, Image, PortForward, Process, Vm};

with_each_kernel!(
    a_server_is_reached_through_a_published_port,
    a_server_at_the_ipv6_loopback_address_is_reached_too,
);

/// The guest's port.
const PORT: u16 = 7;
/// More than all buffers on the way hold together, many times.
const BULK: usize = 64 << 20;

/// A forwarder to `port` of the guest, and where it listens.
fn forward(vm: &Vm, port: u16) -> (Forwarder, SocketAddr) {
    let port = PortForward::bind((Ipv4Addr::LOCALHOST, 0).into(), port).unwrap();
    let host = port.host();
    (vm.forward(vec![port]).unwrap(), host)
}

/// A script that runs `server`, an `nc` that listens at [`PORT`], and says so.
fn listening(server: &str) -> String {
    let listens = "until netstat -ltn | grep -q ':7 '; do usleep 1000; done; echo listening";
    format!("{server} & {listens}")
}

/// Starts `server` and returns when it listens.
fn serve(vm: &Vm, server: &str) -> Process {
    let script = format!("{}; wait", listening(server));
    let mut process = vm.exec(&Command::new(["sh", "-c", &script])).unwrap();
    match process.next_event().unwrap() {
        Event::Stdout(line) => assert_eq!(line, b"listening\n"),
        other => panic!("{other:?}"),
    }
    process
}

fn pattern(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32)
        .map(|at| (at.wrapping_mul(2_654_435_761 + seed) >> 13) as u8)
        .collect()
}

/// Sends `bytes`, ends that way, and gives what came back until the other's end.
fn exchange(host: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let client = TcpStream::connect(host).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(bytes).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        let mut answer = Vec::new();
        (&client).read_to_end(&mut answer).unwrap();
        answer
    })
}

fn a_server_is_reached_through_a_published_port(kernel: &str) {
    let script = format!("{}; read line; kill $!", listening("nc -ll -p 7 -e cat"));
    let mut shem = Shem::run(
        kernel,
        &["-i", "-p", "127.0.0.1::7"],
        &["sh", "-c", &script],
    );
    let mut child = shem.command().stdin(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut notes = BufReader::new(child.stderr.take().unwrap()).lines();
    let note = notes.next().unwrap().unwrap();
    let host = note.strip_prefix("shem: port 7 of the VM is ").unwrap();
    let line = lines.next().unwrap_or_else(|| {
        let rest: Vec<_> = notes.map_while(Result::ok).collect();
        panic!("the server does not run: {rest:?}")
    });
    assert_eq!(line.unwrap(), "listening");
    for _ in 0..3 {
        assert_eq!(exchange(host.parse().unwrap(), b"hello"), b"hello");
    }
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(TcpStream::connect(host).is_err(), "{host} is still open");
}

fn a_server_at_the_ipv6_loopback_address_is_reached_too(kernel: &str) {
    let image = Image::open(demo_image()).unwrap();
    let vm = builder(kernel).layer(image).boot().unwrap();
    output(&vm, &["sh", "-c", "echo found > /tmp/page"]);
    // It listens when its first process ends.
    output(&vm, &["httpd", "-p", "[::1]:80", "-h", "/tmp"]);
    let (_forwarder, host) = forward(&vm, 80);
    let answer = exchange(host, b"GET /page HTTP/1.0\r\n\r\n");
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.contains(" 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nfound\n"), "{answer}");
}

#[test]
fn sixteen_connections_at_once_do_not_mix() {
    let vm = vm().vcpus(2).boot().unwrap();
    let _server = serve(&vm, "nc -ll -p 7 -e cat");
    let (_forwarder, host) = forward(&vm, PORT);
    let clients: Vec<_> = (0..16).map(|_| TcpStream::connect(host).unwrap()).collect();
    // Each has its answer while all others are open, the last one first.
    for (seed, mut client) in clients.iter().enumerate().rev() {
        let sent = pattern(10_000, seed as u32);
        client.write_all(&sent).unwrap();
        let mut answer = vec![0; sent.len()];
        client.read_exact(&mut answer).unwrap();
        assert!(answer == sent, "connection {seed}");
    }
    for mut client in clients {
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn every_byte_arrives_both_ways_at_once() {
    let vm = vm().boot().unwrap();
    let _server = serve(&vm, "nc -ll -p 7 -e cat");
    let (_forwarder, host) = forward(&vm, PORT);
    let sent = pattern(BULK, 0);
    assert!(exchange(host, &sent) == sent);
}

#[test]
fn client_that_has_said_all_still_gets_its_answer() {
    let vm = vm().boot().unwrap();
    let _server = serve(&vm, "nc -ll -p 7 -e wc -c");
    let (_forwarder, host) = forward(&vm, PORT);
    assert_eq!(exchange(host, &[0; 100_000]), b"100000\n");
}

#[test]
fn server_that_has_said_all_still_hears_its_client() {
    let vm = vm().boot().unwrap();
    // Its input ends at once, and so does its side of the connection.
    let server = serve(&vm, "echo greeting | nc -l -p 7");
    let (_forwarder, host) = forward(&vm, PORT);
    let mut client = TcpStream::connect(host).unwrap();
    let mut greeting = String::new();
    client.read_to_string(&mut greeting).unwrap();
    assert_eq!(greeting, "greeting\n");
    client.write_all(b"late").unwrap();
    drop(client);
    assert_eq!(collect(server), ("late".into(), ExitStatus::Code(0)));
}

#[test]
fn client_is_reset_where_nobody_listens_and_served_once_somebody_does() {
    let vm = vm().boot().unwrap();
    let (_forwarder, host) = forward(&vm, PORT);
    let mut client = TcpStream::connect(host).unwrap();
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let _server = serve(&vm, "nc -ll -p 7 -e cat");
    assert_eq!(exchange(host, b"hello"), b"hello");
}

#[test]
fn connections_end_with_the_vm() {
    let vm = vm().boot().unwrap();
    let _server = serve(&vm, "nc -ll -p 7 -e cat");
    let (_forwarder, host) = forward(&vm, PORT);
    let mut client = TcpStream::connect(host).unwrap();
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    vm.kill();
    let ended = client.read(&mut [0]);
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

#[test]
fn port_that_is_taken_is_an_error_before_the_boot() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let host = taken.local_addr().unwrap().to_string();
    let published = format!("{host}:80");
    let shem = Shem::run("tuned", &["-p", &published, "--timeline"], &["true"]);
    shem.outcome()
        .assert_refused(125, &["--publish", &host, "in use"]);
}
