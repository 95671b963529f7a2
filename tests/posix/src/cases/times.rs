//! utimensat, and the time of the last access.

use rustix::fs::{AtFlags, CWD, OFlags, Timestamps, UTIME_NOW, UTIME_OMIT};

use super::Case;
use crate::calls::*;
use crate::check::{fails, holds, is, ok};
use crate::process::{ANN, BOB, as_user};

pub const CASES: &[Case] = &[
    (
        "times of files of each type come back to the nanosecond",
        nanoseconds,
    ),
    ("times before 1970 and after 2038 come back", far_off),
    ("UTIME_NOW and UTIME_OMIT", now_and_omit),
    ("a link is followed, or changed itself", links_themselves),
    ("the time of the change itself moves on", change_time),
    ("an open file without a name is changed", without_a_name),
    (
        "only the owner sets times, who may write sets the present",
        owners,
    ),
    ("a read moves the time of access on", access_time),
    ("EINVAL for more than a second of nanoseconds", invalid),
    ("errors of the path", errors),
];

const EARLY: (i64, i64) = (1_000_000_000, 123_456_789);
const LATE: (i64, i64) = (1_500_000_000, 999_999_999);

fn accessed(path: &str) -> (i64, i64) {
    let stat = ok(lstat(path));
    (stat.st_atime as i64, stat.st_atime_nsec as i64)
}

fn modified(path: &str) -> (i64, i64) {
    changed(path)[0]
}

fn nanoseconds() {
    file("f", 0o644, b"");
    ok(mkdir("d", 0o755));
    ok(mkfifo("p", 0o644));
    for path in ["f", "d", "p"] {
        ok(set_times(path, EARLY, LATE));
        is((accessed(path), modified(path)), (EARLY, LATE));
    }
}

fn far_off() {
    file("f", 0o644, b"");
    for seconds in [
        -2_000_000_000,
        -1,
        0,
        1,
        (1 << 31) - 1,
        1 << 31,
        (1 << 33) + 5,
    ] {
        ok(set_times("f", (seconds, 5), (seconds, 6)));
        is((accessed("f"), modified("f")), ((seconds, 5), (seconds, 6)));
    }
}

fn now_and_omit() {
    file("f", 0o644, b"");
    ok(set_times("f", EARLY, EARLY));
    ok(set_times("f", (0, UTIME_OMIT), LATE));
    is((accessed("f"), modified("f")), (EARLY, LATE));
    ok(set_times("f", EARLY, (0, UTIME_OMIT)));
    is(modified("f"), LATE);
    ok(set_times("f", (0, UTIME_NOW), (0, UTIME_OMIT)));
    holds(accessed("f") > LATE, "the present is later than 2017");
    is(modified("f"), LATE);
    ok(set_times("f", (0, UTIME_OMIT), (0, UTIME_NOW)));
    holds(modified("f") > LATE, "the present is later than 2017");
}

fn links_themselves() {
    file("f", 0o644, b"");
    ok(symlink("f", "l"));
    ok(set_times("f", EARLY, EARLY));
    let late = stamps(LATE, LATE);
    ok(rustix::fs::utimensat(
        CWD,
        "l",
        &late,
        AtFlags::SYMLINK_NOFOLLOW,
    ));
    is((modified("f"), modified("l")), (EARLY, LATE));
    ok(set_times("l", EARLY, EARLY));
    is((modified("f"), modified("l")), (EARLY, LATE));
}

fn change_time() {
    file("f", 0o644, b"");
    let before = changed("f")[1];
    tick();
    ok(set_times("f", EARLY, EARLY));
    holds(changed("f")[1] > before, "the change is later");
}

fn without_a_name() {
    let file = file("f", 0o644, b"");
    ok(unlink("f"));
    ok(rustix::fs::futimens(&file, &stamps(EARLY, LATE)));
    is(ok(rustix::fs::fstat(&file)).st_mtime as i64, LATE.0);
}

fn owners() {
    let now = || (0, UTIME_NOW);
    let omit = || (0, UTIME_OMIT);
    file_of("f", ANN.uid, ANN.gid, 0o644);
    as_user(ANN, || {
        ok(set_times("f", EARLY, LATE));
        ok(set_times("f", now(), now()));
    });
    as_user(BOB, || {
        fails(set_times("f", EARLY, LATE), Errno::PERM);
        fails(set_times("f", now(), now()), Errno::ACCESS);
        fails(set_times("f", now(), omit()), Errno::PERM);
        ok(set_times("f", omit(), omit()));
    });
    ok(chmod("f", 0o666));
    as_user(BOB, || {
        fails(set_times("f", EARLY, LATE), Errno::PERM);
        ok(set_times("f", now(), now()));
    });
}

fn access_time() {
    file("f", 0o644, b"text");
    ok(mkdir("d", 0o755));
    for path in ["f", "d"] {
        // Older than the last change, so that relatime counts, too.
        ok(set_times(path, EARLY, LATE));
    }
    let file = ok(open("f", OFlags::RDONLY, 0));
    is(pread(&file, 4, 0), Ok(b"text".to_vec()));
    drop(file);
    holds(accessed("f") > LATE, "the file was read now");
    is(modified("f"), LATE);
    is(std::fs::read_dir("d").expect("it is a folder").count(), 0);
    holds(accessed("d") > LATE, "the folder was read now");
}

fn invalid() {
    file("f", 0o644, b"");
    for nanoseconds in [1_000_000_000, -1] {
        fails(set_times("f", (5, nanoseconds), (5, 0)), Errno::INVAL);
        fails(set_times("f", (5, 0), (5, nanoseconds)), Errno::INVAL);
    }
}

fn errors() {
    path_errors(|path| set_times(path, EARLY, LATE));
    fails(set_times("none", EARLY, LATE), Errno::NOENT);
    fails(set_times("way/loop-a", EARLY, LATE), Errno::LOOP);
    let path = ok(open("way/file", OFlags::PATH, 0));
    let times: Timestamps = stamps(EARLY, LATE);
    fails(rustix::fs::futimens(&path, &times), Errno::BADF);
}
