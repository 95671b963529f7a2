//! What lies outside of a guest that passt serves: a way out, which passt looks for,
//! and a server on the host's loopback interface. A port of 1024 and up tells passt,
//! which tries to bind to it, that the server is near: it then has the guest send
//! segments as long as the MTU allows.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::thread;

use crate::namespace::{ip, tap};

/// Makes what passt takes for the way out: an interface with a cable, as long as what is
/// returned is there, and a route.
pub fn way_out() -> OwnedFd {
    let cable = tap("out0");
    ip("addr add 192.0.2.2/24 dev out0");
    ip("link set out0 up");
    ip("route add default via 192.0.2.1");
    cable
}

/// The port of a server on the loopback that answers everybody with `page`, so many
/// `times`, as long as this program runs.
pub fn web_server(page: Vec<u8>, times: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut request = [0; 1024];
            let head = b"HTTP/1.0 200 OK\r\n\r\n";
            // A client that does not want it any more has gone.
            let _ = client
                .read(&mut request)
                .and_then(|_| client.write_all(head))
                .and_then(|()| (0..times).try_for_each(|_| client.write_all(&page)));
        }
    });
    port
}
