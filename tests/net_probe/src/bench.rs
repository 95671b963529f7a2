//! Takes times of connections to a [server](crate::serve), and prints `row NANOSECONDS
//! COUNT NAME` for each, where the count is of bytes or of round trips.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::connect;
use crate::serve::{SINK, SOURCE, behind, pour, swallow};

/// All rows. Each has a connection of its own, which is open when its time begins.
pub fn run(address: &str, bytes: u64, round_trips: u64) -> Result<()> {
    let address: SocketAddr = address.parse().context("the address")?;
    row("send", behind(address, SINK)?, bytes, send)?;
    row("receive", behind(address, SOURCE)?, bytes, receive)?;
    row("round trip", address, round_trips, to_and_fro)
}

fn row(
    name: &str,
    address: SocketAddr,
    count: u64,
    run: fn(&TcpStream, u64) -> Result<()>,
) -> Result<()> {
    let stream = connect(&address.to_string())?;
    stream.set_nodelay(true)?;
    let start = Instant::now();
    run(&stream, count).with_context(|| name.to_owned())?;
    let nanoseconds = start.elapsed().as_nanos();
    println!("row {nanoseconds} {count} {name}");
    Ok(())
}

/// Until the other end has said that it has all of it.
fn send(mut stream: &TcpStream, bytes: u64) -> Result<()> {
    pour(stream, bytes)?;
    stream.shutdown(Shutdown::Write)?;
    stream.read_exact(&mut [0]).context("hear of the last byte")
}

fn receive(mut stream: &TcpStream, bytes: u64) -> Result<()> {
    stream.write_all(&bytes.to_le_bytes())?;
    let seen = swallow(stream)?;
    ensure!(seen == bytes, "{seen} of {bytes} bytes came");
    Ok(())
}

fn to_and_fro(mut stream: &TcpStream, round_trips: u64) -> Result<()> {
    for _ in 0..round_trips {
        let mut byte = [0];
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;
    use crate::BLOCK;
    use crate::serve::{each, echo, sink, source};

    /// Where such a server listens.
    fn server(serve: fn(&TcpStream) -> io::Result<()>) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || each(&listener, serve));
        address
    }

    #[test]
    fn every_row_ends_with_the_server_that_is_made_for_it() {
        let bytes = 3 * BLOCK as u64 + 1;
        row("sink", server(sink), bytes, send).unwrap();
        row("source", server(source), bytes, receive).unwrap();
        row("echo", server(echo), 10, to_and_fro).unwrap();
    }

    #[test]
    fn bytes_that_are_missing_are_no_time() {
        // It answers eight bytes by as many.
        let error = row("name", server(echo_once), 9, receive).unwrap_err();
        assert_eq!(error.root_cause().to_string(), "8 of 9 bytes came");
    }

    fn echo_once(mut stream: &TcpStream) -> io::Result<()> {
        let mut bytes = [0; 8];
        stream.read_exact(&mut bytes)?;
        stream.write_all(&bytes)
    }
}
