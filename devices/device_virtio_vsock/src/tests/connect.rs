//! How connections come about, or do not.

use std::io::Write;

use super::driver::Driver;
use super::{Bench, Setup, drain, impatient};
use crate::packet::{Header, Op};
use crate::table::{FIRST_HOST_PORT, GENEROUS_ALLOC};

#[test]
fn guest_reaches_a_listener_and_bytes_go_both_ways() {
    let mut bench = Bench::new();
    let (mut peer, mut stream) = bench.guest_connects(1024);
    assert_eq!(peer.device_alloc, GENEROUS_ALLOC);

    let header = peer.data(5);
    bench.send(header, b"hello");
    assert_eq!(drain(&stream), (b"hello".to_vec(), false));

    stream.write_all(b"world").unwrap();
    let packet = bench.packet();
    assert_eq!(packet.op(), Op::ReadWrite);
    assert_eq!(peer.take(&packet), b"world");
    assert_eq!(packet.header.fwd_cnt, 5);
}

#[test]
fn host_reaches_the_guest_and_what_it_wrote_before_is_delivered() {
    let mut bench = Bench::new();
    let mut stream = bench.owner.connect(1025).unwrap();
    stream.write_all(b"early").unwrap();
    let request = bench.packet();
    assert_eq!(request.op(), Op::Request);
    assert_eq!(request.header.dst_port, 1025);
    assert!(request.header.src_port >= FIRST_HOST_PORT);

    bench.send(
        Driver::header(Op::Response, 1025, request.header.src_port),
        &[],
    );
    assert_eq!(bench.packet().payload, b"early");
}

#[test]
fn guest_port_without_a_listener_is_reset() {
    let mut bench = Bench::new();
    bench.send(Driver::header(Op::Request, 7000, 99), &[]);
    let packet = bench.packet();
    assert_eq!(packet.op(), Op::Reset);
    assert_eq!((packet.header.src_port, packet.header.dst_port), (99, 7000));
}

#[test]
fn dropped_listener_refuses_and_a_new_one_accepts() {
    let mut bench = Bench::new();
    drop(bench.listen(1024));
    bench.send(Driver::header(Op::Request, 7000, 1024), &[]);
    assert_eq!(bench.packet().op(), Op::Reset);
    bench.guest_connects(1024);
}

#[test]
fn stream_ends_when_the_guest_refuses() {
    let mut bench = Bench::new();
    let mut stream = bench.owner.connect(1025).unwrap();
    let request = bench.packet();
    bench.send(
        Driver::header(Op::Reset, 1025, request.header.src_port),
        &[],
    );
    assert!(bench.packets().is_empty(), "a reset is not answered");
    assert_eq!(drain(&stream), (Vec::new(), true));
    let error = stream.write(b"x").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
}

#[test]
fn stream_ends_when_the_guest_does_not_answer_in_time() {
    let mut bench = Bench::with(impatient());
    bench.driver.offer_many(4);
    let stream = bench.owner.connect(1025).unwrap();
    assert_eq!(bench.packet().op(), Op::Request);
    bench.run_deadline();
    assert_eq!(bench.packet().op(), Op::Reset);
    assert_eq!(drain(&stream), (Vec::new(), true));
}

#[test]
fn connects_before_the_driver_is_ready_wait_for_it() {
    let mut bench = Bench::new();
    bench.deactivate();
    let mut stream = bench.owner.connect(1025).unwrap();
    stream.write_all(b"early").unwrap();
    bench.activate();
    let request = bench.packet();
    assert_eq!(request.op(), Op::Request);
    bench.send(
        Driver::header(Op::Response, 1025, request.header.src_port),
        &[],
    );
    assert_eq!(bench.packet().payload, b"early");
}

#[test]
fn reset_of_the_device_ends_streams_and_keeps_listeners() {
    let mut bench = Bench::new();
    let incoming = bench.listen(1024);
    bench.send(Driver::header(Op::Request, 7000, 1024), &[]);
    let stream = incoming.try_recv().unwrap();
    bench.deactivate();
    assert_eq!(drain(&stream), (Vec::new(), true));

    bench.activate();
    bench.send(Driver::header(Op::Request, 7000, 1024), &[]);
    assert_eq!(bench.packet().op(), Op::Response);
    assert!(incoming.try_recv().is_ok());
}

#[test]
fn connections_of_the_host_have_ports_of_their_own() {
    let mut bench = Bench::new();
    let streams: Vec<_> = (0..8).map(|_| bench.owner.connect(1025).unwrap()).collect();
    let mut ports: Vec<u32> = bench
        .packets()
        .iter()
        .map(|packet| packet.header.src_port)
        .collect();
    ports.dedup();
    assert_eq!(ports.len(), streams.len());
}

#[test]
fn second_request_of_a_connection_resets_it() {
    let mut bench = Bench::new();
    let (peer, stream) = bench.guest_connects(1024);
    bench.send(peer.header(Op::Request), &[]);
    assert_eq!(bench.packet().op(), Op::Reset);
    assert_eq!(drain(&stream), (Vec::new(), true));
}

#[test]
fn response_before_the_request_was_sent_resets() {
    let mut bench = Bench::with(Setup::default());
    let stream = bench.owner.connect(1025).unwrap();
    bench.run();
    bench.send(Driver::header(Op::Response, 1025, FIRST_HOST_PORT), &[]);
    assert_eq!(drain(&stream), (Vec::new(), true));
}

#[test]
fn data_before_the_response_resets() {
    let mut bench = Bench::new();
    let stream = bench.owner.connect(1025).unwrap();
    let port = bench.packet().header.src_port;
    let header = Header {
        len: 1,
        ..Driver::header(Op::ReadWrite, 1025, port)
    };
    bench.send(header, b"x");
    assert_eq!(bench.packet().op(), Op::Reset);
    assert_eq!(drain(&stream), (Vec::new(), true));
}
