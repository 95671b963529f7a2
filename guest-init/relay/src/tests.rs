//! The relay between sockets of this machine.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use nix::time::{ClockId, clock_gettime};

use super::*;

/// More than all buffers on the way hold together.
const BULK: usize = 8 << 20;

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

#[test]
fn client_that_is_reset_ends_the_relay_though_nobody_reads() {
    let (client, server, relay) = relayed();
    let at_once = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    client.set_nonblocking(true).unwrap();
    while (&client).write(&[0; 4096]).is_ok() {}
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
fn sides_that_have_hung_up_cost_no_processor_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let (server, theirs) = UnixStream::pair().unwrap();
    let (sender, ended) = mpsc::channel();
    let relay = thread::spawn(move || {
        let outcome = relay(accepted.as_fd(), theirs.as_fd());
        sender.send(outcome).unwrap();
        Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap())
    });
    client.set_nonblocking(true).unwrap();
    while (&client).write(&[0; 4096]).is_ok() {}
    client.set_nonblocking(false).unwrap();
    // Both have said all that they will; only the server's reading can go on.
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&client), b"");
    client.shutdown(Shutdown::Write).unwrap();
    let early = ended.recv_timeout(Duration::from_millis(300));
    assert_eq!(early, Err(mpsc::RecvTimeoutError::Timeout));
    assert!(rest(&server).len() > BUFFER);
    assert_eq!(ended.recv().unwrap(), Ok(()));
    let used = relay.join().unwrap();
    assert!(used < Duration::from_millis(50), "{used:?}");
}
