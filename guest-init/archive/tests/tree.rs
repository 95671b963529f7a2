//! Trees that go through an archive, and archives that try to get out of their place.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;

use proptest::prelude::*;
use rustix::fs::{FileType, Mode, XattrFlags, getxattr, makedev, mknodat, setxattr};
use tree_archive::{
    ArchiveError, Kind, MAX_DEPTH, Owners, Packed, Reader, Rules, Start, Time, Unpacked, pack,
    unpack,
};

fn root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What the guest grants its host.
fn all() -> Rules {
    Rules {
        owners: root(),
        rights: true,
        devices: root(),
        ..Rules::default()
    }
}

fn packed(folder: &Path, leaf: &str, name: &str) -> Vec<u8> {
    let parent = File::open(folder).unwrap();
    let start = Start::Named(parent.as_fd(), OsStr::new(leaf));
    let mut archive = Vec::new();
    pack(start, OsStr::new(name), Owners::Kept, &mut archive).unwrap();
    archive
}

fn unpacked(archive: &[u8], into: &Path, rules: &Rules) -> Result<Unpacked, ArchiveError> {
    unpack(archive, File::open(into).unwrap().as_fd(), rules)
}

/// All that matters of a file, as text.
fn look(path: &Path) -> String {
    let data = fs::symlink_metadata(path).unwrap();
    let kind = data.file_type();
    let mut text = format!(
        "{:o} {}:{} {}.{} links {} device {}",
        data.mode(),
        data.uid(),
        data.gid(),
        data.mtime(),
        data.mtime_nsec(),
        if kind.is_dir() { 0 } else { data.nlink() },
        data.rdev(),
    );
    if kind.is_symlink() {
        text += &format!(" -> {:?}", fs::read_link(path).unwrap());
    } else if kind.is_file() || kind.is_dir() {
        let mut value = [0; 64];
        let len = getxattr(path, "user.note", &mut value).unwrap_or(0);
        text += &format!(" note {:?}", &value[..len]);
    }
    if kind.is_file() {
        text += &format!(" {:?}", fs::read(path).unwrap());
    }
    text
}

/// Every file below a folder, by name.
fn tree(folder: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut found = BTreeMap::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(next) = todo.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().as_os_str().as_bytes();
            found.insert(name.to_vec(), look(&path));
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                todo.push(path);
            }
        }
    }
    found
}

fn modify(path: &Path, mode: u32, seconds: i64) {
    if root() {
        lchown(path, Some(1234), Some(3_000_000)).unwrap();
    }
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    let time = rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: 123_456_789,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty()).unwrap();
}

/// Something of everything.
fn make_tree(folder: &Path) {
    let long = "d".repeat(120);
    fs::create_dir_all(folder.join("sub").join(&long)).unwrap();
    let bytes = folder.join(OsStr::from_bytes(b"not \xff\xfe text\n"));
    fs::write(&bytes, "odd").unwrap();
    fs::write(folder.join("sub").join(&long).join("f".repeat(255)), "far").unwrap();
    fs::write(folder.join("big"), vec![7; 300_001]).unwrap();
    fs::write(folder.join("empty"), "").unwrap();
    fs::hard_link(folder.join("big"), folder.join("sub/same")).unwrap();
    symlink("/etc/passwd", folder.join("link")).unwrap();
    symlink(
        format!("../{}", "t".repeat(200)),
        folder.join("sub/long-link"),
    )
    .unwrap();
    symlink("nowhere", folder.join("sub").join(&long).join("x")).unwrap();
    fs::create_dir(folder.join("closed")).unwrap();
    fs::write(folder.join("closed/in"), "in").unwrap();
    let here = File::open(folder).unwrap();
    mknodat(&here, "fifo", FileType::Fifo, Mode::RUSR, 0).unwrap();
    if root() {
        let device = makedev(1, 3);
        let kind = FileType::CharacterDevice;
        mknodat(&here, "null", kind, Mode::RUSR, device).unwrap();
    }
    for name in ["big", "sub"] {
        // Not every file system has them; then neither copy has.
        let _ = setxattr(
            folder.join(name),
            "user.note",
            b"a\0\n=b",
            XattrFlags::empty(),
        );
    }
    modify(&folder.join("big"), 0o4751, 1_000_000_000);
    modify(&folder.join("empty"), 0o600, -5);
    modify(&folder.join("closed/in"), 0o400, 5);
    modify(&folder.join("closed"), 0o500, 6);
    modify(&folder.join("sub"), 0o2750, 7);
}

