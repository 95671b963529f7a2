//! mkdir.

use rustix::fs::FileType;

use super::Case;
use crate::calls::*;
use crate::check::{fails, is, ok};
use crate::process::{ANN, CLUB, as_user};

pub const CASES: &[Case] = &[
    ("a folder has what was asked for, less the umask", modes),
    ("it belongs to who made it", owners),
    ("a set-group-id folder passes group and bit on", inherits),
    ("it counts as a name of the one above", counts),
    ("times of the folder above move on", times),
    ("a final slash is fine", slash),
    ("EEXIST whatever has the name", taken),
    ("EACCES without the right to write the folder", closed),
    ("errors of the path", errors),
];

fn modes() {
    for (number, asked) in [0o777, 0o700, 0o1777, 0o555, 0].into_iter().enumerate() {
        let name = format!("d{number}");
        ok(mkdir(&*name, asked));
        is((kind(&*name), mode(&*name)), (FileType::Directory, asked));
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_retain(0o027));
    ok(mkdir("masked", 0o777));
    is(mode("masked"), 0o750);
}

fn owners() {
    folder_of("d", 0, 0, 0o777);
    as_user(ANN, || ok(mkdir("d/e", 0o755)));
    is(owner("d/e"), (ANN.uid, ANN.gid));
}

fn inherits() {
    folder_of("d", 0, CLUB, 0o2777);
    as_user(ANN, || {
        ok(mkdir("d/e", 0o755));
        file("d/f", 0o644, b"");
        ok(symlink("f", "d/l"));
    });
    is((owner("d/e"), mode("d/e")), ((ANN.uid, CLUB), 0o2755));
    is((owner("d/f"), mode("d/f")), ((ANN.uid, CLUB), 0o644));
    is(owner("d/l"), (ANN.uid, CLUB));
}

fn counts() {
    ok(mkdir("d", 0o755));
    is(links("d"), 2);
    ok(mkdir("d/e", 0o755));
    is(links("d"), 3);
    ok(rmdir("d/e"));
    is(links("d"), 2);
}

fn times() {
    ok(mkdir("d", 0o755));
    moves_on("d", "mc", || ok(mkdir("d/e", 0o755)));
    moves_on("d", "", || fails(mkdir("d/e", 0o755), Errno::EXIST));
}

fn slash() {
    ok(mkdir("d/", 0o755));
    ok(mkdir("d/e//", 0o755));
    is(kind("d/e"), FileType::Directory);
}

fn taken() {
    file("f", 0o644, b"");
    ok(mkdir("d", 0o755));
    ok(mkfifo("p", 0o644));
    ok(symlink("none", "dangling"));
    for name in ["f", "d", "p", "dangling", ".", "..", "d/.", "d/..", "/"] {
        fails(mkdir(name, 0o755), Errno::EXIST);
    }
}

fn closed() {
    folder_of("d", 0, 0, 0o755);
    as_user(ANN, || fails(mkdir("d/e", 0o755), Errno::ACCESS));
}

fn errors() {
    path_errors(|path| mkdir(path, 0o755));
    fails(mkdir("none/e", 0o755), Errno::NOENT);
}
