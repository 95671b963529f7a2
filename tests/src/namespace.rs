//! Network namespaces of tests, so that nothing of theirs is seen elsewhere.

use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, unshare};

/// Runs `test` in a network namespace of its own, with a loopback. Threads and
/// programs that it starts are in there too, and it goes with the last of them.
/// Takes root.
pub fn in_own_network(test: impl FnOnce() + Send + 'static) {
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("make a network namespace");
        ip("link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// `ip WORDS`, which must succeed.
#[track_caller]
pub fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output();
    let output = output.expect("ip starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words}: {stderr}");
}
