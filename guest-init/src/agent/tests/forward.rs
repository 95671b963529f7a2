//! Connections to ports of the container, which here are ports of this machine.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread;

use guest_client::ClientError;
use guest_protocol::MAX_FORWARDED;

use super::{Guest, code};

/// A server that answers the first client with what that sent, backwards and
/// only when all of it is there. Gives its port.
fn reverser(address: &str) -> u16 {
    let listener = TcpListener::bind(address).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).unwrap();
        bytes.reverse();
        client.write_all(&bytes).unwrap();
    });
    port
}

fn refusal(guest: &Guest, port: u16) -> (i32, String) {
    match guest.client.port().dial(port).unwrap().connected() {
        Err(ClientError::Failed(failure)) => (failure.errno, failure.message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_way_of_a_connection_to_a_port_ends_by_itself() {
    let guest = Guest::boot();
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let port = reverser(address);
        let mut stream = guest.client.port().dial(port).unwrap().connected().unwrap();
        stream.write_all(b"desrever").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "reversed", "{address}");
    }
}

#[test]
fn port_at_which_nobody_listens_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let message = format!("port {port}: Connection refused");
    assert_eq!(refusal(&Guest::boot(), port), (libc::ECONNREFUSED, message));
}

#[test]
fn connections_to_ports_leave_room_for_everything_else() {
    let guest = Guest::boot();
    *guest.agent.forwarded.lock().unwrap() = MAX_FORWARDED;
    let (errno, message) = refusal(&guest, 80);
    assert_eq!(errno, libc::EAGAIN);
    assert!(
        message.starts_with("port 80: too many connections"),
        "{message}"
    );
    assert_eq!(guest.shell("exit 3").exit, code(3));
    *guest.agent.forwarded.lock().unwrap() = MAX_FORWARDED - 1;
    let port = reverser("127.0.0.1:0");
    guest.client.port().dial(port).unwrap().connected().unwrap();
}
