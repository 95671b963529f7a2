//! How connections end, and that nothing on the way is lost.

use std::io::{ErrorKind, Write};
use std::net::Shutdown;

use super::driver::{Driver, GUEST_ALLOC};
use super::{Bench, Setup, drain, impatient, pattern, payload};
use crate::packet::{Op, SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};

#[test]
fn host_that_shuts_its_writing_half_still_receives() {
    let mut bench = Bench::new();
    let (mut peer, mut stream) = bench.host_connects();
    stream.write_all(b"question").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let packets = bench.packets();
    assert_eq!(payload(&mut peer, &packets[..1]), b"question");
    assert_eq!(packets[1].op(), Op::Shutdown);
    assert_eq!(packets[1].header.flags, SHUTDOWN_SEND);
    assert_eq!(packets.len(), 2);

    let header = peer.data(6);
    bench.send(header, b"answer");
    bench.send(peer.shutdown(SHUTDOWN_BOTH), &[]);
    assert_eq!(drain(&stream), (b"answer".to_vec(), true));
    assert_eq!(bench.packet().op(), Op::Reset);
}

#[test]
fn guest_that_shuts_its_sending_half_still_receives() {
    let mut bench = Bench::new();
    let (mut peer, mut stream) = bench.guest_connects(1024);
    let header = peer.data(8);
    bench.send(header, b"question");
    bench.send(peer.shutdown(SHUTDOWN_SEND), &[]);
    assert_eq!(drain(&stream), (b"question".to_vec(), true));

    stream.write_all(b"answer").unwrap();
    let packets = bench.packets();
    assert_eq!(payload(&mut peer, &packets), b"answer");
    drop(stream);
    let last = bench.packet();
    assert_eq!(
        (last.op(), last.header.flags),
        (Op::Shutdown, SHUTDOWN_BOTH)
    );
}

#[test]
fn guest_that_shuts_its_receiving_half_makes_host_writes_fail() {
    let mut bench = Bench::new();
    let (mut peer, mut stream) = bench.guest_connects(1024);
    bench.send(peer.shutdown(SHUTDOWN_RECEIVE), &[]);
    assert_eq!(
        stream.write(b"x").unwrap_err().kind(),
        ErrorKind::BrokenPipe
    );
    let header = peer.data(5);
    bench.send(header, b"still");
    assert_eq!(drain(&stream), (b"still".to_vec(), false));
    drop(stream);
    let last = bench.packet();
    assert_eq!(
        (last.op(), last.header.flags),
        (Op::Shutdown, SHUTDOWN_BOTH)
    );
}

#[test]
fn host_that_writes_and_closes_at_once_loses_nothing() {
    let mut bench = Bench::new();
    let bytes = pattern(100_000);
    let mut stream = bench.owner.connect(1025).unwrap();
    stream.write_all(&bytes).unwrap();
    drop(stream);
    let request = bench.packet();
    let port = request.header.src_port;
    let mut peer = super::Peer::new(1025, port, &request.header);
    bench.send(peer.header(Op::Response), &[]);

    let mut received = Vec::new();
    loop {
        bench.driver.offer_many(4);
        let packets = bench.packets();
        let Some(end) = packets
            .iter()
            .position(|packet| packet.op() == Op::Shutdown)
        else {
            received.extend(payload(&mut peer, &packets));
            continue;
        };
        received.extend(payload(&mut peer, &packets[..end]));
        assert_eq!(packets[end].header.flags, SHUTDOWN_BOTH);
        assert_eq!(packets.len(), end + 1);
        break;
    }
    assert!(received == bytes);
    bench.send(peer.header(Op::Reset), &[]);
    assert!(bench.packets().is_empty());
    // The ports are free: the same guest port can connect again.
    bench.send(Driver::header(Op::Request, 1025, port), &[]);
    assert_eq!(bench.packet().op(), Op::Reset);
}

/// Fills the host's socket and then some of what the device holds, closes by
/// `close`, and checks that a slow reader still gets every byte.
fn slow_reader_gets_everything_after(close: impl FnOnce(&super::Peer) -> crate::packet::Header) {
    let mut bench = Bench::new();
    let (mut peer, stream) = bench.guest_connects(1024);
    let bytes = pattern(400_000);
    for chunk in bytes.chunks(50_000) {
        let header = peer.data(chunk.len());
        bench.send(header, chunk);
        for packet in bench.packets() {
            assert_eq!(packet.op(), Op::CreditUpdate);
            peer.take(&packet);
        }
    }
    bench.send(close(&peer), &[]);
    let mut received = Vec::new();
    loop {
        let (part, ended) = drain(&stream);
        received.extend(part);
        if ended {
            break;
        }
        bench.run();
    }
    assert!(received == bytes);
}

#[test]
fn slow_host_gets_what_the_guest_sent_before_it_closed() {
    slow_reader_gets_everything_after(|peer| peer.shutdown(SHUTDOWN_BOTH));
}

