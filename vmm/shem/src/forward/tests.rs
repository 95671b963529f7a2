//! Forwarders whose agent is a thread of the test.

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, channel};

use guest_protocol::{AGENT_PORT, Done, Failure, FrameReader, MAX_REQUEST, Open, decode};

use nix::sys::socket::getsockopt;

use super::*;

const GUEST: u16 = 80;

/// What the agent makes of a connection whose request it has read.
type Server = fn(UnixStream);

fn answer(stream: &UnixStream, result: Result<(), Failure>) {
    guest_protocol::write_message(&mut &*stream, &Done(result)).unwrap();
}

/// Sends everything back once all of it is there.
fn echo(mut stream: UnixStream) {
    answer(&stream, Ok(()));
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    stream.write_all(&bytes).unwrap();
}

fn refuse(stream: UnixStream) {
    let message = "port 80: Connection refused".to_owned();
    let errno = libc::ECONNREFUSED;
    answer(&stream, Err(Failure { errno, message }));
}

/// Holds the connection until the other side ends it.
fn hold(mut stream: UnixStream) {
    answer(&stream, Ok(()));
    let _ = stream.read_to_end(&mut Vec::new());
}

/// Never answers.
fn hang(mut stream: UnixStream) {
    let _ = stream.read_to_end(&mut Vec::new());
}

/// An agent that serves each connection by `server`, and tells of each.
fn agent(server: Server) -> (Arc<AgentPort>, Receiver<u16>) {
    let (asked, told) = channel();
    let connect = move |port| {
        assert_eq!(port, AGENT_PORT);
        let (host, guest) = UnixStream::pair()?;
        let asked = asked.clone();
        thread::spawn(move || {
            let mut reader = FrameReader::new(guest, MAX_REQUEST);
            let frame = reader.read_frame().unwrap().unwrap();
            let Open::Connect { port } = decode(frame.body).unwrap() else {
                panic!("another request");
            };
            let _ = asked.send(port);
            server(reader.into_inner());
        });
        Ok(host)
    };
    (Arc::new(AgentPort::new(Box::new(connect))), told)
}

fn unconfined() -> Threads {
    Threads::new(|_| Ok(()))
}

fn any_port() -> PortForward {
    PortForward::bind((Ipv4Addr::LOCALHOST, 0).into(), GUEST).unwrap()
}

/// A forwarder to an agent of that kind, where it listens, and what the agent tells.
fn forwarder(server: Server) -> (Forwarder, SocketAddr, Receiver<u16>) {
    let port = any_port();
    let host = port.host();
    let (agent, told) = agent(server);
    let forwarder = Forwarder::start(vec![port], agent, &unconfined()).unwrap();
    (forwarder, host, told)
}

/// What comes back for `bytes` and their end.
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

#[test]
fn bytes_go_to_the_guests_port_and_back_with_each_way_ending_by_itself() {
    let (_forwarder, host, told) = forwarder(echo);
    assert_eq!(exchange(host, b"hello"), b"hello");
    assert_eq!(told.recv().unwrap(), GUEST);
    let bulk = vec![7; 4 << 20];
    assert!(exchange(host, &bulk) == bulk);
}

#[test]
fn many_clients_of_several_ports_are_served_at_once() {
    let ports = vec![any_port(), any_port()];
    let hosts: Vec<_> = ports.iter().map(PortForward::host).collect();
    let (agent, _told) = agent(echo);
    let _forwarder = Forwarder::start(ports, agent, &unconfined()).unwrap();
    // All are open before the first has its answer.
    let clients: Vec<_> = (0..16)
        .map(|at| TcpStream::connect(hosts[at % 2]).unwrap())
        .collect();
    for (mut client, byte) in clients.iter().zip(0..) {
        client.write_all(&[byte]).unwrap();
    }
    for (mut client, byte) in clients.into_iter().zip(0..) {
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, [byte]);
    }
}

