//! Archives of trees, through agent and client.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};

use guest_client::{ArchiveReader, ArchiveWriter};
use guest_protocol::ArchiveRead;
use nix::unistd::geteuid;

use super::*;

fn asked(path: &str, name: &str, follow: bool) -> ArchiveRead {
    ArchiveRead {
        path: path.into(),
        name: name.into(),
        follow,
    }
}

fn names(archive: impl Read) -> Vec<OsString> {
    let mut reader = tree_archive::Reader::new(archive);
    std::iter::from_fn(|| reader.next_entry().unwrap())
        .map(|entry| OsString::from_vec(entry.path))
        .collect()
}

/// The guest's error number.
fn errno<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (i32, String) {
    match result {
        Err(ClientError::Failed(failure)) => (failure.errno, failure.message),
        other => panic!("{other:?}"),
    }
}

fn inner(error: io::Error) -> ClientError {
    *error.into_inner().unwrap().downcast().unwrap()
}

/// Waits until the agent is through with all connections.
fn idle(guest: &Guest) {
    while *guest.agent.connections.lock().unwrap() > 0 {
        thread::yield_now();
    }
}

fn copy(mut from: ArchiveReader, mut to: ArchiveWriter) {
    io::copy(&mut from, &mut to).unwrap();
    to.finish().unwrap();
}

#[test]
fn tree_comes_out_and_goes_in_elsewhere() {
    let guest = Guest::boot();
    let root = guest.root.path();
    fs::create_dir_all(root.join("src/sub")).unwrap();
    fs::create_dir(root.join("dst")).unwrap();
    let big: Vec<u8> = (0..3_000_000u32).map(|at| (at >> 7) as u8).collect();
    fs::write(root.join("src/sub/big"), &big).unwrap();
    fs::set_permissions(root.join("src/sub/big"), fs::Permissions::from_mode(0o4751)).unwrap();
    fs::hard_link(root.join("src/sub/big"), root.join("src/same")).unwrap();
    symlink("/etc/passwd", root.join("src/link")).unwrap();
    let port = guest.client.port();
    copy(
        port.read_archive(asked("/src", "copy", false)).unwrap(),
        port.write_archive("/dst").unwrap(),
    );
    let made = fs::metadata(root.join("dst/copy/sub/big")).unwrap();
    assert_eq!((made.mode() & 0o7777, made.nlink()), (0o4751, 2));
    assert_eq!(fs::read(root.join("dst/copy/same")).unwrap(), big);
    let link = fs::read_link(root.join("dst/copy/link")).unwrap();
    assert_eq!(link.as_os_str(), "/etc/passwd");
    assert_eq!(fs::read_dir(root.join("dst")).unwrap().count(), 1);
}

#[test]
fn owners_of_an_archive_are_kept_by_an_agent_that_is_root() {
    let guest = Guest::boot();
    let mut out = guest.client.port().write_archive("/etc").unwrap();
    out.write_all(&one_entry("file", 1234, 5678)).unwrap();
    out.finish().unwrap();
    let data = fs::metadata(guest.root.path().join("etc/file")).unwrap();
    let expected = match geteuid().is_root() {
        true => (1234, 5678),
        false => (getuid().as_raw(), data.gid()),
    };
    assert_eq!((data.uid(), data.gid()), expected);
}

/// An archive of one empty file.
fn one_entry(name: &str, uid: u64, gid: u64) -> Vec<u8> {
    let mut header = [0u8; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..108].copy_from_slice(b"0000640\0");
    header[108..116].copy_from_slice(format!("{uid:07o}\0").as_bytes());
    header[116..124].copy_from_slice(format!("{gid:07o}\0").as_bytes());
    header[124..136].copy_from_slice(b"00000000000\0");
    header[136..148].copy_from_slice(b"00000000000\0");
    header[148..156].fill(b' ');
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    [header.as_slice(), &[0; 1024]].concat()
}

