//! Locks, and requests that wait for one.

use super::*;
use crate::wire::{LkIn, LkOut, LockFields};

pub(crate) fn lk_in(kind: i32, start: u64, end: u64, flock: bool) -> Vec<u8> {
    let asked = LkIn {
        fh: 9,
        owner: 10,
        lk: LockFields {
            start,
            end,
            kind: kind as u32,
            pid: 11,
        },
        lk_flags: u32::from(flock),
        padding: 0,
    };
    asked.as_bytes().to_vec()
}

/// Offers a SETLKW and serves, without its reply.
fn start_waiting(bench: &mut Bench, unique: u64, at: u64) {
    let request = request(
        Opcode::Setlkw as u32,
        unique,
        &lk_in(libc::F_WRLCK, 0, 99, false),
    );
    bench.driver.put(&request, REQUEST + at);
    let buffers = [sent(REQUEST + at, request.len()), wanted(REPLY + at, 16)];
    bench.driver.send(&buffers);
    bench.serve();
}

/// Waits until the wait is over, and gives its reply.
fn end_of_wait(bench: &mut Bench, unique: u64, at: u64) -> Reply {
    await_event(&bench.wake);
    bench.serve();
    let (_, used) = bench.driver.used().expect("the chain comes back late");
    reply(&bench.driver, REPLY + at, used, unique)
}

#[test]
fn locks_are_asked_for_taken_and_given_back() {
    let mut bench = Bench::coherent();
    let asked = "Lock { kind: Write, start: 1, end: 2, pid: 11 }";
    let reply = bench.ask(Opcode::Getlk, &lk_in(libc::F_WRLCK, 1, 2, false));
    assert_eq!(bench.mock.calls(), [format!("getlk 5 9 10 {asked}")]);
    let found = reply.body::<LkOut>().lk;
    assert_eq!((found.start, found.end, found.pid), (61, 62, 63));
    assert_eq!(found.kind, libc::F_WRLCK as u32);

    for (kind, word) in [
        (libc::F_RDLCK, "Read"),
        (libc::F_WRLCK, "Write"),
        (libc::F_UNLCK, "Unlock"),
    ] {
        // Free locks are not waited for.
        for opcode in [Opcode::Setlk, Opcode::Setlkw] {
            let reply = bench.ask(opcode, &lk_in(kind, 1, 2, false));
            assert_eq!(reply, Reply::Body(vec![]));
            let asked = asked.replace("Write", word);
            assert_eq!(bench.mock.calls(), [format!("setlk 5 9 10 {asked} false")]);
            let reply = bench.ask(opcode, &lk_in(kind, 1, 2, true));
            assert_eq!(reply, Reply::Body(vec![]));
            assert_eq!(bench.mock.calls(), [format!("flock 5 9 {word} false")]);
        }
    }
}

#[test]
fn locks_that_cannot_be_are_refused() {
    let mut bench = Bench::coherent();
    for (kind, start, end) in [
        (3, 0, 1),
        (-1, 0, 1),
        (libc::F_WRLCK, 2, 1),
        (libc::F_WRLCK, 0, 1 << 63),
        (libc::F_WRLCK, u64::MAX, u64::MAX),
    ] {
        for opcode in [Opcode::Getlk, Opcode::Setlk, Opcode::Setlkw] {
            let reply = bench.ask(opcode, &lk_in(kind, start, end, false));
            assert_eq!(reply, Reply::Error(Errno::INVAL));
        }
    }
    assert!(bench.mock.calls().is_empty());
}

#[test]
fn lock_of_another_is_not_waited_for_unless_asked() {
    let mut bench = Bench::coherent();
    let _held = bench.mock.hold_lock().unwrap();
    let reply = bench.ask(Opcode::Setlk, &lk_in(libc::F_WRLCK, 0, 1, false));
    assert_eq!(reply, Reply::Error(Errno::AGAIN));
}

#[test]
fn waiting_for_a_lock_does_not_hold_up_the_queue() {
    let mut bench = Bench::coherent();
    let held = bench.mock.hold_lock().unwrap();
    start_waiting(&mut bench, 77, 0x1000);
    assert_eq!(bench.driver.used(), None);
    assert!(matches!(bench.ask(Opcode::Statfs, &[]), Reply::Body(_)));
    drop(held);
    assert_eq!(end_of_wait(&mut bench, 77, 0x1000), Reply::Body(vec![]));
}

#[test]
fn wait_for_a_lock_ends_when_the_guest_interrupts_it() {
    let mut bench = Bench::coherent();
    let _held = bench.mock.hold_lock().unwrap();
    for unique in 100..110_u64 {
        start_waiting(&mut bench, unique, 0x1000);
        let other = (unique + 1).to_ne_bytes();
        assert_eq!(
            bench.ask(Opcode::Interrupt, &other),
            Reply::Error(Errno::AGAIN)
        );
        // Two replies come in this turn, or the second one later.
        let request = request(Opcode::Interrupt as u32, UNIQUE, &unique.to_ne_bytes());
        bench.driver.put(&request, REQUEST);
        bench.driver.send(&[sent(REQUEST, request.len())]);
        bench.serve();
        assert_eq!(bench.driver.used().expect("it comes back").1, 0);
        assert_eq!(
            end_of_wait(&mut bench, unique, 0x1000),
            Reply::Error(Errno::INTR)
        );
    }
}

#[test]
fn more_waits_than_there_may_be_are_refused() {
    let mut bench = Bench::coherent();
    let held = bench.mock.hold_lock().unwrap();
    for unique in 0..32 {
        start_waiting(&mut bench, unique, 0x1000 + 0x100 * unique);
        assert_eq!(bench.driver.used(), None);
    }
    let reply = bench.ask(Opcode::Setlkw, &lk_in(libc::F_WRLCK, 0, 99, false));
    assert_eq!(reply, Reply::Error(Errno::NOLCK));
    drop(held);
    let mut over = 0;
    while over < 32 {
        await_event(&bench.wake);
        bench.serve();
        while let Some((_, used)) = bench.driver.used() {
            assert_eq!(used, 16);
            over += 1;
        }
    }
    let reply = bench.ask(Opcode::Setlkw, &lk_in(libc::F_WRLCK, 0, 99, false));
    assert_eq!(reply, Reply::Body(vec![]));
}
