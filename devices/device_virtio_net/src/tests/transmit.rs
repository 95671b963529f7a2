//! Frames of the guest.

use device_model::net::Offloads;

use super::driver::SEAM;
use super::*;

fn with_header() -> Wish {
    let mut wish = Wish::default();
    wish.info.header = true;
    wish.info.max_frame = 4012;
    wish
}

/// Sends a frame after `header` and returns what the backend was given.
fn sent(bench: &mut Bench, header: [u8; 12], cuts: &[usize]) -> Vec<Vec<u8>> {
    bench.driver.send(TX, &header, &pattern(100, 4), cuts);
    bench.run();
    assert_eq!(bench.driver.returned(TX), 1);
    bench
        .world
        .sent()
        .into_iter()
        .map(|(_, frame)| frame)
        .collect()
}

#[test]
fn frame_in_pieces_of_any_size_is_whole_and_without_its_header() {
    let mut bench = Bench::with(Wish::default());
    for cuts in [
        &[12][..],
        &[],
        &[1, 2, 3, 11, 12, 13],
        &[6, 50, 111],
        &[0, 0, 12, 12, 112],
        &[30],
    ] {
        assert_eq!(sent(&mut bench, PLAIN, cuts), [pattern(100, 4)], "{cuts:?}");
    }
    assert_eq!(bench.counters.sent_frames.get(), 6);
    assert_eq!(bench.counters.sent_bytes.get(), 600);
}

#[test]
fn frames_of_a_turn_are_flushed_together() {
    let mut bench = Bench::with(Wish::default());
    let frames: Vec<_> = (0..3).map(|seed| (0, pattern(100, seed))).collect();
    for (_, frame) in &frames {
        bench.driver.send(TX, &PLAIN, frame, &[12]);
    }
    bench.run();
    assert_eq!(bench.world.sent(), frames);
    assert_eq!(bench.world.state().flushes, 1);
    // The first goes though the second is not taken yet.
    bench.world.state().room = 1;
    for (_, frame) in &frames[..2] {
        bench.driver.send(TX, &PLAIN, frame, &[12]);
    }
    bench.run();
    assert_eq!(bench.world.sent(), frames[..1]);
}

#[test]
fn header_is_passed_to_a_backend_that_takes_one() {
    let mut bench = Bench::with(with_header());
    let expected = [&PLAIN[..], &pattern(100, 4)].concat();
    for cuts in [&[12][..], &[], &[1, 2, 3, 11, 12, 13], &[6, 50], &[30]] {
        let frames = sent(&mut bench, PLAIN, cuts);
        assert_eq!(frames.concat(), expected, "{cuts:?}");
    }
    assert_eq!(bench.counters.sent_bytes.get(), 500);
}

#[test]
fn frame_over_a_seam_of_memory_is_one() {
    let mut bench = Bench::with(Wish::default());
    for before in [5, 12, 60] {
        let place = SEAM - before;
        bench
            .driver
            .write(place, &[&PLAIN[..], &pattern(100, 4)].concat());
        bench.driver.send_parts(TX, &[(place, 112)]);
        bench.run();
        assert_eq!(bench.world.sent(), [(0, pattern(100, 4))]);
    }
}

#[test]
fn lengths_that_no_frame_has_are_dropped() {
    let mut bench = Bench::with(Wish::default());
    for len in [0, 1, 13, 1515, 60_000] {
        bench.driver.send(TX, &PLAIN, &pattern(len, 1), &[]);
        bench.run();
    }
    bench.driver.send(TX, &PLAIN[..11], &[], &[]);
    bench.driver.send(TX, &PLAIN, &pattern(14, 1), &[]);
    bench.driver.send(TX, &PLAIN, &pattern(1514, 1), &[]);
    bench.run();
    assert_eq!(bench.driver.returned(TX), 8);
    assert_eq!(bench.world.sent().len(), 2);
    assert_eq!(bench.counters.sent_dropped_length.get(), 6);
}

#[test]
fn header_counts_towards_the_longest_frame_of_a_backend_that_takes_one() {
    let mut bench = Bench::with(with_header());
    for len in [4000, 4001] {
        bench.driver.send(TX, &PLAIN, &pattern(len, 1), &[]);
        bench.run();
    }
    assert_eq!(bench.world.sent().len(), 1);
    assert_eq!(bench.counters.sent_dropped_length.get(), 1);
}

#[test]
fn frame_that_the_backend_cannot_carry_is_dropped() {
    let mut bench = Bench::with(Wish::default());
    bench.send(b"dddddd ssssss tt indigestible");
    bench.send(&pattern(60, 1));
    assert_eq!(bench.driver.returned(TX), 2);
    assert_eq!(bench.world.sent().len(), 1);
    assert_eq!(bench.counters.sent_dropped_length.get(), 1);
}

#[test]
fn frame_waits_for_a_full_backend_and_goes_once() {
    for event_idx in [true, false] {
        let mut bench = Bench::with(Wish {
            event_idx,
            ..Wish::default()
        });
        bench.world.allow(2);
        (0..5).for_each(|seed| bench.send(&pattern(60, seed)));
        assert_eq!(bench.world.sent().len(), 2);
        assert_eq!(bench.driver.returned(TX), 2);
        assert!(bench.world.state().interest[0].send);
        bench.world.allow(1);
        bench.run();
        assert_eq!(bench.world.sent(), [(0, pattern(60, 2))]);
        assert_eq!(bench.driver.returned(TX), 1);
        bench.world.allow(usize::MAX);
        bench.run();
        assert_eq!(
            bench.world.sent(),
            [(0, pattern(60, 3)), (0, pattern(60, 4))]
        );
        assert!(!bench.world.state().interest[0].send);
        bench.send(&pattern(60, 5));
        assert_eq!(bench.world.sent(), [(0, pattern(60, 5))]);
        assert_eq!(bench.driver.returned(TX), 3);
    }
}

