//! Frames to the guest.

use std::time::Duration;

use device_model::net::Offloads;
use virtio_bindings::bindings::virtio_net::{
    VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_MRG_RXBUF,
};

use super::driver::SEAM;
use super::*;

const WITHOUT_MERGING: u64 = 1 << VIRTIO_NET_F_MRG_RXBUF;

/// A card whose longest frame is `max_frame`, with a header if so, and then with
/// checksums and IPv4 to be cut.
pub(crate) fn longest(max_frame: usize, header: bool) -> Wish {
    let mut wish = Wish::default();
    wish.info.max_frame = max_frame;
    wish.info.header = header;
    wish.info.receive = Offloads {
        checksum: header,
        tso4: header,
        ..Offloads::default()
    };
    wish
}

pub(crate) fn without_merging(max_frame: usize) -> Wish {
    Wish {
        without: WITHOUT_MERGING,
        ..longest(max_frame, false)
    }
}

#[test]
fn frames_come_in_order_each_with_a_plain_header() {
    let mut bench = Bench::new();
    let frames: Vec<_> = (0..5)
        .map(|seed| pattern(60 + seed as usize, seed))
        .collect();
    frames.iter().for_each(|frame| bench.world.frame(frame));
    assert_eq!(bench.frames(), frames);
    assert_eq!(bench.counters.received_frames.get(), 5);
    assert_eq!(bench.counters.received_bytes.get(), 60 + 61 + 62 + 63 + 64);
}

#[test]
fn one_interrupt_tells_of_all_frames_of_a_turn() {
    for event_idx in [true, false] {
        let mut bench = Bench::with(Wish {
            event_idx,
            ..Wish::default()
        });
        bench.driver.offer_many(RX, 32);
        bench.run();
        (0..20).for_each(|seed| bench.world.frame(&pattern(60, seed)));
        assert_eq!(bench.frames().len(), 20);
        assert_eq!(bench.driver.interrupts.of(RX), 1);
        bench.world.frame(&pattern(60, 0));
        assert_eq!(bench.frames().len(), 1);
        assert_eq!(bench.driver.interrupts.of(RX), 2);
    }
}

#[test]
fn driver_that_polls_is_not_interrupted() {
    let mut bench = Bench::with(Wish {
        event_idx: false,
        ..Wish::default()
    });
    bench.driver.offer_many(RX, 4);
    bench.driver.want_no_interrupts(RX);
    bench.run();
    bench.world.frame(&pattern(60, 0));
    assert_eq!(bench.frames().len(), 1);
    assert_eq!(bench.driver.interrupts.of(RX), 0);
}

#[test]
fn full_ring_costs_nothing_and_the_next_buffer_brings_the_next_frame() {
    for event_idx in [true, false] {
        let mut bench = Bench::with(Wish {
            event_idx,
            ..Wish::default()
        });
        bench.driver.offer_many(RX, 2);
        bench.run();
        (0..5).for_each(|seed| bench.world.frame(&pattern(60, seed)));
        assert_eq!(bench.frames(), [pattern(60, 0), pattern(60, 1)]);
        assert!(!bench.world.state().interest[0].receive);
        for seed in 2..5 {
            bench.driver.offer(RX, &[1536]);
            assert_eq!(bench.frames(), [pattern(60, seed)]);
        }
        bench.driver.offer(RX, &[1536]);
        bench.run();
        assert!(bench.world.state().interest[0].receive);
        bench.world.frame(&pattern(60, 9));
        assert_eq!(bench.frames(), [pattern(60, 9)]);
    }
}