#[test]
fn client_of_a_port_at_which_nobody_listens_is_reset() {
    let (_forwarder, host, _told) = forwarder(refuse);
    let mut client = TcpStream::connect(host).unwrap();
    let error = client.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    // The next one is served all the same, and so refused.
    let mut client = TcpStream::connect(host).unwrap();
    client.read(&mut [0]).unwrap_err();
}

#[test]
fn client_is_reset_when_there_is_no_agent_any_more() {
    let port = any_port();
    let host = port.host();
    let gone = || AgentPort::new(Box::new(|_| Err(ErrorKind::NotConnected.into())));
    let _forwarder = Forwarder::start(vec![port], Arc::new(gone()), &unconfined()).unwrap();
    let mut client = TcpStream::connect(host).unwrap();
    client.read(&mut [0]).unwrap_err();
}

#[test]
fn clients_beyond_the_limit_wait_until_one_ends() {
    let (forwarder, host, told) = forwarder(hold);
    let mut clients: Vec<_> = (0..MAX_CONNECTIONS)
        .map(|_| TcpStream::connect(host).unwrap())
        .collect();
    for _ in &clients {
        told.recv().unwrap();
    }
    // The kernel has accepted it, but nobody asks the agent for it.
    let waiting = TcpStream::connect(host).unwrap();
    assert!(told.recv_timeout(SHORTAGE).is_err());
    assert_eq!(forwarder.connections.state().ends.len(), MAX_CONNECTIONS);
    drop(clients.pop());
    assert_eq!(told.recv().unwrap(), GUEST);
    drop(waiting);
}

#[test]
fn client_that_vanishes_is_found_out() {
    let (forwarder, host, told) = forwarder(hold);
    let _client = TcpStream::connect(host).unwrap();
    told.recv().unwrap();
    let state = forwarder.connections.state();
    let client = &state.ends.values().next().unwrap().client;
    assert!(getsockopt(client, sockopt::KeepAlive).unwrap());
    let idle = getsockopt(client, sockopt::TcpKeepIdle).unwrap();
    let interval = getsockopt(client, sockopt::TcpKeepInterval).unwrap();
    let count = getsockopt(client, sockopt::TcpKeepCount).unwrap();
    assert_eq!(idle + interval * count, 60);
}

#[test]
fn dropping_a_forwarder_ends_its_connections_whatever_they_wait_for() {
    for server in [hold as Server, hang] {
        let (forwarder, host, told) = forwarder(server);
        let mut client = TcpStream::connect(host).unwrap();
        told.recv().unwrap();
        drop(forwarder);
        let ended = client.read(&mut [0]);
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
        // And nobody listens any more.
        TcpStream::connect(host).unwrap_err();
    }
}

#[test]
fn dropping_a_full_forwarder_does_not_wait_for_room() {
    let (forwarder, host, told) = forwarder(hold);
    let clients: Vec<_> = (0..=MAX_CONNECTIONS)
        .map(|_| TcpStream::connect(host).unwrap())
        .collect();
    for _ in 0..MAX_CONNECTIONS {
        told.recv().unwrap();
    }
    drop(forwarder);
    drop(clients);
}

#[test]
fn port_that_is_taken_is_named() {
    let taken = any_port();
    let error = PortForward::bind(taken.host(), GUEST).unwrap_err();
    assert_eq!(error.to_string(), format!("listen at {}", taken.host()));
    let ForwardError::Listen { source, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(source.kind(), ErrorKind::AddrInUse);
}

#[test]
fn thread_that_cannot_be_confined_forwards_nothing() {
    let threads = Threads::new(|_| Err(ErrorKind::PermissionDenied.into()));
    let port = any_port();
    let host = port.host();
    let (agent, _told) = agent(echo);
    let error = Forwarder::start(vec![port], agent, &threads).unwrap_err();
    assert!(matches!(error, ForwardError::Start(_)));
    TcpStream::connect(host).unwrap_err();
}
