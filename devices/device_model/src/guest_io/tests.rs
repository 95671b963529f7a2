//! Transfers with real files, and with system calls that do less than asked.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;

use nix::errno::Errno;
use tempfile::NamedTempFile;

use super::*;

fn slices<'m>(memory: &VolatileSlice<'m>, lengths: &[usize]) -> Vec<VolatileSlice<'m>> {
    let mut at = 0;
    lengths
        .iter()
        .map(|length| {
            at += length;
            memory.subslice(at - length, *length).unwrap()
        })
        .collect()
}

/// Calls that move at most 35 bytes of a file of 1100, the first one interrupted,
/// and after `failing` calls an error.
fn scripted(pieces: &[VolatileSlice<'_>], failing: usize) -> (Moved, Vec<(i32, i64)>) {
    let calls = std::cell::RefCell::new(Vec::new());
    let moved = transfer(pieces, 1000, |_, count, offset| {
        calls.borrow_mut().push((count, offset));
        let calls = calls.borrow().len();
        if calls == 1 {
            Errno::EINTR.set();
            return -1;
        }
        if calls > failing {
            Errno::EIO.set();
            return -1;
        }
        35.min(1100 - offset as isize)
    });
    (moved, calls.into_inner())
}

#[test]
fn short_counts_and_interruptions_are_continued() {
    let mut bytes = [0; 100];
    let memory = VolatileSlice::from(&mut bytes[..]);
    let (moved, calls) = scripted(&slices(&memory, &[30, 30, 40]), 9);
    assert_eq!(calls, [(3, 1000), (3, 1000), (2, 1035), (1, 1070)]);
    assert_eq!(moved.bytes, 100);
    moved.end.unwrap();
}

#[test]
fn error_after_some_bytes_is_told_beside_their_number() {
    let mut bytes = [0; 100];
    let memory = VolatileSlice::from(&mut bytes[..]);
    let (moved, _) = scripted(&slices(&memory, &[100]), 3);
    assert_eq!(moved.bytes, 70);
    let error = moved.end.as_ref().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    assert_eq!(moved.or_partial().unwrap(), 70);
    let (moved, _) = scripted(&slices(&memory, &[100]), 1);
    assert_eq!(
        moved.or_partial().unwrap_err().raw_os_error(),
        Some(libc::EIO)
    );
}

#[test]
fn offset_that_no_file_has_is_an_error() {
    let file = NamedTempFile::new().unwrap();
    let mut bytes = [0; 8];
    let memory = [VolatileSlice::from(&mut bytes[..])];
    for offset in [u64::MAX, 1 << 63] {
        let moved = read_at(file.as_file().as_fd(), &memory, offset);
        assert_eq!(moved.bytes, 0);
        assert_eq!(moved.end.unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn pieces_keep_their_order_both_ways() {
    let file = NamedTempFile::new().unwrap();
    let mut from: Vec<u8> = (0..5000).map(|at| (at % 241) as u8).collect();
    let expected = from.clone();
    let memory = VolatileSlice::from(&mut from[..]);
    let pieces = slices(&memory, &[0, 1, 511, 0, 4000, 488, 0]);
    let moved = write_at(file.as_file().as_fd(), &pieces, 777);
    assert_eq!(moved.or_partial().unwrap(), 5000);
    assert_eq!(fs::read(file.path()).unwrap()[777..], expected);

    // More pieces than one call takes.
    let mut to = vec![0; 5000];
    let memory = VolatileSlice::from(&mut to[..]);
    let pieces = slices(&memory, &[1; 5000]);
    let moved = read_at(file.as_file().as_fd(), &pieces, 777);
    assert_eq!(moved.or_partial().unwrap(), 5000);
    assert_eq!(to, expected);
}

#[test]
fn read_ends_where_the_file_does() {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(b"hello").unwrap();
    let mut to = [b'-'; 8];
    let memory = VolatileSlice::from(&mut to[..]);
    let moved = read_at(file.as_file().as_fd(), &slices(&memory, &[3, 5]), 1);
    assert_eq!(moved.or_partial().unwrap(), 4);
    assert_eq!(&to, b"ello----");
    let file = File::open(file.path()).unwrap();
    let memory = VolatileSlice::from(&mut to[..]);
    let moved = read_at(file.as_fd(), &[memory], 5);
    assert_eq!(moved.or_partial().unwrap(), 0);
}

#[test]
fn appending_file_takes_bytes_at_its_end() {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(b"one").unwrap();
    let appending = OpenOptions::new().append(true).open(file.path()).unwrap();
    let mut from = *b" two";
    let memory = VolatileSlice::from(&mut from[..]);
    let moved = write_at(appending.as_fd(), &slices(&memory, &[1, 3]), 0);
    assert_eq!(moved.or_partial().unwrap(), 4);
    assert_eq!(fs::read(file.path()).unwrap(), b"one two");
}