#[test]
fn receiving_goes_on_while_the_backend_is_full() {
    let mut bench = Bench::new();
    bench.world.allow(0);
    bench.send(&pattern(60, 0));
    bench.world.frame(&pattern(60, 1));
    assert_eq!(bench.frames(), [pattern(60, 1)]);
    bench.world.allow(1);
    bench.run();
    assert_eq!(bench.world.sent().len(), 1);
}

#[test]
fn flood_leaves_others_their_turn_and_interrupts_once_a_turn() {
    let mut bench = Bench::with(Wish::default());
    for seed in 0..100 {
        bench.driver.send(TX, &PLAIN, &pattern(60, seed), &[]);
    }
    bench.round();
    assert_eq!(bench.world.sent().len(), 64);
    assert_eq!(bench.driver.interrupts.of(TX), 1);
    bench.run();
    assert_eq!(bench.world.sent().len(), 36);
    assert_eq!(bench.driver.returned(TX), 100);
}

#[test]
fn busy_queue_needs_no_kicks() {
    let mut bench = Bench::with(Wish::default());
    bench.world.allow(0);
    bench.send(&pattern(60, 0));
    let place = bench.driver.place(100);
    bench.driver.add(TX, &[(place, 100)], 1);
    assert!(!bench.driver.kick(TX), "the device will look by itself");
    bench.world.allow(usize::MAX);
    bench.run();
    assert_eq!(bench.world.sent().len(), 2);
}

const FINISHED: [u8; 12] = PLAIN;
const UNFINISHED: [u8; 12] = [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0];

/// A header of a frame to be cut into packets of `kind`.
fn cut(kind: u8) -> [u8; 12] {
    [1, kind, 54, 0, 20, 0, 34, 0, 16, 0, 0, 0]
}

/// Which of `headers` pass a card with the offloads `send`.
fn passing(send: Offloads, headers: &[[u8; 12]]) -> Vec<bool> {
    let mut wish = with_header();
    wish.info.send = send;
    let mut bench = Bench::with(wish);
    let passing: Vec<_> = headers
        .iter()
        .map(|header| !sent(&mut bench, *header, &[]).is_empty())
        .collect();
    let dropped = passing.iter().filter(|passes| !**passes).count() as u64;
    assert_eq!(bench.counters.sent_dropped_offload.get(), dropped);
    passing
}

#[test]
fn offloads_pass_only_when_negotiated() {
    let none = Offloads::default();
    let checksum = Offloads {
        checksum: true,
        ..none
    };
    let headers = [FINISHED, UNFINISHED, cut(1), cut(4), cut(5)];
    let passes = |send| passing(send, &headers);
    assert_eq!(passes(none), [true, false, false, false, false]);
    assert_eq!(passes(checksum), [true, true, false, false, false]);
    let tso4 = Offloads {
        tso4: true,
        ..checksum
    };
    assert_eq!(passes(tso4), [true, true, true, false, false]);
    let tso6 = Offloads {
        tso6: true,
        ..checksum
    };
    assert_eq!(passes(tso6), [true, true, false, true, false]);
    let uso = Offloads {
        uso: true,
        ..checksum
    };
    assert_eq!(passes(uso), [true, true, false, false, true]);
}

#[test]
fn offloads_that_make_no_sense_are_dropped() {
    let all = Offloads {
        checksum: true,
        tso4: true,
        tso6: true,
        uso: true,
    };
    let spoilt = |spoil: fn(&mut [u8; 12])| {
        let mut header = cut(1);
        spoil(&mut header);
        header
    };
    let headers = [
        spoilt(|_| ()),
        // A checksum to be finished beyond the frame, at its end, and far beyond.
        spoilt(|header| header[6] = 83),
        spoilt(|header| header[6] = 82),
        spoilt(|header| header[6..10].fill(0xff)),
        // Pieces of no length, a finished checksum, old UFO, ECN, nonsense.
        spoilt(|header| header[4..6].fill(0)),
        spoilt(|header| header[0] = 0),
        spoilt(|header| header[1] = 3),
        spoilt(|header| header[1] = 0x81),
        spoilt(|header| header[1] = 0xff),
    ];
    let expected = [true, false, true, false, false, false, false, false, false];
    assert_eq!(passing(all, &headers), expected);
}

#[test]
fn flags_that_say_nothing_on_the_way_out_do_not_reach_the_backend() {
    let mut wish = with_header();
    wish.info.send.checksum = true;
    let mut bench = Bench::with(wish);
    let mut header = UNFINISHED;
    header[0] = 0xff;
    header[10..].fill(0xff);
    let frames = sent(&mut bench, header, &[]);
    assert_eq!(frames[0][..12], UNFINISHED);
}

#[test]
fn card_without_headers_takes_no_offload() {
    let mut wish = Wish::default();
    wish.info.send.checksum = true;
    let mut bench = Bench::with(wish);
    assert!(sent(&mut bench, UNFINISHED, &[]).is_empty());
    assert_eq!(bench.counters.sent_dropped_offload.get(), 1);
}
