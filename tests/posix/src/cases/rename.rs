//! rename, renameat2.

use rustix::fs::{FileType, RenameFlags};

use super::Case;
use crate::calls::*;
use crate::check::{fails, is, ok, refused};
use crate::process::{ANN, BOB, as_user};

pub const CASES: &[Case] = &[
    ("files of each type move with all they have", moves),
    ("what had the name is gone", replaces),
    ("a folder replaces an empty folder only", folders),
    ("types have to fit", types),
    ("two names of one file stay", one_file),
    ("a folder moves with what is in it, and counts", trees),
    ("EINVAL below itself", below_itself),
    ("an open file survives its replacement", open_file),
    ("EBUSY or EINVAL for . and ..", dots),
    ("EACCES without the right to write either folder", closed),
    ("EACCES to move a folder that may not be written", parents),
    ("sticky folders keep what is another's", sticky),
    ("times of both folders and the file", times),
    ("EXDEV to another file system", elsewhere),
    ("errors of either path", errors),
    ("RENAME_NOREPLACE", no_replace),
    ("RENAME_EXCHANGE", exchange),
    ("RENAME_WHITEOUT", whiteout),
    ("EINVAL for flags that exclude each other", flags),
];

fn moves() {
    file("f", 0o640, b"text");
    ok(chown("f", Some(ANN.uid), Some(BOB.gid)));
    ok(mkdir("d", 0o711));
    ok(mkfifo("p", 0o600));
    ok(symlink("f", "l"));
    ok(mknod("s", FileType::Socket, 0o644, 0));
    for name in ["f", "d", "p", "l", "s"] {
        let before = ok(lstat(name));
        let to = format!("{name}.new");
        ok(rename(name, &*to));
        let after = ok(lstat(&*to));
        is(exists(name), false);
        is(
            (after.st_ino, after.st_mode, after.st_uid, after.st_gid),
            (before.st_ino, before.st_mode, before.st_uid, before.st_gid),
        );
    }
    is(text("f.new"), b"text".to_vec());
    is(readlink("l.new"), Ok(b"f".to_vec()));
}

fn replaces() {
    file("f", 0o644, b"new");
    file("g", 0o644, b"old");
    ok(link("g", "h"));
    ok(rename("f", "g"));
    is(
        (exists("f"), text("g"), text("h")),
        (false, b"new".to_vec(), b"old".to_vec()),
    );
    is(links("h"), 1);
    ok(symlink("h", "l"));
    ok(rename("g", "l"));
    is(
        (kind("l"), text("h")),
        (FileType::RegularFile, b"old".to_vec()),
    );
    ok(mkfifo("p", 0o644));
    ok(rename("l", "p"));
    is(kind("p"), FileType::RegularFile);
}

fn folders() {
    ok(mkdir("d", 0o755));
    file("d/f", 0o644, b"");
    ok(mkdir("empty", 0o755));
    ok(mkdir("full", 0o755));
    file("full/g", 0o644, b"");
    refused(
        "full",
        rename("d", "full"),
        &[Errno::NOTEMPTY, Errno::EXIST],
    );
    ok(rename("d", "empty"));
    is((exists("d"), exists("empty/f")), (false, true));
}

fn types() {
    file("f", 0o644, b"");
    ok(mkdir("d", 0o755));
    ok(symlink("d", "l"));
    fails(rename("f", "d"), Errno::ISDIR);
    fails(rename("d", "f"), Errno::NOTDIR);
    fails(rename("d", "l"), Errno::NOTDIR);
    fails(rename("l", "d"), Errno::ISDIR);
    fails(rename("f", "g/"), Errno::NOTDIR);
    ok(rename("d", "e/"));
    is(kind("e"), FileType::Directory);
}

fn one_file() {
    file("f", 0o644, b"");
    ok(link("f", "g"));
    ok(rename("f", "g"));
    ok(rename("f", "f"));
    is((exists("f"), exists("g"), links("f")), (true, true, 2));
}

fn trees() {
    ok(mkdir("a", 0o755));
    ok(mkdir("b", 0o755));
    ok(mkdir("a/d", 0o755));
    ok(mkdir("a/d/e", 0o755));
    file("a/d/e/f", 0o644, b"text");
    ok(rename("a/d", "b/d"));
    is((links("a"), links("b")), (2, 3));
    is(text("b/d/e/f"), b"text".to_vec());
    is(ok(stat("b/d/..")).st_ino, ok(stat("b")).st_ino);
}

fn below_itself() {
    ok(mkdir("d", 0o755));
    ok(mkdir("d/e", 0o755));
    fails(rename("d", "d/e/f"), Errno::INVAL);
    fails(rename("d", "d/e"), Errno::INVAL);
    refused(
        "above",
        rename("d/e", "d"),
        &[Errno::NOTEMPTY, Errno::EXIST],
    );
}

fn open_file() {
    let old = file("g", 0o644, b"old");
    file("f", 0o644, b"new");
    ok(rename("f", "g"));
    is(pread(&old, 9, 0), Ok(b"old".to_vec()));
    is(ok(rustix::fs::fstat(&old)).st_nlink, 0);
    is(pwrite(&old, b"OLD", 0), Ok(3));
    is(
        (pread(&old, 9, 0), text("g")),
        (Ok(b"OLD".to_vec()), b"new".to_vec()),
    );
}