#[test]
fn slow_host_gets_what_the_guest_sent_before_it_reset() {
    slow_reader_gets_everything_after(|peer| peer.header(Op::Reset));
}

#[test]
fn slow_host_gets_what_the_guest_sent_before_it_shut_its_sending_half() {
    slow_reader_gets_everything_after(|peer| peer.shutdown(SHUTDOWN_SEND));
}

#[test]
fn ports_are_free_at_once_when_the_guest_closed() {
    let mut bench = Bench::new();
    let incoming = bench.listen(1024);
    for _ in 0..3 {
        bench.send(Driver::header(Op::Request, 7000, 1024), &[]);
        let response = bench.packet();
        assert_eq!(response.op(), Op::Response);
        let mut peer = super::Peer::new(7000, 1024, &response.header);
        let header = peer.data(3);
        bench.send(header, b"bye");
        bench.send(peer.shutdown(SHUTDOWN_BOTH), &[]);
        assert_eq!(bench.packet().op(), Op::Reset);
        let stream = incoming.try_recv().unwrap();
        assert_eq!(drain(&stream), (b"bye".to_vec(), true));
    }
}

#[test]
fn guest_that_never_answers_a_shutdown_is_reset() {
    let mut bench = Bench::with(impatient());
    bench.driver.offer_many(8);
    let (_, stream) = bench.guest_connects(1024);
    drop(stream);
    assert_eq!(bench.packet().op(), Op::Shutdown);
    bench.run_deadline();
    assert_eq!(bench.packet().op(), Op::Reset);
}

#[test]
fn guest_with_bytes_to_read_is_asked_before_it_is_reset() {
    let mut bench = Bench::with(impatient());
    bench.driver.offer_many(16);
    let (mut peer, mut stream) = bench.guest_connects(1024);
    stream.write_all(b"last words").unwrap();
    drop(stream);
    let packets = bench.packets();
    assert_eq!(packets[1].op(), Op::Shutdown);

    // As long as it answers that it has not read them, it is left alone.
    for _ in 0..3 {
        bench.run_deadline();
        assert_eq!(bench.packet().op(), Op::CreditRequest);
        bench.send(peer.header(Op::CreditUpdate), &[]);
    }
    // Once it has read everything, the connection ends.
    peer.forwarded = 10;
    bench.run_deadline();
    assert_eq!(bench.packet().op(), Op::CreditRequest);
    bench.send(peer.header(Op::CreditUpdate), &[]);
    bench.run_deadline();
    assert_eq!(bench.packet().op(), Op::Reset);
}

#[test]
fn guest_with_bytes_to_read_that_falls_silent_is_reset() {
    let mut bench = Bench::with(impatient());
    bench.driver.offer_many(16);
    let (_, mut stream) = bench.guest_connects(1024);
    stream.write_all(b"last words").unwrap();
    drop(stream);
    assert_eq!(bench.packets().len(), 2);
    bench.run_deadline();
    assert_eq!(bench.packet().op(), Op::CreditRequest);
    bench.run_deadline();
    assert_eq!(bench.packet().op(), Op::Reset);
}

#[test]
fn guest_hears_that_the_host_has_gone_while_it_sends() {
    let mut bench = Bench::new();
    let (mut peer, stream) = bench.guest_connects(1024);
    drop(stream);
    let header = peer.data(4);
    bench.send(header, b"late");
    let packets = bench.packets();
    let last = packets.last().unwrap();
    assert_eq!(
        (last.op(), last.header.flags),
        (Op::Shutdown, SHUTDOWN_BOTH)
    );
    // What is still on the way is discarded, not answered by a reset, which
    // would discard what the guest has not read.
    let header = peer.data(4);
    bench.send(header, b"late");
    assert!(bench.packets().is_empty());
}

#[test]
fn guest_can_close_while_the_shutdown_of_the_host_waits_for_room() {
    let mut bench = Bench::with(Setup::default());
    bench.driver.offer_many(1);
    let (peer, stream) = bench.guest_connects(1024);
    drop(stream);
    bench.run();
    bench.send(peer.header(Op::Reset), &[]);
    bench.driver.offer_many(4);
    assert!(bench.packets().is_empty());
}

#[test]
fn host_that_is_stuck_in_a_write_is_freed_when_the_guest_resets() {
    let mut bench = Bench::new();
    let (mut peer, mut stream) = bench.host_connects_with(0);
    let bytes = pattern(400_000);
    for chunk in bytes.chunks(50_000) {
        let header = peer.data(chunk.len());
        bench.send(header, chunk);
        bench.packets().iter().for_each(|packet| {
            peer.take(packet);
        });
    }
    bench.send(peer.header(Op::Reset), &[]);
    let error = stream
        .write_all(&pattern(GUEST_ALLOC as usize))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    let (received, _) = drain(&stream);
    assert!(!received.is_empty());
}
