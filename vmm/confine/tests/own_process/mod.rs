//! Cases in processes of their own: what confines a thread cannot be taken off
//! again.

use std::process::{Command, Output};

/// Set in the process of a case.
const CASE: &str = "CONFINE_TEST_CASE";
/// A case ran to its end.
const DONE: i32 = 42;

/// Runs `case` in a new process of this test binary, in which only the test
/// named `test` (the caller) runs.
pub fn in_own_process(test: &str, case: impl FnOnce()) -> Output {
    if std::env::var_os(CASE).is_some() {
        case();
        std::process::exit(DONE);
    }
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CASE, test)
        .output()
        .unwrap()
}

pub fn assert_done(output: &Output) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(DONE), "{stderr}");
}
