//! Reading folders.

use std::collections::BTreeSet;
use std::ffi::CString;

use rustix::fs::{Dir, FileType, OFlags};

use super::Case;
use crate::calls::*;
use crate::check::{fails, holds, is, ok};
use crate::process::{ANN, as_user, fork};

pub const CASES: &[Case] = &[
    ("all entries come once, with . and ..", all),
    ("entries tell the type and the inode number", types),
    (
        "what was there throughout comes once while others go",
        concurrent_unlink,
    ),
    (
        "what was there throughout comes once while others come",
        concurrent_create,
    ),
    ("a folder that is read again shows what is new", rewinds),
    ("EACCES to read, and search without reading", access),
    ("ENOTDIR of a file", kinds),
];

/// Enough for many replies of a server.
pub const SOME: usize = 500;

pub fn fill(count: usize) {
    ok(mkdir("d", 0o755));
    std::env::set_current_dir("d").expect("it is there");
    for number in 0..count {
        // Long names for many replies.
        let name = format!("{number:05}{}", "-".repeat(number % 60));
        ok(mknod(&*name, FileType::RegularFile, 0o644, 0));
    }
}

pub fn names(folder: &mut Dir) -> Vec<CString> {
    let mut names = Vec::new();
    while let Some(entry) = folder.read() {
        names.push(ok(entry).file_name().to_owned());
    }
    names
}

fn here() -> Dir {
    ok(Dir::new(ok(open(".", OFlags::RDONLY, 0))))
}

fn all() {
    fill(SOME);
    let listed = names(&mut here());
    let unique: BTreeSet<_> = listed.iter().collect();
    is((listed.len(), unique.len()), (SOME + 2, SOME + 2));
    holds(unique.contains(&c".".to_owned()), ". is listed");
    holds(unique.contains(&c"..".to_owned()), ".. is listed");
}

fn types() {
    file("f", 0o644, b"");
    ok(mkdir("d", 0o755));
    ok(symlink("f", "l"));
    ok(mkfifo("p", 0o644));
    ok(mknod("s", FileType::Socket, 0o644, 0));
    let mut folder = here();
    while let Some(entry) = folder.read() {
        let entry = ok(entry);
        let stat = ok(lstat(entry.file_name()));
        let named = FileType::from_raw_mode(stat.st_mode);
        holds(
            [named, FileType::Unknown].contains(&entry.file_type()),
            "the type is right or left open",
        );
        if entry.file_name() != c".." {
            is(entry.ino(), stat.st_ino);
        }
    }
}

/// Lists the folder while `meanwhile` runs, after a start.
pub fn listed_during(meanwhile: impl FnOnce()) -> Vec<CString> {
    let mut folder = here();
    let first = ok(folder.read().expect("there are entries"))
        .file_name()
        .to_owned();
    let child = fork(meanwhile);
    let mut listed = names(&mut folder);
    child.join();
    listed.push(first);
    listed
}

pub fn check_lasting(listed: &[CString]) {
    let unique: BTreeSet<_> = listed.iter().collect();
    is(unique.len(), listed.len());
    let lasting = std::fs::read_dir(".").expect("it is a folder");
    let lasting = lasting.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let missing = lasting
        .filter(|name| !name.starts_with("new"))
        .filter(|name| !unique.contains(&CString::new(name.as_bytes()).expect("no zero")));
    is(missing.count(), 0);
}

fn concurrent_unlink() {
    fill(SOME);
    let listed = listed_during(|| {
        for (number, entry) in std::fs::read_dir(".").expect("a folder").enumerate() {
            if number % 3 == 0 {
                ok(unlink(&*entry.expect("an entry").file_name()));
            }
        }
    });
    check_lasting(&listed);
}

fn concurrent_create() {
    fill(SOME);
    let listed = listed_during(|| {
        for number in 0..SOME / 2 {
            ok(mkfifo(format!("new{number}"), 0o644));
        }
    });
    check_lasting(&listed);
}

fn rewinds() {
    fill(5);
    let mut folder = here();
    is(names(&mut folder).len(), 7);
    file("new", 0o644, b"");
    ok(unlink("00000"));
    folder.rewind();
    let listed = names(&mut folder);
    is(listed.len(), 7);
    holds(listed.contains(&c"new".to_owned()), "the new one is there");
}

fn access() {
    folder_of("closed", 0, 0, 0o711);
    file("closed/f", 0o644, b"text");
    folder_of("listed", 0, 0, 0o744);
    file("listed/f", 0o644, b"text");
    as_user(ANN, || {
        fails(open("closed", OFlags::RDONLY, 0), Errno::ACCESS);
        is(text("closed/f"), b"text".to_vec());
        let mut folder = ok(Dir::new(ok(open("listed", OFlags::RDONLY, 0))));
        is(names(&mut folder).len(), 3);
        fails(stat("listed/f"), Errno::ACCESS);
    });
}

fn kinds() {
    let mut folder = ok(Dir::new(file("f", 0o644, b"")));
    let first = folder.read().map(|entry| entry.map(drop));
    is(first, Some(Err(Errno::NOTDIR)));
}
