//! Other programs, through Unix sockets.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use tempfile::TempDir;

use super::driver::Driver;
use super::{Bench, Setup, drain, impatient};
use crate::packet::{Op, SHUTDOWN_BOTH};
use crate::unix::UnixSide;

fn bench(setup: Setup) -> (Bench, TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vsock");
    let mut bench = Bench::with(Setup {
        unix: Some(UnixSide::bind(path.clone()).unwrap()),
        ..setup
    });
    bench.driver.offer_many(32);
    (bench, folder, path)
}

#[test]
fn client_connects_and_hears_ok_when_the_guest_has_accepted() {
    let (mut bench, _folder, path) = bench(Setup::default());
    let mut client = UnixStream::connect(path).unwrap();
    client.write_all(b"CONNECT 22\nfirst").unwrap();
    let request = bench.packet();
    assert_eq!((request.op(), request.header.dst_port), (Op::Request, 22));
    assert_eq!(drain(&client), (Vec::new(), false));

    let mut peer = super::Peer::new(22, request.header.src_port, &request.header);
    bench.send(peer.header(Op::Response), &[]);
    assert_eq!(bench.packet().payload, b"first");
    let header = peer.data(4);
    bench.send(header, b"back");
    let expected = format!("OK {}\nback", request.header.src_port);
    assert_eq!(drain(&client), (expected.into_bytes(), false));
    // The line is not the guest's, and so not in its account.
    bench.send(peer.header(Op::CreditRequest), &[]);
    assert_eq!(bench.packet().header.fwd_cnt, 4);
}

#[test]
fn client_may_write_its_line_in_pieces() {
    let (mut bench, _folder, path) = bench(Setup::default());
    let mut client = UnixStream::connect(path).unwrap();
    for byte in b"CONNECT 22" {
        client.write_all(&[*byte]).unwrap();
        assert!(bench.packets().is_empty());
    }
    client.write_all(b"\n").unwrap();
    assert_eq!(bench.packet().op(), Op::Request);
}

#[test]
fn client_may_shut_its_writing_half_after_the_line() {
    let (mut bench, _folder, path) = bench(Setup::default());
    let mut client = UnixStream::connect(path).unwrap();
    client.write_all(b"CONNECT 22\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(bench.packet().op(), Op::Request);
}

#[test]
fn client_is_closed_without_ok_when_the_guest_refuses() {
    let (mut bench, _folder, path) = bench(Setup::default());
    let mut client = UnixStream::connect(path).unwrap();
    client.write_all(b"CONNECT 22\n").unwrap();
    let port = bench.packet().header.src_port;
    bench.send(Driver::header(Op::Reset, 22, port), &[]);
    assert_eq!(drain(&client), (Vec::new(), true));
}

#[test]
fn client_that_says_something_else_is_closed() {
    for line in [
        "GET / HTTP/1.1\r\n",
        "CONNECT x\n",
        "\n",
        "CONNECT 99999999999\n",
        "no line end, and more than any CONNECT line needs",
    ] {
        let (mut bench, _folder, path) = bench(Setup::default());
        let mut client = UnixStream::connect(path).unwrap();
        client.write_all(line.as_bytes()).unwrap();
        bench.run();
        // The unread bytes make it a reset connection, or an end.
        let mut byte = [0];
        assert_eq!(client.read(&mut byte).unwrap_or(0), 0, "{line:?}");
        assert!(bench.packets().is_empty());
    }
}

#[test]
fn client_that_leaves_before_the_line_ends_is_forgotten() {
    for line in ["", "CONN", "CONNECT 22"] {
        let (mut bench, _folder, path) = bench(Setup::default());
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(line.as_bytes()).unwrap();
        bench.run();
        drop(client);
        assert!(bench.packets().is_empty());
        // Written and closed before the device looks.
        let mut client = UnixStream::connect(&path).unwrap();
        client.write_all(line.as_bytes()).unwrap();
        drop(client);
        assert!(bench.packets().is_empty());
    }
}

#[test]
fn client_that_falls_silent_is_closed_in_time() {
    let (mut bench, _folder, path) = bench(impatient());
    let mut client = UnixStream::connect(path).unwrap();
    client.write_all(b"CONN").unwrap();
    bench.run();
    bench.run_deadline();
    let mut byte = [0];
    assert_eq!(client.read(&mut byte).unwrap_or(0), 0);
}

#[test]
fn silent_clients_are_limited_and_others_served_when_they_left() {
    let (mut bench, _folder, path) = bench(Setup::default());
    let silent: Vec<_> = (0..64)
        .map(|_| {
            let mut client = UnixStream::connect(&path).unwrap();
            client.write_all(b"CONN").unwrap();
            bench.run();
            client
        })
        .collect();
    let refused = UnixStream::connect(&path).unwrap();
    bench.run();
    assert_eq!(drain(&refused), (Vec::new(), true));
    drop(silent);
    bench.run();
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"CONNECT 22\n").unwrap();
    assert_eq!(bench.packet().op(), Op::Request);
}

#[test]
fn clients_before_the_driver_is_ready_wait_for_it() {
    let (mut bench, _folder, path) = bench(Setup::default());
    bench.deactivate();
    let mut client = UnixStream::connect(&path).unwrap();
    client.write_all(b"CONNECT 22\n").unwrap();
    bench.activate();
    assert_eq!(bench.packet().op(), Op::Request);
}

#[test]
fn guest_reaches_a_program_that_listens_at_its_port() {
    let (mut bench, folder, _path) = bench(Setup::default());
    let listener = UnixListener::bind(folder.path().join("vsock_5000")).unwrap();
    bench.send(Driver::header(Op::Request, 7000, 5000), &[]);
    let response = bench.packet();
    assert_eq!(response.op(), Op::Response);
    let (mut program, _) = listener.accept().unwrap();
    let mut peer = super::Peer::new(7000, 5000, &response.header);
    let header = peer.data(4);
    bench.send(header, b"ping");
    assert_eq!(drain(&program), (b"ping".to_vec(), false));
    program.write_all(b"pong").unwrap();
    drop(program);
    let packets = bench.packets();
    assert_eq!(peer.take(&packets[0]), b"pong");
    assert_eq!(packets[1].header.flags, SHUTDOWN_BOTH);
}

#[test]
fn guest_is_refused_where_no_program_listens() {
    let (mut bench, _folder, _path) = bench(Setup::default());
    bench.send(Driver::header(Op::Request, 7000, 5000), &[]);
    assert_eq!(bench.packet().op(), Op::Reset);
}

#[test]
fn listener_of_the_owner_comes_before_a_socket() {
    let (mut bench, folder, _path) = bench(Setup::default());
    let listener = UnixListener::bind(folder.path().join("vsock_5000")).unwrap();
    listener.set_nonblocking(true).unwrap();
    bench.guest_connects(5000);
    assert!(listener.accept().is_err());
}

#[test]
fn program_that_does_not_accept_does_not_block_the_device() {
    let (mut bench, folder, _path) = bench(Setup::default());
    let _listener = UnixListener::bind(folder.path().join("vsock_5000")).unwrap();
    let mut refused = false;
    for port in 0..5000 {
        bench.driver.offer_many(1);
        bench.send(Driver::header(Op::Request, port, 5000), &[]);
        if bench.packets()[0].op() == Op::Reset {
            refused = true;
            break;
        }
    }
    assert!(refused);
}
