//! fcntl locks, of processes and of open files, and flock, between processes.

use std::io::{Read, Write, pipe};
use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use rustix::fs::{FlockOperation, OFlags, flock};

use super::Case;
use crate::calls::*;
use crate::check::{fails, is, ok, refused};
use crate::process::{End, fork};

pub const CASES: &[Case] = &[
    ("a process's lock keeps others out of its range", ranges),
    ("shared locks share", shared),
    ("locks of one process join and split", splits),
    ("F_GETLK tells of who has it", told),
    ("any close of the file drops the process's locks", closes),
    ("the end of a process drops its locks", ends),
    ("locks are not inherited", inheritance),
    ("a lock that is waited for comes", waits),
    ("EDEADLK for two who wait for each other", deadlock),
    ("EBADF for a lock that the descriptor could not use", access),
    ("EINVAL for ranges that cannot be", invalid),
    ("locks of open files keep out open files", open_files),
    ("flock keeps out others, and is inherited", flocks),
    ("flock that is waited for comes", flock_waits),
    ("a wait for flock ends by a signal", interrupted),
    ("flock and fcntl do not see each other", apart),
];

const READ: i32 = libc::F_RDLCK;
const WRITE: i32 = libc::F_WRLCK;
const NONE: i32 = libc::F_UNLCK;

fn range(kind: i32, start: i64, len: i64) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: start,
        l_len: len,
        l_pid: 0,
    }
}

fn lock(file: impl AsFd, kind: i32, start: i64, len: i64) -> Result<()> {
    fcntl(file, FcntlArg::F_SETLK(&range(kind, start, len)))
        .map(drop)
        .map_err(from_nix)
}

fn lock_wait(file: impl AsFd, kind: i32, start: i64, len: i64) -> Result<()> {
    fcntl(file, FcntlArg::F_SETLKW(&range(kind, start, len)))
        .map(drop)
        .map_err(from_nix)
}

fn lock_open_file(file: impl AsFd, kind: i32, start: i64, len: i64) -> Result<()> {
    fcntl(file, FcntlArg::F_OFD_SETLK(&range(kind, start, len)))
        .map(drop)
        .map_err(from_nix)
}

/// Kind, start, length and process of what is in the way.
fn in_the_way(file: impl AsFd, kind: i32, start: i64, len: i64) -> (i32, i64, i64, i32) {
    let mut asked = range(kind, start, len);
    ok(fcntl(file, FcntlArg::F_GETLK(&mut asked)).map_err(from_nix));
    (asked.l_type.into(), asked.l_start, asked.l_len, asked.l_pid)
}

/// In another process, with a descriptor of its own: can it be had?
#[track_caller]
fn other(kind: i32, start: i64, len: i64, may: bool) {
    fork(|| {
        let file = ok(open("f", OFlags::RDWR, 0));
        let outcome = lock(&file, kind, start, len);
        if may {
            ok(outcome);
        } else {
            refused("", outcome, &[Errno::AGAIN, Errno::ACCESS]);
        }
    })
    .join();
}

fn ranges() {
    let file = file("f", 0o644, b"");
    ok(lock(&file, WRITE, 10, 10));
    other(WRITE, 0, 10, true);
    other(WRITE, 20, 0, true);
    for (start, len) in [(0, 11), (10, 1), (19, 1), (19, 0), (0, 0)] {
        other(READ, start, len, false);
        other(WRITE, start, len, false);
    }
    ok(lock(&file, NONE, 0, 0));
    other(WRITE, 0, 0, true);
}

fn shared() {
    let file = file("f", 0o644, b"");
    ok(lock(&file, READ, 0, 10));
    other(READ, 0, 0, true);
    other(WRITE, 5, 1, false);
    ok(lock(&file, WRITE, 0, 10));
    other(READ, 0, 1, false);
    ok(lock(&file, READ, 0, 10));
    other(READ, 0, 1, true);
}

fn splits() {
    let file = file("f", 0o644, b"");
    ok(lock(&file, WRITE, 0, 30));
    ok(lock(&file, NONE, 10, 10));
    other(WRITE, 10, 10, true);
    other(WRITE, 9, 1, false);
    other(WRITE, 20, 1, false);
    ok(lock(&file, WRITE, 5, 20));
    other(READ, 15, 1, false);
}

