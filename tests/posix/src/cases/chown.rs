//! chown, lchown, fchown.

use rustix::fs::{FileType, OFlags};

use super::Case;
use crate::calls::*;
use crate::check::{fails, is, ok};
use crate::process::{ANN, ANN_IN_CLUB, BOB, CLUB, as_user};

pub const CASES: &[Case] = &[
    ("root gives files of each type away", gives_away),
    ("an id that is left out stays", left_out),
    ("a link is followed, or changed itself", links_themselves),
    ("a user gives own files to own groups only", own_groups),
    ("set-id bits of a program go, whoever asks", set_ids_go),
    ("set-id bits of a folder stay", folders_keep),
    (
        "a set-group-id without execution stays with root",
        no_execution,
    ),
    ("the time of the change is kept", times),
    ("large ids come back", large_ids),
    ("errors of the path", errors),
    ("EBADF of a descriptor that is only a path", only_a_path),
];

fn gives_away() {
    file("f", 0o644, b"");
    ok(mkdir("d", 0o755));
    ok(mkfifo("p", 0o644));
    ok(mknod("s", FileType::Socket, 0o644, 0));
    for path in ["f", "d", "p", "s"] {
        ok(chown(path, Some(ANN.uid), Some(BOB.gid)));
        is(owner(path), (ANN.uid, BOB.gid));
        ok(chown(path, Some(0), Some(0)));
        is(owner(path), (0, 0));
    }
    let file = ok(open("f", OFlags::RDONLY, 0));
    ok(unlink("f"));
    ok(fchown(&file, Some(ANN.uid), Some(BOB.gid)));
    let stat = ok(rustix::fs::fstat(&file));
    is((stat.st_uid, stat.st_gid), (ANN.uid, BOB.gid));
}

fn left_out() {
    file("f", 0o644, b"");
    ok(chown("f", Some(ANN.uid), None));
    is(owner("f"), (ANN.uid, 0));
    ok(chown("f", None, Some(BOB.gid)));
    is(owner("f"), (ANN.uid, BOB.gid));
    ok(chown("f", None, None));
    is(owner("f"), (ANN.uid, BOB.gid));
}

fn links_themselves() {
    file("f", 0o644, b"");
    ok(symlink("f", "l"));
    ok(chown("l", Some(ANN.uid), Some(ANN.gid)));
    is((owner("f"), owner("l")), ((ANN.uid, ANN.gid), (0, 0)));
    ok(lchown("l", Some(BOB.uid), Some(BOB.gid)));
    is(
        (owner("f"), owner("l")),
        ((ANN.uid, ANN.gid), (BOB.uid, BOB.gid)),
    );
    ok(symlink("none", "dangling"));
    fails(chown("dangling", Some(1), Some(1)), Errno::NOENT);
    ok(lchown("dangling", Some(1), Some(1)));
}

fn own_groups() {
    file_of("f", ANN.uid, ANN.gid, 0o644);
    folder_of("d", ANN.uid, ANN.gid, 0o755);
    for path in ["f", "d"] {
        as_user(ANN_IN_CLUB, || {
            ok(chown(path, None, Some(CLUB)));
            is(owner(path), (ANN.uid, CLUB));
            ok(chown(path, Some(ANN.uid), Some(ANN.gid)));
            fails(chown(path, Some(BOB.uid), None), Errno::PERM);
            fails(chown(path, None, Some(BOB.gid)), Errno::PERM);
            fails(chown(path, Some(0), Some(0)), Errno::PERM);
        });
        as_user(ANN, || fails(chown(path, None, Some(CLUB)), Errno::PERM));
        as_user(BOB, || {
            fails(chown(path, Some(BOB.uid), Some(BOB.gid)), Errno::PERM);
            fails(chown(path, None, Some(BOB.gid)), Errno::PERM);
        });
        is(owner(path), (ANN.uid, ANN.gid));
    }
}

fn set_ids_go() {
    file_of("f", ANN.uid, ANN.gid, 0o6755);
    as_user(ANN_IN_CLUB, || ok(chown("f", None, Some(CLUB))));
    is(mode("f"), 0o755);
    ok(chmod("f", 0o6755));
    ok(chown("f", Some(BOB.uid), Some(BOB.gid)));
    is(mode("f"), 0o755);
    ok(chmod("f", 0o6777));
    let file = ok(open("f", OFlags::RDONLY, 0));
    ok(fchown(&file, Some(ANN.uid), Some(ANN.gid)));
    is(mode("f"), 0o777);
}

fn folders_keep() {
    folder_of("d", ANN.uid, ANN.gid, 0o6755);
    as_user(ANN_IN_CLUB, || ok(chown("d", None, Some(CLUB))));
    is(mode("d"), 0o6755);
    ok(chown("d", Some(BOB.uid), Some(BOB.gid)));
    is(mode("d"), 0o6755);
}

fn no_execution() {
    file_of("f", ANN.uid, ANN.gid, 0o2644);
    ok(chown("f", Some(BOB.uid), Some(BOB.gid)));
    is(mode("f"), 0o2644);
}

fn times() {
    file("f", 0o644, b"");
    ok(mkdir("d", 0o755));
    for path in ["f", "d"] {
        moves_on(path, "c", || ok(chown(path, Some(1), Some(1))));
        moves_on(path, "", || {
            as_user(ANN, || fails(chown(path, Some(2), None), Errno::PERM));
        });
    }
}

fn large_ids() {
    file("f", 0o644, b"");
    for id in [65_534, 65_535, 65_536, 4_000_000_000, u32::MAX - 1] {
        ok(chown("f", Some(id), Some(id)));
        is(owner("f"), (id, id));
    }
}

fn errors() {
    path_errors(|path| chown(path, Some(1), Some(1)));
    fails(chown("none", Some(1), None), Errno::NOENT);
    fails(chown("way/file/", Some(1), None), Errno::NOTDIR);
    fails(chown("way/loop-a", Some(1), None), Errno::LOOP);
    ok(lchown("way/loop-a", Some(1), None));
}

fn only_a_path() {
    file("f", 0o644, b"");
    let path = ok(open("f", OFlags::PATH, 0));
    fails(fchown(&path, Some(1), Some(1)), Errno::BADF);
}
