//! Bytes in are bytes out, wherever a driver cuts them into descriptors, and
//! READ and WRITE go between the file and guest memory.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use proptest::prelude::*;
use vm_memory::VolatileSlice;

use super::*;
use crate::Memory;
use crate::wire::{ReadIn, WriteIn, WriteOut};

fn read_in(offset: u64, size: u32) -> Vec<u8> {
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

fn write_in(offset: u64, size: u32, flags: u32, data: &[u8]) -> Vec<u8> {
    let asked = WriteIn {
        fh: 9,
        offset,
        size,
        write_flags: flags,
        lock_owner: 0,
        flags: 0,
        padding: 0,
    };
    [asked.as_bytes(), data].concat()
}

#[test]
fn read_gives_what_there_is() {
    let mut bench = Bench::coherent();
    let reply = bench.ask(Opcode::Read, &read_in(90, 1000));
    assert_eq!(bench.mock.calls(), ["read 5 9 90 1000"]);
    assert_eq!(reply, Reply::Body((90..100).collect()));
    let reply = bench.ask(Opcode::Read, &read_in(0, 3));
    assert_eq!(reply, Reply::Body(vec![0, 1, 2]));
    let reply = bench.ask(Opcode::Read, &read_in(200, 10));
    assert_eq!(reply, Reply::Body(vec![]));
}

#[test]
fn write_stores_its_data() {
    let mut bench = Bench::coherent();
    for (flags, kill, cache) in [(0, false, false), (4, true, false), (1, false, true)] {
        let reply = bench.ask(Opcode::Write, &write_in(98, 5, flags, b"hello"));
        assert_eq!(
            bench.mock.calls(),
            [format!("write 5 9 98 5 {kill} {cache}")]
        );
        assert_eq!(reply.body::<WriteOut>().size, 5);
    }
    let data = bench.mock.data.lock().unwrap();
    assert_eq!(data[96..], *b"\x60\x61hello");
}

#[test]
fn write_has_exactly_its_data() {
    for (size, data) in [(4, 5), (6, 5), (u32::MAX, 5), (0, 5), (5, 0)] {
        let mut bench = Bench::coherent();
        let arguments = write_in(0, size, 0, &vec![0; data]);
        let reply = bench.ask(Opcode::Write, &arguments);
        assert_eq!(reply, Reply::Error(Errno::INVAL));
        assert!(bench.mock.calls().is_empty());
    }
}

#[test]
fn longest_transfers_are_a_mebibyte_and_a_page() {
    const MOST: usize = (1 << 20) + 4096;
    let mut bench = Bench::coherent();
    let bytes: Vec<u8> = (0..MOST).map(|at| (at % 251) as u8).collect();
    let write = request(
        Opcode::Write as u32,
        UNIQUE,
        &write_in(0, MOST as u32, 0, &bytes),
    );
    let reply = bench.raw(&write, 4096);
    assert_eq!(reply.body::<WriteOut>().size as usize, MOST);
    let read = request(Opcode::Read as u32, UNIQUE, &read_in(0, MOST as u32));
    let reply = bench.raw(&read, 16 + MOST);
    assert!(reply == Reply::Body(bytes.clone()));

    let read = request(Opcode::Read as u32, UNIQUE, &read_in(0, MOST as u32 + 1));
    assert_eq!(bench.raw(&read, 32 + MOST), Reply::Error(Errno::INVAL));
    let longer = [&bytes[..], b"1"].concat();
    let write = request(
        Opcode::Write as u32,
        UNIQUE,
        &write_in(0, MOST as u32 + 1, 0, &longer),
    );
    assert_eq!(bench.raw(&write, 4096), Reply::Error(Errno::INVAL));
}

#[test]
fn read_that_asks_for_more_than_it_has_room_for_is_refused() {
    let mut bench = Bench::coherent();
    let request = request(Opcode::Read as u32, UNIQUE, &read_in(0, 50));
    assert_eq!(bench.raw(&request, 16 + 49), Reply::Error(Errno::IO));
    assert!(bench.mock.calls().is_empty());
    assert!(matches!(bench.raw(&request, 16 + 50), Reply::Body(_)));
}

#[test]
fn memory_moves_bytes_to_and_from_files() {
    let mut file = tempfile::tempfile().unwrap();
    let mut bytes = *b"hello, file";
    let whole = VolatileSlice::from(&mut bytes[..]);
    let (first, second) = whole.split_at(4).unwrap();
    let memory = Memory::new(vec![second, first]);
    assert_eq!((memory.len(), memory.is_empty()), (11, false));
    assert_eq!(memory.write_to(file.as_fd(), 3).unwrap(), 11);
    assert_eq!(memory.to_vec(), b"o, filehell");
    assert_eq!(memory.read_from(file.as_fd(), 12).unwrap(), 2);
    assert_eq!(memory.to_vec(), b"ll filehell");
    let mut content = Vec::new();
    let mut reader: &File = &file;
    reader.read_to_end(&mut content).unwrap();
    assert_eq!(content, b"\0\0\0o, filehell");
    file.write_all(b"").unwrap();
    let unreadable = File::options().write(true).open("/dev/null").unwrap();
    let error = memory.read_from(unreadable.as_fd(), 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
}

/// Descriptors that carry `length` bytes in all, from `base` on with gaps.
/// `cuts` are the lengths to try, in turn; the last one takes the rest.
fn cut(base: u64, length: usize, cuts: &[usize], make: fn(u64, usize) -> Buffer) -> Vec<Buffer> {
    let mut buffers = Vec::new();
    let (mut at, mut left) = (base, length);
    for cut in cuts {
        let step = left.min(*cut);
        buffers.push(make(at, step));
        at += step as u64 + 3;
        left -= step;
    }
    buffers.push(make(at, left));
    buffers
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![0_usize..20, 0_usize..100, 0_usize..3000], 0..20)
}

fn fill(driver: &Driver, buffers: &[Buffer], mut bytes: &[u8]) {
    for buffer in buffers {
        let (now, later) = bytes.split_at(buffer.len as usize);
        driver.put(now, buffer.at);
        bytes = later;
    }
}

fn drain(driver: &Driver, buffers: &[Buffer]) -> Vec<u8> {
    buffers
        .iter()
        .flat_map(|buffer| driver.get(buffer.at, buffer.len as usize))
        .collect()
}

/// Sends a request cut up both ways, and gives the bytes of the reply.
fn in_pieces(
    bench: &mut Bench,
    request: &[u8],
    room: usize,
    sent_cuts: &[usize],
    wanted_cuts: &[usize],
) -> Vec<u8> {
    let mut buffers = cut(REQUEST, request.len(), sent_cuts, sent);
    fill(&bench.driver, &buffers, request);
    // Across the border of two memory regions.
    let answer = cut(SEAM - 700, room, wanted_cuts, wanted);
    buffers.extend(&answer);
    bench.driver.send(&buffers);
    bench.serve();
    let used = bench.driver.used().expect("the chain comes back").1;
    drain(&bench.driver, &answer)[..used as usize].to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn what_is_written_is_read_back(
        offset in 0_u64..5000,
        length in 0_usize..9000,
        cuts in prop::array::uniform4(cuts()),
        seed in any::<u8>(),
    ) {
        let bytes: Vec<u8> = (0..length).map(|at| (at as u8).wrapping_mul(31) ^ seed).collect();
        let mut bench = Bench::coherent();
        let write = request(Opcode::Write as u32, UNIQUE, &write_in(offset, length as u32, 0, &bytes));
        let reply = in_pieces(&mut bench, &write, 24, &cuts[0], &cuts[1]);
        prop_assert_eq!(reply.len(), 24);
        prop_assert_eq!(&reply[16..20], (length as u32).to_ne_bytes());
        let read = request(Opcode::Read as u32, UNIQUE, &read_in(offset, length as u32));
        let reply = in_pieces(&mut bench, &read, 16 + length, &cuts[2], &cuts[3]);
        prop_assert_eq!(&reply[..4], (16 + length as u32).to_ne_bytes());
        prop_assert_eq!(&reply[8..16], UNIQUE.to_ne_bytes());
        prop_assert!(reply[16..] == bytes);
    }

    #[test]
    fn names_arrive_whole_from_any_pieces(cuts in prop::array::uniform2(cuts())) {
        let mut bench = Bench::coherent();
        let arguments = [&[0; 16], &b"an entry, a name\0another\0"[..]].concat();
        let rename = request(Opcode::Rename2 as u32, UNIQUE, &arguments);
        let reply = in_pieces(&mut bench, &rename, 4000, &cuts[0], &cuts[1]);
        prop_assert_eq!(reply.len(), 16);
        let expected = r#"rename (Node(5), Name("an entry, a name")) (Node(0), Name("another")) 0"#;
        prop_assert_eq!(bench.mock.calls(), [expected]);
    }

    #[test]
    fn no_chain_breaks_the_device(
        opcode in prop_oneof![0_u32..60, any::<u32>()],
        arguments in prop::collection::vec(any::<u8>(), 0..200),
        table in prop::collection::vec(
            (
                prop_oneof![REQUEST..REQUEST + 64, SEAM - 100..SEAM, any::<u64>()],
                prop_oneof![0_u32..300, any::<u32>()],
                0_u16..8,
                0_u16..10,
            ),
            1..10,
        ),
        heads in prop::collection::vec(0_u16..10, 1..10),
    ) {
        let mut bench = Bench::coherent();
        bench.driver.put(&request(opcode, UNIQUE, &arguments), REQUEST);
        for (index, (at, len, flags, next)) in (0..).zip(&table) {
            let buffer = Buffer { at: *at, len: *len, flags: *flags };
            bench.driver.describe(index, buffer, 0, *next);
        }
        for head in &heads {
            bench.driver.offer(*head);
        }
        bench.serve();
        let returned: Vec<u32> = std::iter::from_fn(|| bench.driver.used()).map(|used| used.0).collect();
        let offered: Vec<u32> = heads.iter().map(|head| u32::from(*head)).collect();
        prop_assert_eq!(returned, offered);
    }
}