fn told() {
    let file = file("f", 0o644, b"");
    is(in_the_way(&file, WRITE, 0, 0).0, NONE);
    ok(lock(&file, WRITE, 3, 4));
    let owner = std::process::id() as i32;
    fork(|| {
        let file = ok(open("f", OFlags::RDWR, 0));
        is(in_the_way(&file, READ, 0, 0), (WRITE, 3, 4, owner));
        is(in_the_way(&file, READ, 7, 0).0, NONE);
    })
    .join();
    // One's own are not in the way.
    is(in_the_way(&file, WRITE, 0, 0).0, NONE);
}

fn closes() {
    let file = file("f", 0o644, b"");
    ok(lock(&file, WRITE, 0, 0));
    drop(ok(open("f", OFlags::RDONLY, 0)));
    other(WRITE, 0, 0, true);
}

fn ends() {
    let file = file("f", 0o644, b"");
    let (mut told, mut tell) = pipe().expect("a pipe");
    let (mut end, ending) = pipe().expect("a pipe");
    let child = fork(|| {
        let file = ok(open("f", OFlags::RDWR, 0));
        ok(lock(&file, WRITE, 0, 0));
        tell.write_all(b"x").expect("the parent reads");
        // Until it is killed: we hold the other end, too.
        let _ = end.read(&mut [0]);
    });
    told.read_exact(&mut [0]).expect("the child writes");
    fails(lock(&file, WRITE, 0, 0), Errno::AGAIN);
    child.signal(nix::sys::signal::Signal::SIGKILL);
    child.wait();
    ok(lock(&file, WRITE, 0, 0));
    drop(ending);
}

fn inheritance() {
    let file = file("f", 0o644, b"");
    ok(lock(&file, WRITE, 0, 0));
    fork(|| fails(lock(&file, WRITE, 0, 0), Errno::AGAIN)).join();
}

fn waits() {
    let file = file("f", 0o644, b"");
    ok(lock(&file, WRITE, 0, 0));
    let (mut told, mut tell) = pipe().expect("a pipe");
    let child = fork(|| {
        let file = ok(open("f", OFlags::RDWR, 0));
        tell.write_all(b"x").expect("the parent reads");
        ok(lock_wait(&file, WRITE, 5, 5));
        is(pread(&file, 9, 0), Ok(b"written".to_vec()));
    });
    told.read_exact(&mut [0]).expect("the child writes");
    // Whether the child waits by now or not, it must not see less than this.
    tick();
    is(pwrite(&file, b"written", 0), Ok(7));
    ok(lock(&file, NONE, 0, 0));
    child.join();
}

/// Seconds after which nobody is to be told of a deadlock any more.
const PATIENCE: u64 = 5;
const PATIENCE_MILLISECONDS: u16 = 1000 * PATIENCE as u16;

fn deadlock() {
    const TOLD_OF_IT: i32 = 7;
    let file = file("f", 0o644, b"");
    ok(lock(&file, WRITE, 0, 1));
    let (mut told, mut tell) = pipe().expect("a pipe");
    let child = fork(|| {
        let file = ok(open("f", OFlags::RDWR, 0));
        ok(lock(&file, WRITE, 1, 1));
        tell.write_all(b"x").expect("the parent reads");
        // Locks are the process's: another thread can end what no signal ends.
        let (done, waits) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let ours = &file;
            scope.spawn(move || {
                let limit = std::time::Duration::from_secs(PATIENCE);
                if waits.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                    ok(lock(ours, NONE, 1, 1));
                }
            });
            let outcome = lock_wait(&file, WRITE, 0, 1);
            drop(done);
            if outcome == Err(Errno::DEADLK) {
                std::process::exit(TOLD_OF_IT);
            }
        });
    });
    told.read_exact(&mut [0]).expect("the child writes");
    let outcome = lock_wait(&file, WRITE, 1, 1);
    ok(lock(&file, NONE, 0, 0));
    let child_was_told = child.wait() == End::Code(TOLD_OF_IT);
    is(outcome == Err(Errno::DEADLK) || child_was_told, true);
}

fn access() {
    file("f", 0o644, b"");
    let reader = ok(open("f", OFlags::RDONLY, 0));
    fails(lock(&reader, WRITE, 0, 0), Errno::BADF);
    ok(lock(&reader, READ, 0, 0));
    let writer = ok(open("f", OFlags::WRONLY, 0));
    fails(lock(&writer, READ, 0, 0), Errno::BADF);
    ok(lock(&writer, WRITE, 0, 0));
    // flock does not ask.
    ok(flock(&reader, FlockOperation::LockExclusive));
}

