//! Credit in both directions, and rooms that are full.

use std::io::Write;
use std::sync::atomic::Ordering;

use super::driver::Driver;
use super::{Bench, Setup, drain, pattern, payload};
use crate::packet::{HEADER_LEN, Op};
use crate::table::GENEROUS_ALLOC;

#[test]
fn slow_host_reader_bounds_what_the_guest_may_send() {
    let mut bench = Bench::new();
    let (mut peer, stream) = bench.guest_connects(1024);
    let bytes = pattern(4 << 20);
    let mut sent = 0;
    // The guest sends all that its credit allows, until it has none.
    loop {
        for packet in bench.packets() {
            peer.take(&packet);
        }
        let len = peer.credit().min(60_000).min(bytes.len() - sent);
        if len == 0 {
            break;
        }
        let header = peer.data(len);
        bench.send(header, &bytes[sent..sent + len]);
        sent += len;
    }
    let (first, _) = drain(&stream);
    let held = sent - first.len();
    assert!(held > 0 && held <= GENEROUS_ALLOC as usize, "{held}");

    // The reader's progress gives credit again, and everything arrives.
    let mut received = first;
    while received.len() < bytes.len() {
        for packet in bench.packets() {
            assert_eq!(packet.op(), Op::CreditUpdate);
            peer.take(&packet);
            bench.driver.offer_many(1);
        }
        let len = peer.credit().min(60_000).min(bytes.len() - sent);
        if len > 0 {
            let header = peer.data(len);
            bench.send(header, &bytes[sent..sent + len]);
            sent += len;
        }
        received.extend(drain(&stream).0);
    }
    assert!(received == bytes);
}

#[test]
fn guest_that_sends_beyond_its_credit_is_reset() {
    let mut bench = Bench::new();
    let (mut peer, stream) = bench.guest_connects(1024);
    let mut reset = false;
    for _ in 0..32 {
        let header = peer.data(60_000);
        bench.send(header, &pattern(60_000));
        if bench
            .packets()
            .iter()
            .any(|packet| packet.op() == Op::Reset)
        {
            reset = true;
            break;
        }
    }
    assert!(reset);
    let (_, ended) = drain(&stream);
    assert!(ended);
}

#[test]
fn host_sends_no_more_than_the_guest_has_room_for() {
    let mut bench = Bench::new();
    let (mut peer, mut stream) = bench.host_connects_with(1000);
    let bytes = pattern(2500);
    stream.write_all(&bytes).unwrap();
    let packets = bench.packets();
    let (request, data) = packets.split_last().unwrap();
    assert_eq!(request.op(), Op::CreditRequest);
    let mut received = payload(&mut peer, data);
    assert_eq!(received.len(), 1000);

    // An answer without credit does not make it ask again.
    bench.send(peer.header(Op::CreditUpdate), &[]);
    assert!(bench.packets().is_empty());

    peer.forwarded = 1000;
    bench.send(peer.header(Op::CreditUpdate), &[]);
    let packets = bench.packets();
    let (request, data) = packets.split_last().unwrap();
    assert_eq!(request.op(), Op::CreditRequest);
    received.extend(payload(&mut peer, data));
    assert_eq!(received.len(), 2000);

    peer.forwarded = 2000;
    bench.send(peer.header(Op::CreditUpdate), &[]);
    let packets = bench.packets();
    received.extend(payload(&mut peer, &packets));
    assert!(received == bytes);
}

#[test]
fn credit_request_of_the_guest_is_answered_once() {
    let mut bench = Bench::new();
    let (mut peer, _stream) = bench.guest_connects(1024);
    let header = peer.data(10);
    bench.send(header, &[7; 10]);
    bench.send(peer.header(Op::CreditRequest), &[]);
    let packet = bench.packet();
    assert_eq!(packet.op(), Op::CreditUpdate);
    assert_eq!(packet.header.fwd_cnt, 10);
    assert_eq!(packet.header.buf_alloc, GENEROUS_ALLOC);
}

#[test]
fn credit_requests_without_room_for_answers_are_answered_by_one() {
    let mut bench = Bench::with(Setup::default());
    bench.driver.offer_many(1);
    let (peer, _stream) = bench.guest_connects(1024);
    for _ in 0..100 {
        bench.send(peer.header(Op::CreditRequest), &[]);
    }
    bench.driver.offer_many(8);
    assert_eq!(bench.packet().op(), Op::CreditUpdate);
}

