//! Rates: time is the test's, and the timer the system's, with short waits.

use std::num::NonZeroU64;
use std::time::Duration;

use super::*;
use crate::Rate;

/// 100 bytes a millisecond, and 250 bytes at once.
const RATE: Rate = Rate {
    bytes: NonZeroU64::new(100_000).unwrap(),
    burst: NonZeroU64::new(250).unwrap(),
};

fn limited(receive: bool, send: bool) -> Bench {
    let mut wish = Wish::default();
    wish.settings.receive_rate = receive.then_some(RATE);
    wish.settings.send_rate = send.then_some(RATE);
    let mut bench = Bench::with(wish);
    bench.driver.offer_many(RX, 32);
    bench.run();
    bench
}

#[test]
fn guest_sends_at_once_what_the_burst_allows_and_then_at_the_rate() {
    let mut bench = limited(false, true);
    for seed in 0..6 {
        bench.driver.send(TX, &PLAIN, &pattern(100, seed), &[]);
    }
    bench.run();
    assert_eq!(bench.world.sent().len(), 3);
    assert_eq!(bench.driver.returned(TX), 3);
    // The burst was exceeded by 50 bytes.
    bench.pass(Duration::from_micros(501));
    bench.round();
    assert_eq!(bench.world.sent().len(), 1);
    bench.pass(Duration::from_millis(2));
    bench.round();
    bench.run();
    assert_eq!(bench.world.sent().len(), 2);
    assert_eq!(bench.driver.returned(TX), 3);
}

#[test]
fn guest_receives_at_the_rate_and_the_backend_keeps_the_rest() {
    let mut bench = limited(true, false);
    (0..6).for_each(|seed| bench.world.frame(&pattern(100, seed)));
    assert_eq!(bench.frames().len(), 3);
    assert_eq!(bench.world.state().incoming[0].len(), 3);
    assert!(!bench.world.state().interest[0].receive);
    bench.pass(Duration::from_millis(2));
    bench.round();
    assert_eq!(bench.frames().len(), 2);
    bench.pass(Duration::from_millis(10));
    bench.round();
    assert_eq!(bench.frames().len(), 1);
    assert!(bench.world.state().interest[0].receive);
}

#[test]
fn timer_that_rings_early_is_set_again() {
    let mut bench = limited(false, true);
    for seed in 0..4 {
        bench.driver.send(TX, &PLAIN, &pattern(100, seed), &[]);
    }
    bench.run();
    // The system's time passes and the test's does not.
    for _ in 0..3 {
        bench.round();
        assert_eq!(bench.counters.sent_frames.get(), 3);
    }
    bench.pass(Duration::from_millis(1));
    bench.round();
    assert_eq!(bench.counters.sent_frames.get(), 4);
}

#[test]
fn limit_of_one_direction_is_none_of_the_other() {
    let mut bench = limited(false, true);
    for seed in 0..4 {
        bench.driver.send(TX, &PLAIN, &pattern(100, seed), &[]);
        bench.world.frame(&pattern(1500, seed));
    }
    assert_eq!(bench.frames().len(), 4);
    assert_eq!(bench.world.sent().len(), 3);
}

#[test]
fn reset_does_not_fill_the_bucket() {
    let mut bench = limited(false, true);
    (0..3).for_each(|seed| bench.send(&pattern(100, seed)));
    assert_eq!(bench.world.sent().len(), 3);
    bench.deactivate();
    bench.driver = Driver::new(2);
    bench.activate();
    bench.send(&pattern(100, 9));
    assert!(bench.world.sent().is_empty());
}

#[test]
fn dropped_frames_cost_nothing() {
    let mut bench = limited(true, true);
    for _ in 0..10 {
        bench.driver.send(TX, &PLAIN, &pattern(1600, 0), &[]);
        bench.world.push(0, Incoming::TooLong);
    }
    bench.run();
    bench.send(&pattern(60, 0));
    bench.world.frame(&pattern(60, 0));
    assert_eq!(bench.world.sent().len(), 1);
    assert_eq!(bench.frames().len(), 1);
}
