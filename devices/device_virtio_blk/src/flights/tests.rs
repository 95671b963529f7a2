//! Requests against a real ring and a real file; results that no file gives are
//! handed in.

use std::io::Write;
use std::sync::Arc;

use tempfile::NamedTempFile;
use vm_memory::{GuestAddress, GuestMemory as _, Permissions};

use super::*;
use crate::file::FileBackend;
use crate::tests::{DATA, SERIAL, STATUS, Store, memory};

/// A ring, or `None`, loudly, where this machine permits none.
pub(crate) fn ring() -> Option<Ring> {
    match Ring::new() {
        Ok(ring) => Some(ring),
        Err(error) => {
            eprintln!("NOT TESTED, as there is no io_uring: {error}: {error:?}");
            None
        }
    }
}

fn disk() -> Disk {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&[5; 64 * 512]).unwrap();
    let backend = FileBackend::open(file.path(), false, None).unwrap();
    Disk::new(Box::new(backend), SERIAL)
}

fn slice(memory: &GuestMemory, at: u64, length: usize) -> Slice<'_> {
    let mut slices = memory
        .get_slices(GuestAddress(at), length, Permissions::ReadWrite)
        .unwrap();
    slices.next().unwrap().unwrap()
}

fn read(memory: &GuestMemory) -> Stage {
    Stage::Transfer(Transfer {
        write: false,
        pieces: Pieces::of(&[slice(memory, DATA, 512), slice(memory, DATA + 4096, 512)]),
        offset: 1024,
        length: 1024,
    })
}

fn range(offset: u64, length: u64) -> Range {
    Range {
        offset,
        length,
        unmap: false,
    }
}

fn outcome(next: Next) -> Option<Outcome> {
    match next {
        Next::Submit(_) => None,
        Next::End(outcome) => Some(outcome),
    }
}

#[test]
fn requests_are_under_way_together() {
    let Some(mut ring) = ring() else { return };
    let (memory, disk) = (memory(), disk());
    let mut flights = Flights::new(&mut ring, &memory, &disk, false, 8);
    for head in 0..8 {
        let wanted = [slice(&memory, DATA + 512 * u64::from(head), 512)];
        let request = Request {
            kind: 0,
            sector: 0,
            sent: &[],
            wanted: &wanted,
        };
        let task = Task::Read {
            offset: 512,
            length: 512,
        };
        let status = slice(&memory, STATUS, 1);
        let left = flights.start(head, status, task, &request).unwrap();
        assert!(left.is_none());
    }
    assert!(!flights.has_room());
    let mut landed = Vec::new();
    while landed.len() < 8 {
        flights.wait().unwrap();
        flights.reap(&mut landed).unwrap();
    }
    let mut heads: Vec<u16> = landed.iter().map(|request| request.head).collect();
    heads.sort_unstable();
    assert_eq!(heads, [0, 1, 2, 3, 4, 5, 6, 7]);
    assert!(
        landed
            .iter()
            .all(|request| request.outcome == Outcome::Done(512))
    );
    let mut bytes = [0_u8; 8 * 512];
    slice(&memory, DATA, 8 * 512).copy_to(&mut bytes);
    assert_eq!(bytes, [5; 8 * 512]);
    assert!(flights.land());
}

#[test]
fn ring_refuses_what_no_disk_needs() {
    let Some(mut ring) = ring() else { return };
    let (memory, disk) = (memory(), disk());
    let mut flights = Flights::new(&mut ring, &memory, &disk, false, 8);
    for entry in [
        opcode::OpenAt::new(Fd(libc::AT_FDCWD), c"/".as_ptr()).build(),
        opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build(),
        opcode::Nop::new().build(),
    ] {
        // SAFETY: the path lives for ever, the others point at nothing.
        unsafe { flights.push(&entry.user_data(UNWATCH)) }.unwrap();
        flights.wait().unwrap();
        let completion = flights.take_completion().unwrap();
        assert_eq!(completion.result(), -libc::EACCES);
    }
}

