//! A guest that breaks the rules: it harms its own connections at most.

use std::sync::atomic::Ordering;

use super::driver::{CID, Driver};
use super::{Bench, Setup, drain};
use crate::packet::{HEADER_LEN, Header, MAX_PAYLOAD, Op, SHUTDOWN_SEND};
use crate::table::{FRUGAL_ALLOC, GENEROUS_ALLOC, MAX_CONNECTIONS};

/// Sends `header` and `payload` on an open connection and says what came back
/// and whether the host's stream ended.
fn after(spoil: impl FnOnce(&mut Header), payload: &[u8]) -> (Vec<Op>, bool) {
    let mut bench = Bench::new();
    let (mut peer, stream) = bench.guest_connects(1024);
    let mut header = peer.data(payload.len());
    spoil(&mut header);
    bench.send(header, payload);
    let ops = bench.packets().iter().map(|packet| packet.op()).collect();
    assert_eq!(bench.driver.sent(), 2, "the chain came back");
    assert_eq!(needs_reset(&bench), 0);
    (ops, drain(&stream).1)
}

fn needs_reset(bench: &Bench) -> usize {
    bench.driver.interrupts.needs_reset.load(Ordering::Relaxed)
}

#[test]
fn packet_of_another_guest_is_ignored() {
    let outcome = after(|header| header.src_cid = CID + 1, b"x");
    assert_eq!(outcome, (vec![], false));
}

#[test]
fn packet_for_another_host_is_ignored() {
    let outcome = after(|header| header.dst_cid = CID, b"x");
    assert_eq!(outcome, (vec![], false));
}

#[test]
fn packet_of_an_unknown_socket_type_is_reset_without_harm() {
    let mut bench = Bench::new();
    let (mut peer, stream) = bench.guest_connects(1024);
    let header = Header {
        kind: 2,
        ..peer.data(1)
    };
    bench.send(header, b"x");
    let packet = bench.packet();
    assert_eq!((packet.op(), packet.header.kind), (Op::Reset, 2));
    assert_eq!(drain(&stream), (Vec::new(), false));
    bench.send(
        Header {
            kind: 2,
            ..peer.header(Op::Reset)
        },
        &[],
    );
    assert!(bench.packets().is_empty());
}

#[test]
fn unknown_operations_reset_the_connection() {
    for op in [0, 8, u16::MAX] {
        let outcome = after(|header| header.op = op, b"x");
        assert_eq!(outcome, (vec![Op::Reset], true), "{op}");
    }
}

#[test]
fn second_response_resets_the_connection() {
    let outcome = after(|header| header.op = Op::Response as u16, &[]);
    assert_eq!(outcome, (vec![Op::Reset], true));
}

#[test]
fn length_beyond_the_chain_resets_the_connection() {
    let outcome = after(|header| header.len = 2, b"x");
    assert_eq!(outcome, (vec![Op::Reset], true));
}

#[test]
fn length_beyond_the_maximum_resets_the_connection() {
    let payload = vec![0; MAX_PAYLOAD as usize + 1];
    assert_eq!(after(|_| (), &payload), (vec![Op::Reset], true));
    let outcome = after(|header| header.len = u32::MAX, b"x");
    assert_eq!(outcome, (vec![Op::Reset], true));
}

#[test]
fn chain_longer_than_the_length_carries_only_the_length() {
    let mut bench = Bench::new();
    let (mut peer, stream) = bench.guest_connects(1024);
    let header = peer.data(2);
    bench.send(header, b"xyz");
    assert_eq!(drain(&stream), (b"xy".to_vec(), false));
}

#[test]
fn empty_data_packet_is_no_end() {
    assert_eq!(after(|_| (), &[]), (vec![], false));
}

#[test]
fn data_after_the_end_resets_the_connection() {
    let mut bench = Bench::new();
    let (mut peer, _stream) = bench.guest_connects(1024);
    bench.send(peer.shutdown(SHUTDOWN_SEND), &[]);
    let header = peer.data(1);
    bench.send(header, b"x");
    assert_eq!(bench.packet().op(), Op::Reset);
}

#[test]
fn packets_for_no_connection_are_reset_and_resets_ignored() {
    let mut bench = Bench::new();
    for op in [
        Op::Response,
        Op::Shutdown,
        Op::ReadWrite,
        Op::CreditUpdate,
        Op::CreditRequest,
    ] {
        bench.send(Driver::header(op, 5, 6), &[]);
        assert_eq!(bench.packet().op(), Op::Reset, "{op:?}");
    }
    bench.send(Driver::header(Op::Reset, 5, 6), &[]);
    assert!(bench.packets().is_empty());
}

