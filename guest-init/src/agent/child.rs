//! From fork to exec: turns a copy of the agent into the process that was asked for.
//!
//! The agent has threads, so the copy may call only what is safe in a signal
//! handler: no allocation, no locks. Everything it needs is laid out before.

// UNSAFETY: fork in a process with threads, and raw system calls in the child.
#![expect(
    unsafe_code,
    reason = "what runs between fork and exec has no safe interface"
)]

use std::ffi::{CStr, CString, c_char, c_int};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::waitpid;
use nix::unistd::{
    Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, geteuid, pipe2, setsid, write,
};

use super::user::User;
use crate::sys;

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
#[repr(u8)]
pub enum Step {
    /// Fork, descriptors, terminal, limits.
    Setup,
    /// Becoming the user.
    User,
    /// Changing to the working directory.
    Workdir,
    /// Executing the program.
    Program,
}

/// Starts the process and waits until its program runs. Returns its id and a
/// descriptor of it, or what failed; nothing is left over then.
pub fn spawn(plan: &Plan<'_>) -> Result<(libc::pid_t, OwnedFd), (Step, Errno)> {
    let setup = |e: io::Error| (Step::Setup, Errno::from_raw(e.raw_os_error().unwrap_or(0)));
    let (report_in, report_out) = pipe2(OFlag::O_CLOEXEC).map_err(|e| setup(e.into()))?;
    let argv = pointers(plan.argv);
    let env = pointers(plan.env);

    // SAFETY: the child calls only `run`, which keeps to what is allowed after
    // a fork of a process with threads, and does not return.
    let pid = match unsafe { libc::fork() } {
        -1 => return Err((Step::Setup, Errno::last())),
        0 => {
            let (step, errno) = run(plan, &argv, &env);
            let [a, b, c, d] = (errno as i32).to_ne_bytes();
            let report = [step as u8, a, b, c, d];
            // The agent is not told only where it has gone.
            let _ = write(&report_out, &report);
            // SAFETY: it ends the child without running anything of the agent's.
            unsafe { libc::_exit(127) }
        }
        pid => pid,
    };
    drop(report_out);

    let pidfd = match sys::pidfd_open(pid) {
        Ok(pidfd) => pidfd,
        Err(e) => {
            // Without a way to wait for it the child must not go on.
            let pid = Pid::from_raw(pid);
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
            return Err(setup(e));
        }
    };
    let mut report = Vec::new();
    let read = File::from(report_in).read_to_end(&mut report);
    let failed = match (read, report.as_slice()) {
        // The successful exec closed the pipe.
        (Ok(_), []) => return Ok((pid, pidfd)),
        (Ok(_), &[step, a, b, c, d]) => (
            Step::from_byte(step),
            Errno::from_raw(i32::from_ne_bytes([a, b, c, d])),
        ),
        _ => (Step::Setup, Errno::EIO),
    };
    // It has ended, or else must.
    let _ = sys::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
    let _ = sys::pidfd_wait(pidfd.as_fd());
    Err(failed)
}

impl Step {
    fn from_byte(byte: u8) -> Self {
        [Self::User, Self::Workdir, Self::Program]
            .into_iter()
            .find(|step| *step as u8 == byte)
            .unwrap_or(Self::Setup)
    }
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
