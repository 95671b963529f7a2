//! rmdir.

use rustix::fs::OFlags;

use super::Case;
use crate::calls::*;
use crate::check::{fails, is, ok, refused};
use crate::process::{ANN, BOB, as_user};

pub const CASES: &[Case] = &[
    ("an empty folder goes", goes),
    ("ENOTEMPTY of one that is not", full),
    ("ENOTDIR of anything else", others),
    ("EINVAL of ., ENOTEMPTY of .., EBUSY of /", dots),
    (
        "what is open or current goes and takes nothing more",
        current,
    ),
    ("EACCES without the right to write the folder above", closed),
    ("sticky folders keep what is another's", sticky),
    ("times of the folder above move on", times),
    ("errors of the path", errors),
];

fn goes() {
    ok(mkdir("d", 0o755));
    ok(rmdir("d"));
    is(exists("d"), false);
    fails(rmdir("d"), Errno::NOENT);
    ok(mkdir("d", 0));
    ok(rmdir("d/"));
}

fn full() {
    ok(mkdir("d", 0o755));
    for make in [
        (|| file("d/x", 0o644, b"").into()) as fn() -> Option<std::os::fd::OwnedFd>,
        || mkfifo("d/x", 0o644).ok().and(None),
        || symlink("none", "d/x").ok().and(None),
    ] {
        make();
        refused("d", rmdir("d"), &[Errno::NOTEMPTY, Errno::EXIST]);
        ok(unlink("d/x"));
    }
    ok(mkdir("d/e", 0o755));
    refused("d", rmdir("d"), &[Errno::NOTEMPTY, Errno::EXIST]);
    ok(rmdir("d/e"));
    ok(rmdir("d"));
}

fn others() {
    file("f", 0o644, b"");
    ok(mkdir("d", 0o755));
    ok(symlink("d", "l"));
    ok(mkfifo("p", 0o644));
    for name in ["f", "l", "p"] {
        fails(rmdir(name), Errno::NOTDIR);
    }
}

fn dots() {
    ok(mkdir("d", 0o755));
    fails(rmdir("d/."), Errno::INVAL);
    refused("d/..", rmdir("d/.."), &[Errno::NOTEMPTY, Errno::EXIST]);
    fails(rmdir("/"), Errno::BUSY);
}

fn current() {
    ok(mkdir("d", 0o755));
    let folder = ok(open("d", OFlags::RDONLY, 0));
    std::env::set_current_dir("d").expect("it is there");
    ok(rmdir("../d"));
    fails(mkdir("e", 0o755), Errno::NOENT);
    fails(
        open("f", OFlags::WRONLY | OFlags::CREATE, 0o644),
        Errno::NOENT,
    );
    is(ok(rustix::fs::fstat(&folder)).st_nlink, 0);
}

fn closed() {
    folder_of("d", 0, 0, 0o755);
    folder_of("d/e", ANN.uid, ANN.gid, 0o777);
    as_user(ANN, || fails(rmdir("d/e"), Errno::ACCESS));
}

fn sticky() {
    folder_of("t", 0, 0, 0o1777);
    folder_of("t/e", BOB.uid, BOB.gid, 0o777);
    as_user(ANN, || fails(rmdir("t/e"), Errno::PERM));
    as_user(BOB, || ok(rmdir("t/e")));
}

fn times() {
    ok(mkdir("d", 0o755));
    ok(mkdir("d/e", 0o755));
    moves_on("d", "mc", || ok(rmdir("d/e")));
}

fn errors() {
    path_errors(|path| rmdir(path));
    fails(rmdir("way/loop-a"), Errno::NOTDIR);
}
