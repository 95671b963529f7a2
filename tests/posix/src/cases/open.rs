//! open, with each flag that is a file system's matter.

use std::io::Write;
use std::process::{Command, Stdio};

use rustix::fs::{FileType, OFlags};

use super::Case;
use crate::calls::*;
use crate::check::{fails, holds, is, ok};
use crate::process::{ANN, BOB, as_user};

pub const CASES: &[Case] = &[
    ("a new file has what was asked for, less the umask", modes),
    ("it belongs to who made it", owners),
    (
        "a new file may be written whatever its permissions",
        first_descriptor,
    ),
    ("O_EXCL refuses whatever has the name", exclusive),
    (
        "O_CREAT opens what is there, and follows links",
        creates_behind_links,
    ),
    ("O_TRUNC empties", truncates),
    (
        "O_TRUNC of another's program takes its set-id bits",
        truncates_set_ids,
    ),
    ("O_NOFOLLOW and O_DIRECTORY", kinds),
    ("access is as the permissions say", access),
    ("each permission is one of owner, group and others", classes),
    ("a descriptor does what it was opened for", descriptors),
    ("EISDIR to write a folder", folders),
    ("ETXTBSY to write a program that runs", running),
    ("ETXTBSY to run a program that is written", written),
    ("O_NOATIME takes the owner", no_atime),
    ("times of the folder and the file", times),
    ("errors of the path", errors),
];

const CREATE: OFlags = OFlags::CREATE.union(OFlags::WRONLY);

fn modes() {
    for (number, asked) in [0o777, 0o644, 0o4755, 0o7777, 0].into_iter().enumerate() {
        let name = format!("f{number}");
        ok(open(&*name, CREATE, asked));
        is((kind(&*name), mode(&*name)), (FileType::RegularFile, asked));
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_retain(0o027));
    ok(open("masked", CREATE, 0o666));
    is(mode("masked"), 0o640);
}

fn owners() {
    folder_of("d", 0, 0, 0o777);
    as_user(ANN, || {
        file("d/f", 0o644, b"");
    });
    is(owner("d/f"), (ANN.uid, ANN.gid));
}

fn first_descriptor() {
    folder_of("d", 0, 0, 0o777);
    as_user(ANN, || {
        let file = ok(open("d/f", OFlags::RDWR | OFlags::CREATE, 0));
        is(write(&file, b"text"), Ok(4));
        is(pread(&file, 9, 0), Ok(b"text".to_vec()));
        fails(open("d/f", OFlags::RDONLY, 0), Errno::ACCESS);
    });
}

fn exclusive() {
    file("f", 0o644, b"");
    ok(mkdir("d", 0o755));
    ok(mkfifo("p", 0o644));
    ok(symlink("f", "l"));
    ok(symlink("none", "dangling"));
    for name in ["f", "d", "p", "l", "dangling"] {
        fails(open(name, CREATE | OFlags::EXCL, 0o644), Errno::EXIST);
    }
    is(exists("none"), false);
}

fn creates_behind_links() {
    file("f", 0o600, b"text");
    ok(open("f", CREATE, 0o777));
    is((mode("f"), text("f")), (0o600, b"text".to_vec()));
    ok(symlink("new", "l"));
    ok(open("l", CREATE, 0o640));
    is((kind("new"), mode("new")), (FileType::RegularFile, 0o640));
}

fn truncates() {
    let inode = {
        file("f", 0o644, b"text");
        ok(lstat("f")).st_ino
    };
    moves_on("f", "mc", || {
        ok(open("f", OFlags::WRONLY | OFlags::TRUNC, 0));
    });
    is((ok(lstat("f")).st_size, ok(lstat("f")).st_ino), (0, inode));
}

fn truncates_set_ids() {
    file_of("f", 0, 0, 0o6777);
    as_user(ANN, || {
        ok(open("f", OFlags::WRONLY | OFlags::TRUNC, 0));
    });
    is(mode("f"), 0o777);
}

fn kinds() {
    file("f", 0o644, b"");
    ok(mkdir("d", 0o755));
    ok(symlink("f", "l"));
    ok(symlink("d", "m"));
    fails(open("l", OFlags::RDONLY | OFlags::NOFOLLOW, 0), Errno::LOOP);
    ok(open("l", OFlags::PATH | OFlags::NOFOLLOW, 0));
    fails(
        open("f", OFlags::RDONLY | OFlags::DIRECTORY, 0),
        Errno::NOTDIR,
    );
    ok(open("m", OFlags::RDONLY | OFlags::DIRECTORY, 0));
    fails(
        open(
            "m",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW,
            0,
        ),
        Errno::NOTDIR,
    );
}

