//! O_TMPFILE.

use rustix::fs::OFlags;

use super::Case;
use crate::calls::*;
use crate::check::{fails, is, ok};
use crate::process::{ANN, as_user};

pub const CASES: &[Case] = &[
    ("a file without a name holds data", holds_data),
    ("it gets a name by link", named),
    ("ENOENT to name one that was made with O_EXCL", never_named),
    ("it has the permissions and the owner asked for", owners),
    ("EINVAL without the right to write it", access),
    ("ENOENT, ENOTDIR and EACCES of the folder", errors),
];

const UNNAMED: OFlags = OFlags::TMPFILE.union(OFlags::RDWR);

fn holds_data() {
    let file = ok(open(".", UNNAMED, 0o600));
    is(write(&file, b"text"), Ok(4));
    is(pread(&file, 9, 0), Ok(b"text".to_vec()));
    is(ok(rustix::fs::fstat(&file)).st_nlink, 0);
    is(std::fs::read_dir(".").expect("it is a folder").count(), 0);
    ok(ftruncate(&file, 100_000));
    is(ok(rustix::fs::fstat(&file)).st_size, 100_000);
}

fn named() {
    let file = ok(open(".", UNNAMED, 0o640));
    is(write(&file, b"text"), Ok(4));
    ok(link_followed(path_of(&file), "f"));
    is(
        (text("f"), links("f"), mode("f")),
        (b"text".to_vec(), 1, 0o640),
    );
    ok(link("f", "g"));
    is(links("f"), 2);
    is(pwrite(&file, b"T", 0), Ok(1));
    drop(file);
    is(text("g"), b"Text".to_vec());
}

fn never_named() {
    let file = ok(open(".", UNNAMED | OFlags::EXCL, 0o600));
    fails(link_followed(path_of(&file), "f"), Errno::NOENT);
}

fn owners() {
    folder_of("d", 0, 0, 0o777);
    as_user(ANN, || {
        let file = ok(open("d", UNNAMED, 0o4751));
        let stat = ok(rustix::fs::fstat(&file));
        is(
            (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid),
            (0o4751, ANN.uid, ANN.gid),
        );
    });
}

fn access() {
    fails(
        open(".", OFlags::TMPFILE | OFlags::RDONLY, 0o600),
        Errno::INVAL,
    );
    ok(open(".", OFlags::TMPFILE | OFlags::WRONLY, 0o600));
}

fn errors() {
    file("f", 0o644, b"");
    fails(open("none", UNNAMED, 0o600), Errno::NOENT);
    fails(open("f", UNNAMED, 0o600), Errno::NOTDIR);
    folder_of("d", 0, 0, 0o755);
    as_user(ANN, || fails(open("d", UNNAMED, 0o600), Errno::ACCESS));
}
