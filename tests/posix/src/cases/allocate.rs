//! fallocate, posix_fallocate.

use std::os::fd::AsFd;

use rustix::fs::{FallocateFlags, OFlags, fallocate};

use super::Case;
use crate::calls::*;
use crate::check::{fails, is, ok, refused, skip};
use crate::process::{ANN, as_user};

pub const CASES: &[Case] = &[
    ("room is made, and the file grows by zeros", grows),
    ("FALLOC_FL_KEEP_SIZE makes room and the size stays", keeps),
    ("a hole reads as zeros and gives room back", holes),
    ("FALLOC_FL_ZERO_RANGE writes zeros", zeros),
    ("times of the file move on", times),
    ("set-id bits go", set_ids),
    ("EBADF of a descriptor that does not write", access),
    ("EINVAL and EFBIG for ranges that cannot be", ranges),
    ("EOPNOTSUPP or EINVAL for modes that cannot be", modes),
    ("a FIFO and a folder have no room to make", kinds),
];

const HOLE: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);

fn blocks(file: impl AsFd) -> u64 {
    ok(rustix::fs::fstat(file)).st_blocks as u64
}

fn grows() {
    let file = file("f", 0o644, b"text");
    ok(fallocate(&file, FallocateFlags::empty(), 2, 20_000));
    is(ok(stat("f")).st_size, 20_002);
    is(blocks(&file) * 512 >= 20_002, true);
    is(pread(&file, 6, 0), Ok(b"text\0\0".to_vec()));
    // What is there already stays.
    ok(fallocate(&file, FallocateFlags::empty(), 0, 100));
    is(
        (ok(stat("f")).st_size, pread(&file, 4, 0)),
        (20_002, Ok(b"text".to_vec())),
    );
}

fn keeps() {
    let file = file("f", 0o644, b"text");
    ok(fallocate(&file, FallocateFlags::KEEP_SIZE, 0, 100_000));
    is(
        (ok(stat("f")).st_size, blocks(&file) * 512 >= 100_000),
        (4, true),
    );
    is(text("f"), b"text".to_vec());
}

fn holes() {
    let file = file("f", 0o644, &[7; 65_536]);
    ok(rustix::fs::fsync(&file));
    let before = blocks(&file);
    ok(fallocate(&file, HOLE, 4096, 32_768));
    let bytes = ok(pread(&file, 65_536, 0));
    is(bytes[..4096].iter().all(|byte| *byte == 7), true);
    is(bytes[4096..36_864].iter().all(|byte| *byte == 0), true);
    is(bytes[36_864..].iter().all(|byte| *byte == 7), true);
    is(bytes.len(), 65_536);
    is(blocks(&file) < before, true);
    // Not of whole blocks.
    ok(fallocate(&file, HOLE, 40_001, 10));
    is(
        pread(&file, 12, 40_000),
        Ok([7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7].to_vec()),
    );
}

fn zeros() {
    let file = file("f", 0o644, &[7; 9000]);
    match fallocate(&file, FallocateFlags::ZERO_RANGE, 1000, 5000) {
        Err(Errno::OPNOTSUPP) => return skip(),
        outcome => ok(outcome),
    }
    let bytes = ok(pread(&file, 9000, 0));
    is(
        bytes[..1000]
            .iter()
            .chain(&bytes[6000..])
            .all(|byte| *byte == 7),
        true,
    );
    is(bytes[1000..6000].iter().all(|byte| *byte == 0), true);
    ok(fallocate(&file, FallocateFlags::ZERO_RANGE, 8000, 5000));
    is(ok(stat("f")).st_size, 13_000);
    let kept = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
    ok(fallocate(&file, kept, 12_000, 50_000));
    is(ok(stat("f")).st_size, 13_000);
}

fn times() {
    let file = file("f", 0o644, &[7; 9000]);
    moves_on("f", "mc", || ok(fallocate(&file, HOLE, 0, 5000)));
    // Whether growth counts as a change of the data is open.
    moves_on("f", "mc", || {
        ok(fallocate(&file, FallocateFlags::empty(), 0, 20_000));
    });
}

fn set_ids() {
    file_of("f", 0, 0, 0o6777);
    as_user(ANN, || {
        let file = ok(open("f", OFlags::WRONLY, 0));
        ok(fallocate(&file, FallocateFlags::empty(), 0, 10_000));
    });
    is(mode("f"), 0o777);
}

fn access() {
    file("f", 0o644, b"text");
    for flags in [OFlags::RDONLY, OFlags::PATH] {
        let file = ok(open("f", flags, 0));
        fails(
            fallocate(&file, FallocateFlags::empty(), 0, 100),
            Errno::BADF,
        );
    }
}

fn ranges() {
    let file = file("f", 0o644, b"text");
    let plain = FallocateFlags::empty();
    fails(fallocate(&file, plain, 0, 0), Errno::INVAL);
    fails(fallocate(&file, plain, u64::MAX, 1), Errno::INVAL);
    fails(fallocate(&file, plain, 0, u64::MAX), Errno::INVAL);
    fails(fallocate(&file, plain, i64::MAX as u64, 2), Errno::FBIG);
    is(text("f"), b"text".to_vec());
}

fn modes() {
    let file = file("f", 0o644, b"text");
    let without = fallocate(&file, FallocateFlags::PUNCH_HOLE, 0, 1);
    refused("hole", without, &[Errno::OPNOTSUPP, Errno::INVAL]);
    let unknown = FallocateFlags::from_bits_retain(0x8000);
    fails(fallocate(&file, unknown, 0, 1), Errno::OPNOTSUPP);
}

fn kinds() {
    ok(mkfifo("p", 0o644));
    let pipe = ok(open("p", OFlags::RDWR, 0));
    fails(
        fallocate(&pipe, FallocateFlags::empty(), 0, 1),
        Errno::SPIPE,
    );
    let folder = ok(open(".", OFlags::RDONLY, 0));
    fails(
        fallocate(&folder, FallocateFlags::empty(), 0, 1),
        Errno::BADF,
    );
}