#[test]
fn bytes_wait_for_receive_buffers_and_go_on_with_them() {
    let mut bench = Bench::with(Setup::default());
    bench.driver.offer_many(1);
    let (mut peer, mut stream) = bench.guest_connects(1024);
    let bytes = pattern(20_000);
    stream.write_all(&bytes).unwrap();
    assert!(bench.packets().is_empty());
    let mut received = Vec::new();
    while received.len() < bytes.len() {
        bench.driver.offer(&[1500]);
        let packet = bench.packet();
        received.extend(payload(&mut peer, std::slice::from_ref(&packet)));
    }
    assert!(received == bytes);
    assert_eq!(
        bench.driver.interrupts.needs_reset.load(Ordering::Relaxed),
        0
    );
}

#[test]
fn packets_are_as_large_as_the_buffers_allow() {
    let mut bench = Bench::with(Setup::default());
    bench.driver.offer_many(1);
    let (mut peer, mut stream) = bench.guest_connects(1024);
    stream.write_all(&pattern(10_000)).unwrap();
    bench.driver.offer(&[HEADER_LEN as u32, 4000]);
    bench.driver.offer(&[20, 30, 3000]);
    bench.driver.offer(&[65536]);
    let sizes: Vec<usize> = bench
        .packets()
        .iter()
        .map(|packet| peer.take(packet).len())
        .collect();
    assert_eq!(sizes, [4000, 3006, 2994]);
}

#[test]
fn busy_connection_does_not_keep_another_from_sending() {
    let mut bench = Bench::with(Setup::default());
    // One more than is used, so that both connections have found nothing to send.
    bench.driver.offer_many(3);
    let (_, mut busy) = bench.host_connects();
    let incoming = bench.listen(1024);
    bench.send(Driver::header(Op::Request, 7000, 1024), &[]);
    assert_eq!(bench.packet().op(), Op::Response);
    let mut quiet = incoming.try_recv().unwrap();

    busy.write_all(&pattern(150_000)).unwrap();
    quiet.write_all(b"me too").unwrap();
    assert_eq!(bench.packet().header.dst_port, 1025);
    // Both wait for room now, the busy one first. One batch of it takes 18
    // of these.
    bench.driver.offer_many(20);
    let quiet_packets = bench
        .packets()
        .iter()
        .filter(|packet| packet.header.dst_port == 7000)
        .count();
    assert_eq!(quiet_packets, 1);
}

#[test]
fn turn_that_uses_up_its_budget_goes_on_in_the_next() {
    let mut bench = Bench::new();
    for port in 0..60 {
        let bytes = Driver::header(Op::Reset, port, 1).to_bytes();
        bench.driver.send_bytes(&bytes, &[]);
    }
    bench.run();
    assert_eq!(bench.driver.sent(), 60);
}

#[test]
fn driver_is_not_interrupted_for_a_queue_of_which_nothing_was_used() {
    let mut bench = Bench::new();
    let (_, mut stream) = bench.guest_connects(1024);
    let before = bench.driver.interrupts.tx.load(Ordering::Relaxed);
    stream.write_all(b"x").unwrap();
    assert_eq!(bench.packet().payload, b"x");
    let after = bench.driver.interrupts.tx.load(Ordering::Relaxed);
    assert_eq!(after, before);
}

#[test]
fn driver_is_interrupted_once_for_all_packets_of_a_turn() {
    let mut bench = Bench::with(Setup {
        event_idx: true,
        ..Setup::default()
    });
    bench.driver.offer_many(32);
    let (mut peer, mut stream) = bench.guest_connects(1024);
    bench.run();
    let before = bench.driver.interrupts.rx.load(Ordering::Relaxed);
    stream.write_all(&pattern(60_000)).unwrap();
    let packets = bench.packets();
    assert_eq!(payload(&mut peer, &packets).len(), 60_000);
    assert!(packets.len() > 10);
    let after = bench.driver.interrupts.rx.load(Ordering::Relaxed);
    assert_eq!(after - before, 1);
}
