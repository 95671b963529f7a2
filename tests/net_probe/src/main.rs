//! Both ends of connections, for tests of networks: in a guest and on the host.
//!
//! | words | what it does |
//! | --- | --- |
//! | `serve PORT` | gives back what it gets, by TCP and UDP, at every address; at the two ports behind it only takes, and only gives; says `ready` |
//! | `tcp ADDRESS:PORT BYTES` | sends that many bytes, closes its half, and checks what comes back meanwhile |
//! | `echo ADDRESS:PORT BYTES` | the same, but closes its half when all has come back |
//! | `udp ADDRESS:PORT COUNT SIZE` | sends datagrams, several at a time, each until it came back |
//! | `bench ADDRESS:PORT BYTES ROUNDTRIPS` | takes the times of that many bytes there, of as many from there, and of single bytes to and fro |
#![forbid(unsafe_code)]

mod bench;
mod serve;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::time::Duration;
use std::{env, io, thread};

use anyhow::{Context, Result, bail, ensure};

/// Longest wait for a connection or for its next bytes.
const LIMIT: Duration = Duration::from_secs(120);
/// Bytes that are read or written at once.
const BLOCK: usize = 64 << 10;
/// After this long a datagram is taken for lost.
const LOST: Duration = Duration::from_millis(500);
/// Each datagram is sent at most this often.
const TRIES: usize = 20;
/// Datagrams on their way at a time.
const IN_FLIGHT: usize = 8;
/// Longest datagram.
const MAX_DATAGRAM: usize = 65_507;
/// Bytes of a datagram's number.
const NUMBER: usize = 4;

fn main() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["serve", port] => serve::run(port.parse()?),
        ["tcp", address, bytes] => tcp(address, bytes.parse()?, Close::WhenSent),
        ["echo", address, bytes] => tcp(address, bytes.parse()?, Close::WhenBack),
        ["udp", address, count, size] => udp(address, count.parse()?, size.parse()?),
        ["bench", address, bytes, round_trips] => {
            bench::run(address, bytes.parse()?, round_trips.parse()?)
        }
        _ => bail!(
            "use: serve PORT | tcp ADDRESS:PORT BYTES | echo ADDRESS:PORT BYTES | udp ADDRESS:PORT COUNT SIZE | \
             bench ADDRESS:PORT BYTES ROUNDTRIPS"
        ),
    }
}

/// What is at `offset` of every stream: no two places nearby look alike.
fn pattern(offset: usize) -> u8 {
    ((offset as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

fn connect(address: &str) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("connect to {address}"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// When a connection's half is closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Close {
    /// All is sent.
    WhenSent,
    /// All has come back.
    WhenBack,
}

fn tcp(address: &str, bytes: usize, close: Close) -> Result<()> {
    let stream = connect(address)?;
    thread::scope(|scope| {
        let sender = scope.spawn(|| -> io::Result<()> {
            let mut sent = 0;
            let mut block = vec![0; BLOCK];
            while sent < bytes {
                let len = block.len().min(bytes - sent);
                for (at, byte) in block[..len].iter_mut().enumerate() {
                    *byte = pattern(sent + at);
                }
                (&stream).write_all(&block[..len])?;
                sent += len;
            }
            match close {
                Close::WhenSent => stream.shutdown(Shutdown::Write),
                Close::WhenBack => Ok(()),
            }
        });
        let mut seen = 0;
        let mut block = vec![0; BLOCK];
        loop {
            let len = (&stream).read(&mut block).context("read what comes back")?;
            if len == 0 {
                break;
            }
            for (at, byte) in block[..len].iter().enumerate() {
                ensure!(*byte == pattern(seen + at), "byte {} is another", seen + at);
            }
            seen += len;
            if close == Close::WhenBack && seen == bytes {
                stream.shutdown(Shutdown::Write)?;
            }
        }
        sender.join().expect("it does not panic").context("send")?;
        ensure!(seen == bytes, "{seen} of {bytes} bytes came back");
        println!("{bytes} bytes came back");
        Ok(())
    })
}

fn udp(address: &str, count: usize, size: usize) -> Result<()> {
    ensure!(
        (NUMBER..=MAX_DATAGRAM).contains(&size),
        "size is {NUMBER} to {MAX_DATAGRAM}"
    );
    let any = if address.starts_with('[') {
        "[::]:0"
    } else {
        "0.0.0.0:0"
    };
    let socket = UdpSocket::bind(any)?;
    socket
        .connect(address)
        .with_context(|| format!("connect to {address}"))?;
    socket.set_read_timeout(Some(LOST))?;
    let mut missing: BTreeSet<usize> = (0..count).collect();
    let mut answer = vec![0; MAX_DATAGRAM];
    let mut again = 0;
    for _ in 0..TRIES {
        let round: Vec<usize> = missing.iter().copied().collect();
        for few in round.chunks(IN_FLIGHT) {
            for number in few {
                socket.send(&datagram(*number, size)).context("send")?;
            }
            let mut left = few.iter().filter(|number| missing.contains(number)).count();
            while left > 0 {
                let len = match socket.recv(&mut answer) {
                    Ok(len) => len,
                    Err(error) if is_timeout(&error) => break,
                    Err(error) => return Err(error).context("receive"),
                };
                ensure!(len == size, "{len} bytes came back for {size}");
                let mut number = [0; NUMBER];
                number.copy_from_slice(&answer[..NUMBER]);
                let number = u32::from_le_bytes(number) as usize;
                ensure!(
                    answer[..len] == datagram(number, size),
                    "datagram {number} is another"
                );
                if missing.remove(&number) {
                    left = left.saturating_sub(1);
                }
            }
        }
        if missing.is_empty() {
            println!("{count} datagrams came back, {again} after they were sent again");
            return Ok(());
        }
        again += missing.len();
    }
    bail!("{} of {count} datagrams did not come back", missing.len())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn datagram(number: usize, size: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..size).map(|at| pattern(at + number)).collect();
    bytes[..NUMBER].copy_from_slice(&(number as u32).to_le_bytes());
    bytes
}
