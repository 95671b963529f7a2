//! The calls that cases make, with plain numbers, and what many cases need.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Timespec, Timestamps, Uid,
};
use rustix::path::Arg;

pub use rustix::io::Errno;

use crate::check::{is, ok, refused};
use crate::process::{ANN, as_user};

pub type Result<T> = std::result::Result<T, Errno>;

/// Longest name and longest path, the latter with its final zero.
pub const NAME_MAX: usize = 255;
pub const PATH_MAX: usize = 4096;

pub fn chmod(path: impl Arg, mode: u32) -> Result<()> {
    rustix::fs::chmod(path, Mode::from_raw_mode(mode))
}

pub fn fchmod(file: impl AsFd, mode: u32) -> Result<()> {
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode))
}

pub fn chown(path: impl Arg, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    rustix::fs::chown(path, uid.map(Uid::from_raw), gid.map(Gid::from_raw))
}

pub fn lchown(path: impl Arg, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
    rustix::fs::chownat(CWD, path, uid, gid, AtFlags::SYMLINK_NOFOLLOW)
}

pub fn fchown(file: impl AsFd, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    rustix::fs::fchown(file, uid.map(Uid::from_raw), gid.map(Gid::from_raw))
}

pub fn link(from: impl Arg, to: impl Arg) -> Result<()> {
    rustix::fs::link(from, to)
}

/// link(2) of what a symbolic link leads to.
pub fn link_followed(from: impl Arg, to: impl Arg) -> Result<()> {
    rustix::fs::linkat(CWD, from, CWD, to, AtFlags::SYMLINK_FOLLOW)
}

pub fn mkdir(path: impl Arg, mode: u32) -> Result<()> {
    rustix::fs::mkdir(path, Mode::from_raw_mode(mode))
}

pub fn mknod(path: impl Arg, kind: FileType, mode: u32, device: u64) -> Result<()> {
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(mode), device)
}

pub fn mkfifo(path: impl Arg, mode: u32) -> Result<()> {
    mknod(path, FileType::Fifo, mode, 0)
}

pub fn open(path: impl Arg, flags: OFlags, mode: u32) -> Result<OwnedFd> {
    rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::from_raw_mode(mode))
}

pub fn rename(from: impl Arg, to: impl Arg) -> Result<()> {
    rustix::fs::rename(from, to)
}

pub fn rename_with(from: impl Arg, to: impl Arg, flags: RenameFlags) -> Result<()> {
    rustix::fs::renameat_with(CWD, from, CWD, to, flags)
}

pub fn rmdir(path: impl Arg) -> Result<()> {
    rustix::fs::rmdir(path)
}

pub fn symlink(target: impl Arg, path: impl Arg) -> Result<()> {
    rustix::fs::symlink(target, path)
}

pub fn readlink(path: impl Arg) -> Result<Vec<u8>> {
    rustix::fs::readlink(path, Vec::new()).map(std::ffi::CString::into_bytes)
}

pub fn unlink(path: impl Arg) -> Result<()> {
    rustix::fs::unlink(path)
}

/// truncate(2), whose length has a sign.
pub fn truncate(path: &str, len: i64) -> Result<()> {
    nix::unistd::truncate(path, len).map_err(from_nix)
}

pub fn ftruncate(file: impl AsFd, len: i64) -> Result<()> {
    nix::unistd::ftruncate(file, len).map_err(from_nix)
}

pub fn from_nix(error: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(error as i32)
}

pub fn stat(path: impl Arg) -> Result<Stat> {
    rustix::fs::stat(path)
}

pub fn lstat(path: impl Arg) -> Result<Stat> {
    rustix::fs::lstat(path)
}

pub fn write(file: impl AsFd, bytes: &[u8]) -> Result<usize> {
    rustix::io::write(file, bytes)
}

pub fn pwrite(file: impl AsFd, bytes: &[u8], offset: u64) -> Result<usize> {
    rustix::io::pwrite(file, bytes, offset)
}

