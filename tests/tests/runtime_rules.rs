//! The rules of events hold however processes, signals, output and a reader's pauses
//! fall together: the client of these tests breaks where one is broken.

use std::collections::HashMap;

use e2e_tests::{Activity, Answer, Call, demo_image, long};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tempfile::TempDir;

/// Something that a client does.
#[derive(Clone, Debug)]
enum Step {
    /// Starts a process that writes so many bytes to stdout and to stderr in pieces of
    /// a size, leaves a child behind that goes on writing or not, and ends with a code.
    Run {
        stdout: u32,
        stderr: u32,
        piece: u32,
        child: bool,
        code: u8,
    },
    /// Starts one that runs until it is ended, and writes all the time.
    RunForEver,
    /// Sends SIGKILL to the so-manieth that runs for ever.
    Kill(usize),
    /// Reads a number of frames.
    Hear(u8),
    /// Reads nothing for as long as another program takes.
    Pause,
    /// Starts what is not there.
    RunMissing,
}

fn step() -> impl Strategy<Value = Step> {
    let run = (
        0..200_000_u32,
        0..100_000_u32,
        1..70_000_u32,
        any::<bool>(),
        any::<u8>(),
    );
    let run = run.prop_map(|(stdout, stderr, piece, child, code)| Step::Run {
        stdout,
        stderr,
        piece,
        child,
        code,
    });
    prop_oneof![
        4 => run,
        1 => Just(Step::RunForEver),
        2 => any::<usize>().prop_map(Step::Kill),
        3 => any::<u8>().prop_map(|count| Step::Hear(count % 8)),
        1 => Just(Step::Pause),
        1 => Just(Step::RunMissing),
    ]
}

#[test]
fn events_keep_their_rules_in_any_order_of_things() {
    let dir = TempDir::new().unwrap();
    let activity = Activity::new(dir.path(), &[&demo_image()]);
    activity.deployed(&[]);
    let mut runtime = activity.started();
    // One VM for all cases: what one leaves behind is there in the next.
    let runtime = std::cell::RefCell::new(&mut runtime);
    let config = Config {
        cases: if long() { 60 } else { 8 },
        max_shrink_iters: 0,
        failure_persistence: None,
        ..Config::default()
    };
    let steps = prop::collection::vec(step(), 1..40);
    let outcome = TestRunner::new(config).run(&steps, |steps| {
        let runtime = &mut **runtime.borrow_mut();
        // Answers that are awaited, with what the process will have written.
        let mut expected = HashMap::new();
        let mut for_ever = Vec::new();
        let mut missing = Vec::new();
        for step in steps {
            match step {
                Step::Run { stdout, stderr, piece, child, code } => {
                    let child = if child { "(while echo late; do usleep 10000; done) & echo $! >> /tmp/children;" } else { "" };
                    let script = format!(
                        "dd if=/dev/zero bs={piece} count=$(({stdout}/{piece})) 2>/dev/null; \
                         dd if=/dev/zero bs={piece} count=$(({stderr}/{piece})) >&2 2>/dev/null; {child} exit {code}"
                    );
                    let id = runtime.ask_run("/bin/sh", &["-c", &script]);
                    let lens = (stdout / piece * piece, stderr / piece * piece);
                    expected.insert(id, (lens, i32::from(code), !child.is_empty()));
                }
                Step::RunForEver => {
                    let pid = runtime.run("/bin/yes", &[]);
                    for_ever.push(pid);
                }
                Step::Kill(at) if !for_ever.is_empty() => {
                    let pid = for_ever.swap_remove(at % for_ever.len());
                    prop_assert_eq!(runtime.kill(pid, 9), Answer::Kill);
                    prop_assert_eq!(runtime.ended(pid).code, Some(9));
                }
                Step::Kill(_) => {}
                Step::Hear(count) if !for_ever.is_empty() || !expected.is_empty() => {
                    // Only what is sure to come.
                    for _ in 0..count.min(u8::from(!for_ever.is_empty()) * 8) {
                        runtime.hear();
                    }
                }
                Step::Hear(_) => {}
                Step::Pause => drop(Call::new(&["--help"]).outcome()),
                Step::RunMissing => missing.push(runtime.ask_run("/no/such/program", &[])),
            }
        }
        for (id, ((stdout, stderr), code, has_child)) in expected {
            let pid = match runtime.answer(id) {
                Answer::Run(pid) => pid,
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            };
            let heard = runtime.ended(pid);
            // The child may have written before the end.
            let zeros = heard.stdout.iter().filter(|byte| **byte == 0).count();
            prop_assert!(has_child || heard.stdout.len() == zeros);
            prop_assert_eq!((zeros, heard.stderr.len()), (stdout as usize, stderr as usize));
            prop_assert_eq!(heard.code, Some(code));
        }
        for id in missing {
            prop_assert_eq!(runtime.error(id), "Running process failed, exit code: 2");
        }
        for pid in for_ever {
            prop_assert_eq!(runtime.kill(pid, 9), Answer::Kill);
            prop_assert_eq!(runtime.ended(pid).code, Some(9));
        }
        runtime.output("touch /tmp/children; kill -9 $(cat /tmp/children) 2>/dev/null; : > /tmp/children");
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