#[test]
fn buffer_that_comes_before_the_device_asks_for_a_kick_is_found() {
    let mut bench = Bench::with(Wish::default());
    bench.world.frame(&pattern(60, 1));
    // The driver makes it available without a kick: it saw an old event index.
    let place = bench.driver.place(1536);
    bench.driver.add(RX, &[(place, 1536)], 0);
    bench.driver.force_kick(TX);
    bench.run();
    assert!(bench.driver.take(RX).is_none(), "nobody said so");
    bench.driver.force_kick(RX);
    assert_eq!(bench.frames(), [pattern(60, 1)]);
    // Now the device looks, finds none, asks, and looks again.
    bench.world.frame(&pattern(60, 2));
    bench.run();
    assert!(!bench.world.state().interest[0].receive);
    bench.driver.offer(RX, &[1536]);
    assert_eq!(bench.frames(), [pattern(60, 2)]);
}

#[test]
fn frame_in_pieces_of_any_size_is_whole() {
    let mut bench = Bench::with(without_merging(1514));
    for lens in [
        &[12, 1514][..],
        &[1, 11, 1, 1513],
        &[5, 700, 900],
        &[13, 13, 1500],
        &[1526],
        &[0, 12, 0, 1514, 0],
    ] {
        bench.driver.offer(RX, lens);
        bench.world.frame(&pattern(1514, 3));
        assert_eq!(bench.frames(), [pattern(1514, 3)], "{lens:?}");
    }
}

#[test]
fn buffer_over_a_seam_of_memory_is_one() {
    let mut bench = Bench::with(Wish::default());
    for before in [5, 12, 500] {
        bench.driver.offer_parts(RX, &[(SEAM - before, 1600)]);
        bench.world.frame(&pattern(1514, 3));
        assert_eq!(bench.frames(), [pattern(1514, 3)]);
    }
}

#[test]
fn long_frame_takes_as_many_buffers_as_it_needs() {
    let mut bench = Bench::with(longest(65_550, false));
    bench.driver.offer_many(RX, 200);
    let frames: Vec<_> = [60, 1524, 1525, 1526, 65_550, 14]
        .iter()
        .map(|len| pattern(*len, 7))
        .collect();
    frames.iter().for_each(|frame| bench.world.frame(frame));
    let received = bench.received();
    let buffers: Vec<_> = received.iter().map(|received| received.buffers).collect();
    assert_eq!(buffers, [1, 1, 2, 2, 43, 1]);
    let got: Vec<_> = received
        .into_iter()
        .map(|received| received.frame)
        .collect();
    assert_eq!(got, frames);
}

#[test]
fn long_frame_waits_for_a_driver_that_has_had_the_room() {
    let mut bench = Bench::with(longest(9000, false));
    bench.driver.offer_many(RX, 6);
    bench.world.frame(&pattern(9000, 1));
    bench.world.frame(&pattern(9000, 2));
    let received = bench.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].buffers, 6);
    bench.driver.offer_many(RX, 5);
    assert!(bench.received().is_empty());
    bench.driver.offer_many(RX, 1);
    assert_eq!(bench.received()[0].frame, pattern(9000, 2));
    assert_eq!(bench.counters.received_dropped_room.get(), 0);
}

#[test]
fn long_frame_waits_a_second_at_most() {
    let mut bench = Bench::with(longest(9000, false));
    bench.driver.offer_many(RX, 6);
    bench.run();
    bench.driver.offer_many(RX, 3);
    for seed in 0..3 {
        bench.world.frame(&pattern(9000 - 4000 * seed, seed as u32));
    }
    bench.world.frame(&pattern(60, 3));
    assert_eq!(bench.received().len(), 1);
    bench.pass(Duration::from_millis(999));
    bench.driver.force_kick(RX);
    assert!(bench.received().is_empty());
    bench.pass(Duration::from_millis(1));
    bench.driver.force_kick(RX);
    let received = bench.received();
    assert_eq!(received[0].frame, pattern(1000, 2));
    assert_eq!(received[1].frame, pattern(60, 3));
    assert_eq!(bench.counters.received_dropped_room.get(), 1);
    assert!(bench.world.state().interest[0].receive);
    // With the room comes the patience.
    bench.driver.offer_many(RX, 7);
    bench.world.frame(&pattern(9000, 4));
    bench.world.frame(&pattern(60, 5));
    assert_eq!(bench.received().len(), 1);
    bench.driver.offer_many(RX, 6);
    assert_eq!(bench.received()[0].frame, pattern(60, 5));
}