/// Up to `len` bytes at `offset`.
pub fn pread(file: impl AsFd, len: usize, offset: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let read = rustix::io::pread(file, &mut bytes, offset)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// utimensat(2) of what a link leads to.
pub fn set_times(path: impl Arg, atime: (i64, i64), mtime: (i64, i64)) -> Result<()> {
    rustix::fs::utimensat(CWD, path, &stamps(atime, mtime), AtFlags::empty())
}

pub fn stamps(atime: (i64, i64), mtime: (i64, i64)) -> Timestamps {
    let time = |(tv_sec, tv_nsec)| Timespec { tv_sec, tv_nsec };
    Timestamps {
        last_access: time(atime),
        last_modification: time(mtime),
    }
}

// What cases start from.

/// A new file with these permissions and contents.
#[track_caller]
pub fn file(path: &str, mode: u32, text: &[u8]) -> OwnedFd {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
    let file = ok(open(path, flags, mode));
    is(write(&file, text), Ok(text.len()));
    file
}

/// A new file of a user's.
#[track_caller]
pub fn file_of(path: &str, uid: u32, gid: u32, mode: u32) {
    file(path, 0o600, b"text");
    ok(chown(path, Some(uid), Some(gid)));
    ok(chmod(path, mode));
}

/// A new folder of a user's.
#[track_caller]
pub fn folder_of(path: &str, uid: u32, gid: u32, mode: u32) {
    ok(mkdir(path, 0o700));
    ok(chown(path, Some(uid), Some(gid)));
    ok(chmod(path, mode));
}

/// The contents of a file.
#[track_caller]
pub fn text(path: impl Arg) -> Vec<u8> {
    let file = ok(open(path, OFlags::RDONLY, 0));
    ok(pread(&file, 1 << 20, 0))
}

/// Permissions with the three bits above; of a link itself.
#[track_caller]
pub fn mode(path: impl Arg) -> u32 {
    ok(lstat(path)).st_mode & 0o7777
}

/// Owner and group; of a link itself.
#[track_caller]
pub fn owner(path: impl Arg) -> (u32, u32) {
    let stat = ok(lstat(path));
    (stat.st_uid, stat.st_gid)
}

#[track_caller]
pub fn kind(path: impl Arg) -> FileType {
    FileType::from_raw_mode(ok(lstat(path)).st_mode)
}

/// Names that a file has.
#[track_caller]
pub fn links(path: impl Arg) -> u64 {
    ok(lstat(path)).st_nlink as u64
}

/// Whether there is such a name.
pub fn exists(path: impl Arg) -> bool {
    lstat(path).is_ok()
}

/// Last change of the data, then of the attributes, of a link itself.
#[track_caller]
pub fn changed(path: impl Arg) -> [(i64, i64); 2] {
    let stat = ok(lstat(path));
    [
        (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
        (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
    ]
}

/// Lets the clock of a file system go on. It ticks every few milliseconds, and
/// nothing but time makes the next stamp another one.
pub fn tick() {
    std::thread::sleep(std::time::Duration::from_millis(25));
}

/// Asserts that `act` moves on the time stamps of `path` that are named:
/// `m` the data's, `c` the attributes'.
#[track_caller]
pub fn moves_on(path: &str, which: &str, act: impl FnOnce()) {
    let before = changed(path);
    tick();
    act();
    let after = changed(path);
    for (index, name) in ["m", "c"].into_iter().enumerate() {
        if which.contains(name) {
            crate::check::holds(
                after[index] > before[index],
                &format!(
                    "{name}time of {path} stays {:?}, then {:?}",
                    before[index], after[index]
                ),
            );
        } else {
            is(after[index], before[index]);
        }
    }
}

/// Asserts what every call refuses that takes a path: each of the errors that
/// come of the folders on the way.
#[track_caller]
pub fn path_errors<T>(call: impl Fn(&str) -> Result<T>) {
    ok(mkdir("way", 0o755));
    file("way/file", 0o644, b"");
    ok(symlink("loop-b", "way/loop-a"));
    ok(symlink("loop-a", "way/loop-b"));
    ok(symlink("none", "way/dangling"));
    ok(mkdir("way/closed", 0o700));
    let long = "n".repeat(NAME_MAX + 1);
    let deep = format!("way/{}x", "./".repeat(PATH_MAX));
    for (path, errno) in [
        ("", Errno::NOENT),
        ("way/none/x", Errno::NOENT),
        ("way/dangling/x", Errno::NOENT),
        ("way/file/x", Errno::NOTDIR),
        ("way/loop-a/x", Errno::LOOP),
        (&format!("way/{long}"), Errno::NAMETOOLONG),
        (&format!("way/{long}/x"), Errno::NAMETOOLONG),
        (&deep, Errno::NAMETOOLONG),
    ] {
        let shown: String = path.chars().take(24).collect();
        refused(&shown, call(path), &[errno]);
    }
    as_user(ANN, || {
        refused("way/closed/x", call("way/closed/x"), &[Errno::ACCESS]);
    });
}

/// The path by which a process reaches one of its descriptors.
pub fn path_of(file: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())
}