fn access() {
    for (mode, reads, writes) in [
        (0o644, true, false),
        (0o622, false, true),
        (0o666, true, true),
        (0o600, false, false),
    ] {
        file_of("f", ANN.uid, ANN.gid, mode);
        as_user(BOB, || {
            for (flags, may) in [
                (OFlags::RDONLY, reads),
                (OFlags::WRONLY, writes),
                (OFlags::RDWR, reads && writes),
                (OFlags::RDONLY | OFlags::TRUNC, reads && writes),
            ] {
                if may {
                    ok(open("f", flags, 0));
                } else {
                    fails(open("f", flags, 0), Errno::ACCESS);
                }
            }
        });
        ok(unlink("f"));
    }
    folder_of("d", 0, 0, 0o711);
    as_user(BOB, || {
        fails(open("d", OFlags::RDONLY, 0), Errno::ACCESS);
        fails(open("d/new", CREATE, 0o644), Errno::ACCESS);
    });
}

fn classes() {
    // The owner is refused although others are not.
    file_of("f", ANN.uid, BOB.gid, 0o044);
    as_user(ANN, || fails(open("f", OFlags::RDONLY, 0), Errno::ACCESS));
    as_user(BOB, || {
        ok(open("f", OFlags::RDONLY, 0));
    });
    ok(chmod("f", 0o404));
    as_user(BOB, || fails(open("f", OFlags::RDONLY, 0), Errno::ACCESS));
    ok(open("f", OFlags::RDWR, 0));
}

fn descriptors() {
    file("f", 0o644, b"text");
    let reader = ok(open("f", OFlags::RDONLY, 0));
    fails(write(&reader, b"x"), Errno::BADF);
    fails(ftruncate(&reader, 0), Errno::INVAL);
    let writer = ok(open("f", OFlags::WRONLY, 0));
    fails(pread(&writer, 1, 0), Errno::BADF);
    let path = ok(open("f", OFlags::PATH, 0));
    fails(pread(&path, 1, 0), Errno::BADF);
    fails(write(&path, b"x"), Errno::BADF);
    let folder = ok(open(".", OFlags::RDONLY, 0));
    fails(pread(&folder, 1, 0), Errno::ISDIR);
    fails(write(&folder, b"x"), Errno::BADF);
}

fn folders() {
    ok(mkdir("d", 0o755));
    for flags in [
        OFlags::WRONLY,
        OFlags::RDWR,
        OFlags::RDONLY | OFlags::TRUNC,
        CREATE,
        OFlags::RDONLY | OFlags::CREATE,
    ] {
        fails(open("d", flags, 0o644), Errno::ISDIR);
    }
    fails(open("new/", CREATE, 0o644), Errno::ISDIR);
}

/// A program of ours in the folder, which waits for the end of its input.
fn program(name: &str) {
    std::fs::copy("/proc/self/exe", name).expect("there is room for this program");
    ok(chmod(name, 0o755));
}

fn run(name: &str) -> std::io::Result<std::process::Child> {
    Command::new(format!("./{name}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .arg(crate::WAIT)
        .spawn()
}

fn running() {
    program("p");
    let mut child = run("p").expect("it is a program");
    fails(open("p", OFlags::WRONLY, 0), Errno::TXTBSY);
    fails(truncate("p", 0), Errno::TXTBSY);
    ok(open("p", OFlags::RDONLY, 0));
    let mut stdin = child.stdin.take().expect("it is piped");
    holds(stdin.write_all(b"end").is_ok(), "the program waits");
    drop(stdin);
    holds(
        child.wait().is_ok_and(|end| end.success()),
        "the program ends",
    );
    ok(open("p", OFlags::WRONLY, 0));
}

fn written() {
    program("p");
    let writer = ok(open("p", OFlags::WRONLY, 0));
    let error = run("p").err().and_then(|error| error.raw_os_error());
    is(error, Some(Errno::TXTBSY.raw_os_error()));
    drop(writer);
    let child = run("p").and_then(|mut child| child.wait());
    holds(child.is_ok_and(|end| end.success()), "the program runs");
}

fn no_atime() {
    file_of("f", ANN.uid, ANN.gid, 0o666);
    as_user(ANN, || {
        ok(open("f", OFlags::RDONLY | OFlags::NOATIME, 0));
    });
    as_user(BOB, || {
        fails(open("f", OFlags::RDONLY | OFlags::NOATIME, 0), Errno::PERM);
    });
}

fn times() {
    ok(mkdir("d", 0o755));
    moves_on("d", "mc", || {
        file("d/f", 0o644, b"");
    });
    moves_on("d", "", || {
        ok(open("d/f", CREATE, 0o644));
    });
    moves_on("d/f", "", || {
        ok(open("d/f", OFlags::RDWR, 0));
    });
}

fn errors() {
    path_errors(|path| open(path, OFlags::RDONLY, 0));
    ok(mkdir("create", 0o755));
    std::env::set_current_dir("create").expect("it is there");
    path_errors(|path| open(path, CREATE, 0o644));
    fails(open("none", OFlags::RDWR, 0), Errno::NOENT);
    fails(open("way/file/", OFlags::RDONLY, 0), Errno::NOTDIR);
    fails(open("way/loop-a", OFlags::RDONLY, 0), Errno::LOOP);
    fails(open("way/loop-a", CREATE, 0o644), Errno::LOOP);
}
