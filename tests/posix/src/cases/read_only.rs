//! A file system that cannot be written, as the runner was told of it: with
//! the file `file` of the text `text`, the folder `folder` and the link `link`
//! to `file`.

use rustix::fs::{FallocateFlags, OFlags, XattrFlags, fallocate, setxattr};

use super::Case;
use crate::calls::*;
use crate::check::{fails, is, ok, read_only, skip};

pub const CASES: &[Case] = &[
    ("it is read", reads),
    ("EROFS for each change", changes),
    (
        "what needs no change is no error, what exists is EEXIST",
        order,
    ),
];

/// Goes there, if there is one.
fn enter() -> bool {
    let Some(folder) = read_only() else {
        skip();
        return false;
    };
    std::env::set_current_dir(folder).expect("it is there");
    true
}

fn reads() {
    if !enter() {
        return;
    }
    is(text("file"), b"text".to_vec());
    is(text("link"), b"text".to_vec());
    ok(open("folder", OFlags::RDONLY, 0));
    is(readlink("link"), Ok(b"file".to_vec()));
}

fn changes() {
    if !enter() {
        return;
    }
    fails(open("file", OFlags::WRONLY, 0), Errno::ROFS);
    fails(open("file", OFlags::RDWR, 0), Errno::ROFS);
    fails(open("file", OFlags::RDONLY | OFlags::TRUNC, 0), Errno::ROFS);
    fails(
        open("new", OFlags::WRONLY | OFlags::CREATE, 0o644),
        Errno::ROFS,
    );
    fails(
        open(".", OFlags::WRONLY | OFlags::TMPFILE, 0o644),
        Errno::ROFS,
    );
    fails(chmod("file", 0o600), Errno::ROFS);
    fails(chown("file", Some(1), Some(1)), Errno::ROFS);
    fails(lchown("link", Some(1), Some(1)), Errno::ROFS);
    fails(link("file", "new"), Errno::ROFS);
    fails(mkdir("new", 0o755), Errno::ROFS);
    fails(mkfifo("new", 0o644), Errno::ROFS);
    fails(rename("file", "new"), Errno::ROFS);
    fails(rmdir("folder"), Errno::ROFS);
    fails(symlink("x", "new"), Errno::ROFS);
    fails(truncate("file", 0), Errno::ROFS);
    fails(unlink("file"), Errno::ROFS);
    fails(set_times("file", (1, 1), (1, 1)), Errno::ROFS);
    fails(
        setxattr("file", "user.x", b"1", XattrFlags::empty()),
        Errno::ROFS,
    );
    let file = ok(open("file", OFlags::RDONLY, 0));
    fails(
        fallocate(&file, FallocateFlags::empty(), 0, 99),
        Errno::BADF,
    );
    fails(fchmod(&file, 0o600), Errno::ROFS);
    is(text("file"), b"text".to_vec());
}

fn order() {
    if !enter() {
        return;
    }
    fails(mkdir("folder", 0o755), Errno::EXIST);
    fails(symlink("x", "file"), Errno::EXIST);
    ok(open("file", OFlags::RDONLY | OFlags::CREATE, 0o644));
}
