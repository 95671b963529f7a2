//! Bytes in are bytes out, however driver and backend cut, wait and mix them.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    /// A frame of this length comes.
    Frame(usize),
    /// The driver offers a buffer in such parts.
    Offer(Vec<u32>),
    /// The guest sends a frame of this length, cut so.
    Send(usize, Vec<usize>),
    /// So many more frames can be sent.
    Allow(usize),
    /// The event loop has a round, if it has something to do.
    Round,
}

fn step(longest: usize) -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (14..=longest).prop_map(Step::Frame),
        4 => prop::collection::vec(prop_oneof![1..40_u32, 500..3000_u32], 1..5)
            .prop_map(offer),
        3 => ((14..=longest), prop::collection::vec(0..longest, 0..6))
            .prop_map(|(len, cuts)| Step::Send(len, cuts)),
        1 => (0..4_usize).prop_map(Step::Allow),
        2 => Just(Step::Round),
    ]
}

/// A buffer that has room for more than the header, so that none comes back empty.
fn offer(mut lens: Vec<u32>) -> Step {
    lens[0] = lens[0].max(13);
    Step::Offer(lens)
}

fn steps() -> impl Strategy<Value = (usize, Vec<Step>)> {
    prop_oneof![Just(1514_usize), Just(9000)]
        .prop_flat_map(|longest| (Just(longest), prop::collection::vec(step(longest), 1..60)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn frames_are_whole_and_in_order(
        (longest, steps) in steps(),
        header in any::<bool>(),
        event_idx in any::<bool>(),
    ) {
        let mut wish = Wish { event_idx, ..Wish::default() };
        wish.info.header = header;
        wish.info.max_frame = longest + if header { NET_HEADER } else { 0 };
        let mut bench = Bench::with(wish);
        let own = if header { &PLAIN[..] } else { &[] };
        let (mut came, mut went, mut got, mut sent) = (vec![], vec![], vec![], vec![]);
        let mut seed = 0;
        let mut free = 250;
        for step in steps {
            seed += 1;
            match step {
                Step::Frame(len) => {
                    came.push(pattern(len, seed));
                    bench.world.frame(&[own, &pattern(len, seed)].concat());
                }
                Step::Offer(lens) if lens.len() <= free => {
                    free -= lens.len();
                    bench.driver.offer(RX, &lens);
                }
                Step::Offer(_) => {}
                Step::Send(len, cuts) => {
                    went.push(pattern(len, seed));
                    bench.driver.send(TX, &PLAIN, &pattern(len, seed), &cuts);
                }
                Step::Allow(room) => bench.world.allow(room),
                Step::Round => drop(bench.manager.run_with_timeout(0)),
            }
            got.extend(std::iter::from_fn(|| bench.driver.take(RX)));
        }
        // Room for everything.
        bench.world.allow(usize::MAX);
        while bench.counters.received_frames.get() + bench.counters.received_dropped_room.get()
            < came.len() as u64
        {
            bench.driver.offer_many(RX, 8);
            got.extend(bench.received());
        }
        bench.run();
        got.extend(bench.received());
        sent.extend(bench.world.sent().into_iter().map(|(_, frame)| frame));
        let went: Vec<_> = went.into_iter().map(|frame| [own, &frame].concat()).collect();
        prop_assert_eq!(sent, went.clone());
        prop_assert_eq!(bench.driver.returned(TX), went.len());
        // A frame that did not fit is missing, and nothing else is.
        let dropped = bench.counters.received_dropped_room.get() as usize;
        prop_assert_eq!(got.len() + dropped, came.len());
        let mut came = came.into_iter();
        for frame in got {
            prop_assert!(came.any(|other| other == frame.frame), "not in order");
        }
        prop_assert_eq!(bench.driver.interrupts.resets(), 0);
    }
}
