//! chmod, fchmod.

use rustix::fs::OFlags;

use super::Case;
use crate::calls::*;
use crate::check::{fails, is, ok};
use crate::process::{ANN, ANN_IN_CLUB, BOB, CLUB, as_user};

pub const CASES: &[Case] = &[
    ("every permission of a file comes back", file_modes),
    ("every permission of a folder comes back", folder_modes),
    ("permissions of special files come back", special_modes),
    ("a link is followed", follows),
    ("an open file without a name is changed", without_a_name),
    ("the time of the change is kept", times),
    ("only the owner may", owners),
    ("a refused change changes nothing", refused_leaves_all),
    ("set-group-id takes membership", set_group_id),
    ("errors of the path", errors),
    ("EBADF of a descriptor that is only a path", only_a_path),
];

const MODES: [u32; 9] = [0, 0o111, 0o222, 0o444, 0o640, 0o777, 0o4755, 0o2755, 0o7777];

fn file_modes() {
    let file = file("f", 0o644, b"");
    for wanted in MODES {
        ok(chmod("f", wanted));
        is(mode("f"), wanted);
        ok(fchmod(&file, 0o600));
        is(mode("f"), 0o600);
    }
}

fn folder_modes() {
    ok(mkdir("d", 0o755));
    for wanted in MODES.into_iter().chain([0o1777]) {
        ok(chmod("d", wanted));
        is(mode("d"), wanted);
    }
}

fn special_modes() {
    ok(mkfifo("p", 0o644));
    ok(mknod("s", rustix::fs::FileType::Socket, 0o644, 0));
    for path in ["p", "s"] {
        for wanted in [0o600, 0o421, 0o7777] {
            ok(chmod(path, wanted));
            is(mode(path), wanted);
        }
    }
}

fn follows() {
    file("f", 0o644, b"");
    ok(symlink("f", "l"));
    ok(chmod("l", 0o600));
    is(mode("f"), 0o600);
    is(mode("l"), 0o777);
    ok(symlink("none", "dangling"));
    fails(chmod("dangling", 0o600), Errno::NOENT);
}

fn without_a_name() {
    let file = file("f", 0o644, b"");
    ok(unlink("f"));
    ok(fchmod(&file, 0o611));
    is(ok(rustix::fs::fstat(&file)).st_mode & 0o7777, 0o611);
}

fn times() {
    file("f", 0o644, b"");
    ok(mkdir("d", 0o755));
    for path in ["f", "d"] {
        moves_on(path, "c", || ok(chmod(path, 0o700)));
    }
}

fn owners() {
    file_of("f", ANN.uid, ANN.gid, 0o666);
    folder_of("d", ANN.uid, ANN.gid, 0o777);
    for path in ["f", "d"] {
        as_user(ANN, || ok(chmod(path, 0o766)));
        is(mode(path), 0o766);
        as_user(BOB, || fails(chmod(path, 0o777), Errno::PERM));
    }
    let file = ok(open("f", OFlags::RDWR, 0));
    as_user(BOB, || fails(fchmod(&file, 0o777), Errno::PERM));
}

fn refused_leaves_all() {
    file_of("f", ANN.uid, ANN.gid, 0o640);
    moves_on("f", "", || {
        as_user(BOB, || fails(chmod("f", 0o777), Errno::PERM));
    });
    is(mode("f"), 0o640);
}

fn set_group_id() {
    file_of("f", ANN.uid, CLUB, 0o755);
    folder_of("d", ANN.uid, CLUB, 0o755);
    for path in ["f", "d"] {
        as_user(ANN, || ok(chmod(path, 0o2755)));
        is(mode(path), 0o755);
        as_user(ANN_IN_CLUB, || ok(chmod(path, 0o2755)));
        is(mode(path), 0o2755);
    }
}

fn errors() {
    path_errors(|path| chmod(path, 0o644));
    fails(chmod("none", 0o644), Errno::NOENT);
    fails(chmod("way/file/", 0o644), Errno::NOTDIR);
    fails(chmod("way/loop-a", 0o644), Errno::LOOP);
}

fn only_a_path() {
    file("f", 0o644, b"");
    let path = ok(open("f", OFlags::PATH, 0));
    fails(fchmod(&path, 0o600), Errno::BADF);
}
