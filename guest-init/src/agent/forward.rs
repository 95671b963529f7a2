//! Connections of the host to TCP ports of the container, on the loopback
//! interface: no network card is needed.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use guest_protocol::{Done, FrameReader, MAX_FORWARDED};
use stream_relay::relay;

use super::{Agent, Slot, answer, failure};

/// Where a server may listen, in the order in which it is looked for.
const ADDRESSES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// How long a server may take to accept at one address. The kernel does it for
/// the server as long as that has not too many waiting.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Connects to the port, says so, and is the connection until both ways of it
/// have ended.
pub fn serve(agent: &Arc<Agent>, reader: FrameReader<File>, port: u16) {
    let Some(_slot) = Slot::take(agent, |agent| &agent.forwarded, MAX_FORWARDED) else {
        let full = io::Error::from_raw_os_error(libc::EAGAIN);
        let done = failure(&full, format_args!("port {port}: too many connections"));
        return answer(&reader, &Done(Err(done)));
    };
    match connect(port) {
        Ok(server) => {
            answer(&reader, &Done(Ok(())));
            let host = reader.into_inner();
            // How it ended, both sides have seen for themselves.
            let _ = relay(host.as_fd(), server.as_fd());
        }
        Err(error) => answer(
            &reader,
            &Done(Err(failure(&error, format_args!("port {port}")))),
        ),
    }
}

/// Of two failures the first is told: that of the address which most listen at.
fn connect(port: u16) -> io::Result<TcpStream> {
    let [first, second] = ADDRESSES.map(|address| SocketAddr::new(address, port));
    let connect = |address| TcpStream::connect_timeout(address, CONNECT_LIMIT);
    let server = connect(&first).or_else(|error| connect(&second).map_err(|_| error))?;
    // What comes in pieces was sent in pieces.
    server.set_nodelay(true)?;
    Ok(server)
}
