//! Waits for a real file lock.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::thread;

use tempfile::NamedTempFile;

use super::*;

/// A test that waits longer than this has failed.
const LIMIT: Duration = Duration::from_secs(20);

fn lock(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open.
    match unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn held() -> (NamedTempFile, File) {
    let held = NamedTempFile::new().unwrap();
    lock(held.as_file()).unwrap();
    let other = File::open(held.path()).unwrap();
    (held, other)
}

/// Whether this thread blocks the signal.
fn is_blocked() -> bool {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: only asks, into a place of the right type.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), set.as_mut_ptr()) };
    // SAFETY: the set is initialised, the number is valid.
    unsafe { libc::sigismember(set.as_ptr(), signal().unwrap()) == 1 }
}

fn block_all() {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: writes to a place of the right type.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    // SAFETY: the set is initialised.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut()) };
}

#[test]
fn wait_for_a_lock_ends_when_it_is_interrupted() {
    // Often, as the signal may come before, in or after the blocking call.
    for round in 0..50 {
        let (_held, other) = held();
        let wait = Interruptible::default();
        let (inside, entered) = mpsc::channel();
        let (result, done) = mpsc::channel();
        let thread = thread::spawn({
            let wait = wait.clone();
            move || {
                block_all();
                let call = || {
                    inside.send(()).unwrap();
                    lock(&other)
                };
                let outcome = wait.run(call).unwrap();
                result.send((outcome, is_blocked())).unwrap();
            }
        });
        let inside = round % 2 == 0;
        if inside {
            entered.recv_timeout(LIMIT).unwrap();
        }
        assert!(wait.interrupt());
        let (outcome, blocked) = done.recv_timeout(LIMIT).unwrap();
        assert!(outcome.is_some() || !inside, "the call was made");
        if let Some(outcome) = outcome {
            assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::Interrupted);
        }
        assert!(blocked, "the signal is blocked again");
        thread.join().unwrap();
    }
}

#[test]
fn signal_that_comes_before_the_call_blocks_is_sent_again() {
    let (_held, other) = held();
    let wait = Interruptible::default();
    let (inside, entered) = mpsc::channel();
    let (go, gone) = mpsc::channel();
    let thread = thread::spawn({
        let wait = wait.clone();
        move || {
            wait.run(|| {
                inside.send(()).unwrap();
                // The first signals arrive here and are lost.
                gone.recv().unwrap();
                lock(&other)
            })
        }
    });
    entered.recv_timeout(LIMIT).unwrap();
    let interrupter = thread::spawn({
        let wait = wait.clone();
        move || wait.interrupt()
    });
    while !wait.interrupted() {
        thread::yield_now();
    }
    go.send(()).unwrap();
    assert!(interrupter.join().unwrap());
    let outcome = thread.join().unwrap().unwrap().expect("the call was made");
    assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::Interrupted);
}

#[test]
fn interrupted_wait_does_not_start() {
    let wait = Interruptible::default();
    assert!(wait.interrupt());
    assert!(
        wait.run(|| unreachable!("it was ended before"))
            .unwrap()
            .is_none()
    );
}

#[test]
fn interruption_of_something_else_gives_up() {
    let wait = Interruptible::default();
    let (inside, entered) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let thread = thread::spawn({
        let wait = wait.clone();
        move || {
            wait.run(|| {
                inside.send(()).unwrap();
                let _ = gone.recv();
            })
        }
    });
    entered.recv_timeout(LIMIT).unwrap();
    assert!(!wait.interrupt());
    drop(go);
    thread.join().unwrap().unwrap();
    assert!(wait.interrupt());
}

#[test]
fn signal_with_a_handler_of_its_owner_is_left_alone() {
    let ours = signal().unwrap();
    assert!((libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&ours));
    // A second search finds the next one, as ours has a handler now.
    assert!(install().unwrap() < ours);
}