#[test]
fn chains_without_a_header_come_back_unanswered() {
    let mut bench = Bench::new();
    let bytes = Driver::header(Op::Request, 5, 6).to_bytes();
    bench.driver.send_bytes(&bytes[..HEADER_LEN - 1], &[]);
    // Outside guest memory, and around the end of the address space.
    bench.driver.send_pieces(&[(0xffff_0000, 44)]);
    bench.driver.send_pieces(&[(u64::MAX - 10, 44)]);
    bench.driver.send_pieces(&[(0x10_0000, 0), (0x10_0000, 0)]);
    assert!(bench.packets().is_empty());
    assert_eq!(bench.driver.sent(), 4);
    assert_eq!(needs_reset(&bench), 0);
}

#[test]
fn claimed_credit_beyond_reason_stops_the_stream_only() {
    let mut bench = Bench::new();
    let (mut peer, mut stream) = bench.guest_connects(1024);
    peer.forwarded = 1000;
    bench.send(peer.header(Op::CreditUpdate), &[]);
    std::io::Write::write_all(&mut stream, b"x").unwrap();
    assert_eq!(bench.packet().op(), Op::CreditRequest);
    peer.forwarded = 0;
    bench.send(peer.header(Op::CreditUpdate), &[]);
    assert_eq!(bench.packet().payload, b"x");
}

#[test]
fn broken_ring_ends_all_streams_and_asks_for_a_reset() {
    let mut bench = Bench::new();
    let (_, stream) = bench.guest_connects(1024);
    bench.driver.break_tx();
    bench.run();
    assert_eq!(needs_reset(&bench), 1);
    assert_eq!(drain(&stream), (Vec::new(), true));
    // Later connects end at once instead of waiting for ever.
    let late = bench.owner.connect(1025).unwrap();
    bench.run();
    assert_eq!(drain(&late), (Vec::new(), true));
    assert!(bench.packets().is_empty());
    assert_eq!(needs_reset(&bench), 1);
}

#[test]
fn receive_buffer_without_room_for_a_byte_asks_for_a_reset() {
    let mut bench = Bench::with(Setup::default());
    bench.driver.offer(&[HEADER_LEN as u32]);
    bench.send(Driver::header(Op::Request, 5, 6), &[]);
    assert_eq!(needs_reset(&bench), 1);
}

#[test]
fn connections_are_limited_and_so_is_what_they_promise() {
    let mut bench = Bench::new();
    let mut promised = 0;
    let mut streams = Vec::new();
    let incoming = bench.listen(1024);
    for port in 0..MAX_CONNECTIONS as u32 {
        bench.driver.offer_many(1);
        bench.send(Driver::header(Op::Request, port, 1024), &[]);
        let packet = bench.packet();
        assert_eq!(packet.op(), Op::Response);
        promised += packet.header.buf_alloc;
        streams.push(incoming.try_recv().unwrap());
    }
    assert!(promised <= 24 << 20, "{promised}");
    bench.send(Driver::header(Op::Request, 9999, 1024), &[]);
    assert_eq!(bench.packet().op(), Op::Reset);
    assert!(incoming.try_recv().is_err());
    let refused = bench.owner.connect(1025).unwrap();
    bench.run();
    assert_eq!(drain(&refused), (Vec::new(), true));

    // When they end, their promises are taken back.
    for port in 0..MAX_CONNECTIONS as u32 {
        bench.send(Driver::header(Op::Reset, port, 1024), &[]);
    }
    bench.driver.offer_many(1);
    bench.send(Driver::header(Op::Request, 9999, 1024), &[]);
    let packet = bench.packet();
    assert_eq!(packet.header.buf_alloc, GENEROUS_ALLOC);
    const { assert!(FRUGAL_ALLOC < GENEROUS_ALLOC) };
}

#[test]
fn owner_that_does_not_accept_bounds_what_the_guest_can_open() {
    let mut bench = Bench::new();
    let incoming = bench.listen(1024);
    let mut accepted = 0;
    for port in 0..200 {
        bench.driver.offer_many(1);
        bench.send(Driver::header(Op::Request, port, 1024), &[]);
        accepted += usize::from(bench.packet().op() == Op::Response);
        bench.send(Driver::header(Op::Reset, port, 1024), &[]);
    }
    assert_eq!(accepted, incoming.try_iter().count());
    assert!(accepted < 200);
}

#[test]
fn guest_without_receive_buffers_cannot_grow_the_device() {
    let mut bench = Bench::with(Setup::default());
    let incoming = bench.listen(1024);
    for port in 0..2000 {
        bench.send(Driver::header(Op::Request, port, 1024), &[]);
        bench.send(Driver::header(Op::Reset, port, 1024), &[]);
        bench.send(Driver::header(Op::Shutdown, port, 1024), &[]);
        while incoming.try_recv().is_ok() {}
    }
    // The resets of the first ones are kept, the others dropped.
    bench.driver.offer_many(60);
    let mut answers = 0;
    loop {
        let more = bench.packets().len();
        if more == 0 {
            break;
        }
        answers += more;
        bench.driver.offer_many(more);
    }
    assert_eq!(answers, 256);
}
