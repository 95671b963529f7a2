//! Backends that fail, drivers that break their rings, and the reset after it.

use super::*;

/// Fails at `call` and stays quiet until the driver resets the card.
fn fails_at(call: &'static str, provoke: impl FnOnce(&mut Bench)) {
    let mut bench = Bench::new();
    bench.world.frame(&pattern(60, 0));
    assert_eq!(bench.frames().len(), 1);
    bench.world.state().broken = Some(call);
    provoke(&mut bench);
    bench.run();
    assert_eq!(bench.driver.interrupts.resets(), 1, "{call}");
    assert!(bench.world.state().setup.is_none(), "it was stopped");
    stays_quiet(&mut bench);
    bench.world.state().broken = None;
    serves_after_a_reset(&mut bench);
}

/// Nothing that happens wakes the device for long or reaches the backend.
fn stays_quiet(bench: &mut Bench) {
    let processes = bench.world.state().processes;
    let resets = bench.driver.interrupts.resets();
    bench.world.wake();
    bench.driver.force_kick(RX);
    bench.driver.force_kick(TX);
    bench.run();
    assert_eq!(bench.world.state().processes, processes);
    assert_eq!(bench.driver.interrupts.resets(), resets);
}

fn serves_after_a_reset(bench: &mut Bench) {
    bench.deactivate();
    bench.driver = Driver::new(2);
    bench.world.state().incoming[0].clear();
    bench.world.sent();
    bench.activate();
    bench.driver.offer_many(RX, 4);
    bench.world.frame(&pattern(60, 8));
    assert_eq!(bench.frames(), [pattern(60, 8)]);
    bench.send(&pattern(60, 9));
    assert_eq!(bench.world.sent(), [(0, pattern(60, 9))]);
}

#[test]
fn backend_that_fails_ends_the_activation_once() {
    fails_at("send", |bench| bench.send(&pattern(60, 1)));
    fails_at("process", |bench| bench.world.wake());
    fails_at("set_interest", |bench| {
        bench.world.allow(0);
        bench.send(&pattern(60, 1));
        bench.world.allow(usize::MAX);
    });
    fails_at("", |bench| bench.world.push(0, Incoming::Failure));
}

#[test]
fn backend_that_does_not_start_refuses_the_activation_and_can_start_later() {
    let mut bench = Bench::new();
    bench.deactivate();
    bench.world.state().broken = Some("start");
    let driver = Driver::new(2);
    let subscriber = bench.device.subscriber(
        driver.memory.clone(),
        driver.device_side(),
        Arc::clone(&driver.interrupts) as _,
    );
    let error = anyhow::Error::from(subscriber.err().unwrap());
    let text = format!("{error:#}");
    assert!(text.starts_with("start the network backend: "), "{text}");
    assert!(text.ends_with("start does not work"), "{text}");
    bench.world.state().broken = None;
    bench.activate();
    bench.run();
    serves_after_a_reset(&mut bench);
}

#[test]
fn driver_that_claims_more_chains_than_there_are_has_to_reset() {
    for queue in [RX, TX] {
        let mut bench = Bench::new();
        bench.driver.claim(queue, 257);
        bench.driver.force_kick(queue);
        bench.world.frame(&pattern(60, 0));
        bench.run();
        // The receive queue is looked at when the buffers at hand are used up.
        for seed in 0..40 {
            bench.world.frame(&pattern(60, seed));
        }
        bench.run();
        assert_eq!(bench.driver.interrupts.resets(), 1, "queue {queue}");
        stays_quiet(&mut bench);
        serves_after_a_reset(&mut bench);
    }
}

#[test]
fn driver_that_names_no_descriptor_of_its_table_has_to_reset() {
    for queue in [RX, TX] {
        let mut bench = Bench::with(Wish::default());
        bench.driver.make_available(queue, 256);
        bench.driver.kick(queue);
        bench.run();
        assert_eq!(bench.driver.interrupts.resets(), 1, "queue {queue}");
        stays_quiet(&mut bench);
        serves_after_a_reset(&mut bench);
    }
}

#[test]
fn reset_in_the_middle_touches_nothing_afterwards() {
    let mut bench = Bench::new();
    bench.world.allow(0);
    (0..10).for_each(|seed| bench.send(&pattern(60, seed)));
    (0..100).for_each(|seed| bench.world.frame(&pattern(60, seed)));
    bench.round();
    bench.deactivate();
    assert!(bench.world.state().setup.is_none(), "it was stopped");
    let before = bench.driver.read(0, 12 << 20);
    bench.world.wake();
    bench.world.allow(usize::MAX);
    bench.driver.force_kick(RX);
    bench.driver.force_kick(TX);
    bench.run();
    assert!(bench.driver.read(0, 12 << 20) == before);
    bench.activate();
    serves_after_a_reset(&mut bench);
    assert_eq!(bench.world.state().starts, 3);
}

#[test]
fn counters_go_on_over_resets() {
    let mut bench = Bench::new();
    bench.send(&pattern(60, 1));
    serves_after_a_reset(&mut bench);
    assert_eq!(bench.counters.sent_frames.get(), 2);
}

#[test]
fn link_that_changes_is_told_once_and_to_those_who_look() {
    let status = |bench: &Bench| {
        let mut status = [0; 2];
        bench.device.read_config(6, &mut status);
        u16::from_le_bytes(status)
    };
    let told = |bench: &Bench| {
        let config = &bench.driver.interrupts.config;
        config.load(std::sync::atomic::Ordering::Relaxed)
    };
    let mut bench = Bench::new();
    assert_eq!(status(&bench), 1);
    for (up, interrupts) in [(true, 0), (false, 1), (false, 1), (true, 2)] {
        bench.world.plug(up);
        bench.run();
        assert_eq!(status(&bench), u16::from(up));
        assert_eq!(told(&bench), interrupts);
    }
    let mut bench = Bench::with(Wish {
        without: 1 << 16,
        ..Wish::default()
    });
    bench.world.plug(false);
    bench.run();
    assert_eq!((status(&bench), told(&bench)), (0, 0));
}
