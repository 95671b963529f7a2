//! Bytes in are bytes out, whatever way they are cut; random packets do no harm.

use std::io::Write;
use std::sync::atomic::Ordering;

use proptest::prelude::*;

use super::driver::Driver;
use super::{Bench, Setup, drain, payload};
use crate::packet::{HEADER_LEN, Op};

/// Sizes around the header's length and up to several pages.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![0..100_usize, 0..9000_usize], 0..6)
}

/// Lengths of the pieces of a receive buffer, with room for more than a header.
fn pieces() -> impl Strategy<Value = Vec<u32>> {
    let tail = prop_oneof![1..60_u32, 1..5000_u32];
    (prop::collection::vec(1..60_u32, 0..4), tail).prop_map(|(mut pieces, last)| {
        pieces.push(last + HEADER_LEN as u32);
        pieces
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_the_guest_sends_arrives(
        packets in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..9000), cuts()), 1..12)
    ) {
        let mut bench = Bench::new();
        let (mut peer, stream) = bench.guest_connects(1024);
        let mut received = Vec::new();
        let mut sent: Vec<u8> = Vec::new();
        for (bytes, cuts) in &packets {
            let header = peer.data(bytes.len());
            bench.driver.send_raw(header, bytes, cuts);
            sent.extend(bytes);
            bench.run();
            received.extend(drain(&stream).0);
            for packet in bench.packets() {
                prop_assert_eq!(packet.op(), Op::CreditUpdate);
            }
        }
        prop_assert!(received == sent);
    }

    #[test]
    fn what_the_host_sends_arrives(
        writes in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..9000), 1..8),
        buffers in prop::collection::vec(pieces(), 1..40),
        credits in prop::collection::vec(1..5000_u32, 1..8),
    ) {
        let mut bench = Bench::with(Setup { event_idx: true, ..Setup::default() });
        bench.driver.offer_many(2);
        let (mut peer, mut stream) = bench.host_connects_with(1);
        let mut credits = credits.iter().cycle();
        let mut buffers = buffers.iter().cycle();
        let mut received = Vec::new();
        let mut sent: Vec<u8> = Vec::new();
        for bytes in &writes {
            stream.write_all(bytes).unwrap();
            sent.extend(bytes);
            while received.len() < sent.len() {
                for pieces in buffers.by_ref().take(3) {
                    if bench.driver.can_offer(pieces.len()) {
                        bench.driver.offer(pieces);
                    }
                }
                for packet in bench.packets() {
                    if packet.op() != Op::CreditRequest {
                        received.extend(payload(&mut peer, std::slice::from_ref(&packet)));
                    }
                }
                prop_assert!(received.len() - peer.forwarded as usize <= peer.alloc as usize);
                peer.forwarded = received.len() as u32;
                peer.alloc = *credits.next().unwrap();
                bench.send(peer.header(Op::CreditUpdate), &[]);
                while let Some(packet) = bench.driver.take() {
                    if packet.op() != Op::CreditRequest {
                        received.extend(payload(&mut peer, std::slice::from_ref(&packet)));
                    }
                }
            }
        }
        prop_assert!(received == sent);
    }

    #[test]
    fn random_packets_do_no_harm(
        packets in prop::collection::vec(
            (1..9_u16, 0..3_u32, 1023..1026_u32, any::<u32>(), any::<u32>(), 0..4_u32, 0..200_usize, cuts()),
            1..60,
        )
    ) {
        let mut bench = Bench::new();
        let incoming = bench.listen(1024);
        let _out = bench.owner.connect(1025).unwrap();
        bench.run();
        for (op, guest, host, alloc, forwarded, flags, len, cuts) in packets {
            let mut header = Driver::header(Op::Request, guest, host);
            header.op = op;
            header.len = len as u32;
            header.flags = flags;
            header.buf_alloc = alloc;
            header.fwd_cnt = forwarded;
            bench.driver.send_raw(header, &vec![1; len], &cuts);
            let answers = bench.packets().len();
            bench.driver.offer_many(answers);
            if flags == 3 {
                drop(incoming.try_recv());
            }
        }
        prop_assert_eq!(bench.driver.interrupts.needs_reset.load(Ordering::Relaxed), 0);
    }
}