#[test]
fn link_is_itself_or_what_it_leads_to_as_asked() {
    let guest = Guest::boot();
    let root = guest.root.path();
    fs::write(root.join("etc/file"), "x").unwrap();
    symlink("/etc", root.join("link")).unwrap();
    let port = guest.client.port();
    let read = |path, follow| names(port.read_archive(asked(path, "n", follow)).unwrap());
    assert_eq!(read("/link", false), ["n"]);
    assert_eq!(read("/link", true), ["n", "n/file"]);
    assert_eq!(read("/link/file", false), ["n"]);
    let mut all = read("/", false);
    all.sort();
    assert_eq!(all, ["n", "n/etc", "n/etc/file", "n/link"]);
    let contents = names(port.read_archive(asked("/etc", ".", true)).unwrap());
    assert_eq!(contents, [".", "file"]);
}

#[test]
fn archive_paths_cannot_leave_the_root() {
    let guest = Guest::boot();
    let root = guest.root.path();
    symlink("/../../../../etc", root.join("out")).unwrap();
    symlink("/proc/self/root", root.join("magic")).unwrap();
    let port = guest.client.port();
    let read = port.read_archive(asked("/../../out", "n", true)).unwrap();
    assert_eq!(names(read), ["n"], "the container's own etc is empty");
    for path in ["/etc/passwd", "/magic/etc/passwd"] {
        assert_eq!(
            errno(port.read_archive(asked(path, "n", true))).0,
            libc::ENOENT
        );
    }
    let (number, text) = errno(port.write_archive("/missing"));
    assert_eq!(number, libc::ENOENT);
    assert_eq!(text, "/missing: No such file or directory");
    fs::write(root.join("etc/file"), "").unwrap();
    assert_eq!(errno(port.write_archive("/etc/file")).0, libc::ENOTDIR);
}

#[test]
fn archive_that_leads_out_is_refused_by_name_and_leaves_nothing() {
    let guest = Guest::boot();
    for name in ["../out", "/out", "etc/../../out"] {
        let mut out = guest.client.port().write_archive("/etc").unwrap();
        out.write_all(&one_entry("first", 0, 0)[..512]).unwrap();
        out.write_all(&one_entry(name, 0, 0)).unwrap();
        let (number, text) = errno(out.finish());
        assert_eq!(number, libc::EINVAL);
        assert!(
            text.starts_with(&format!("/etc: {name} is refused: ")),
            "{text}"
        );
        assert_eq!(
            fs::read_dir(guest.root.path().join("etc")).unwrap().count(),
            0
        );
    }
    assert_eq!(fs::read_dir(guest.root.path()).unwrap().count(), 1);
}

#[test]
fn host_that_hangs_up_leaves_nothing_of_an_archive() {
    let guest = Guest::boot();
    let root = guest.root.path();
    fs::create_dir(root.join("src")).unwrap();
    fs::write(root.join("src/data"), vec![1; 2_000_000]).unwrap();
    let port = guest.client.port();
    let mut archive = Vec::new();
    let mut whole = port.read_archive(asked("/src", "data", false)).unwrap();
    whole.read_to_end(&mut archive).unwrap();
    let complete = archive.len();
    for len in [0, 1000, complete / 2, complete] {
        let mut out = port.write_archive("/etc").unwrap();
        out.write_all(&archive[..len]).unwrap();
        drop(out);
        idle(&guest);
        assert_eq!(fs::read_dir(root.join("etc")).unwrap().count(), 0, "{len}");
    }
    let mut out = port.write_archive("/etc").unwrap();
    out.write_all(&archive[..complete / 2]).unwrap();
    out.abort().unwrap();
    assert_eq!(fs::read_dir(root.join("etc")).unwrap().count(), 0);
    // And the other way round: the agent gives up, whatever is left to send.
    drop(port.read_archive(asked("/src", "data", false)).unwrap());
    idle(&guest);
}

#[test]
fn refusal_in_the_middle_reaches_a_host_that_is_still_sending() {
    let guest = Guest::boot();
    let mut out = guest.client.port().write_archive("/etc").unwrap();
    let garbage = vec![b'x'; 8 << 20];
    let error = match out.write_all(&garbage) {
        Ok(()) => out.finish().unwrap_err(),
        Err(error) => inner(error),
    };
    let (_, text) = errno::<()>(Err(error));
    assert!(text.starts_with("/etc: no tar archive"), "{text}");
    idle(&guest);
    let etc = guest.root.path().join("etc");
    assert_eq!(fs::read_dir(etc).unwrap().count(), 0);
}
