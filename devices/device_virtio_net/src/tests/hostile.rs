//! A guest that breaks the rules of a chain: it loses that chain's frame at most.

use virtio_bindings::bindings::virtio_ring::{
    VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE,
};
use virtio_queue::desc::split::Descriptor;

use super::driver::{MEMORY, QUEUE_SIZE};
use super::*;

const NEXT: u16 = VRING_DESC_F_NEXT as u16;
const WRITE: u16 = VRING_DESC_F_WRITE as u16;
const INDIRECT: u16 = VRING_DESC_F_INDIRECT as u16;

/// Makes a chain of one descriptor available that then is another.
fn add_spoilt(bench: &mut Bench, queue: u16, descriptor: Descriptor) {
    let place = bench.driver.place(2000);
    let head = bench.driver.add(queue, &[(place, 2000)], 0);
    bench.driver.spoil(queue, head, descriptor);
    bench.driver.kick(queue);
    bench.run();
}

/// Chains of a descriptor that are none, whichever way they are to be used.
fn broken(access: u16) -> [Descriptor; 7] {
    [
        Descriptor::new(MEMORY, 100, access, 0),
        Descriptor::new(MEMORY - 50, 100, access, 0),
        Descriptor::new(u64::MAX - 50, 100, access, 0),
        Descriptor::new(0x10_0000, u32::MAX, access, 0),
        Descriptor::new(0x10_0000, 100, access | NEXT, QUEUE_SIZE),
        // In a circle: a chain of one descriptor is number 0 here.
        Descriptor::new(0x10_0000, 1, access | NEXT, 0),
        Descriptor::new(MEMORY, 16, INDIRECT, 0),
    ]
}

#[test]
fn broken_chains_of_the_sender_come_back_and_send_nothing() {
    let mut bench = Bench::with(Wish::default());
    for descriptor in broken(0) {
        add_spoilt(&mut bench, TX, descriptor);
        assert_eq!(bench.driver.returned(TX), 1);
    }
    assert_eq!(bench.counters.sent_dropped_chain.get(), 7);
    bench.send(&pattern(60, 1));
    assert_eq!(bench.world.sent(), [(0, pattern(60, 1))]);
    assert_eq!(bench.driver.interrupts.resets(), 0);
}

#[test]
fn broken_chains_of_the_receiver_come_back_empty_and_cost_no_frame() {
    let mut bench = Bench::with(Wish::default());
    bench.world.frame(&pattern(60, 1));
    for descriptor in broken(WRITE) {
        add_spoilt(&mut bench, RX, descriptor);
        let (_, len) = bench.driver.take_used(RX).unwrap();
        assert_eq!(len, 0);
    }
    assert_eq!(bench.counters.refused_buffers.get(), 7);
    bench.driver.offer(RX, &[1536]);
    assert_eq!(bench.frames(), [pattern(60, 1)]);
    assert_eq!(bench.driver.interrupts.resets(), 0);
}

#[test]
fn useless_buffers_come_back_empty_between_good_ones() {
    let mut bench = Bench::with(Wish::default());
    let place = bench.driver.place(2000);
    bench.driver.add(RX, &[(place, 2000)], 1);
    bench.driver.kick(RX);
    bench.driver.offer(RX, &[12]);
    bench.driver.offer(RX, &[0]);
    bench.driver.offer(RX, &[24; 63]);
    bench.driver.offer(RX, &[1536]);
    bench.world.frame(&pattern(60, 1));
    bench.run();
    for _ in 0..4 {
        assert_eq!(bench.driver.take_used(RX).unwrap().1, 0);
    }
    assert_eq!(bench.frames(), [pattern(60, 1)]);
    assert_eq!(bench.counters.refused_buffers.get(), 4);
}

#[test]
fn flood_of_useless_buffers_leaves_others_their_turn() {
    let mut bench = Bench::with(Wish::default());
    for _ in 0..QUEUE_SIZE {
        bench.driver.offer(RX, &[1]);
    }
    bench.round();
    assert_eq!(bench.driver.returned(RX), 128);
    bench.run();
    assert_eq!(bench.driver.returned(RX), 128);
    bench.driver.offer(RX, &[1]);
    bench.driver.offer(RX, &[1536]);
    bench.world.frame(&pattern(60, 1));
    bench.run();
    assert_eq!(bench.driver.take_used(RX).unwrap().1, 0);
    assert_eq!(bench.frames(), [pattern(60, 1)]);
}

#[test]
fn chains_of_too_many_parts_are_dropped() {
    for (header, fits) in [(false, 64), (true, 63)] {
        let mut wish = Wish::default();
        wish.info.header = header;
        let mut bench = Bench::with(wish);
        let place = bench.driver.place(2000);
        bench.driver.write(place, &[0; 2000]);
        let parts = |count: u64| -> Vec<_> {
            // The header is the start of the first part.
            let rest = (1..count).map(|index| (place + 16 * index, 16));
            std::iter::once((place, 16)).chain(rest).collect()
        };
        let (fit, excess) = (parts(fits), parts(fits + 1));
        bench.driver.send_parts(TX, &fit);
        bench.driver.send_parts(TX, &excess);
        bench.run();
        assert_eq!(bench.world.sent().len(), 1, "{header}");
        assert_eq!(bench.driver.returned(TX), 2);
        assert_eq!(bench.counters.sent_dropped_chain.get(), 1);
    }
}

#[test]
fn parts_of_no_length_are_parts_as_well() {
    let mut bench = Bench::with(Wish::default());
    let place = bench.driver.place(200);
    let mut parts = vec![(place, 112)];
    parts.resize(64, (place, 0));
    bench.driver.send_parts(TX, &parts);
    parts.push((place, 0));
    bench.driver.send_parts(TX, &parts);
    bench.run();
    assert_eq!(bench.world.sent().len(), 1);
    assert_eq!(bench.counters.sent_dropped_chain.get(), 1);
}

#[test]
fn parts_for_the_device_to_write_are_no_part_of_a_frame() {
    let mut bench = Bench::with(Wish::default());
    let place = bench.driver.place(2000);
    bench
        .driver
        .write(place, &[&PLAIN[..], &pattern(100, 1)].concat());
    let untouched = bench.driver.read(place + 1000, 500);
    let parts = [(place, 112), (place + 1000, 500)];
    bench.driver.add(TX, &parts, 1);
    bench.driver.kick(TX);
    bench.run();
    assert_eq!(bench.world.sent(), [(0, pattern(100, 1))]);
    assert_eq!(bench.driver.read(place + 1000, 500), untouched);
}

#[test]
fn same_buffer_twice_harms_nobody_else() {
    let mut bench = Bench::with(Wish::default());
    let place = bench.driver.place(2000);
    let head = bench.driver.add(RX, &[(place, 1536)], 0);
    bench.driver.make_available(RX, head);
    bench.driver.force_kick(RX);
    bench.world.frame(&pattern(60, 1));
    bench.world.frame(&pattern(60, 2));
    bench.run();
    assert_eq!(bench.counters.received_frames.get(), 2);
    assert_eq!(bench.driver.interrupts.resets(), 0);
}