#[test]
fn event_is_watched_again_when_the_kernel_stopped() {
    let Some(mut ring) = ring() else { return };
    let (memory, disk, event) = (memory(), disk(), EventFd::new(0).unwrap());
    let mut flights = Flights::new(&mut ring, &memory, &disk, false, 8);
    flights.watch(&event).unwrap();
    event.write(1).unwrap();
    flights.wait().unwrap();
    flights.reap(&mut Vec::new()).unwrap();
    assert!(flights.watching);
    // Ends the watch as the kernel would.
    let entry = opcode::PollRemove::new(WATCH).build().user_data(UNWATCH);
    // SAFETY: it points at no memory.
    unsafe { flights.push(&entry) }.unwrap();
    let mut completions = 0;
    while completions < 2 {
        flights.wait().unwrap();
        flights.reap(&mut Vec::new()).unwrap();
        completions += 1;
    }
    assert!(flights.watching);
    event.write(1).unwrap();
    flights.wait().unwrap();
    assert!(flights.land());
}

#[test]
fn short_counts_and_interruptions_are_continued() {
    let Some(mut ring) = ring() else { return };
    let (memory, disk) = (memory(), disk());
    let flights = Flights::new(&mut ring, &memory, &disk, false, 8);
    let Next::Submit(stage) = flights.next(read(&memory), -libc::EINTR) else {
        panic!("an interruption is no end");
    };
    let Next::Submit(Stage::Transfer(transfer)) = flights.next(stage, 700) else {
        panic!("700 of 1024 bytes are no end");
    };
    assert_eq!((transfer.offset, transfer.length), (1724, 1024));
    let left: Vec<usize> = transfer
        .pieces
        .left()
        .iter()
        .map(|piece| piece.iov_len)
        .collect();
    assert_eq!(left, [324]);
    let end = flights.next(Stage::Transfer(transfer), 324);
    assert_eq!(outcome(end), Some(Outcome::Done(1024)));
}

#[test]
fn errors_and_the_end_of_the_file_fail_the_request() {
    let Some(mut ring) = ring() else { return };
    let (memory, disk) = (memory(), disk());
    let flights = Flights::new(&mut ring, &memory, &disk, false, 8);
    for result in [0, -libc::EIO, -libc::EAGAIN, -libc::EINVAL] {
        let end = flights.next(read(&memory), result);
        assert_eq!(outcome(end), Some(Outcome::Failed), "{result}");
    }
    let end = flights.next(Stage::Flush, -libc::ENOSPC);
    assert_eq!(outcome(end), Some(Outcome::Failed));
    let end = flights.next(changes(Change::Discard, vec![range(0, 512)]), -libc::EIO);
    assert_eq!(outcome(end), Some(Outcome::Failed));
}

#[test]
fn ranges_come_one_after_the_other_and_then_a_flush_where_writes_go_through() {
    let Some(mut ring) = ring() else { return };
    let (memory, disk) = (memory(), disk());
    let flights = Flights::new(&mut ring, &memory, &disk, true, 8);
    let ranges = vec![range(0, 512), range(7, 0), range(1024, 512)];
    let stage = changes(Change::Discard, ranges);
    let Next::Submit(Stage::Ranges { left, change }) = flights.next(stage, 0) else {
        panic!("one of two");
    };
    assert_eq!((left[0].offset, left.len()), (1024, 1));
    let next = flights.next(Stage::Ranges { change, left }, 0);
    assert!(matches!(next, Next::Submit(Stage::Flush)));
    let end = flights.next(Stage::Flush, 0);
    assert_eq!(outcome(end), Some(Outcome::Done(0)));
}

#[test]
fn storage_without_holes_keeps_discarded_bytes_and_gets_zeros_written() {
    let Some(mut ring) = ring() else { return };
    let memory = memory();
    let store = Store::new(false);
    let disk = Disk::new(Box::new(Arc::clone(&store)), SERIAL);
    let flights = Flights::new(&mut ring, &memory, &disk, false, 8);
    for error in [-libc::EOPNOTSUPP, -libc::EINVAL] {
        let stage = changes(Change::Discard, vec![range(0, 512)]);
        let end = flights.next(stage, error);
        assert_eq!(outcome(end), Some(Outcome::Done(0)));
        let stage = changes(Change::WriteZeroes, vec![range(512, 1024)]);
        let end = flights.next(stage, error);
        assert_eq!(outcome(end), Some(Outcome::Done(0)));
    }
    assert!(store.discards.lock().unwrap().is_empty());
    assert_eq!(*store.zeroes.lock().unwrap(), [(512, 1024, false); 2]);
}