#[test]
fn tree_comes_back_as_it_went() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let tree_root = from.path().join("tree");
    fs::create_dir(&tree_root).unwrap();
    make_tree(&tree_root);
    let archive = packed(from.path(), "tree", "copy");
    let made = unpacked(&archive, to.path(), &all()).unwrap();
    assert_eq!(tree(&to.path().join("copy")), tree(&tree_root));
    assert_eq!(look(&to.path().join("copy")), look(&tree_root));
    assert_eq!(made.entries as usize, tree(&tree_root).len() + 1);
    assert_eq!(made.left_out, 0);
    assert_eq!(
        fs::read_dir(to.path()).unwrap().count(),
        1,
        "nothing hidden"
    );
    // The folder that is closed to its owner as well.
    fs::set_permissions(to.path().join("copy/closed"), Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(tree_root.join("closed"), Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn contents_come_without_a_folder_around_them() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(from.path().join("a")).unwrap();
    fs::write(from.path().join("a/b"), "b").unwrap();
    let mut archive = Vec::new();
    let start = Start::Opened(File::open(from.path()).unwrap().into());
    let told = pack(start, OsStr::new("."), Owners::Kept, &mut archive).unwrap();
    assert_eq!((told.entries, told.bytes), (3, 1));
    unpacked(&archive, to.path(), &all()).unwrap();
    assert_eq!(tree(to.path()), tree(from.path()));
}

#[test]
fn what_another_program_wrote_is_read_and_the_other_way_round() {
    let (from, to, again) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    make_tree(from.path());
    for format in ["gnu", "pax"] {
        let target = to.path().join(format);
        fs::create_dir(&target).unwrap();
        let archive = std::process::Command::new("tar")
            .args([
                "--numeric-owner",
                "--ignore-failed-read",
                "--format",
                format,
            ])
            .arg("-C")
            .args([from.path(), Path::new("-c"), Path::new(".")])
            .output()
            .unwrap();
        unpacked(&archive.stdout, &target, &all()).unwrap();
        let names = |folder| tree(folder).into_keys().collect::<Vec<_>>();
        assert_eq!(names(&target), names(from.path()), "{format}");
        assert_eq!(fs::read(target.join("sub/same")).unwrap(), vec![7; 300_001]);
        assert_eq!(fs::metadata(target.join("big")).unwrap().nlink(), 2);
        fs::set_permissions(target.join("closed"), Permissions::from_mode(0o700)).unwrap();
    }
    let ours = packed(from.path(), "sub", "sub");
    let mut tar = std::process::Command::new("tar")
        .args(["--numeric-owner", "-xpC"])
        .arg(again.path())
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    tar.stdin.take().unwrap().write_all(&ours).unwrap();
    assert!(tar.wait().unwrap().success());
    let names = |folder| tree(folder).into_keys().collect::<Vec<_>>();
    assert_eq!(
        names(&again.path().join("sub")),
        names(&from.path().join("sub"))
    );
}

/// An entry of a test: name, type, target or content.
type Line<'a> = (&'a [u8], Kind, &'a [u8]);

/// A tar of these entries.
fn hostile(entries: &[Line<'_>]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (name, kind, rest) in entries {
        let mut header = tar::Header::new_ustar();
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name);
        header.set_mode(0o6777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        header.set_entry_type(match kind {
            Kind::File => tar::EntryType::Regular,
            Kind::HardLink => tar::EntryType::Link,
            Kind::Symlink => tar::EntryType::Symlink,
            Kind::CharDevice => tar::EntryType::Char,
            Kind::BlockDevice => tar::EntryType::Block,
            Kind::Folder => tar::EntryType::Directory,
            Kind::Fifo => tar::EntryType::Fifo,
        });
        let content: &[u8] = match kind {
            Kind::File => {
                header.set_size(rest.len() as u64);
                rest
            }
            _ => {
                header.as_old_mut().linkname[..rest.len()].copy_from_slice(rest);
                b""
            }
        };
        header.set_cksum();
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(content);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.extend_from_slice(&[0; 1024]);
    archive
}

#[test]
fn names_that_lead_out_are_refused_by_name_and_leave_nothing() {
    use Kind::{File as F, Folder, HardLink, Symlink};
    let cases: [(&str, &[Line<'_>]); 10] = [
        ("../out", &[(b"../out", F, b"x")]),
        ("a/../../out", &[(b"a/../../out", F, b"x")]),
        ("/out", &[(b"/out", F, b"x")]),
        ("..", &[(b"..", Folder, b"")]),
        ("out", &[(b"l", Symlink, b".."), (b"l/out", F, b"x")]),
        (
            "l/d",
            &[(b"l", Symlink, b"/tmp"), (b"l/d/out", Folder, b"")],
        ),
        ("h", &[(b"h", HardLink, b"../../etc/passwd")]),
        ("h", &[(b"h", HardLink, b"/etc/passwd")]),
        (
            "h",
            &[(b"l", Symlink, b"/etc"), (b"h", HardLink, b"l/passwd")],
        ),
        ("h", &[(b"h", HardLink, b"missing")]),
    ];
    for (name, entries) in cases {
        let around = tempfile::tempdir().unwrap();
        let into = around.path().join("into");
        fs::create_dir(&into).unwrap();
        let entries: Vec<_> = [(&b"first"[..], F, &b"1"[..])]
            .into_iter()
            .chain(entries.iter().copied())
            .collect();
        let error = unpacked(&hostile(&entries), &into, &all()).unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, ArchiveError::Refused { .. }), "{text}");
        assert!(text.contains(name.rsplit('/').next().unwrap()), "{text}");
        assert_eq!(tree(&into).len(), 0, "{text}");
        assert_eq!(fs::read_dir(around.path()).unwrap().count(), 1, "{text}");
    }
}

#[test]
fn link_that_is_there_is_replaced_and_not_gone_through() {
    let around = tempfile::tempdir().unwrap();
    let (into, outside) = (around.path().join("into"), around.path().join("outside"));
    fs::create_dir(&into).unwrap();
    fs::write(&outside, "mine").unwrap();
    symlink("../outside", into.join("f")).unwrap();
    unpacked(&hostile(&[(b"f", Kind::File, b"theirs")]), &into, &all()).unwrap();
    assert_eq!(fs::read(&outside).unwrap(), b"mine");
    assert_eq!(fs::read(into.join("f")).unwrap(), b"theirs");

    symlink("..", into.join("d")).unwrap();
    let through = hostile(&[(b"d/outside", Kind::File, b"theirs")]);
    let error = unpacked(&through, &into, &all()).unwrap_err();
    assert_eq!(error.system().unwrap().raw_os_error(), Some(20), "{error}");
    assert_eq!(fs::read(&outside).unwrap(), b"mine");
}

#[test]
fn only_what_was_asked_for_is_let_in() {
    let into = tempfile::tempdir().unwrap();
    let rules = Rules {
        top: Some(b"asked".to_vec()),
        file_only: true,
        ..Rules::default()
    };
    let more = hostile(&[(b"asked", Kind::File, b"1"), (b".bashrc", Kind::File, b"2")]);
    let error = unpacked(&more, into.path(), &rules).unwrap_err();
    assert_eq!(
        error.to_string(),
        ".bashrc is refused: it was not asked for"
    );
    let folder = hostile(&[(b"asked", Kind::Folder, b"")]);
    assert!(unpacked(&folder, into.path(), &rules).is_err());
    assert_eq!(tree(into.path()).len(), 0);
    let one = hostile(&[(b"asked", Kind::File, b"1")]);
    unpacked(&one, into.path(), &rules).unwrap();
    assert_eq!(tree(into.path()).len(), 1);
}

#[test]
fn rights_and_devices_are_not_given_without_being_granted() {
    let into = tempfile::tempdir().unwrap();
    let archive = hostile(&[
        (b"tool", Kind::File, b"x"),
        (b"disk", Kind::BlockDevice, b""),
        (b"null", Kind::CharDevice, b""),
        (b"pipe", Kind::Fifo, b""),
        (b"folder", Kind::Folder, b""),
    ]);
    let made = unpacked(&archive, into.path(), &Rules::default()).unwrap();
    assert_eq!((made.entries, made.left_out), (3, 2));
    let data = |name| fs::symlink_metadata(into.path().join(name)).unwrap();
    assert_eq!(data("tool").mode() & 0o7777, 0o777);
    assert_eq!(data("tool").uid(), rustix::process::geteuid().as_raw());
    assert_eq!(data("folder").mode() & 0o7777, 0o777);
    assert!(data("pipe").file_type().is_fifo());
    assert!(!into.path().join("disk").exists() && !into.path().join("null").exists());
}

#[test]
fn folders_that_are_there_are_merged_with_and_other_things_are_not_mixed_up() {
    let into = tempfile::tempdir().unwrap();
    let path = |name: &str| into.path().join(name);
    fs::create_dir_all(path("d/e")).unwrap();
    fs::write(path("d/e/kept"), "kept").unwrap();
    fs::write(path("d/e/old"), "old").unwrap();
    fs::set_permissions(path("d"), Permissions::from_mode(0o701)).unwrap();
    let archive = hostile(&[
        (b"d", Kind::Folder, b""),
        (b"d/e/old", Kind::File, b"new"),
        (b"d/n/deep", Kind::File, b"deep"),
    ]);
    unpacked(&archive, into.path(), &all()).unwrap();
    assert_eq!(fs::read(path("d/e/kept")).unwrap(), b"kept");
    assert_eq!(fs::read(path("d/e/old")).unwrap(), b"new");
    assert_eq!(fs::read(path("d/n/deep")).unwrap(), b"deep");
    assert_eq!(fs::metadata(path("d")).unwrap().mode() & 0o7777, 0o701);
    assert_eq!(fs::metadata(path("d/n")).unwrap().mode() & 0o7777, 0o755);

    let before = tree(into.path());
    for (errno, entries) in [
        (
            21,
            [
                (&b"a"[..], Kind::File, &b"a"[..]),
                (b"d/e", Kind::File, b"x"),
            ],
        ),
        (
            20,
            [(b"a", Kind::File, b"a"), (b"d/e/old", Kind::Folder, b"")],
        ),
    ] {
        let error = unpacked(&hostile(&entries), into.path(), &all()).unwrap_err();
        assert_eq!(error.system().unwrap().raw_os_error(), Some(errno));
        assert_eq!(tree(into.path()), before, "not even what came before");
    }
}

#[test]
fn archive_that_breaks_off_leaves_nothing() {
    let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    make_tree(from.path());
    let archive = packed(from.path(), "sub", "sub");
    for len in [0, 1, 511, 512, 513, archive.len() / 2, archive.len() - 1024] {
        let error = unpacked(&archive[..len], into.path(), &all()).unwrap_err();
        assert!(
            matches!(error, ArchiveError::Truncated { .. }),
            "{len}: {error}"
        );
        assert_eq!(fs::read_dir(into.path()).unwrap().count(), 0, "{len}");
    }
    struct Broken<'a>(&'a [u8]);
    impl Read for Broken<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            match self.0.read(into)? {
                0 => Err(io::ErrorKind::ConnectionReset.into()),
                len => Ok(len),
            }
        }
    }
    let folder = File::open(into.path()).unwrap();
    let broken = Broken(&archive[..archive.len() / 2]);
    let error = unpack(broken, folder.as_fd(), &all()).unwrap_err();
    assert!(matches!(error, ArchiveError::Read(_)));
    assert_eq!(fs::read_dir(into.path()).unwrap().count(), 0);
    fs::set_permissions(from.path().join("closed"), Permissions::from_mode(0o700)).unwrap();
}