#[test]
fn timer_ends_the_wait_for_room() {
    let mut bench = Bench::with(longest(3000, false));
    bench.driver.offer_many(RX, 3);
    bench.world.frame(&pattern(3000, 1));
    assert_eq!(bench.received().len(), 1);
    bench.world.frame(&pattern(60, 2));
    assert!(bench.received().is_empty());
    bench.pass(Duration::from_millis(990));
    bench.driver.force_kick(RX);
    bench.run();
    bench.pass(Duration::from_millis(10));
    bench.round();
    assert_eq!(bench.received()[0].frame, pattern(60, 2));
}

#[test]
fn driver_that_never_has_room_for_the_longest_gets_what_fits() {
    let mut bench = Bench::with(longest(65_550, false));
    bench.driver.offer_many(RX, 3);
    bench.world.frame(&pattern(60, 1));
    bench.world.frame(&pattern(9000, 2));
    bench.world.frame(&pattern(3000, 3));
    let received = bench.received();
    assert_eq!(received.len(), 2);
    assert_eq!((received[0].buffers, received[1].buffers), (1, 2));
    assert_eq!(received[1].frame, pattern(3000, 3));
    assert_eq!(bench.counters.received_dropped_room.get(), 1);
}

#[test]
fn small_buffers_hold_frames_up_to_the_pieces_of_one() {
    let mut bench = Bench::with(longest(65_550, false));
    for _ in 0..200 {
        bench.driver.offer(RX, &[100]);
    }
    // 62 pieces of 100 bytes, less the header.
    bench.world.frame(&pattern(6188, 1));
    bench.world.frame(&pattern(6189, 2));
    bench.world.frame(&pattern(100, 3));
    let received = bench.received();
    assert_eq!(received[0].frame, pattern(6188, 1));
    assert_eq!(received[0].buffers, 62);
    assert_eq!(received[1].frame, pattern(100, 3));
    assert_eq!(received.len(), 2);
    assert_eq!(bench.counters.received_dropped_room.get(), 1);
}

#[test]
fn frame_without_room_is_dropped_and_its_buffer_serves_the_next() {
    let mut bench = Bench::with(without_merging(9000));
    bench.driver.offer(RX, &[1526]);
    bench.driver.offer(RX, &[1526]);
    bench.world.frame(&pattern(1515, 1));
    bench.world.frame(&pattern(1514, 2));
    bench.world.frame(&pattern(14, 3));
    assert_eq!(bench.frames(), [pattern(1514, 2), pattern(14, 3)]);
    assert_eq!(bench.counters.received_dropped_room.get(), 1);
}

#[test]
fn frame_of_no_length_is_dropped() {
    let mut bench = Bench::new();
    for incoming in [
        Incoming::TooLong,
        Incoming::Claim(0),
        Incoming::Claim(13),
        Incoming::Claim(1515),
        Incoming::Claim(usize::MAX),
    ] {
        bench.world.push(0, incoming);
    }
    bench.world.frame(&pattern(14, 1));
    assert_eq!(bench.frames(), [pattern(14, 1)]);
    assert_eq!(bench.counters.received_dropped_length.get(), 5);
}

#[test]
fn frame_over_the_mtu_is_dropped_unless_it_is_to_be_cut() {
    let mut wish = longest(9000, true);
    wish.settings.mtu = Some(1500);
    let mut bench = Bench::with(wish);
    bench.driver.offer_many(RX, 32);
    let mut cut_later = PLAIN;
    cut_later[1] = 1;
    for (header, len) in [(PLAIN, 1518), (PLAIN, 1519), (cut_later, 4000)] {
        bench.world.frame(&[&header[..], &pattern(len, 1)].concat());
    }
    let lens: Vec<_> = bench.received().iter().map(|got| got.frame.len()).collect();
    assert_eq!(lens, [1518, 4000]);
    assert_eq!(bench.counters.received_dropped_length.get(), 1);
}

