//! read, write and their like.

use rustix::fs::{OFlags, SeekFrom};

use super::Case;
use crate::calls::*;
use crate::check::{fails, is, ok};
use crate::process::{ANN, ANN_IN_CLUB, CLUB, as_user, fork};

pub const CASES: &[Case] = &[
    ("what is written is read, at any offset", offsets),
    ("a gap reads as zeros", gaps),
    ("O_APPEND writes at the end, whoever else does", append),
    ("processes that append lose nothing", appenders),
    ("descriptors of one file see each other's data", coherent),
    (
        "a descriptor that was inherited shares its position",
        inherited,
    ),
    ("times of the file move on", times),
    ("a write of another takes set-id bits", set_ids),
    ("and a set-group-id without execution", no_execution),
    ("root's write keeps them", set_ids_of_root),
    ("EINVAL to seek before the start", seeks),
    ("a mebibyte and more at once comes back", large),
    ("fsync, fdatasync and syncfs", syncs),
];

fn offsets() {
    let file = file("f", 0o644, b"");
    for offset in [0, 1, 511, 4095, 4096, 65_535, 1 << 20, (1 << 32) + 5] {
        let bytes = format!("at {offset}");
        is(pwrite(&file, bytes.as_bytes(), offset), Ok(bytes.len()));
    }
    for offset in [(1_u64 << 32) + 5, 1 << 20, 65_535, 511] {
        let bytes = format!("at {offset}");
        is(pread(&file, bytes.len(), offset), Ok(bytes.into_bytes()));
    }
    is(pread(&file, 9, 1 << 40), Ok(vec![]));
}

fn gaps() {
    let file = file("f", 0o644, b"a");
    is(pwrite(&file, b"z", 10_000), Ok(1));
    let bytes = ok(pread(&file, 20_000, 0));
    is((bytes.len(), bytes[0], bytes[10_000]), (10_001, b'a', b'z'));
    is(bytes[1..10_000].iter().all(|byte| *byte == 0), true);
}

fn append() {
    let first = file("f", 0o644, b"one");
    let flags = OFlags::WRONLY | OFlags::APPEND;
    let [a, b] = [ok(open("f", flags, 0)), ok(open("f", flags, 0))];
    is(write(&a, b"two"), Ok(3));
    is(write(&b, b"three"), Ok(5));
    is(pwrite(&first, b"ONE", 0), Ok(3));
    is(write(&a, b"four"), Ok(4));
    is(text("f"), b"ONEtwothreefour".to_vec());
}

fn appenders() {
    const TIMES: usize = 100;
    file("f", 0o644, b"");
    let writers = [b'a', b'b', b'c'].map(|letter| {
        fork(|| {
            let file = ok(open("f", OFlags::WRONLY | OFlags::APPEND, 0));
            for _ in 0..TIMES {
                is(write(&file, &[letter; 7]), Ok(7));
            }
        })
    });
    for writer in writers {
        writer.join();
    }
    let bytes = text("f");
    is(bytes.len(), 3 * 7 * TIMES);
    is(
        bytes
            .chunks(7)
            .all(|part| part.iter().all(|byte| *byte == part[0])),
        true,
    );
}

fn coherent() {
    let a = file("f", 0o644, b"....");
    let b = ok(open("f", OFlags::RDWR, 0));
    for (at, letter) in (0..).zip(b"abcd") {
        is(pwrite(&a, &[*letter], at), Ok(1));
        is(pread(&b, 1, at), Ok(vec![*letter]));
    }
    ok(ftruncate(&b, 2));
    is(pread(&a, 9, 0), Ok(b"ab".to_vec()));
    let child = fork(|| is(text("f"), b"ab".to_vec()));
    child.join();
}

fn inherited() {
    let file = file("f", 0o644, b"");
    fork(|| is(write(&file, b"child"), Ok(5))).join();
    is(write(&file, b"parent"), Ok(6));
    is(text("f"), b"childparent".to_vec());
}

fn times() {
    let file = file("f", 0o644, b"text");
    moves_on("f", "mc", || is(pwrite(&file, b"x", 0), Ok(1)));
    moves_on("f", "", || is(pwrite(&file, b"", 0), Ok(0)));
}

fn set_ids() {
    for (before, after) in [(0o4777, 0o777), (0o2777, 0o777), (0o6777, 0o777)] {
        file_of("f", 0, CLUB, before);
        as_user(ANN, || {
            let file = ok(open("f", OFlags::WRONLY, 0));
            is(write(&file, b"x"), Ok(1));
            // Also for who holds the file open meanwhile.
            is(ok(rustix::fs::fstat(&file)).st_mode & 0o7777, after);
        });
        is(mode("f"), after);
        ok(unlink("f"));
    }
    // The owner's own write counts as well.
    file_of("f", ANN.uid, CLUB, 0o6755);
    as_user(ANN_IN_CLUB, || {
        let file = ok(open("f", OFlags::WRONLY, 0));
        is(write(&file, b"x"), Ok(1));
    });
    is(mode("f"), 0o755);
}

fn no_execution() {
    file_of("f", 0, CLUB, 0o6666);
    as_user(ANN, || {
        let file = ok(open("f", OFlags::WRONLY, 0));
        is(write(&file, b"x"), Ok(1));
    });
    is(mode("f"), 0o666);
}

fn set_ids_of_root() {
    file_of("f", ANN.uid, ANN.gid, 0o6755);
    let file = ok(open("f", OFlags::WRONLY, 0));
    is(write(&file, b"x"), Ok(1));
    is(mode("f"), 0o6755);
}

fn seeks() {
    let file = file("f", 0o644, b"text");
    fails(rustix::fs::seek(&file, SeekFrom::Current(-9)), Errno::INVAL);
    fails(rustix::fs::seek(&file, SeekFrom::End(-9)), Errno::INVAL);
    is(rustix::fs::seek(&file, SeekFrom::End(6)), Ok(10));
    is(rustix::fs::seek(&file, SeekFrom::Current(-8)), Ok(2));
    is(write(&file, b"X"), Ok(1));
    is(text("f"), b"teXt".to_vec());
}

fn large() {
    let file = file("f", 0o644, b"");
    let bytes: Vec<u8> = (0..3_000_001_u32).map(|at| (at % 251) as u8).collect();
    is(pwrite(&file, &bytes, 123), Ok(bytes.len()));
    is(ok(pread(&file, bytes.len() + 9, 123)) == bytes, true);
}

fn syncs() {
    let file = file("f", 0o644, b"text");
    ok(rustix::fs::fdatasync(&file));
    ok(rustix::fs::fsync(&file));
    ok(rustix::fs::syncfs(&file));
    let folder = ok(open(".", OFlags::RDONLY, 0));
    ok(rustix::fs::fsync(&folder));
    let path = ok(open("f", OFlags::PATH, 0));
    fails(rustix::fs::fsync(&path), Errno::BADF);
}
