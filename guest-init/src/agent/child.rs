//! From clone to exec: the child that turns itself into the process that was asked for.
//!
//! It borrows the agent's memory, and the thread that made it stands still
//! until it has executed the program or given up. That copies no page tables,
//! and what failed is told by writing it down. In exchange the child may call
//! only what is safe in a signal handler: no allocation, no locks. Everything
//! it needs is laid out before.

// UNSAFETY: clone that shares memory, and raw system calls in the child.
#![expect(
    unsafe_code,
    reason = "what runs between clone and exec has no safe interface"
)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, dup2_stderr, dup2_stdin, dup2_stdout, geteuid, setsid, write};

use super::user::User;
use crate::sys;

/// The child's stack. The deepest thing on it is the copy of a path.
const STACK: usize = 32 * 1024;

/// Descriptors of a process: as many as programs that use select can take, and
/// on demand enough for any server.
const SOFT_NOFILE: u64 = 1024;
const HARD_NOFILE: u64 = 1 << 19;

/// Highest signal number of Linux.
const LAST_SIGNAL: c_int = 64;

/// Everything about the new process.
pub struct Plan<'a> {
    /// Paths to try in turn, at least one.
    pub programs: &'a [CString],
    /// Arguments, the program's name included.
    pub argv: &'a [CString],
    /// `NAME=value` each.
    pub env: &'a [CString],
    /// Working directory.
    pub cwd: &'a CStr,
    /// Who it runs as.
    pub user: &'a User,
    /// Becomes descriptors 0, 1 and 2.
    pub stdio: [BorrowedFd<'a>; 3],
    /// Whether descriptor 0 becomes its controlling terminal.
    pub terminal: bool,
}

/// What the child was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Clone, descriptors, terminal, limits.
    Setup,
    /// Becoming the user.
    User,
    /// Changing to the working directory.
    Workdir,
    /// Executing the program.
    Program,
}

/// What the child gets and gives.
struct Call<'a> {
    plan: &'a Plan<'a>,
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    failed: Option<(Step, Errno)>,
}

/// Starts the process and waits until its program runs. Returns its id and a
/// descriptor of it, or what failed; nothing is left over then.
pub fn spawn(plan: &Plan<'_>) -> Result<(libc::pid_t, OwnedFd), (Step, Errno)> {
    let mut call = Call {
        plan,
        argv: pointers(plan.argv),
        env: pointers(plan.env),
        failed: None,
    };
    let mut stack: Vec<u128> = Vec::with_capacity(STACK / size_of::<u128>());
    let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let mut pidfd: RawFd = -1;
    let argument = (&raw mut call).cast();
    // SAFETY:
    // - the stack grows down from its end, which is aligned to 16 bytes, and
    //   `child` needs less than it has
    // - CLONE_VFORK suspends this thread until the child has executed or
    //   exited, so stack, call and plan outlive it and nobody else uses them
    // - `child` keeps to what is allowed beside the agent's other threads
    // - CLONE_PIDFD stores into `pidfd`
    let pid = unsafe { libc::clone(child, top.cast(), flags, argument, &raw mut pidfd) };
    if pid < 0 {
        return Err((Step::Setup, Errno::last()));
    }
    // SAFETY: the kernel made it for this call, so nobody else owns it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    match call.failed {
        None => Ok((pid, pidfd)),
        Some(failed) => {
            // It has exited, so this takes its status without a wait.
            let _ = sys::pidfd_wait(pidfd.as_fd());
            Err(failed)
        }
    }
}

/// What the child runs; only a failure returns.
extern "C" fn child(call: *mut c_void) -> c_int {
    // SAFETY: `spawn` passes its `Call`, which it does not touch meanwhile.
    let call = unsafe { &mut *call.cast::<Call<'_>>() };
    call.failed = Some(run(call.plan, &call.argv, &call.env));
    127
}

/// An array as exec takes it. It borrows from the strings without saying so.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain([std::ptr::null()])
        .collect()
}

/// In the child: returns only what failed.
fn run(plan: &Plan<'_>, argv: &[*const c_char], env: &[*const c_char]) -> (Step, Errno) {
    if let Err(errno) = set_up(plan) {
        return (Step::Setup, errno);
    }
    if let Err(errno) = become_user(plan.user) {
        return (Step::User, errno);
    }
    if let Err(errno) = chdir(plan.cwd) {
        return (Step::Workdir, errno);
    }
    let mut found = Errno::ENOENT;
    for program in plan.programs {
        // SAFETY: path and strings end in NUL and the arrays in null.
        unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
        match Errno::last() {
            Errno::ENOENT | Errno::ENOTDIR => {}
            // Another directory may have one that executes.
            Errno::EACCES => found = Errno::EACCES,
            errno => return (Step::Program, errno),
        }
    }
    (Step::Program, found)
}

/// Session, terminal, descriptors, limits: everything that needs no user.
fn set_up(plan: &Plan<'_>) -> Result<(), Errno> {
    setsid()?;
    let [stdin, stdout, stderr] = plan.stdio;
    if plan.terminal {
        // SAFETY: TIOCSCTTY takes its argument by value.
        let rc = unsafe { libc::ioctl(stdin.as_raw_fd(), libc::TIOCSCTTY, 0) };
        check(rc.into())?;
    }
    dup2_stdin(stdin)?;
    dup2_stdout(stdout)?;
    dup2_stderr(stderr)?;
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    close_on_exec_above_stderr();
    default_signal_actions();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    // It can fail only in tests that are not root.
    let _ = setrlimit(Resource::RLIMIT_NOFILE, SOFT_NOFILE, HARD_NOFILE);
    // The agent's exemption from the out-of-memory killer is its own. This
    // can fail only where the container has no /proc any more.
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    if let Ok(score) = open(c"/proc/self/oom_score_adj", flags, Mode::empty()) {
        let _ = write(&score, b"0");
    }
    Ok(())
}

/// All of the agent's are so anyway; this holds for what it inherited, too.
fn close_on_exec_above_stderr() {
    let first = libc::STDERR_FILENO + 1;
    // It fails only on kernels before 5.11, which lack the flag.
    // SAFETY: no memory is passed.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
}

/// By system call, as the C library keeps two signals to itself.
fn default_signal_actions() {
    // The kernel's structure: the default action, no flags, an empty mask.
    const DEFAULT: [u64; 4] = [0; 4];
    const MASK_SIZE: usize = size_of::<u64>();
    let old: *mut u64 = std::ptr::null_mut();
    for signal in 1..=LAST_SIGNAL {
        // It fails for the two signals that have no other action.
        // SAFETY: the structure lives through the call, and the old one is not asked for.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                old,
                MASK_SIZE,
            )
        };
    }
}

/// By system call, as the C library's functions would ask all threads of the
/// agent, which do not exist in the child.
fn become_user(user: &User) -> Result<(), Errno> {
    if !geteuid().is_root() {
        // Only tests run the agent as somebody else, who cannot change.
        return Ok(());
    }
    let User {
        uid, gid, groups, ..
    } = user;
    // SAFETY: pointer and count are those of the list.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_setresgid, *gid, *gid, *gid) })?;
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_setresuid, *uid, *uid, *uid) })
}

fn check(rc: libc::c_long) -> Result<(), Errno> {
    if rc < 0 { Err(Errno::last()) } else { Ok(()) }
}