/// As many folders in one another.
fn deep_archive(depth: usize) -> Vec<u8> {
    let path = vec![b"d".as_slice(); depth].join(&b'/');
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(path.len() as u64);
    header.set_cksum();
    let mut archive = header.as_bytes().to_vec();
    archive.extend_from_slice(&path);
    archive.resize(archive.len().next_multiple_of(512), 0);
    archive.extend(hostile(&[(b"x", Kind::Folder, b"")]));
    archive
}

#[test]
fn trees_and_names_without_measure_meet_a_limit() {
    let into = tempfile::tempdir().unwrap();
    let archive = deep_archive(MAX_DEPTH + 1);
    let error = unpacked(&archive, into.path(), &all()).unwrap_err();
    assert!(error.to_string().ends_with("too many folders"), "{error}");
    // One folder less goes in.
    let archive = deep_archive(MAX_DEPTH);
    unpacked(&archive, into.path(), &all()).unwrap();
    let back = packed(into.path(), "d", "d");
    assert_eq!(
        Reader::new(&back[..]).next_entry().unwrap().unwrap().path,
        b"d"
    );
    let cut = &archive[..archive.len() - 1024];
    fs::remove_dir_all(into.path().join("d")).unwrap();
    unpacked(cut, into.path(), &all()).unwrap_err();
    assert_eq!(fs::read_dir(into.path()).unwrap().count(), 0);

    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(u64::from(u32::MAX));
    header.set_cksum();
    let endless = header.as_bytes().chain(io::repeat(b'x'));
    let folder = File::open(into.path()).unwrap();
    let error = unpack(endless, folder.as_fd(), &all()).unwrap_err();
    assert!(
        matches!(error, ArchiveError::Damaged { offset: 0 }),
        "{error}"
    );
}

