//! What PID 1 does for the rest of its life: take the status of processes whose parents are gone.

use std::io;

use crate::sys;

/// Reaps until `agent` has ended and says how it did. The agent waits for its
/// own children itself, so no status that anybody wants passes here.
pub fn until_end_of(agent: libc::pid_t) -> String {
    loop {
        match sys::wait_any() {
            Ok((pid, status)) if pid == agent => return describe(status),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return format!("wait: {e}"),
        }
    }
}

fn describe(status: i32) -> String {
    if libc::WIFSIGNALED(status) {
        format!("signal {}", libc::WTERMSIG(status))
    } else {
        format!("exit status {}", libc::WEXITSTATUS(status))
    }
}
