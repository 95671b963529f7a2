//! Frames to the guest that are longer or shorter than those before: the backend is
//! given as much guest memory as is likely to be filled, and the guest sees nothing
//! of it.

use super::receive::{longest, without_merging};
use super::*;

/// The longest frame of backends that leave cutting to the guest.
const LONGEST: usize = 65_550;
/// What a buffer in the size of Linux drivers has room for after the header.
const FIRST: usize = 1536 - NET_HEADER;

/// Buffers that a frame needs.
fn buffers(frame: &[u8]) -> usize {
    (NET_HEADER + frame.len()).div_ceil(1536)
}

/// The bytes of all frames that the guest gets, each in as few buffers as it needs.
fn whole(bench: &mut Bench) -> Vec<Vec<u8>> {
    let frame = |received: Received| {
        assert_eq!(usize::from(received.buffers), buffers(&received.frame));
        received.frame
    };
    bench.received().into_iter().map(frame).collect()
}

#[test]
fn frame_longer_than_the_last_is_whole_and_takes_as_many_buffers_as_it_needs() {
    let lens = [
        FIRST - 1,
        FIRST,
        FIRST + 1,
        FIRST + 1536,
        FIRST + 1537,
        LONGEST,
    ];
    for (len, header) in lens.into_iter().flat_map(|len| [(len, false), (len, true)]) {
        let own = if header { &PLAIN[..] } else { &[] };
        let mut bench = Bench::with(longest(own.len() + LONGEST, header));
        bench.driver.offer_many(RX, 200);
        let frames = [60, len, 14].map(|len| pattern(len, len as u32));
        for frame in &frames {
            bench.world.frame(&[own, frame].concat());
        }
        assert_eq!(whole(&mut bench), frames, "{len} bytes");
    }
}

#[test]
fn frames_of_all_lengths_are_whole_in_any_order() {
    let mut bench = Bench::with(longest(LONGEST, false));
    bench.driver.offer_many(RX, 250);
    let mut seed = 1_u32;
    for _ in 0..40 {
        let frames = [16, 600, 20_000, 0].map(|most| {
            seed = seed.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            pattern(14 + (seed >> 16) as usize % (most + 1), seed)
        });
        frames.iter().for_each(|frame| bench.world.frame(frame));
        assert_eq!(whole(&mut bench), frames);
        for frame in &frames {
            bench.driver.offer_many(RX, buffers(frame));
        }
    }
}

#[test]
fn backend_is_given_the_pieces_that_frames_are_likely_to_fill() {
    let mut bench = Bench::with(longest(LONGEST, false));
    bench.driver.offer_many(RX, 200);
    let mut pieces = |len| {
        let frame = pattern(len, 1);
        bench.world.frame(&frame);
        assert_eq!(whole(&mut bench), [&frame[..]]);
        let given = bench.world.state().pieces.pop().unwrap();
        bench.driver.offer_many(RX, buffers(&frame));
        given
    };
    // One of the guest's, and the rest of the host's.
    assert_eq!([60, 60, LONGEST].map(&mut pieces), [2, 2, 2]);
    // As long as the longest without the host's.
    assert_eq!(pieces(LONGEST), 43);
    // Then shorter ones, which are forgotten slowly.
    let given: Vec<_> = (0..40).map(|_| pieces(60)).collect();
    assert!(given.is_sorted_by(|a, b| a >= b));
    assert_eq!((given[0], given[39]), (43, 2));
    assert!(given[5] > 20, "{given:?}");
}

#[test]
fn frame_is_whole_in_one_buffer_of_many_parts_after_a_short_one() {
    let mut bench = Bench::with(without_merging(LONGEST));
    // As Linux drivers do it: the header by itself, then pages.
    let mut parts = vec![NET_HEADER as u32];
    parts.extend([4096; 17]);
    let lens = [60, LONGEST, 60, 60, 9000, 4096, 4097, 14];
    let frames = lens.map(|len| pattern(len, len as u32));
    for frame in &frames {
        bench.driver.offer(RX, &parts);
        bench.world.frame(frame);
        assert_eq!(bench.frames(), [&frame[..]]);
    }
    assert_eq!(bench.world.state().pieces[0], 2);
}

#[test]
fn frame_that_fills_all_there_is_passes_and_one_byte_more_is_dropped() {
    let most = FIRST + 2 * 1536;
    let mut bench = Bench::with(longest(LONGEST, false));
    bench.driver.offer_many(RX, 4);
    for len in [60, most] {
        bench.world.frame(&pattern(len, 1));
    }
    assert_eq!(whole(&mut bench), [pattern(60, 1), pattern(most, 1)]);
    bench.driver.offer_many(RX, 3);
    for len in [most + 1, 60, FIRST + 1536] {
        bench.world.frame(&pattern(len, 2));
    }
    let fitting = [pattern(60, 2), pattern(FIRST + 1536, 2)];
    assert_eq!(whole(&mut bench), fitting);
    assert_eq!(bench.counters.received_dropped_room.get(), 1);

    let mut bench = Bench::with(without_merging(LONGEST));
    for (len, fits) in [(60, true), (FIRST + 1, false), (FIRST, true)] {
        bench.driver.offer(RX, &[13, 1523]);
        bench.world.frame(&pattern(len, 3));
        let got = bench.frames();
        assert_eq!(got, vec![pattern(len, 3); usize::from(fits)]);
    }
}

#[test]
fn frame_is_whole_over_more_pieces_than_a_backend_is_given() {
    let len = 92 * 100 - NET_HEADER;
    let mut bench = Bench::with(longest(LONGEST, false));
    for seed in 0..3 {
        bench.driver.offer(RX, &[100; 30]);
        bench.driver.offer(RX, &[100; 62]);
        bench.world.frame(&pattern(len, seed));
        let received = bench.received();
        assert_eq!(received[0].frame, pattern(len, seed));
        assert_eq!(received[0].buffers, 2);
    }
    assert_eq!(bench.world.state().pieces, [2, 63, 63]);
}
