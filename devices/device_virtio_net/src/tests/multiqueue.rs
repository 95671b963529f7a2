//! Several queue pairs, and the control queue.

use virtio_bindings::bindings::virtio_net::VIRTIO_NET_F_MQ;

use super::*;
use crate::frontend::CHANGE_INTERVAL;

const CONTROL: u16 = 6;

/// A card of three queue pairs.
fn wide() -> Wish {
    let mut wish = Wish::default();
    wish.info.queue_pairs = 3;
    wish
}

/// Gives a command, and returns the answer if there is one.
fn command_on(bench: &mut Bench, queue: u16, command: &[u8], answer: u32) -> (u32, u8) {
    let place = bench.driver.place(64);
    bench.driver.write(place, command);
    bench.driver.write(place + 32, &[0xff]);
    let parts = [(place, command.len() as u32), (place + 32, answer)];
    bench.driver.add(queue, &parts, 1);
    bench.driver.kick(queue);
    bench.run();
    let (_, len) = bench.driver.take_used(queue).unwrap();
    (len, bench.driver.read(place + 32, 1)[0])
}

/// Has the driver use `count` pairs, after the card has looked for more commands.
fn use_pairs(bench: &mut Bench, count: u16) -> u8 {
    bench.pass(CHANGE_INTERVAL);
    bench.driver.force_kick(CONTROL);
    bench.run();
    let [low, high] = count.to_le_bytes();
    let (len, answer) = command_on(bench, CONTROL, &[4, 0, low, high], 1);
    assert_eq!(len, 1);
    answer
}

#[test]
fn one_pair_is_used_until_the_driver_says_how_many() {
    let mut bench = Bench::with(wide());
    (0..3).for_each(|pair| bench.driver.offer_many(2 * pair, 4));
    bench.run();
    assert_eq!(bench.world.state().setup.unwrap().queue_pairs, 1);
    assert_eq!(use_pairs(&mut bench, 3), 0);
    assert_eq!(bench.world.state().setup.unwrap().queue_pairs, 3);
    for pair in 0..3 {
        let frame = pattern(60, pair.into());
        bench.world.push(pair, Incoming::Frame(frame.clone()));
        bench.run();
        assert_eq!(bench.driver.take(2 * pair).unwrap().frame, frame);
        bench.driver.send(2 * pair + 1, &PLAIN, &frame, &[]);
        bench.run();
        assert_eq!(bench.world.sent(), [(pair, frame)]);
    }
    assert_eq!(bench.driver.interrupts.of(CONTROL), 1);
}

#[test]
fn fewer_pairs_are_used_when_the_driver_says_so() {
    let mut bench = Bench::with(wide());
    (0..3).for_each(|pair| bench.driver.offer_many(2 * pair, 4));
    use_pairs(&mut bench, 3);
    bench.world.push(2, Incoming::Frame(pattern(60, 1)));
    bench.run();
    assert!(bench.driver.take(4).is_some());
    assert_eq!(use_pairs(&mut bench, 2), 0);
    assert_eq!(bench.world.state().setup.unwrap().queue_pairs, 2);
    bench.driver.send(5, &PLAIN, &pattern(60, 2), &[]);
    bench.run();
    assert_eq!(bench.driver.returned(5), 1);
    assert!(bench.world.sent().is_empty());
    assert_eq!(bench.counters.sent_dropped_unused.get(), 1);
    // Its buffers are there when it is used again.
    use_pairs(&mut bench, 3);
    bench.world.push(2, Incoming::Frame(pattern(60, 3)));
    bench.run();
    assert_eq!(bench.driver.take(4).unwrap().frame, pattern(60, 3));
}

#[test]
fn number_that_is_in_use_changes_nothing() {
    let mut bench = Bench::with(wide());
    assert_eq!(use_pairs(&mut bench, 1), 0);
    assert_eq!(use_pairs(&mut bench, 2), 0);
    assert_eq!(use_pairs(&mut bench, 2), 0);
    assert_eq!(bench.world.state().starts, 2);
}

