//! `/ya-self-test RESULT`, the command of the self-test's image: uses what the guest
//! of a provider has to have, and writes to the file RESULT what it found for the
//! market, a JSON object. Here that is empty: an image for special devices has a
//! command of its own. golem-runtime, section 6.
//!
//! Ends with 0, or with 1 and a line on standard error that names what is amiss.
#![forbid(unsafe_code)]

use std::env;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::statfs::{
    EXT4_SUPER_MAGIC, FUSE_SUPER_MAGIC, FsType, PROC_SUPER_MAGIC, TMPFS_MAGIC, statfs,
};

/// The volumes: the image's own, then those that the runtime adds.
const VOLUMES: [(&str, FsType, &str); 3] = [
    ("/mnt/out", FUSE_SUPER_MAGIC, "a folder of the host"),
    ("/golem/storage", EXT4_SUPER_MAGIC, "a disk"),
    ("/golem/storage2", TMPFS_MAGIC, "memory"),
];

/// linux/magic.h has it, nix has not.
const SYSFS_MAGIC: FsType = FsType(0x6265_6572);

/// Bytes that are written to each; the smallest volume has room for them.
const SAMPLE: usize = 64 << 10;

/// Nothing of interest to the market.
const FOUND: &[u8] = b"{}\n";

fn main() -> ExitCode {
    let words: Vec<_> = env::args_os().skip(1).collect();
    let outcome = match words.as_slice() {
        [result] => check_guest().and_then(|()| tell(Path::new(result))),
        _ => Err("usage: ya-self-test RESULT".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ya-self-test: {error}");
            ExitCode::FAILURE
        }
    }
}

fn check_guest() -> Result<(), String> {
    for (path, kind, what) in VOLUMES {
        check_type(Path::new(path), kind, what)?;
        check_files(Path::new(path))?;
    }
    check_files(Path::new("/tmp"))?;
    check_type(Path::new("/proc"), PROC_SUPER_MAGIC, "proc")?;
    check_proc(Path::new("/proc"))?;
    check_type(Path::new("/sys"), SYSFS_MAGIC, "sysfs")?;
    check_null(Path::new("/dev/null"))
}

/// Whether at `path` there is a file system of this type, not merely a folder of the
/// one around it.
fn check_type(path: &Path, kind: FsType, what: &str) -> Result<(), String> {
    let found = statfs(path).map_err(about(path, "look at"))?;
    match found.filesystem_type() {
        found if found == kind => Ok(()),
        FsType(found) => Err(format!("{} is not {what}: type {found:#x}", path.display())),
    }
}

/// Whether a file in `folder` keeps what is written to it.
fn check_files(folder: &Path) -> Result<(), String> {
    let path = folder.join(".ya-self-test");
    let sample: Vec<u8> = (0..SAMPLE).map(|at| ((at * at) >> 7) as u8).collect();
    let mut file = File::create(&path).map_err(about(&path, "make"))?;
    file.write_all(&sample)
        .and_then(|()| file.sync_all())
        .map_err(about(&path, "write"))?;
    // Read from where it is, not from the guest's page cache.
    posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
        .map_err(about(&path, "forget the pages of"))?;
    drop(file);
    if fs::read(&path).map_err(about(&path, "read"))? != sample {
        return Err(format!("{} holds not what was written", path.display()));
    }
    fs::remove_file(&path).map_err(about(&path, "remove"))
}

/// Whether the processes in `proc` are this one's.
fn check_proc(proc: &Path) -> Result<(), String> {
    let path = proc.join("self");
    let found = fs::read_link(&path).map_err(about(&path, "read"))?;
    if found != Path::new(&std::process::id().to_string()) {
        return Err(format!("{} is process {}", path.display(), found.display()));
    }
    Ok(())
}

fn check_null(path: &Path) -> Result<(), String> {
    let mut null = File::options()
        .read(true)
        .write(true)
        .open(path)
        .map_err(about(path, "open"))?;
    let mut byte = [0];
    let read = null.write_all(&byte).and_then(|()| null.read(&mut byte));
    match read.map_err(about(path, "use"))? {
        0 => Ok(()),
        _ => Err(format!("{} gives back what it got", path.display())),
    }
}

/// Writes the result, which is there whole or not at all.
fn tell(result: &Path) -> Result<(), String> {
    let new = result.with_extension("new");
    let write = || {
        let mut file = File::create(&new)?;
        file.write_all(FOUND)?;
        file.sync_all()?;
        fs::rename(&new, result)
    };
    write().map_err(about(result, "write"))
}

fn about<E: std::fmt::Display>(path: &Path, doing: &str) -> impl FnOnce(E) -> String {
    move |error| format!("{doing} {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_works_is_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        check_files(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_is_amiss_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let full = Path::new("/dev/full");
        for (error, words) in [
            (check_files(&missing), ["make", "missing/.ya-self-test"]),
            (
                check_type(&missing, TMPFS_MAGIC, "memory"),
                ["look at", "missing"],
            ),
            (
                check_type(Path::new("/proc"), TMPFS_MAGIC, "memory"),
                ["/proc is not memory", "0x9fa0"],
            ),
            (check_proc(&missing), ["read", "missing/self"]),
            (check_null(&missing), ["open", "missing"]),
            (check_null(full), ["use", "/dev/full"]),
            (tell(&missing.join("result.json")), ["write", "result.json"]),
        ] {
            let error = error.unwrap_err();
            for word in words {
                assert!(error.contains(word), "{word:?} is not in {error:?}");
            }
        }
    }

    #[test]
    fn this_machine_has_what_a_guest_has() {
        check_type(Path::new("/proc"), PROC_SUPER_MAGIC, "proc").unwrap();
        check_type(Path::new("/sys"), SYSFS_MAGIC, "sysfs").unwrap();
        check_proc(Path::new("/proc")).unwrap();
        check_null(Path::new("/dev/null")).unwrap();
    }

    #[test]
    fn the_result_is_an_empty_object_and_the_only_file() {
        let dir = tempfile::tempdir().unwrap();
        let result = dir.path().join("result.json");
        tell(&result).unwrap();
        assert_eq!(fs::read(&result).unwrap(), FOUND);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