#[test]
fn header_of_the_backend_reaches_the_guest_with_the_number_of_buffers() {
    let mut bench = Bench::with(longest(4012, true));
    bench.driver.offer_many(RX, 32);
    let header = [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0xff, 0xff];
    bench
        .world
        .frame(&[&header[..], &pattern(4000, 1)].concat());
    bench.world.frame(&[&header[..], &pattern(100, 2)].concat());
    let received = bench.received();
    assert_eq!(received[0].frame, pattern(4000, 1));
    assert_eq!(received[0].header[..10], header[..10]);
    assert_eq!((received[0].buffers, received[1].buffers), (3, 1));
    assert_eq!(received[1].frame, pattern(100, 2));
}

#[test]
fn frames_for_a_driver_that_took_more_are_dropped_and_flags_it_knows_nothing_of_are_cleared() {
    const CHECKSUM: u64 = 1 << VIRTIO_NET_F_GUEST_CSUM;
    const TSO4: u64 = 1 << VIRTIO_NET_F_GUEST_TSO4;
    // Flags and how to cut, and what the driver without the features gets of it.
    let cases = [
        (CHECKSUM, [2, 0], Some([0, 0])),
        (CHECKSUM, [0xfe, 0], Some([0, 0])),
        (CHECKSUM, [1, 0], None),
        (CHECKSUM, [0, 1], None),
        (TSO4, [0xff, 0], Some([3, 0])),
        (TSO4, [1, 1], None),
        (0, [1, 1], Some([1, 1])),
        // Neither is offered.
        (0, [1, 4], None),
        (0, [1, 0x81], None),
    ];
    for (without, asked, got) in cases {
        let mut bench = Bench::with(Wish {
            without,
            ..longest(1526, true)
        });
        bench.driver.offer_many(RX, 4);
        let mut header = PLAIN;
        header[..2].copy_from_slice(&asked);
        bench.world.frame(&[&header[..], &pattern(60, 1)].concat());
        let received = bench.received();
        let headers: Vec<_> = received.iter().map(|frame| &frame.header[..2]).collect();
        assert_eq!(headers, got.as_slice(), "{without:#x} {asked:?}");
        let dropped = u64::from(got.is_none());
        assert_eq!(bench.counters.received_dropped_offload.get(), dropped);
    }
}

#[test]
fn header_of_the_backend_is_not_part_of_the_frame() {
    let mut bench = Bench::with(longest(1526, true));
    bench.driver.offer_many(RX, 4);
    bench.world.push(0, Incoming::Claim(11));
    bench.world.push(0, Incoming::Claim(25));
    bench.world.push(0, Incoming::Claim(26));
    assert_eq!(bench.received()[0].frame.len(), 14);
    assert_eq!(bench.counters.received_dropped_length.get(), 2);
    assert_eq!(bench.counters.received_bytes.get(), 14);
}

#[test]
fn flood_leaves_others_their_turn() {
    let mut bench = Bench::new();
    bench.driver.offer_many(RX, 200);
    bench.run();
    (0..200).for_each(|seed| bench.world.frame(&pattern(60, seed)));
    let before = bench.world.state().receives;
    bench.round();
    assert_eq!(bench.world.state().receives - before, 64);
    assert_eq!(bench.frames().len(), 200);
}

#[test]
fn idle_card_is_not_woken() {
    let mut bench = Bench::new();
    bench.world.frame(&pattern(60, 0));
    bench.run();
    let (receives, processes) = {
        let state = bench.world.state();
        (state.receives, state.processes)
    };
    bench.pass(Duration::from_secs(3600));
    bench.run();
    let state = bench.world.state();
    assert_eq!((state.receives, state.processes), (receives, processes));
}