#[test]
fn file_whose_size_is_not_told_is_whole() {
    let mut archive = Vec::new();
    let file = File::open("/proc/self/maps").unwrap();
    assert_eq!(file.metadata().unwrap().len(), 0);
    let start = Start::Opened(file.into());
    pack(start, OsStr::new("maps"), Owners::Kept, &mut archive).unwrap();
    let mut reader = Reader::new(&archive[..]);
    let entry = reader.next_entry().unwrap().unwrap();
    let mut text = vec![0; 1 << 20];
    let len = reader.read_data(&mut text).unwrap();
    assert_eq!(entry.size, len as u64);
    assert!(String::from_utf8_lossy(&text[..len]).contains("[stack]"));
}

#[test]
fn file_that_shrinks_or_grows_keeps_the_archive_whole() {
    let from = tempfile::tempdir().unwrap();
    let path = from.path().join("log");
    /// Changes the file once its header was written.
    struct Changing<'a>(Vec<u8>, &'a Path, u64);
    impl Write for Changing<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0.len() == 512 || self.0.len() == 1536 {
                File::options().write(true).open(self.1)?.set_len(self.2)?;
            }
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for changed in [200_000, 900_000] {
        fs::write(&path, vec![b'x'; 500_000]).unwrap();
        let mut out = Changing(Vec::new(), &path, changed);
        let start = Start::Opened(File::open(&path).unwrap().into());
        let told = pack(start, OsStr::new("log"), Owners::Kept, &mut out).unwrap();
        assert_eq!(
            told,
            Packed {
                entries: 1,
                bytes: 500_000
            }
        );
        let into = tempfile::tempdir().unwrap();
        unpacked(&out.0, into.path(), &all()).unwrap();
        let copy = fs::read(into.path().join("log")).unwrap();
        assert_eq!(copy.len(), 500_000);
        assert!(copy[..200_000].iter().all(|byte| *byte == b'x'));
    }
}

