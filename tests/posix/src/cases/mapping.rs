//! mmap, beside reads and writes.

use posix_suite::map::Map;
use rustix::fs::OFlags;

use super::Case;
use crate::calls::*;
use crate::check::{fails, is, ok};
use crate::process::{End, fork};

pub const CASES: &[Case] = &[
    ("a shared mapping and the file are one", shared),
    ("a private mapping keeps its changes", private),
    ("processes that map a file share it", processes),
    (
        "what was mapped lives on without name and descriptor",
        lives_on,
    ),
    ("what msync was called for is in the file", synced),
    ("SIGBUS behind the end of the file", behind),
    ("a file that grows is reached by the mapping", grows),
    ("what is cut off is gone from the mapping", cut_off),
    ("EACCES to map for more than the file was opened", access),
    ("ENODEV of a folder", folder),
    ("a change by a mapping moves times on", times),
];

fn shared() {
    let file = file("f", 0o644, &[b'.'; 10_000]);
    let map = ok(Map::new(&file, 10_000, true, true));
    is(pwrite(&file, b"written", 5000), Ok(7));
    is(map.get(5000), b'w');
    map.set(5001, b'R');
    is(pread(&file, 3, 5000), Ok(b"wRi".to_vec()));
    let other = ok(open("f", OFlags::RDONLY, 0));
    is(pread(&other, 3, 5000), Ok(b"wRi".to_vec()));
    drop(map);
    is(pread(&other, 3, 5000), Ok(b"wRi".to_vec()));
}

fn private() {
    let file = file("f", 0o644, &[b'.'; 100]);
    let reader = ok(open("f", OFlags::RDONLY, 0));
    let map = ok(Map::new(&reader, 100, false, true));
    map.set(5, b'x');
    is((map.get(5), pread(&file, 1, 5)), (b'x', Ok(b".".to_vec())));
}

fn processes() {
    let file = file("f", 0o644, &[0; 8192]);
    let map = ok(Map::new(&file, 8192, true, true));
    fork(|| {
        let file = ok(open("f", OFlags::RDWR, 0));
        let map = ok(Map::new(&file, 8192, true, true));
        map.set(0, 1);
        map.set(8191, 2);
    })
    .join();
    is((map.get(0), map.get(8191)), (1, 2));
}

fn lives_on() {
    let file = file("f", 0o644, &[b'.'; 100]);
    let map = ok(Map::new(&file, 100, true, true));
    ok(unlink("f"));
    drop(file);
    map.set(7, b'x');
    ok(map.sync());
    is((map.get(7), map.get(8)), (b'x', b'.'));
}

fn synced() {
    let file = file("f", 0o644, &[b'.'; 5000]);
    let map = ok(Map::new(&file, 5000, true, true));
    map.set(4999, b'x');
    ok(map.sync());
    let direct = open("f", OFlags::RDONLY | OFlags::DIRECT, 0);
    let other = direct.or_else(|_| open("f", OFlags::RDONLY, 0));
    drop(ok(other));
    is(pread(&file, 1, 4999), Ok(b"x".to_vec()));
    ok(rustix::fs::fsync(&file));
}

fn behind() {
    let file = file("f", 0o644, b"text");
    let child = fork(|| {
        let map = ok(Map::new(&file, 8192, true, false));
        // The rest of the last page is zeros.
        is((map.get(3), map.get(4)), (b't', 0));
        map.get(4096);
    });
    is(child.wait(), End::Signal(libc::SIGBUS));
}

fn grows() {
    let file = file("f", 0o644, b"text");
    let map = ok(Map::new(&file, 8192, true, true));
    ok(ftruncate(&file, 8192));
    is(map.get(8000), 0);
    map.set(8000, b'x');
    is(pread(&file, 1, 8000), Ok(b"x".to_vec()));
}

fn cut_off() {
    let file = file("f", 0o644, &[7; 8192]);
    let map = ok(Map::new(&file, 8192, true, true));
    is(map.get(8000), 7);
    ok(ftruncate(&file, 100));
    ok(ftruncate(&file, 8192));
    is((map.get(99), map.get(100), map.get(8000)), (7, 0, 0));
}

fn access() {
    file("f", 0o644, b"text");
    let reader = ok(open("f", OFlags::RDONLY, 0));
    fails(Map::new(&reader, 4, true, true).map(drop), Errno::ACCESS);
    ok(Map::new(&reader, 4, true, false));
    let writer = ok(open("f", OFlags::WRONLY, 0));
    fails(Map::new(&writer, 4, true, true).map(drop), Errno::ACCESS);
    fails(Map::new(&writer, 4, false, false).map(drop), Errno::ACCESS);
}

fn folder() {
    let folder = ok(open(".", OFlags::RDONLY, 0));
    fails(Map::new(&folder, 4, false, false).map(drop), Errno::NODEV);
}

fn times() {
    let file = file("f", 0o644, &[7; 100]);
    moves_on("f", "mc", || {
        let map = ok(Map::new(&file, 100, true, true));
        map.set(0, 8);
        ok(map.sync());
    });
}
