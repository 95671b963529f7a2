//! What a bucket lets pass.

use super::*;

fn number(value: u64) -> NonZeroU64 {
    NonZeroU64::new(value).unwrap()
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[test]
fn burst_passes_and_then_the_rate() {
    let start = Instant::now();
    let mut bucket = Bucket::new(number(1000), number(3000), start);
    bucket.take(2999);
    assert!(!bucket.is_empty());
    bucket.take(1);
    assert!(bucket.is_empty());
    bucket.fill(start + seconds(1));
    assert!(!bucket.is_empty());
    bucket.take(1000);
    assert!(bucket.is_empty());
}

#[test]
fn frame_longer_than_the_burst_passes_and_is_paid_for() {
    let start = Instant::now();
    let mut bucket = Bucket::new(number(1000), number(1), start);
    bucket.take(4001);
    assert!(bucket.wait() > seconds(4));
    assert!(bucket.wait() < seconds(5));
    bucket.fill(start + seconds(4));
    assert!(bucket.is_empty());
    bucket.fill(start + seconds(5));
    assert!(!bucket.is_empty());
}

#[test]
fn wait_is_over_when_it_says_so_and_not_before() {
    for rate in [1, 7, 1000, 1_000_000_007, u64::MAX] {
        let start = Instant::now();
        let mut bucket = Bucket::new(number(rate), number(1), start);
        bucket.take(65_562);
        let wait = bucket.wait();
        bucket.fill(start + wait - Duration::from_nanos(1));
        assert!(bucket.is_empty(), "{rate}");
        bucket.fill(start + wait);
        assert!(!bucket.is_empty(), "{rate}");
    }
}

#[test]
fn idle_time_gives_no_more_than_the_burst() {
    let start = Instant::now();
    let mut bucket = Bucket::new(number(u64::MAX), number(3000), start);
    bucket.fill(start + seconds(1 << 40));
    bucket.take(3000);
    assert!(bucket.is_empty());
}

#[test]
fn short_times_add_up() {
    let mut now = Instant::now();
    let mut bucket = Bucket::new(number(1000), number(1), now);
    bucket.take(2);
    for _ in 0..1000 {
        now += Duration::from_micros(1);
        bucket.fill(now);
        assert!(bucket.is_empty());
    }
    bucket.fill(now + Duration::from_nanos(1));
    assert!(!bucket.is_empty());
}