#[test]
fn what_goes_to_root_loses_the_rights_of_its_owner() {
    let from = tempfile::tempdir().unwrap();
    fs::write(from.path().join("tool"), "").unwrap();
    modify(&from.path().join("tool"), 0o6755, 0);
    let mut archive = Vec::new();
    let start = Start::Opened(File::open(from.path().join("tool")).unwrap().into());
    pack(start, OsStr::new("tool"), Owners::Root, &mut archive).unwrap();
    let entry = Reader::new(&archive[..]).next_entry().unwrap().unwrap();
    assert_eq!((entry.uid, entry.gid, entry.mode), (0, 0, 0o755));
}

#[test]
fn file_capabilities_go_along_where_they_are_granted() {
    if !root() {
        // Who may not set them has none to copy.
        let error = setxattr("/proc", "security.capability", b"", XattrFlags::empty());
        assert!(error.is_err());
        return;
    }
    let (from, into) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // VFS_CAP_REVISION_2 with CAP_NET_BIND_SERVICE permitted.
    let mut value = [0u8; 20];
    value[3] = 2;
    value[5] = 4;
    let name = "security.capability";
    fs::write(from.path().join("tool"), "").unwrap();
    if setxattr(from.path().join("tool"), name, &value, XattrFlags::empty()).is_err() {
        // A root without CAP_SETFCAP.
        return;
    }
    let archive = packed(from.path(), "tool", "tool");
    let mut found = [0u8; 64];
    unpacked(&archive, into.path(), &all()).unwrap();
    let len = getxattr(into.path().join("tool"), name, &mut found).unwrap();
    assert_eq!(found[..len], value);
    unpacked(&archive, into.path(), &Rules::default()).unwrap();
    assert!(getxattr(into.path().join("tool"), name, &mut found).is_err());
}

