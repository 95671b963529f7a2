//! copy_file_range.

use rustix::fs::{OFlags, copy_file_range};

use super::Case;
use crate::calls::*;
use crate::check::{fails, is, ok};
use crate::process::{ANN, as_user};

pub const CASES: &[Case] = &[
    ("a range is copied to another file", copies),
    ("it ends with the file", ends),
    ("positions move on where no offset is given", positions),
    ("a file is copied within, but not onto itself", within),
    ("what is not written back yet is copied, too", fresh),
    ("set-id bits of the target go", set_ids),
    ("times of the target move on", times),
    ("EBADF, EISDIR and EINVAL of the wrong descriptors", errors),
];

fn copies() {
    let from = file("f", 0o644, b"0123456789");
    let to = file("g", 0o644, b"abcdefghij");
    let (mut at, mut onto) = (2, 5);
    is(
        copy_file_range(&from, Some(&mut at), &to, Some(&mut onto), 3),
        Ok(3),
    );
    is((at, onto), (5, 8));
    is(
        (text("f"), text("g")),
        (b"0123456789".to_vec(), b"abcde234ij".to_vec()),
    );
    let bytes: Vec<u8> = (0..2_000_003_u32).map(|at| (at % 253) as u8).collect();
    let large = file("large", 0o644, &bytes);
    let copy = file("copy", 0o644, b"");
    let (mut at, mut onto) = (1, 0);
    while at < bytes.len() as u64 {
        let left = bytes.len() - at as usize;
        let copied = ok(copy_file_range(
            &large,
            Some(&mut at),
            &copy,
            Some(&mut onto),
            left,
        ));
        is(copied > 0, true);
    }
    is(ok(pread(&copy, bytes.len(), 0)) == bytes[1..], true);
}

fn ends() {
    let from = file("f", 0o644, b"0123456789");
    let to = file("g", 0o644, b"");
    let (mut at, mut onto) = (7, 0);
    is(
        copy_file_range(&from, Some(&mut at), &to, Some(&mut onto), 100),
        Ok(3),
    );
    is(
        copy_file_range(&from, Some(&mut at), &to, Some(&mut onto), 100),
        Ok(0),
    );
    is(text("g"), b"789".to_vec());
}

fn positions() {
    file("f", 0o644, b"0123456789");
    let from = ok(open("f", OFlags::RDONLY, 0));
    let to = file("g", 0o644, b"ab");
    is(copy_file_range(&from, None, &to, None, 4), Ok(4));
    is(copy_file_range(&from, None, &to, None, 4), Ok(4));
    is(text("g"), b"ab01234567".to_vec());
}

fn within() {
    let file = file("f", 0o644, b"0123456789");
    let (mut at, mut onto) = (0, 5);
    is(
        copy_file_range(&file, Some(&mut at), &file, Some(&mut onto), 5),
        Ok(5),
    );
    is(text("f"), b"0123401234".to_vec());
    let (mut at, mut onto) = (0, 3);
    let over = copy_file_range(&file, Some(&mut at), &file, Some(&mut onto), 5);
    fails(over, Errno::INVAL);
}

fn fresh() {
    let from = file("f", 0o644, b"old");
    let to = file("g", 0o644, b"OLD");
    is(pwrite(&from, b"new", 0), Ok(3));
    is(pwrite(&to, b"NEW!", 0), Ok(4));
    let (mut at, mut onto) = (0, 0);
    is(
        copy_file_range(&from, Some(&mut at), &to, Some(&mut onto), 3),
        Ok(3),
    );
    is(
        (pread(&to, 9, 0), text("g")),
        (Ok(b"new!".to_vec()), b"new!".to_vec()),
    );
}

fn set_ids() {
    file_of("g", 0, 0, 0o6777);
    file("f", 0o644, b"text");
    as_user(ANN, || {
        let from = ok(open("f", OFlags::RDONLY, 0));
        let to = ok(open("g", OFlags::WRONLY, 0));
        is(copy_file_range(&from, None, &to, None, 4), Ok(4));
    });
    is(mode("g"), 0o777);
}

fn times() {
    let from = file("f", 0o644, b"text");
    let to = file("g", 0o644, b"");
    moves_on("g", "mc", || {
        is(
            copy_file_range(&from, Some(&mut 0), &to, Some(&mut 0), 4),
            Ok(4),
        );
    });
    moves_on("f", "", || {
        is(
            copy_file_range(&from, Some(&mut 0), &to, Some(&mut 0), 4),
            Ok(4),
        );
    });
}

fn errors() {
    let file = file("f", 0o644, b"text");
    file_of("g", 0, 0, 0o644);
    let reader = ok(open("g", OFlags::RDONLY, 0));
    let writer = ok(open("g", OFlags::WRONLY, 0));
    let appender = ok(open("g", OFlags::WRONLY | OFlags::APPEND, 0));
    let folder = ok(open(".", OFlags::RDONLY, 0));
    fails(copy_file_range(&file, None, &reader, None, 1), Errno::BADF);
    fails(copy_file_range(&writer, None, &file, None, 1), Errno::BADF);
    fails(
        copy_file_range(&file, None, &appender, None, 1),
        Errno::BADF,
    );
    fails(
        copy_file_range(&folder, None, &writer, None, 1),
        Errno::ISDIR,
    );
    ok(mkfifo("p", 0o644));
    let pipe = ok(open("p", OFlags::RDWR, 0));
    fails(copy_file_range(&pipe, None, &writer, None, 1), Errno::INVAL);
}
