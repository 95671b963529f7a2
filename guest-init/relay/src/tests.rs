//! The relay between sockets of this machine.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use nix::sys::socket::{setsockopt, sockopt};

use super::*;

/// More than all buffers on the way hold together.
const BULK: usize = 2 << 20;

/// Our ends of two connections between which a thread relays.
fn relayed() -> (TcpStream, UnixStream, JoinHandle<nix::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let (server, theirs) = UnixStream::pair().unwrap();
    let (a, b) = (OwnedFd::from(accepted), OwnedFd::from(theirs));
    let thread = thread::spawn(move || relay(a.as_fd(), b.as_fd()));
    (client, server, thread)
}

fn pattern(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32)
        .map(|at| (at.wrapping_mul(2_654_435_761 + seed) >> 13) as u8)
        .collect()
}

fn rest(mut stream: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn bytes_arrive_both_ways_at_once_and_unchanged() {
    let (client, server, relay) = relayed();
    let (up, down) = (pattern(BULK, 1), pattern(BULK, 2));
    thread::scope(|scope| {
        scope.spawn(|| {
            (&client).write_all(&up).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
        scope.spawn(|| {
            (&server).write_all(&down).unwrap();
            server.shutdown(Shutdown::Write).unwrap();
        });
        let received = scope.spawn(|| rest(&client));
        assert!(rest(&server) == up);
        assert!(received.join().unwrap() == down);
    });
    assert_eq!(relay.join().unwrap(), Ok(()));
}

#[test]
fn one_way_ends_and_the_other_goes_on() {
    let (mut client, mut server, relay) = relayed();
    client.write_all(b"question").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&server), b"question");
    // What the question ended with does not end the answer.
    for word in [b"one".as_slice(), b"two"] {
        server.write_all(word).unwrap();
        let mut answer = [0; 3];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, word);
    }
    drop(server);
    assert_eq!(rest(&client), b"");
    assert_eq!(relay.join().unwrap(), Ok(()));
}

#[test]
fn answer_arrives_from_a_server_that_does_not_read() {
    let (client, mut server, relay) = relayed();
    server.write_all(b"too large").unwrap();
    drop(server);
    // Writes into nothing fail sooner or later; what was answered counts.
    let _ = (&client).write_all(&pattern(BULK, 3));
    let mut answer = [0; 9];
    (&client).read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"too large");
    drop(client);
    relay.join().unwrap().unwrap_err();
}

/// A server, and its peer, which can send it nothing more before it has read.
fn full() -> (UnixStream, UnixStream) {
    let (server, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    while (&theirs).write(&[0; 4096]).is_ok() {}
    (server, theirs)
}

#[test]
fn client_that_is_reset_ends_the_relay_though_nobody_reads() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let (server, theirs) = full();
    let relay = thread::spawn(move || relay(accepted.as_fd(), theirs.as_fd()));
    client.write_all(b"unread").unwrap();
    let at_once = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&client, sockopt::Linger, &at_once).unwrap();
    drop(client);
    relay.join().unwrap().unwrap_err();
    drop(server);
}

#[test]
fn shutting_a_side_down_from_outside_ends_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let (server, theirs) = UnixStream::pair().unwrap();
    let (a, b) = (accepted.try_clone().unwrap(), theirs.try_clone().unwrap());
    let relay = thread::spawn(move || relay(a.as_fd(), b.as_fd()));
    accepted.shutdown(Shutdown::Both).unwrap();
    theirs.shutdown(Shutdown::Both).unwrap();
    // That it returns is all that counts.
    let _ = relay.join().unwrap();
    drop((client, server));
}

#[test]
fn side_that_has_hung_up_wakes_the_relay_once() {
    let (client, accepted) = UnixStream::pair().unwrap();
    let (server, theirs) = full();
    // Both have said all that they will; only the server's reading can go on.
    (&client).write_all(b"last").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    let mut ways = [
        Way::new(accepted.as_fd(), theirs.as_fd()),
        Way::new(theirs.as_fd(), accepted.as_fd()),
    ];
    while ways[0].step() | ways[1].step() {}
    let mut gone = [false; 2];
    wait(&ways, &mut gone).unwrap();
    assert_eq!(gone, [true, false]);
    // Now the wait is for the server alone.
    let reader = thread::spawn(move || rest(server));
    while !ways[0].done {
        wait(&ways, &mut gone).unwrap();
        while ways[0].step() {}
    }
    assert!(reader.join().unwrap().ends_with(b"last"));
}
