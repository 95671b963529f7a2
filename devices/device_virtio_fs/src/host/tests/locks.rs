//! Locks between owners of one guest, and between two guests on one folder.

use std::sync::mpsc;
use std::thread;

use super::*;
use crate::fs::{Lock, LockKind, Owner};

const END: u64 = u64::MAX >> 1;

fn lock(kind: LockKind, start: u64, end: u64) -> Lock {
    Lock {
        kind,
        start,
        end,
        pid: 1,
    }
}

/// Another file system over the folder of `share`, as another guest has it.
fn second(share: &Share) -> (HostFs, Node, Handle) {
    let options = HostFsOptions {
        ownership: MAPPED,
        read_only: false,
        max_descriptors: None,
    };
    let fs = HostFs::open(&share.path(""), &options).unwrap();
    let node = fs.lookup(Node::ROOT, name(c"f")).unwrap().node;
    let handle = fs.open(node, flags(OFlags::RDWR)).unwrap();
    (fs, node, handle)
}

#[test]
fn owners_keep_each_other_out_of_what_overlaps() {
    let share = Share::new(MAPPED);
    let (node, handle) = share.file(c"f");
    let [one, two] = [Owner(1), Owner(2)];
    let set = |owner, lock| share.setlk(node, handle, owner, lock, false);
    set(one, lock(LockKind::Write, 10, 19)).unwrap();
    assert_eq!(set(two, lock(LockKind::Read, 19, 30)), Err(Errno::AGAIN));
    set(two, lock(LockKind::Write, 20, END)).unwrap();
    set(one, lock(LockKind::Write, 0, 15)).unwrap();
    set(one, lock(LockKind::Unlock, 0, END)).unwrap();
    set(two, lock(LockKind::Write, 0, 15)).unwrap();
}

#[test]
fn locks_of_an_open_file_end_with_it() {
    // Its owner is no process, and so no FLUSH names it.
    let share = Share::new(MAPPED);
    let (node, handle) = share.file(c"f");
    let other = share.open(node, flags(OFlags::RDWR)).unwrap();
    let all = lock(LockKind::Write, 0, END);
    share.setlk(node, handle, Owner(1), all, false).unwrap();
    share.flush(node, handle, Owner(77)).unwrap();
    let set = || share.setlk(node, other, Owner(2), all, false);
    assert_eq!(set(), Err(Errno::AGAIN));
    share.release(node, handle).unwrap();
    set().unwrap();
}

#[test]
fn the_process_that_has_a_lock_is_told() {
    let share = Share::new(MAPPED);
    let (node, handle) = share.file(c"f");
    let by = |pid, kind| Lock {
        pid,
        ..lock(kind, 5, 9)
    };
    let set = |owner, lock| share.setlk(node, handle, owner, lock, false).unwrap();
    let told = || {
        let wanted = lock(LockKind::Write, 0, 50);
        share.getlk(node, handle, Owner(9), wanted).unwrap().pid
    };
    set(Owner(8), lock(LockKind::Read, 100, 100));
    set(Owner(1), by(41, LockKind::Write));
    assert_eq!(told(), 41);
    set(Owner(1), by(41, LockKind::Read));
    assert_eq!(told(), 41);
    // Of several who share it none is the one.
    set(Owner(2), by(42, LockKind::Read));
    assert_eq!(told(), 0);
}

#[test]
fn the_lock_in_the_way_is_told() {
    let share = Share::new(MAPPED);
    let (node, handle) = share.file(c"f");
    let get = |owner, lock| share.getlk(node, handle, owner, lock).unwrap();
    let wanted = lock(LockKind::Write, 0, END);
    assert_eq!(get(Owner(2), wanted).kind, LockKind::Unlock);
    let held = lock(LockKind::Read, 5, 9);
    share.setlk(node, handle, Owner(1), held, false).unwrap();
    let found = get(Owner(2), wanted);
    assert_eq!((found.kind, found.start, found.end), (LockKind::Read, 5, 9));
    assert_eq!(get(Owner(1), wanted).kind, LockKind::Unlock);
    assert_eq!(
        get(Owner(2), lock(LockKind::Read, 0, END)).kind,
        LockKind::Unlock
    );
    let to_the_end = lock(LockKind::Write, 100, END);
    share
        .setlk(node, handle, Owner(1), to_the_end, false)
        .unwrap();
    let found = get(Owner(2), lock(LockKind::Write, 200, 300));
    assert_eq!((found.start, found.end), (100, END));
}

#[test]
fn flush_gives_back_the_locks_of_its_owner_alone() {
    let share = Share::new(MAPPED);
    let (node, handle) = share.file(c"f");
    let set = |owner, lock| share.setlk(node, handle, owner, lock, false);
    set(Owner(1), lock(LockKind::Write, 0, 9)).unwrap();
    set(Owner(2), lock(LockKind::Write, 10, 19)).unwrap();
    share.flush(node, handle, Owner(1)).unwrap();
    set(Owner(3), lock(LockKind::Write, 0, 9)).unwrap();
    assert_eq!(
        set(Owner(3), lock(LockKind::Write, 10, 19)),
        Err(Errno::AGAIN)
    );
}