#[test]
fn names_do_not_speak_to_the_terminal() {
    let archive = hostile(&[(b"/\x1b[2J\n", Kind::File, b"")]);
    let into = tempfile::tempdir().unwrap();
    let text = unpacked(&archive, into.path(), &all())
        .unwrap_err()
        .to_string();
    assert!(text.starts_with("/\\u{1b}[2J\\n is refused"), "{text}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_unpacked_below_the_destination_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        at in 0..2000usize,
    ) {
        let around = tempfile::tempdir().unwrap();
        let into = around.path().join("into");
        fs::create_dir(&into).unwrap();
        // A good archive with some bytes changed.
        let mut archive = hostile(&[
            (b"a/b", Kind::File, b"content"),
            (b"a/l", Kind::Symlink, b"b"),
            (b"h", Kind::HardLink, b"a/b"),
        ]);
        for (to, from) in archive.iter_mut().skip(at).zip(bytes) {
            *to = from;
        }
        let result = unpacked(&archive, &into, &Rules::default());
        prop_assert_eq!(fs::read_dir(around.path()).unwrap().count(), 1);
        if result.is_err() {
            prop_assert_eq!(fs::read_dir(&into).unwrap().count(), 0);
        }
    }

    #[test]
    fn attributes_of_any_size_come_back(
        name in prop::collection::vec(1..=255u8, 1..255),
        mode in 0..=0o7777u32,
        seconds in -(1i64 << 33)..(1i64 << 33),
        nanos in 0..1_000_000_000u32,
    ) {
        let name: Vec<u8> = name.into_iter().map(|byte| if byte == b'/' { b'_' } else { byte }).collect();
        prop_assume!(name != b"." && name != b"..");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(OsStr::from_bytes(&name));
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode | 0o400)).unwrap();
        let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        rustix::fs::utimensat(rustix::fs::CWD, &path, &times, rustix::fs::AtFlags::empty()).unwrap();
        let told = rustix::fs::lstat(&path).unwrap();
        let mut archive = Vec::new();
        let start = Start::Opened(File::open(&path).unwrap().into());
        pack(start, path.file_name().unwrap(), Owners::Kept, &mut archive).unwrap();
        let entry = Reader::new(&archive[..]).next_entry().unwrap().unwrap();
        prop_assert_eq!(entry.path, name);
        prop_assert_eq!(entry.mode, told.st_mode & 0o7777);
        let modified = Time { seconds: told.st_mtime, nanos: told.st_mtime_nsec as u32 };
        prop_assert_eq!(entry.modified, modified);
    }
}