#[test]
fn flood_of_changes_restarts_the_backend_once_in_an_interval() {
    let mut bench = Bench::with(wide());
    let counts = [2, 3, 1, 2, 2, 3];
    let places = counts.map(|count| {
        let place = bench.driver.place(8);
        bench.driver.write(place, &[4, 0, count, 0, 0xff]);
        bench.driver.add(CONTROL, &[(place, 4), (place + 4, 1)], 1);
        place
    });
    bench.driver.kick(CONTROL);
    bench.run();
    for starts in 2..=6 {
        // Other events do not bring it forward.
        bench.driver.force_kick(CONTROL);
        bench.run();
        assert_eq!(bench.world.state().starts, starts);
        bench.pass(CHANGE_INTERVAL);
        // The card's own timer rings.
        bench.round();
        bench.run();
    }
    assert_eq!(bench.driver.returned(CONTROL), counts.len());
    let done = |place| bench.driver.read(place + 4, 1) == [0];
    assert!(places.into_iter().all(done));
    assert_eq!(bench.world.state().setup.unwrap().queue_pairs, 3);
}

#[test]
fn commands_that_are_none_are_refused() {
    let mut bench = Bench::with(wide());
    for count in [0, 4, 0x8000, 0xffff] {
        assert_eq!(use_pairs(&mut bench, count), 1);
    }
    for command in [&[4, 1, 2, 0][..], &[0, 0, 2, 0], &[4, 0, 2], &[4], &[]] {
        assert_eq!(command_on(&mut bench, CONTROL, command, 1), (1, 1));
    }
    let (len, untouched) = command_on(&mut bench, CONTROL, &[4, 0, 2, 0], 0);
    assert_eq!((len, untouched), (0, 0xff));
    assert_eq!(bench.driver.interrupts.resets(), 0);
}

#[test]
fn backend_that_does_not_start_again_ends_the_activation() {
    let mut bench = Bench::with(wide());
    bench.world.state().broken = Some("start");
    let place = bench.driver.place(8);
    bench.driver.write(place, &[4, 0, 2, 0]);
    bench.driver.add(CONTROL, &[(place, 4), (place + 4, 1)], 1);
    bench.driver.kick(CONTROL);
    bench.run();
    assert_eq!(bench.driver.interrupts.resets(), 1);
    bench.driver.force_kick(CONTROL);
    bench.run();
    assert_eq!(bench.driver.interrupts.resets(), 1);
}

#[test]
fn driver_without_multiqueue_has_its_control_queue_third() {
    let mut bench = Bench::with(Wish {
        without: 1 << VIRTIO_NET_F_MQ,
        ..wide()
    });
    let answer = command_on(&mut bench, 2, &[4, 0, 2, 0], 1);
    assert_eq!(answer, (1, 1));
    bench.driver.offer_many(RX, 2);
    bench.world.frame(&pattern(60, 1));
    assert_eq!(bench.frames(), [pattern(60, 1)]);
}

#[test]
fn pairs_that_are_not_set_up_cannot_be_used() {
    let mut bench = Bench::with(wide());
    bench.deactivate();
    bench.driver = Driver::new(7);
    let mut queues = bench.driver.device_side();
    queues[4] = None;
    let interrupt = Arc::clone(&bench.driver.interrupts) as _;
    let memory = bench.driver.memory.clone();
    let subscriber = bench.device.subscriber(memory, queues, interrupt).unwrap();
    bench.id = Some(bench.manager.add_subscriber(subscriber));
    assert_eq!(use_pairs(&mut bench, 3), 1);
    assert_eq!(use_pairs(&mut bench, 2), 0);
}

#[test]
fn pairs_share_the_limit_fairly() {
    let mut wish = wide();
    wish.settings.send_rate = Some(crate::Rate {
        bytes: 100_000.try_into().unwrap(),
        burst: 1.try_into().unwrap(),
    });
    let mut bench = Bench::with(wish);
    use_pairs(&mut bench, 3);
    for pair in 0..3 {
        for seed in 0..20 {
            bench
                .driver
                .send(2 * pair + 1, &PLAIN, &pattern(100, seed), &[]);
        }
    }
    while bench.counters.sent_frames.get() < 30 {
        bench.pass(std::time::Duration::from_millis(1));
        bench.round();
    }
    let mut counts = [0; 3];
    for (pair, _) in bench.world.sent() {
        counts[usize::from(pair)] += 1;
    }
    assert!(counts.iter().all(|count| *count >= 5), "{counts:?}");
}
