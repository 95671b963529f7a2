//! stat, statx, access, statfs.

use rustix::fs::{Access, AtFlags, CWD, StatxFlags, access, statfs, statx};

use super::Case;
use crate::calls::*;
use crate::check::{fails, holds, is, ok};
use crate::process::{ANN, as_user};

pub const CASES: &[Case] = &[
    ("statx and stat tell the same", agree),
    ("statx tells of the birth, if of anything", birth),
    ("inode numbers tell files apart and stay", inodes),
    ("blocks and sizes fit what was written", sizes),
    ("access asks for the real user", asks),
    ("statfs tells of room and of the longest name", room),
    ("errors of the path", errors),
];

fn agree() {
    file("f", 0o4751, b"text");
    ok(chown("f", Some(ANN.uid), Some(ANN.gid)));
    ok(mkdir("d", 0o1777));
    ok(mkfifo("p", 0o600));
    ok(symlink("f", "l"));
    for path in ["f", "d", "p", "l"] {
        let old = ok(lstat(path));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let new = ok(statx(CWD, path, flags, StatxFlags::BASIC_STATS));
        is(u32::from(new.stx_mode), old.st_mode);
        is((new.stx_uid, new.stx_gid), (old.st_uid, old.st_gid));
        is(
            (new.stx_ino, u64::from(new.stx_nlink)),
            (old.st_ino, old.st_nlink as u64),
        );
        is(
            (new.stx_size, new.stx_blocks),
            (old.st_size as u64, old.st_blocks as u64),
        );
        is(
            (new.stx_mtime.tv_sec, i64::from(new.stx_mtime.tv_nsec)),
            changed(path)[0],
        );
        is(
            (new.stx_ctime.tv_sec, i64::from(new.stx_ctime.tv_nsec)),
            changed(path)[1],
        );
    }
}

fn birth() {
    file("f", 0o644, b"text");
    let told = ok(statx(CWD, "f", AtFlags::empty(), StatxFlags::BTIME));
    if told.stx_mask & StatxFlags::BTIME.bits() == 0 {
        return crate::check::skip();
    }
    let birth = (told.stx_btime.tv_sec, i64::from(told.stx_btime.tv_nsec));
    tick();
    ok(truncate("f", 1));
    ok(rename("f", "g"));
    let told = ok(statx(CWD, "g", AtFlags::empty(), StatxFlags::BTIME));
    is(
        (told.stx_btime.tv_sec, i64::from(told.stx_btime.tv_nsec)),
        birth,
    );
    holds(birth.0 > 1_500_000_000, "it was born now");
}

fn inodes() {
    let mut seen = std::collections::HashMap::new();
    for number in 0..100 {
        let name = format!("f{number}");
        file(&name, 0o644, b"");
        seen.insert(ok(stat(&*name)).st_ino, name);
    }
    is(seen.len(), 100);
    for (inode, name) in seen {
        is(ok(stat(name)).st_ino, inode);
    }
}

fn sizes() {
    let file = file("f", 0o644, &[7; 50_000]);
    ok(rustix::fs::fsync(&file));
    let stat = ok(stat("f"));
    is(stat.st_size, 50_000);
    holds(
        (97..=400).contains(&stat.st_blocks),
        "blocks are of 512 bytes",
    );
    holds(stat.st_blksize >= 512, "there is a best size");
}

fn asks() {
    file_of("f", 0, 0, 0o754);
    file_of("g", 0, 0, 0o640);
    as_user(ANN, || {
        ok(access("f", Access::READ_OK));
        fails(access("f", Access::WRITE_OK), Errno::ACCESS);
        fails(access("f", Access::EXEC_OK), Errno::ACCESS);
        ok(access("g", Access::EXISTS));
        fails(access("g", Access::READ_OK), Errno::ACCESS);
    });
    ok(access("g", Access::READ_OK | Access::WRITE_OK));
    // Root runs what anybody runs.
    fails(access("g", Access::EXEC_OK), Errno::ACCESS);
    ok(access("f", Access::EXEC_OK));
}

fn room() {
    let told = ok(statfs("."));
    is(told.f_namelen as usize, NAME_MAX);
    holds(
        told.f_blocks >= told.f_bfree && told.f_bfree >= told.f_bavail,
        "room is in all",
    );
    holds(told.f_bsize > 0, "blocks have a size");
}

fn errors() {
    path_errors(|path| stat(path));
    fails(stat("none"), Errno::NOENT);
    fails(stat("way/loop-a"), Errno::LOOP);
    fails(stat("way/file/"), Errno::NOTDIR);
    fails(stat("way/file/."), Errno::NOTDIR);
    fails(stat("way/file/.."), Errno::NOTDIR);
    ok(stat("way/closed"));
    ok(mkdir("more", 0o755));
    std::env::set_current_dir("more").expect("it is there");
    path_errors(|path| access(path, Access::EXISTS));
}
