//! More bytes than any counter of the device may stumble over at small sizes,
//! through a reader and a writer that pause at will.

use std::io::{Read, Write};

use super::{Bench, Setup, pattern};
use crate::packet::{Op, SHUTDOWN_SEND};

/// How much goes through in these tests.
const TOTAL: usize = 64 << 20;

/// The sum by which the two ends are compared.
fn sum(mut state: u64, bytes: &[u8]) -> u64 {
    for &byte in bytes {
        state = state.rotate_left(5) ^ u64::from(byte).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    state
}

#[test]
fn guest_sends_64_mib_to_a_thread_that_reads() {
    let mut bench = Bench::with(Setup {
        event_idx: true,
        ..Setup::default()
    });
    bench.driver.offer_many(16);
    let (mut peer, mut stream) = bench.guest_connects(1024);
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 100_000];
        let (mut state, mut total) = (0, 0);
        loop {
            match stream.read(&mut buffer).unwrap() {
                0 => return (state, total),
                count => {
                    state = sum(state, &buffer[..count]);
                    total += count;
                }
            }
        }
    });
    let chunk = pattern(65536);
    let mut expected = 0;
    let mut sent = 0;
    while sent < TOTAL {
        if peer.credit() >= chunk.len() {
            let header = peer.data(chunk.len());
            bench.send(header, &chunk);
            expected = sum(expected, &chunk);
            sent += chunk.len();
        } else {
            // Only a credit update can help, which only the reader can cause.
            bench.manager.run().unwrap();
        }
        for packet in bench.packets() {
            assert_eq!(packet.op(), Op::CreditUpdate);
            peer.take(&packet);
            bench.driver.offer_many(1);
        }
    }
    bench.send(peer.shutdown(SHUTDOWN_SEND), &[]);
    while !reader.is_finished() {
        bench.manager.run_with_timeout(1).unwrap();
    }
    assert_eq!(reader.join().unwrap(), (expected, TOTAL));
}

#[test]
fn host_sends_64_mib_from_a_thread_that_writes() {
    let mut bench = Bench::with(Setup {
        event_idx: true,
        ..Setup::default()
    });
    bench.driver.offer_many(60);
    let (mut peer, mut stream) = bench.host_connects();
    let writer = std::thread::spawn(move || {
        let chunk = pattern(50_000);
        let (mut state, mut total) = (0, 0);
        while total < TOTAL {
            let part = &chunk[..chunk.len().min(TOTAL - total)];
            stream.write_all(part).unwrap();
            state = sum(state, part);
            total += part.len();
        }
        state
    });
    let (mut state, mut total) = (0, 0);
    let mut told = 0;
    loop {
        let packets = bench.packets();
        if packets.is_empty() {
            bench.manager.run().unwrap();
        }
        let mut ended = false;
        for packet in packets {
            bench.driver.offer_many(1);
            match packet.op() {
                Op::ReadWrite => {
                    let bytes = peer.take(&packet);
                    state = sum(state, &bytes);
                    total += bytes.len();
                    peer.forwarded = peer.forwarded.wrapping_add(bytes.len() as u32);
                }
                Op::CreditRequest => {}
                Op::Shutdown => ended = true,
                op => panic!("{op:?}"),
            }
        }
        if ended {
            break;
        }
        if total - told >= 100_000 {
            told = total;
            bench.send(peer.header(Op::CreditUpdate), &[]);
        }
    }
    assert_eq!(total, TOTAL);
    assert_eq!(state, writer.join().unwrap());
}
