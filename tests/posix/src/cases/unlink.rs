//! unlink.

use rustix::fs::{FileType, OFlags};

use super::Case;
use crate::calls::*;
use crate::check::{fails, is, ok};
use crate::process::{ANN, BOB, as_user};

pub const CASES: &[Case] = &[
    ("files of each type go", goes),
    ("a link goes, not what it leads to", links_themselves),
    ("an open file lives on without a name", lives_on),
    ("EISDIR of a folder", folders),
    ("EACCES without the right to write the folder", closed),
    ("sticky folders keep what is another's", sticky),
    ("times of the folder and of other names move on", times),
    ("errors of the path", errors),
];

fn goes() {
    file("f", 0, b"");
    ok(mkfifo("p", 0o644));
    ok(mknod("s", FileType::Socket, 0o644, 0));
    for name in ["f", "p", "s"] {
        ok(unlink(name));
        is(exists(name), false);
        fails(unlink(name), Errno::NOENT);
    }
}

fn links_themselves() {
    file("f", 0o644, b"");
    ok(symlink("f", "l"));
    ok(unlink("l"));
    is((exists("l"), exists("f")), (false, true));
}

fn lives_on() {
    let file = file("f", 0o644, b"text");
    ok(unlink("f"));
    is(ok(rustix::fs::fstat(&file)).st_nlink, 0);
    is(pwrite(&file, b"more", 4), Ok(4));
    is(pread(&file, 99, 0), Ok(b"textmore".to_vec()));
    ok(ftruncate(&file, 2));
    is(ok(rustix::fs::fstat(&file)).st_size, 2);
    ok(rustix::fs::fsync(&file));
    // The name is free.
    crate::calls::file("f", 0o644, b"new");
    is(
        (pread(&file, 99, 0), text("f")),
        (Ok(b"te".to_vec()), b"new".to_vec()),
    );
}

fn folders() {
    ok(mkdir("d", 0o755));
    fails(unlink("d"), Errno::ISDIR);
    fails(unlink("d/"), Errno::ISDIR);
    fails(unlink("."), Errno::ISDIR);
    ok(symlink("d", "l"));
    fails(unlink("l/"), Errno::NOTDIR);
    file("f", 0o644, b"");
    fails(unlink("f/"), Errno::NOTDIR);
}

fn closed() {
    folder_of("d", 0, 0, 0o755);
    file_of("d/f", ANN.uid, ANN.gid, 0o666);
    as_user(ANN, || fails(unlink("d/f"), Errno::ACCESS));
    // The permissions of the file do not matter.
    folder_of("open", ANN.uid, ANN.gid, 0o755);
    file_of("open/f", 0, 0, 0);
    as_user(ANN, || ok(unlink("open/f")));
}

fn sticky() {
    folder_of("t", 0, 0, 0o1777);
    file_of("t/f", BOB.uid, BOB.gid, 0o666);
    as_user(ANN, || {
        fails(unlink("t/f"), Errno::PERM);
        ok(open("t/f", OFlags::RDWR, 0));
    });
    as_user(BOB, || ok(unlink("t/f")));
    // The owner of the folder may, too.
    folder_of("own", ANN.uid, ANN.gid, 0o1777);
    file_of("own/f", BOB.uid, BOB.gid, 0o600);
    as_user(ANN, || ok(unlink("own/f")));
}

fn times() {
    ok(mkdir("d", 0o755));
    file("d/f", 0o644, b"");
    file("d/x", 0o644, b"");
    ok(link("d/f", "g"));
    moves_on("d", "mc", || ok(unlink("d/x")));
    moves_on("g", "c", || ok(unlink("d/f")));
}

fn errors() {
    path_errors(|path| unlink(path));
    ok(unlink("way/loop-a"));
}