fn invalid() {
    let file = file("f", 0o644, b"");
    fails(lock(&file, WRITE, -1, 1), Errno::INVAL);
    fails(lock(&file, WRITE, 5, -6), Errno::INVAL);
    fails(lock(&file, 77, 0, 1), Errno::INVAL);
    fails(lock(&file, WRITE, i64::MAX, 2), Errno::OVERFLOW);
    ok(lock(&file, WRITE, i64::MAX, 1));
    ok(lock(&file, WRITE, 10, -5));
    other(WRITE, 5, 1, false);
    other(WRITE, 10, 1, true);
}

fn open_files() {
    let first = file("f", 0o644, b"");
    let second = ok(open("f", OFlags::RDWR, 0));
    ok(lock_open_file(&first, WRITE, 0, 10));
    fails(lock_open_file(&second, WRITE, 5, 1), Errno::AGAIN);
    ok(lock_open_file(&second, WRITE, 10, 1));
    fails(lock(&second, WRITE, 0, 1), Errno::AGAIN);
    // A close of another descriptor does not drop it, its own does.
    drop(ok(open("f", OFlags::RDONLY, 0)));
    fails(lock_open_file(&second, WRITE, 5, 1), Errno::AGAIN);
    drop(first);
    ok(lock_open_file(&second, WRITE, 5, 1));
}

fn flocks() {
    use FlockOperation as How;
    let first = file("f", 0o644, b"");
    let second = ok(open("f", OFlags::RDONLY, 0));
    ok(flock(&first, How::LockExclusive));
    fails(flock(&second, How::NonBlockingLockShared), Errno::AGAIN);
    fork(|| {
        // Inherited with the descriptor, and not another's.
        ok(flock(&first, How::NonBlockingLockExclusive));
        fails(flock(&second, How::NonBlockingLockExclusive), Errno::AGAIN);
    })
    .join();
    ok(flock(&first, How::LockShared));
    ok(flock(&second, How::NonBlockingLockShared));
    fails(flock(&first, How::NonBlockingLockExclusive), Errno::AGAIN);
    // A failed change may have dropped it, as flock(2) says.
    drop(first);
    ok(flock(&second, How::NonBlockingLockExclusive));
    ok(flock(&second, How::Unlock));
}

fn flock_waits() {
    let file = file("f", 0o644, b"");
    ok(flock(&file, FlockOperation::LockExclusive));
    let (mut told, mut tell) = pipe().expect("a pipe");
    let child = fork(|| {
        let file = ok(open("f", OFlags::RDWR, 0));
        tell.write_all(b"x").expect("the parent reads");
        ok(flock(&file, FlockOperation::LockExclusive));
        is(pread(&file, 9, 0), Ok(b"written".to_vec()));
    });
    told.read_exact(&mut [0]).expect("the child writes");
    tick();
    is(pwrite(&file, b"written", 0), Ok(7));
    ok(flock(&file, FlockOperation::Unlock));
    child.join();
}

fn interrupted() {
    let file = file("f", 0o644, b"");
    ok(flock(&file, FlockOperation::LockExclusive));
    let (end, open_in_child) = pipe().expect("a pipe");
    let child = fork(|| {
        let file = ok(open("f", OFlags::RDWR, 0));
        nix::unistd::alarm::set(1);
        let _ = flock(&file, FlockOperation::LockExclusive);
        is("the lock came", "the signal came");
    });
    drop(open_in_child);
    let mut closed = [PollFd::new(end.as_fd(), PollFlags::POLLIN)];
    is(poll(&mut closed, PATIENCE_MILLISECONDS), Ok(1));
    ok(flock(&file, FlockOperation::Unlock));
    is(child.wait(), End::Signal(libc::SIGALRM));
    // Nobody has it for the dead.
    let other = ok(open("f", OFlags::RDWR, 0));
    ok(flock(&other, FlockOperation::NonBlockingLockExclusive));
}

fn apart() {
    let file = file("f", 0o644, b"");
    ok(flock(&file, FlockOperation::LockExclusive));
    other(WRITE, 0, 0, true);
}