fn dots() {
    ok(mkdir("d", 0o755));
    for (from, to) in [
        (".", "x"),
        ("d/.", "x"),
        ("d/..", "x"),
        ("d", "."),
        ("d", "d/.."),
    ] {
        refused(from, rename(from, to), &[Errno::BUSY, Errno::INVAL]);
    }
}

fn closed() {
    folder_of("mine", ANN.uid, ANN.gid, 0o755);
    folder_of("other", 0, 0, 0o755);
    as_user(ANN, || {
        file("mine/f", 0o644, b"");
    });
    file("other/f", 0o666, b"");
    as_user(ANN, || {
        fails(rename("mine/f", "other/g"), Errno::ACCESS);
        fails(rename("other/f", "mine/g"), Errno::ACCESS);
        fails(rename("mine/f", "other/f"), Errno::ACCESS);
    });
}

fn parents() {
    folder_of("a", ANN.uid, ANN.gid, 0o755);
    folder_of("b", ANN.uid, ANN.gid, 0o755);
    folder_of("a/d", BOB.uid, BOB.gid, 0o755);
    as_user(ANN, || {
        // Its `..` would change.
        fails(rename("a/d", "b/d"), Errno::ACCESS);
        ok(rename("a/d", "a/e"));
    });
}

fn sticky() {
    folder_of("t", 0, 0, 0o1777);
    folder_of("own", ANN.uid, ANN.gid, 0o1777);
    for (folder, mine) in [("t", false), ("own", true)] {
        std::env::set_current_dir(folder).expect("it is there");
        file_of("bob", BOB.uid, BOB.gid, 0o666);
        folder_of("dir", BOB.uid, BOB.gid, 0o777);
        as_user(ANN, || {
            file("ann", 0o644, b"");
            if mine {
                ok(rename("bob", "x"));
                ok(rename("dir", "y"));
                ok(rename("ann", "x"));
            } else {
                fails(rename("bob", "x"), Errno::PERM);
                fails(rename("dir", "y"), Errno::PERM);
                fails(rename("ann", "bob"), Errno::PERM);
                ok(rename("ann", "z"));
            }
        });
        std::env::set_current_dir("..").expect("it is there");
    }
}

fn times() {
    ok(mkdir("a", 0o755));
    ok(mkdir("b", 0o755));
    file("a/f", 0o644, b"");
    moves_on("a", "mc", || ok(rename("a/f", "b/f")));
    moves_on("b", "mc", || ok(rename("b/f", "a/f")));
    let before = changed("a/f");
    tick();
    ok(rename("a/f", "a/g"));
    is(changed("a/g")[0], before[0]);
}

fn elsewhere() {
    file("f", 0o644, b"");
    ok(mkdir("d", 0o755));
    fails(rename("f", "/proc/f"), Errno::XDEV);
    fails(rename("d", "/proc/d"), Errno::XDEV);
    fails(rename("/proc/self/status", "g"), Errno::XDEV);
}

fn errors() {
    file("f", 0o644, b"");
    path_errors(|path| rename("f", path));
    ok(mkdir("from", 0o755));
    std::env::set_current_dir("from").expect("it is there");
    path_errors(|path| rename(path, "g"));
    fails(rename("none", "g"), Errno::NOENT);
    fails(rename("none", "way"), Errno::NOENT);
}

fn no_replace() {
    file("f", 0o644, b"f");
    file("g", 0o644, b"g");
    ok(symlink("none", "dangling"));
    for name in ["g", "dangling", "f"] {
        fails(rename_with("f", name, RenameFlags::NOREPLACE), Errno::EXIST);
    }
    ok(rename_with("f", "h", RenameFlags::NOREPLACE));
    is(
        (exists("f"), text("h"), text("g")),
        (false, b"f".to_vec(), b"g".to_vec()),
    );
}

fn exchange() {
    file("f", 0o644, b"f");
    ok(mkdir("d", 0o755));
    ok(mkdir("d/e", 0o755));
    fails(
        rename_with("f", "none", RenameFlags::EXCHANGE),
        Errno::NOENT,
    );
    fails(rename_with("d", "d/e", RenameFlags::EXCHANGE), Errno::INVAL);
    ok(rename_with("f", "d", RenameFlags::EXCHANGE));
    is(
        (kind("f"), text("d"), exists("f/e")),
        (FileType::Directory, b"f".to_vec(), true),
    );
    file("g", 0o644, b"g");
    ok(rename_with("g", "f/e", RenameFlags::EXCHANGE));
    is(
        (kind("g"), text("f/e")),
        (FileType::Directory, b"g".to_vec()),
    );
}

fn whiteout() {
    file("f", 0o644, b"f");
    ok(rename_with("f", "g", RenameFlags::WHITEOUT));
    is(
        (text("g"), kind("f")),
        (b"f".to_vec(), FileType::CharacterDevice),
    );
    is(ok(lstat("f")).st_rdev, 0);
}

fn flags() {
    file("f", 0o644, b"");
    file("g", 0o644, b"");
    let both = RenameFlags::NOREPLACE | RenameFlags::EXCHANGE;
    fails(rename_with("f", "g", both), Errno::INVAL);
    let unknown = RenameFlags::from_bits_retain(1 << 20);
    fails(rename_with("f", "g", unknown), Errno::INVAL);
}
