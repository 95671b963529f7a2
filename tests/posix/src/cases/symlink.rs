//! symlink, readlink.

use rustix::fs::{FileType, OFlags};

use super::Case;
use crate::calls::*;
use crate::check::{fails, is, ok};
use crate::process::{ANN, as_user};

pub const CASES: &[Case] = &[
    ("targets of all lengths and bytes come back", targets),
    ("a link belongs to who made it", owners),
    ("EEXIST whatever has the name", taken),
    (
        "ENOENT for an empty target, ENAMETOOLONG for a long one",
        lengths,
    ),
    ("EINVAL to read what is no link", not_a_link),
    ("links are followed in the middle, and not for ever", chains),
    ("EACCES without the right to write the folder", closed),
    ("times of the folder move on", times),
    ("errors of the path", errors),
];

fn targets() {
    for length in [1, 59, 60, 61, 255, 256, 1023, 4000, 4094, 4095] {
        let target: Vec<u8> = (0..length).map(|at| (at % 255 + 1) as u8).collect();
        ok(symlink(&*target, "l"));
        is(readlink("l"), Ok(target));
        is(ok(lstat("l")).st_size, length);
        ok(unlink("l"));
    }
}

fn owners() {
    folder_of("d", 0, 0, 0o777);
    as_user(ANN, || ok(symlink("x", "d/l")));
    is(
        (kind("d/l"), owner("d/l"), mode("d/l")),
        (FileType::Symlink, (ANN.uid, ANN.gid), 0o777),
    );
}

fn taken() {
    file("f", 0o644, b"");
    ok(mkdir("d", 0o755));
    ok(symlink("none", "l"));
    for name in ["f", "d", "l", "."] {
        fails(symlink("x", name), Errno::EXIST);
    }
}

fn lengths() {
    fails(symlink("", "l"), Errno::NOENT);
    fails(symlink(&*"t".repeat(PATH_MAX), "l"), Errno::NAMETOOLONG);
    is(exists("l"), false);
}

fn not_a_link() {
    file("f", 0o644, b"");
    ok(mkdir("d", 0o755));
    fails(readlink("f"), Errno::INVAL);
    fails(readlink("d"), Errno::INVAL);
    fails(readlink("none"), Errno::NOENT);
}

fn chains() {
    ok(mkdir("d", 0o755));
    file("d/f", 0o644, b"text");
    ok(symlink("d", "l0"));
    for number in 0..39 {
        ok(symlink(format!("l{number}"), format!("l{}", number + 1)));
    }
    is(text("l30/f"), b"text".to_vec());
    // Forty links are the most that one path may follow.
    ok(stat("l39"));
    ok(symlink("l39", "l40"));
    fails(stat("l40"), Errno::LOOP);
    ok(symlink("self", "self"));
    fails(open("self", OFlags::RDONLY, 0), Errno::LOOP);
    ok(lstat("self"));
    ok(symlink(
        std::env::current_dir().expect("it is there").join("d"),
        "absolute",
    ));
    is(text("absolute/f"), b"text".to_vec());
}

fn closed() {
    folder_of("d", 0, 0, 0o755);
    as_user(ANN, || fails(symlink("x", "d/l"), Errno::ACCESS));
}

fn times() {
    ok(mkdir("d", 0o755));
    moves_on("d", "mc", || ok(symlink("x", "d/l")));
}

fn errors() {
    path_errors(|path| symlink("x", path));
    fails(symlink("x", "l/"), Errno::NOENT);
}
