//! The end that waits for connections: what comes back, and at the ports behind it what
//! only takes and what only gives.

use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use anyhow::{Context, Result};

use crate::{BLOCK, MAX_DATAGRAM};

/// So far behind the echo's port is one that swallows all, and then says so with one byte,
pub const SINK: u16 = 1;
/// and so far one that gives as many bytes as a `u64`, little-endian, asks for.
pub const SOURCE: u16 = 2;

/// Serves for ever at `port` and those behind it.
pub fn run(port: u16) -> Result<()> {
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let listen =
        |address| TcpListener::bind(address).with_context(|| format!("listen at {address}"));
    let echo_port = listen(everywhere)?;
    let sink_port = listen(behind(everywhere, SINK)?)?;
    let source_port = listen(behind(everywhere, SOURCE)?)?;
    let datagrams = UdpSocket::bind(everywhere).context("bind")?;
    println!("ready");
    io::stdout().flush()?;
    thread::spawn(move || {
        let mut datagram = vec![0; MAX_DATAGRAM];
        while let Ok((len, from)) = datagrams.recv_from(&mut datagram) {
            // One that cannot go back is lost, as any may be.
            let _ = datagrams.send_to(&datagram[..len], from);
        }
    });
    thread::spawn(move || each(&sink_port, sink));
    thread::spawn(move || each(&source_port, source));
    each(&echo_port, echo)
}

/// The same address with a port that far behind its own.
pub fn behind(mut address: SocketAddr, distance: u16) -> Result<SocketAddr> {
    let port = address.port().checked_add(distance);
    address.set_port(port.with_context(|| format!("two ports have to be behind {address}"))?);
    Ok(address)
}

/// Has every connection served in a thread of its own.
pub fn each(listener: &TcpListener, serve: fn(&TcpStream) -> io::Result<()>) -> Result<()> {
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || serve(&stream));
    }
    Ok(())
}

pub fn echo(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut answers = stream;
    io::copy(&mut stream, &mut answers)?;
    stream.shutdown(Shutdown::Write)
}

pub fn sink(mut stream: &TcpStream) -> io::Result<()> {
    swallow(stream)?;
    stream.write_all(&[0])
}

pub fn source(mut stream: &TcpStream) -> io::Result<()> {
    let mut wanted = [0; size_of::<u64>()];
    stream.read_exact(&mut wanted)?;
    pour(stream, u64::from_le_bytes(wanted))
}

/// Sends that many bytes.
pub fn pour(mut stream: &TcpStream, bytes: u64) -> io::Result<()> {
    let block = vec![0; BLOCK];
    let mut left = bytes;
    while left > 0 {
        let len = left.min(BLOCK as u64);
        stream.write_all(&block[..len as usize])?;
        left -= len;
    }
    Ok(())
}

/// Takes all until the other end has said all, and gives how many bytes that were.
pub fn swallow(mut stream: &TcpStream) -> io::Result<u64> {
    let mut block = vec![0; BLOCK];
    let mut bytes = 0;
    loop {
        match stream.read(&mut block)? {
            0 => return Ok(bytes),
            len => bytes += len as u64,
        }
    }
}
