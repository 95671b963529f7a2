//! truncate, ftruncate.

use rustix::fs::{FileType, OFlags};

use super::Case;
use crate::calls::*;
use crate::check::{block_size_signal, fails, is, ok, refused};
use crate::process::{ANN, as_user};

pub const CASES: &[Case] = &[
    (
        "a file grows by zeros and shrinks at the end",
        grows_and_shrinks,
    ),
    ("what was cut off is zeros when it grows again", cut_off),
    ("large and sparse sizes come back", large),
    ("the position stays", position),
    ("times of the file move on", times),
    ("set-id bits go with the first byte", set_ids),
    ("EINVAL and EFBIG for sizes that cannot be", sizes),
    ("EFBIG beyond the limit of the process", limit),
    ("EISDIR and EINVAL of what is no file", kinds),
    ("EACCES without the right to write", closed),
    ("errors of the path", errors),
];

fn grows_and_shrinks() {
    let file = file("f", 0o644, b"text");
    ok(truncate("f", 6));
    is(text("f"), b"text\0\0".to_vec());
    ok(ftruncate(&file, 2));
    is(text("f"), b"te".to_vec());
    ok(truncate("f", 0));
    is(ok(stat("f")).st_size, 0);
}

fn cut_off() {
    let file = file("f", 0o644, &[7; 9000]);
    ok(ftruncate(&file, 4100));
    ok(ftruncate(&file, 9000));
    let bytes = ok(pread(&file, 9000, 0));
    is(bytes[..4100].iter().all(|byte| *byte == 7), true);
    is(bytes[4100..].iter().all(|byte| *byte == 0), true);
    is(bytes.len(), 9000);
}

fn large() {
    let file = file("f", 0o644, b"");
    for size in [(1 << 31) - 1, 1 << 31, 1 << 32, 1 << 40] {
        ok(ftruncate(&file, size));
        is(ok(stat("f")).st_size, size);
        is(pread(&file, 2, size as u64 - 1), Ok(vec![0]));
    }
}

fn position() {
    let file = file("f", 0o644, b"text");
    ok(ftruncate(&file, 0));
    is(write(&file, b"x"), Ok(1));
    is(text("f"), b"\0\0\0\0x".to_vec());
}

fn times() {
    let file = file("f", 0o644, b"text");
    moves_on("f", "mc", || ok(truncate("f", 1)));
    moves_on("f", "mc", || ok(ftruncate(&file, 100)));
}

fn set_ids() {
    for by_descriptor in [false, true] {
        file_of("f", 0, 0, 0o6777);
        as_user(ANN, || {
            if by_descriptor {
                let file = ok(open("f", OFlags::WRONLY, 0));
                ok(ftruncate(&file, 1));
            } else {
                ok(truncate("f", 1));
            }
        });
        is(mode("f"), 0o777);
        ok(unlink("f"));
    }
}

fn sizes() {
    let file = file("f", 0o644, b"text");
    fails(truncate("f", -1), Errno::INVAL);
    fails(ftruncate(&file, -1), Errno::INVAL);
    let most = ftruncate(&file, i64::MAX);
    if most.is_err() {
        refused("most", most, &[Errno::FBIG, Errno::INVAL]);
        is(text("f"), b"text".to_vec());
    }
}

fn limit() {
    use nix::sys::resource::{Resource, setrlimit};
    let file = file("f", 0o644, b"text");
    block_size_signal();
    setrlimit(Resource::RLIMIT_FSIZE, 8192, 8192).expect("a limit can be lowered");
    fails(ftruncate(&file, 8193), Errno::FBIG);
    ok(ftruncate(&file, 8192));
    is(pwrite(&file, b"abc", 8190), Ok(2));
    fails(pwrite(&file, b"abc", 8192), Errno::FBIG);
}

fn kinds() {
    ok(mkdir("d", 0o755));
    ok(mkfifo("p", 0o644));
    ok(mknod("s", FileType::Socket, 0o644, 0));
    fails(truncate("d", 0), Errno::ISDIR);
    fails(truncate("p", 0), Errno::INVAL);
    fails(truncate("s", 0), Errno::INVAL);
    file("f", 0o644, b"");
    let reader = ok(open("f", OFlags::RDONLY, 0));
    fails(ftruncate(&reader, 0), Errno::INVAL);
    let path = ok(open("f", OFlags::PATH, 0));
    fails(ftruncate(&path, 0), Errno::BADF);
}

fn closed() {
    file_of("f", 0, 0, 0o644);
    as_user(ANN, || fails(truncate("f", 0), Errno::ACCESS));
    // A descriptor keeps what it was opened for.
    file_of("g", ANN.uid, ANN.gid, 0o600);
    as_user(ANN, || {
        let file = ok(open("g", OFlags::WRONLY, 0));
        ok(chmod("g", 0));
        ok(ftruncate(&file, 1));
    });
}

fn errors() {
    path_errors(|path| truncate(path, 0));
    fails(truncate("none", 0), Errno::NOENT);
    fails(truncate("way/loop-a", 0), Errno::LOOP);
    fails(truncate("way/file/", 0), Errno::NOTDIR);
}