#[test]
fn two_guests_on_one_folder_meet_each_others_locks() {
    let share = Share::new(MAPPED);
    let (node, handle) = share.file(c"f");
    let (other, other_node, other_handle) = second(&share);
    let write = lock(LockKind::Write, 0, END);
    // The same owner's number, which means nothing between guests.
    share.setlk(node, handle, Owner(1), write, false).unwrap();
    let set = |wait| other.setlk(other_node, other_handle, Owner(1), write, wait);
    assert_eq!(set(false), Err(Errno::AGAIN));
    let (waiting, is_waiting) = mpsc::channel();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            waiting.send(()).unwrap();
            set(true)
        });
        is_waiting.recv().unwrap();
        share.flush(node, handle, Owner(1)).unwrap();
        waiter.join().unwrap().unwrap();
    });
    let again = share.setlk(node, handle, Owner(1), write, false);
    assert_eq!(again, Err(Errno::AGAIN));
    other.reset();
    share.setlk(node, handle, Owner(1), write, false).unwrap();
}

#[test]
fn flocks_are_of_handles_and_seen_by_all() {
    let share = Share::new(MAPPED);
    let (node, handle) = share.file(c"f");
    let (other, other_node, other_handle) = second(&share);
    let again = share.open(node, flags(OFlags::RDONLY)).unwrap();
    share.flock(node, handle, LockKind::Write, false).unwrap();
    let read = LockKind::Read;
    assert_eq!(share.flock(node, again, read, false), Err(Errno::AGAIN));
    let elsewhere = other.flock(other_node, other_handle, read, false);
    assert_eq!(elsewhere, Err(Errno::AGAIN));
    share.release(node, handle).unwrap();
    share.flock(node, again, read, false).unwrap();
    other.flock(other_node, other_handle, read, true).unwrap();
    let unlock = LockKind::Unlock;
    other
        .flock(other_node, other_handle, unlock, false)
        .unwrap();
}

#[test]
fn ranges_that_are_none_are_refused() {
    let share = Share::new(MAPPED);
    let (node, handle) = share.file(c"f");
    for (start, end) in [(5, 4), (0, END + 1), (u64::MAX, u64::MAX)] {
        let wanted = lock(LockKind::Write, start, end);
        let set = share.setlk(node, handle, Owner(1), wanted, true);
        assert_eq!(set, Err(Errno::INVAL));
        let got = share.getlk(node, handle, Owner(1), wanted);
        assert_eq!(got.unwrap_err(), Errno::INVAL);
    }
}

#[test]
fn owner_that_would_wait_for_itself_over_others_is_told() {
    let share = Share::new(MAPPED);
    let (node, handle) = share.file(c"f");
    let (other, other_handle) = share.file(c"g");
    let place = |at: u64| match at {
        // The circle goes over two files.
        0 | 1 => (node, handle),
        _ => (other, other_handle),
    };
    let set = |owner, at, kind, wait| {
        let (node, handle) = place(at);
        share.setlk(node, handle, Owner(owner), lock(kind, at, at), wait)
    };
    for owner in 0..3 {
        set(owner, owner, LockKind::Write, false).unwrap();
    }
    thread::scope(|scope| {
        let waits = [(0, 1), (1, 2)].map(|(owner, at)| {
            let waiter = scope.spawn(move || set(owner, at, LockKind::Write, true));
            while share.locks.waiting() <= owner as usize {
                thread::yield_now();
            }
            waiter
        });
        assert_eq!(set(2, 0, LockKind::Read, true), Err(Errno::DEADLK));
        // Nobody is in the circle when one gives way.
        set(2, 2, LockKind::Unlock, false).unwrap();
        let [first, second] = waits;
        second.join().unwrap().unwrap();
        set(1, 1, LockKind::Unlock, false).unwrap();
        first.join().unwrap().unwrap();
    });
    assert_eq!(share.locks.waiting(), 0);
}

#[test]
fn an_owner_has_only_so_many_locks_in_a_file() {
    let share = Share::new(MAPPED);
    let (node, handle) = share.file(c"f");
    let set = |at| {
        let lock = lock(LockKind::Write, at, at);
        share.setlk(node, handle, Owner(1), lock, false)
    };
    let most = (0..).step_by(2).take_while(|at| set(*at).is_ok()).count();
    assert_eq!(most, 4096);
    assert_eq!(set(1 << 20), Err(Errno::NOLCK));
    // What it has it may take again, and give back one by one.
    set(0).unwrap();
    let one = lock(LockKind::Unlock, 0, 0);
    share.setlk(node, handle, Owner(1), one, false).unwrap();
    set(1 << 20).unwrap();
}

#[test]
fn owners_beyond_the_limit_get_no_lock() {
    let share = Share::with(&HostFsOptions {
        ownership: MAPPED,
        read_only: false,
        max_descriptors: Some(64),
    });
    let (node, handle) = share.file(c"f");
    let read = lock(LockKind::Read, 0, 0);
    let set = |owner| share.setlk(node, handle, Owner(owner), read, false);
    for owner in 0..8 {
        set(owner).unwrap();
    }
    assert_eq!(set(8), Err(Errno::NOLCK));
    share.flush(node, handle, Owner(0)).unwrap();
    set(8).unwrap();
}

#[test]
fn file_of_a_read_only_folder_takes_locks_to_read() {
    let share = Share::with(&HostFsOptions {
        ownership: MAPPED,
        read_only: true,
        max_descriptors: None,
    });
    fs::write(share.path("f"), "").unwrap();
    let node = share.look("f").unwrap().node;
    let handle = share.open(node, flags(OFlags::RDONLY)).unwrap();
    let set = |kind| share.setlk(node, handle, Owner(1), lock(kind, 0, END), false);
    set(LockKind::Read).unwrap();
    assert_eq!(set(LockKind::Write), Err(Errno::BADF));
}
