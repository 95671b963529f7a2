//! Names and paths at their limits.

use super::Case;
use crate::calls::*;
use crate::check::{fails, is, ok};

pub const CASES: &[Case] = &[
    ("names of one and of 255 bytes, of 256 not", lengths),
    ("every byte but / and zero may be in a name", bytes),
    ("names that are no UTF-8 come back from a folder", not_utf8),
    ("names differ by case and by form", forms),
    ("paths of 4095 bytes, of 4096 not", paths),
    ("folders as deep as one likes", deep),
    ("dots and slashes in a path", dots),
];

fn lengths() {
    for length in [1, 2, 254, 255] {
        let name = "n".repeat(length);
        file(&name, 0o644, name.as_bytes());
        is(text(&*name), name.clone().into_bytes());
        ok(rename(&*name, &*"m".repeat(length)));
        ok(unlink(&*"m".repeat(length)));
    }
    let long = "n".repeat(256);
    fails(mkdir(&*long, 0o755), Errno::NAMETOOLONG);
    ok(mkdir("d", 0o755));
    fails(rename("d", &*long), Errno::NAMETOOLONG);
    fails(symlink("d", &*long), Errno::NAMETOOLONG);
}

fn bytes() {
    for byte in (1..=255).filter(|byte| *byte != b'/') {
        let name = [b'a', byte, b'z'];
        ok(mkdir(&name[..], 0o755));
        is(exists(&name[..]), true);
        ok(rmdir(&name[..]));
    }
}

fn not_utf8() {
    use std::os::unix::ffi::OsStringExt;
    let wanted: [&[u8]; 3] = [b"\xff\xfe", b"a\x80", b"\xc3\x28"];
    for name in wanted {
        ok(mkfifo(name, 0o644));
    }
    let entries = std::fs::read_dir(".").expect("it is a folder");
    let mut listed: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name().into_vec())
        .collect();
    listed.sort();
    let mut wanted: Vec<_> = wanted.iter().map(|name| name.to_vec()).collect();
    wanted.sort();
    is(listed, wanted);
}

fn forms() {
    let names = [
        "a", "A", "\u{e4}", "a\u{308}", " a", "a ", "a.", "...", "-", "a\nb",
    ];
    for name in names {
        file(name, 0o644, name.as_bytes());
    }
    for name in names {
        is(text(name), name.as_bytes().to_vec());
    }
}

fn paths() {
    let part = format!("{}/", "d".repeat(NAME_MAX));
    let (mut path, mut left) = (String::new(), PATH_MAX - 1);
    while left > part.len() {
        path += &part;
        ok(mkdir(&*path, 0o755));
        left -= part.len();
    }
    let longest = format!("{path}{}", "f".repeat(left));
    is(longest.len(), PATH_MAX - 1);
    file(&longest, 0o644, b"text");
    is(text(&*longest), b"text".to_vec());
    fails(stat(format!("{longest}x")), Errno::NAMETOOLONG);
    ok(unlink(&*longest));
}

fn deep() {
    let part = "d".repeat(100);
    for _ in 0..60 {
        ok(mkdir(&*part, 0o755));
        std::env::set_current_dir(&part).expect("it is there");
    }
    file("f", 0o644, b"text");
    is(text("f"), b"text".to_vec());
    ok(chmod("f", 0o600));
    for _ in 0..60 {
        std::env::set_current_dir("..").expect("it is there");
    }
    is(exists(&*part), true);
}

fn dots() {
    ok(mkdir("d", 0o755));
    file("d/f", 0o644, b"text");
    for path in ["d/f", "./d/f", "d//f", "d/./f", "d/../d/f", ".//d///f"] {
        is(text(path), b"text".to_vec());
    }
    fails(stat("d/f/.."), Errno::NOTDIR);
    fails(stat("none/../d"), Errno::NOENT);
}
