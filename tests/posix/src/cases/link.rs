//! link, linkat.

use rustix::fs::FileType;

use super::Case;
use crate::calls::*;
use crate::check::{fails, is, ok};
use crate::process::{ANN, as_user};

pub const CASES: &[Case] = &[
    ("names of a file are equals", equals),
    ("special files have further names, too", special),
    ("a link is linked itself, or followed", links_themselves),
    ("times of the file and of the folder move on", times),
    ("a change by one name shows by the other", one_file),
    ("EEXIST whatever has the name", taken),
    ("EPERM for a folder", folders),
    ("EACCES without the right to write the folder", closed),
    ("EXDEV to another file system", elsewhere),
    ("errors of either path", errors),
];

fn equals() {
    file("f", 0o644, b"text");
    ok(mkdir("d", 0o755));
    ok(link("f", "g"));
    ok(link("g", "d/h"));
    let inode = ok(lstat("f")).st_ino;
    for name in ["f", "g", "d/h"] {
        is(links(name), 3);
        is(ok(lstat(name)).st_ino, inode);
    }
    ok(unlink("f"));
    is(links("g"), 2);
    ok(unlink("g"));
    is((links("d/h"), text("d/h")), (1, b"text".to_vec()));
}

fn special() {
    ok(mkfifo("p", 0o644));
    ok(mknod("s", FileType::Socket, 0o644, 0));
    for (name, wanted) in [("p", FileType::Fifo), ("s", FileType::Socket)] {
        let other = format!("{name}2");
        ok(link(name, &*other));
        is((kind(&*other), links(name)), (wanted, 2));
    }
}

fn links_themselves() {
    file("f", 0o644, b"");
    ok(symlink("f", "l"));
    ok(link("l", "l2"));
    is(
        (kind("l2"), links("l"), links("f")),
        (FileType::Symlink, 2, 1),
    );
    ok(link_followed("l", "f2"));
    is((kind("f2"), links("f")), (FileType::RegularFile, 2));
    ok(symlink("none", "dangling"));
    ok(link("dangling", "dangling2"));
    fails(link_followed("dangling", "x"), Errno::NOENT);
}

fn times() {
    ok(mkdir("d", 0o755));
    file("f", 0o644, b"");
    moves_on("f", "c", || ok(link("f", "g")));
    moves_on("d", "mc", || ok(link("f", "d/g")));
    moves_on("f", "c", || ok(unlink("d/g")));
}

fn one_file() {
    file("f", 0o644, b"");
    ok(link("f", "g"));
    ok(chmod("g", 0o600));
    ok(chown("f", Some(ANN.uid), Some(ANN.gid)));
    ok(truncate("g", 9));
    is((mode("f"), owner("g")), (0o600, (ANN.uid, ANN.gid)));
    is(ok(stat("f")).st_size, 9);
}

fn taken() {
    file("f", 0o644, b"");
    file("g", 0o644, b"");
    ok(mkdir("d", 0o755));
    ok(mkfifo("p", 0o644));
    ok(symlink("none", "dangling"));
    for name in ["f", "g", "d", "p", "dangling", ".", "d/."] {
        fails(link("f", name), Errno::EXIST);
    }
}

fn folders() {
    ok(mkdir("d", 0o755));
    fails(link("d", "e"), Errno::PERM);
    ok(symlink("d", "l"));
    fails(link_followed("l", "e"), Errno::PERM);
}

fn closed() {
    folder_of("d", 0, 0, 0o755);
    folder_of("open", ANN.uid, ANN.gid, 0o755);
    as_user(ANN, || {
        file("open/f", 0o644, b"");
        fails(link("open/f", "d/g"), Errno::ACCESS);
        ok(link("open/f", "open/g"));
    });
}

fn elsewhere() {
    file("f", 0o644, b"");
    fails(link("f", "/dev/f"), Errno::XDEV);
    fails(link("/proc/self/status", "g"), Errno::XDEV);
}

fn errors() {
    file("f", 0o644, b"");
    path_errors(|path| link("f", path));
    fails(link("none", "g"), Errno::NOENT);
    fails(link("f/", "g"), Errno::NOTDIR);
    fails(link("way/file/x", "g"), Errno::NOTDIR);
    fails(link("way/loop-a/x", "g"), Errno::LOOP);
    fails(link(&*"n".repeat(NAME_MAX + 1), "g"), Errno::NAMETOOLONG);
    as_user(ANN, || fails(link("way/closed/x", "g"), Errno::ACCESS));
}
