//! Folders: how entries lie in a reply, and where a part of a listing ends.

use super::*;
use crate::wire::{DirentHead, EntryOut, ReadIn};

fn arguments(offset: u64, size: u32) -> Vec<u8> {
    let asked = ReadIn {
        fh: 9,
        offset,
        size,
        read_flags: 0,
        lock_owner: 0,
        flags: 0,
        padding: 0,
    };
    asked.as_bytes().to_vec()
}

fn list(bench: &mut Bench, opcode: Opcode, offset: u64, size: u32) -> Reply {
    bench.ask(opcode, &arguments(offset, size))
}

/// Entries of a reply: attributes where they are, node, place, name.
fn entries(reply: Reply, plus: bool) -> Vec<(u64, u64, u64, Vec<u8>)> {
    let Reply::Body(body) = reply else {
        panic!("{reply:?}");
    };
    let mut rest = &body[..];
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let mut node = 0;
        if plus {
            let (entry, after) = EntryOut::read_from_prefix(rest).unwrap();
            node = entry.nodeid;
            rest = after;
        }
        let (head, after) = DirentHead::read_from_prefix(rest).unwrap();
        assert_eq!(head.kind, 8);
        let (name, after) = after.split_at(head.namelen as usize);
        let padding = (24 + name.len()).next_multiple_of(8) - 24 - name.len();
        let (zeros, after) = after.split_at(padding);
        assert!(zeros.iter().all(|byte| *byte == 0));
        entries.push((node, head.ino, head.off, name.to_vec()));
        rest = after;
    }
    entries
}

#[test]
fn listing_has_the_entries_in_order() {
    let mut bench = Bench::coherent();
    let reply = list(&mut bench, Opcode::Readdir, 0, 4000);
    assert_eq!(bench.mock.calls(), ["readdir 5 9 0"]);
    assert_eq!(
        entries(reply, false),
        [
            (0, 100, 1, b".".to_vec()),
            (0, 101, 2, b"one".to_vec()),
            (0, 102, 3, b"twelve bytes".to_vec()),
        ]
    );
}

#[test]
fn listing_with_attributes_has_none_of_the_folder_itself() {
    let mut bench = Bench::coherent();
    let reply = list(&mut bench, Opcode::Readdirplus, 1, 4000);
    assert_eq!(bench.mock.calls(), ["readdirplus 5 9 1"]);
    assert_eq!(
        entries(reply, true),
        [
            (51, 101, 2, b"one".to_vec()),
            (52, 102, 3, b"twelve bytes".to_vec()),
        ]
    );
    let reply = list(&mut bench, Opcode::Readdirplus, 0, 4000);
    assert_eq!(entries(reply, true)[0], (0, 100, 1, b".".to_vec()));
}

#[test]
fn listing_in_parts_of_every_size_is_the_whole_one() {
    let mut bench = Bench::coherent();
    let whole = entries(list(&mut bench, Opcode::Readdirplus, 0, 4000), true);
    let longest = 128 + 24 + 16;
    for size in longest..longest + 200 {
        let mut parts = Vec::new();
        loop {
            let offset = parts.last().map_or(0, |(_, _, off, _)| *off);
            let reply = list(&mut bench, Opcode::Readdirplus, offset, size);
            let part = entries(reply, true);
            if part.is_empty() {
                break;
            }
            parts.extend(part);
        }
        assert_eq!(parts, whole, "{size}");
    }
}

#[test]
fn no_room_for_one_entry_is_an_error_and_not_the_end() {
    let mut bench = Bench::coherent();
    for size in [0, 31] {
        let reply = list(&mut bench, Opcode::Readdir, 0, size);
        assert_eq!(reply, Reply::Error(Errno::INVAL));
    }
    assert_eq!(
        list(&mut bench, Opcode::Readdir, 3, 31),
        Reply::Body(vec![])
    );
    // The size is one thing, the room in the chain another.
    let request = request(Opcode::Readdir as u32, UNIQUE, &arguments(0, 4000));
    assert_eq!(bench.raw(&request, 16 + 31), Reply::Error(Errno::INVAL));
    assert_eq!(entries(bench.raw(&request, 16 + 32), false).len(), 1);
}

#[test]
fn part_of_a_listing_has_a_limit_of_the_servers() {
    let mut bench = Bench::coherent();
    *bench.mock.names.lock().unwrap() = vec![vec![b'x'; 255]; 5000];
    let request = request(Opcode::Readdir as u32, UNIQUE, &arguments(0, u32::MAX));
    let Reply::Body(body) = bench.raw(&request, 2 << 20) else {
        panic!("no listing");
    };
    assert!(body.len() <= 128 << 10 && body.len() > 127 << 10);
}

#[test]
fn error_after_some_entries_comes_with_the_next_part() {
    let mut bench = Bench::coherent();
    bench.mock.listing_fails_after.store(2, Ordering::Relaxed);
    let reply = list(&mut bench, Opcode::Readdirplus, 0, 4000);
    assert_eq!(entries(reply, true).len(), 2);
    let reply = list(&mut bench, Opcode::Readdirplus, 2, 4000);
    assert_eq!(reply, Reply::Error(Errno::IO));
}
