//! Processes of a case: forked, and of other users.
// UNSAFETY: fork(2) has no safe form.
#![expect(unsafe_code, reason = "fork")]

use std::panic::Location;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Gid, Pid, Uid};

use crate::check::{TOLD, wrong};

/// Somebody in the guest.
#[derive(Clone, Copy, Debug)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: &'static [u32],
}

/// Two users who are nobody to each other.
pub const ANN: User = User {
    uid: 6001,
    gid: 6001,
    groups: &[],
};
pub const BOB: User = User {
    uid: 6002,
    gid: 6002,
    groups: &[],
};
/// [`ANN`], who is in one more group.
pub const ANN_IN_CLUB: User = User {
    groups: &[CLUB],
    ..ANN
};
pub const CLUB: u32 = 6100;

/// A process that has to be waited for.
pub struct Child(Pid);

/// How it ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    Code(i32),
    Signal(i32),
}

/// Runs `body` in a new process, which ends with it.
pub fn fork(body: impl FnOnce()) -> Child {
    // SAFETY: this program has no second thread when it forks, so the child may
    // use everything that the parent may.
    match unsafe { nix::unistd::fork() }.expect("the machine has room for a process") {
        ForkResult::Parent { child } => Child(child),
        ForkResult::Child => {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            std::process::exit(if outcome.is_ok() { 0 } else { 101 });
        }
    }
}

impl Child {
    /// Returns when it has ended.
    pub fn wait(self) -> End {
        match waitpid(self.0, None).expect("it is our child") {
            WaitStatus::Exited(_, code) => End::Code(code),
            WaitStatus::Signaled(_, signal, _) => End::Signal(signal as i32),
            other => unreachable!("nobody asked for {other:?}"),
        }
    }

    /// As [`Child::wait`]; what ended it before its end is wrong here, too.
    #[track_caller]
    pub fn join(self) {
        match self.wait() {
            End::Code(0) => {}
            End::Code(TOLD) => std::process::exit(TOLD),
            end => {
                wrong(&format!("a process of the case ended by {end:?}"));
                std::process::exit(TOLD);
            }
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(self.0, signal).expect("it has not been waited for");
    }
}

/// Runs `body` as another user to its end.
#[track_caller]
pub fn as_user(user: User, body: impl FnOnce()) {
    let place = Location::caller();
    let child = fork(|| {
        become_user(user).unwrap_or_else(|error| panic!("{place}: become {user:?}: {error}"));
        body();
    });
    child.join();
}

fn become_user(user: User) -> nix::Result<()> {
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    nix::unistd::setgroups(&groups)?;
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)
}
