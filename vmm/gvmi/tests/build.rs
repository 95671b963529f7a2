//! Images made by the real `mksquashfs`, as `unsquashfs` lists them.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use gvmi::{BuildError, Builder, Compressor, ContainerConfig, Image, Tree};
use tempfile::TempDir;

/// On a disk, because a tmpfs may refuse extended attributes.
fn scratch() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn entry(path: &str, kind: tar::EntryType, mode: u32, owner: (u64, u64), size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_path(path).unwrap();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner.0);
    header.set_gid(owner.1);
    header.set_size(size);
    header.set_mtime(86400);
    header.set_cksum();
    header
}

type Tar = tar::Builder<Vec<u8>>;

fn add(tar: &mut Tar, header: &tar::Header, data: &[u8]) {
    tar.append(header, data).unwrap();
}

/// What `unsquashfs -lln` prints of each entry, without its time, the root
/// first and as an empty name.
fn list(image: &Path) -> Vec<String> {
    let out = Command::new("unsquashfs")
        .args(["-q", "-lln"])
        .arg(image)
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8_lossy(&out.stdout)
        .lines()
        .filter(|line| line.contains("squashfs-root"))
        .map(|line| {
            let (attributes, name) = line.split_once("squashfs-root").unwrap();
            let mut words = attributes.split_whitespace();
            let (mode, owner) = (words.next().unwrap(), words.next().unwrap());
            format!("{mode} {owner} {name}")
        })
        .collect()
}

/// Unpacks the image with `unsquashfs` for the tests that compare contents.
fn unpack(image: &Path, to: &Path) {
    let out = Command::new("unsquashfs")
        .args(["-q", "-n", "-user-xattrs", "-d"])
        .args([to, image])
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
}

/// The user's extended attributes below `dir`, as GNU tar writes them.
fn xattrs(dir: &Path) -> String {
    let out = Command::new("tar")
        .args(["--xattrs", "--format=pax", "-cf", "-", "-C"])
        .args([dir, Path::new(".")])
        .output()
        .unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn demo_config() -> ContainerConfig {
    ContainerConfig {
        env: vec!["A=b".to_owned()],
        cmd: vec!["/bin/sh".to_owned()],
        user: Some("1:2".to_owned()),
        ..Default::default()
    }
}

fn build(tar: &[u8], to: &Path) -> Result<gvmi::Built, BuildError> {
    let builder = Builder {
        config: demo_config(),
        ..Default::default()
    };
    builder.pack_tar(tar, to)
}

fn is_empty(folder: &TempDir) -> bool {
    fs::read_dir(folder.path()).unwrap().next().is_none()
}

#[test]
fn archive_survives_with_links_devices_owners_and_attributes() {
    use tar::EntryType as Kind;
    let folder = scratch();
    let mut tar = tar::Builder::new(Vec::new());
    add(
        &mut tar,
        &entry("./", Kind::Directory, 0o1750, (70000, 70000), 0),
        b"",
    );
    tar.append_pax_extensions([("SCHILY.xattr.user.k", &b"value"[..])])
        .unwrap();
    let mut file = entry("file", Kind::Regular, 0o4755, (100_000, 4_000_000_000), 5);
    // A name that every system has, with another number.
    file.as_gnu_mut().unwrap().set_username("daemon").unwrap();
    file.as_gnu_mut().unwrap().set_groupname("daemon").unwrap();
    file.set_cksum();
    add(&mut tar, &file, b"hello");
    let mut link = entry("link", Kind::Link, 0o644, (0, 0), 0);
    link.set_link_name("file").unwrap();
    link.set_cksum();
    add(&mut tar, &link, b"");
    let mut null = entry("null", Kind::Char, 0o666, (0, 0), 0);
    null.set_device_major(1).unwrap();
    null.set_device_minor(3).unwrap();
    null.set_cksum();
    add(&mut tar, &null, b"");
    add(&mut tar, &entry("pipe", Kind::Fifo, 0o600, (1, 2), 0), b"");
    add(
        &mut tar,
        &entry("implied/child", Kind::Regular, 0o600, (65534, 3), 0),
        b"",
    );
    let mut odd = entry("x", Kind::Regular, 0o644, (0, 0), 0);
    odd.as_gnu_mut().unwrap().name[..3].copy_from_slice(b"\xff\xfe\x01");
    odd.set_cksum();
    add(&mut tar, &odd, b"");

    let to = folder.path().join("a.gvmi");
    let built = build(&tar.into_inner().unwrap(), &to).unwrap();

    assert_eq!(built.warnings, [""; 0]);
    assert_eq!(
        list(&to),
        [
            "drwxr-x--T 70000/70000 ",
            "-rwsr-xr-x 100000/4000000000 /file",
            "drwxr-xr-x 0/0 /implied",
            "-rw------- 65534/3 /implied/child",
            "-rwsr-xr-x 100000/4000000000 /link",
            "crw-rw-rw- 0/0 /null",
            "prw------- 1/2 /pipe",
            "-rw-r--r-- 0/0 /\u{fffd}\u{fffd}\u{1}",
        ]
    );
    // Eight names, two of them of one inode.
    assert_eq!(built.contents.superblock.inodes, 7);
    let image = Image::open(&to).unwrap();
    assert_eq!(image.contents(), &built.contents);
    assert_eq!(image.contents().config, demo_config());
    assert_eq!(image.contents().superblock.compressor, Compressor::Lzo);
}

#[test]
fn extended_attributes_of_an_archive_survive() {
    let folder = scratch();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_pax_extensions([("SCHILY.xattr.user.k", &b"value"[..])])
        .unwrap();
    // Owned by us, so that unpacking it needs no privilege.
    let us = fs::metadata(folder.path()).unwrap();
    let owner = (us.uid().into(), us.gid().into());
    add(
        &mut tar,
        &entry("file", tar::EntryType::Regular, 0o644, owner, 0),
        b"",
    );
    let to = folder.path().join("a.gvmi");
    build(&tar.into_inner().unwrap(), &to).unwrap();
    unpack(&to, &folder.path().join("out"));
    assert!(xattrs(&folder.path().join("out")).contains("SCHILY.xattr.user.k=value\n"));
}

#[test]
fn root_without_an_entry_is_root_root_0755() {
    let folder = scratch();
    let mut tar = tar::Builder::new(Vec::new());
    let us = fs::metadata(folder.path()).unwrap();
    let owner = (us.uid().into(), us.gid().into());
    add(
        &mut tar,
        &entry("ours", tar::EntryType::Regular, 0o644, owner, 0),
        b"",
    );
    let to = folder.path().join("a.gvmi");
    build(&tar.into_inner().unwrap(), &to).unwrap();
    let ours = format!("-rw-r--r-- {}/{} /ours", us.uid(), us.gid());
    assert_eq!(list(&to), ["drwxr-xr-x 0/0 ".to_owned(), ours]);
}

#[test]
fn more_owners_than_a_metadata_block_holds_survive() {
    let folder = scratch();
    let mut tar = tar::Builder::new(Vec::new());
    for id in 0..2500 {
        let name = format!("{id:04}");
        add(
            &mut tar,
            &entry(&name, tar::EntryType::Regular, 0o644, (id, id), 0),
            b"",
        );
    }
    let to = folder.path().join("a.gvmi");
    build(&tar.into_inner().unwrap(), &to).unwrap();
    let expected = (0..2500).map(|id| format!("-rw-r--r-- {id}/{id} /{id:04}"));
    assert!(list(&to).into_iter().skip(1).eq(expected));
}

#[test]
fn folder_survives_with_links_attributes_and_odd_names() {
    let folder = scratch();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    // GNU tar gives the file its attribute.
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_pax_extensions([("SCHILY.xattr.user.k", &b"value"[..])])
        .unwrap();
    add(
        &mut tar,
        &entry("file", tar::EntryType::Regular, 0o644, (0, 0), 0),
        b"",
    );
    let mut child = Command::new("tar")
        .args(["--xattrs", "--no-same-owner", "-xf", "-", "-C"])
        .arg(&source)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let tar = tar.into_inner().unwrap();
    child.stdin.take().unwrap().write_all(&tar).unwrap();
    assert!(child.wait().unwrap().success());
    fs::hard_link(source.join("file"), source.join("link")).unwrap();
    fs::write(
        source.join(std::ffi::OsString::from_vec(b"\xff".to_vec())),
        "x",
    )
    .unwrap();
    fs::write(source.join("suid"), "x").unwrap();
    fs::set_permissions(source.join("suid"), Permissions::from_mode(0o6755)).unwrap();
    fs::set_permissions(&source, Permissions::from_mode(0o1777)).unwrap();

    // Into the tree itself, twice: the first image is no part of the second.
    let to = source.join("a.gvmi");
    let builder = Builder::default();
    builder.pack(&source, &to).unwrap();
    let built = builder.pack(&source, &to).unwrap();
    assert_eq!(built.warnings, [""; 0]);

    let out = folder.path().join("out");
    unpack(&to, &out);
    let names: Vec<_> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(names.iter().any(|name| name.as_bytes() == b"\xff"));
    let listed = list(&to);
    assert!(listed[0].starts_with("drwxrwxrwt "), "{listed:?}");
    assert!(
        listed.iter().any(|line| line.starts_with("-rwsr-sr-x ")),
        "{listed:?}"
    );
    assert_eq!(fs::metadata(out.join("file")).unwrap().nlink(), 2);
    assert!(xattrs(&out).contains("SCHILY.xattr.user.k=value\n"));
}

#[test]
fn every_compressor_is_written_and_read() {
    let folder = scratch();
    let mut tar = tar::Builder::new(Vec::new());
    add(
        &mut tar,
        &entry("a", tar::EntryType::Regular, 0o644, (0, 0), 9000),
        &[7; 9000],
    );
    let tar = tar.into_inner().unwrap();
    let to = folder.path().join("a.gvmi");
    for text in ["gzip:1", "lzo:9", "xz", "lz4", "zstd:19"] {
        let builder = Builder {
            compression: text.parse().unwrap(),
            processors: std::num::NonZeroU32::new(1),
            ..Default::default()
        };
        let built = builder.pack_tar(&tar[..], &to).unwrap();
        let name = built.contents.superblock.compressor.name();
        assert!(text.starts_with(name), "{text}: {name}");
        assert_eq!(list(&to).len(), 2);
    }
}

#[test]
fn archive_cut_short_leaves_no_image() {
    let folder = scratch();
    let mut tar = tar::Builder::new(Vec::new());
    for name in ["a", "b"] {
        add(
            &mut tar,
            &entry(name, tar::EntryType::Regular, 0o644, (0, 0), 600),
            &[1; 600],
        );
    }
    let tar = tar.into_inner().unwrap();
    let to = folder.path().join("a.gvmi");
    for len in (0..tar.len() - 1024).step_by(256) {
        let answer = build(&tar[..len], &to);
        assert!(
            matches!(answer, Err(BuildError::Tar(_))),
            "{len}: {answer:?}"
        );
        assert!(is_empty(&folder));
    }
}

#[test]
fn failing_source_leaves_no_image() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("gone"))
        }
    }
    let folder = scratch();
    let header = entry("a", tar::EntryType::Regular, 0o644, (0, 0), 1 << 20);
    let source = (&header.as_bytes()[..]).chain(Failing);
    let answer = Builder::default().pack_tar(source, &folder.path().join("a.gvmi"));
    let error = answer.unwrap_err();
    assert_eq!(error.to_string(), "the archive: read the archive");
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(cause.to_string(), "gone");
    assert!(is_empty(&folder));
}

#[test]
fn archive_that_is_too_long_to_copy_is_refused_with_the_flag() {
    let folder = scratch();
    let builder = Builder {
        limits: gvmi::Limits {
            max_size: 1 << 20,
            ..Default::default()
        },
        ..Default::default()
    };
    let endless = std::io::repeat(0);
    let answer = builder.pack_tar(endless, &folder.path().join("a.gvmi"));
    let error = answer.unwrap_err().to_string();
    assert!(error.contains("--max-size"), "{error}");
    assert!(is_empty(&folder));
}

#[test]
fn of_entries_with_one_name_the_last_counts() {
    let folder = scratch();
    let mut tar = tar::Builder::new(Vec::new());
    for (path, data) in [("a", "1"), ("d/x", "1"), ("a", "2")] {
        let header = entry(path, tar::EntryType::Regular, 0o644, (0, 0), 1);
        add(&mut tar, &header, data.as_bytes());
    }
    let header = entry("d", tar::EntryType::Regular, 0o644, (0, 0), 1);
    add(&mut tar, &header, b"2");
    let to = folder.path().join("a.gvmi");
    let built = build(&tar.into_inner().unwrap(), &to).unwrap();
    assert_eq!(built.warnings, [""; 0]);
    let tree = folder.path().join("tree");
    unpack(&to, &tree);
    for name in ["a", "d"] {
        assert_eq!(fs::read_to_string(tree.join(name)).unwrap(), "2");
    }
}

#[test]
fn entry_behind_a_symbolic_link_is_where_it_leads() {
    let folder = scratch();
    let mut tar = tar::Builder::new(Vec::new());
    let mut link = entry("lib", tar::EntryType::Symlink, 0o777, (0, 0), 0);
    link.set_link_name("usr/lib").unwrap();
    link.set_cksum();
    add(&mut tar, &link, b"");
    let header = entry("lib/x", tar::EntryType::Regular, 0o644, (0, 0), 0);
    add(&mut tar, &header, b"");
    let to = folder.path().join("a.gvmi");
    build(&tar.into_inner().unwrap(), &to).unwrap();
    let names = list(&to);
    assert!(
        names.iter().any(|line| line.ends_with(" /usr/lib/x")),
        "{names:?}"
    );
}

#[test]
fn hard_link_before_its_target_is_refused_by_name() {
    let folder = scratch();
    let mut tar = tar::Builder::new(Vec::new());
    let mut link = entry("link", tar::EntryType::Link, 0o644, (0, 0), 0);
    link.set_link_name("target").unwrap();
    link.set_cksum();
    add(&mut tar, &link, b"");
    let target = entry("target", tar::EntryType::Regular, 0o644, (0, 0), 0);
    add(&mut tar, &target, b"");
    let answer = build(&tar.into_inner().unwrap(), &folder.path().join("a.gvmi"));
    let error = answer.unwrap_err();
    assert_eq!(error.to_string(), "entry link");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("hard link to target"), "{cause}");
    assert!(is_empty(&folder));
}

#[test]
fn archive_makes_an_image_as_old_as_what_is_in_it() {
    let folder = scratch();
    let mut tar = tar::Builder::new(Vec::new());
    let header = entry("a", tar::EntryType::Regular, 0o644, (0, 0), 0);
    add(&mut tar, &header, b"");
    let to = folder.path().join("a.gvmi");
    build(&tar.into_inner().unwrap(), &to).unwrap();
    let image = Image::open(&to).unwrap();
    let root = Tree::open(&image).unwrap().root().unwrap();
    assert_eq!(root.mtime, 86400);
}

#[test]
fn device_with_the_highest_numbers_survives_without_a_warning() {
    let folder = scratch();
    let mut tar = tar::Builder::new(Vec::new());
    let mut device = entry("dev", tar::EntryType::Char, 0o600, (0, 0), 0);
    device.set_device_major(4095).unwrap();
    device.set_device_minor(1_048_575).unwrap();
    device.set_cksum();
    add(&mut tar, &device, b"");
    let to = folder.path().join("a.gvmi");
    let built = build(&tar.into_inner().unwrap(), &to).unwrap();
    assert_eq!(built.warnings, [""; 0]);
    let image = Image::open(&to).unwrap();
    let tree = Tree::open(&image).unwrap();
    let found = tree.walk().unwrap().last().unwrap().unwrap();
    let gvmi::Kind::Char(device) = found.inode.kind else {
        panic!("{found:?}");
    };
    assert_eq!((device.major, device.minor), (4095, 1_048_575));
}

#[test]
fn file_is_not_packed_as_a_folder() {
    let folder = scratch();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let answer = Builder::default().pack_dir(&file, &folder.path().join("a.gvmi"));
    let error = answer.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("not a folder"), "{cause}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_is_no_archive_is_named_with_what_to_do() {
    let folder = scratch();
    let to = folder.path().join("a.gvmi");
    let header = entry("x", tar::EntryType::Regular, 0o644, (0, 0), 0);
    let mut root = header.clone();
    root.set_path("./").unwrap();
    root.set_cksum();
    let root = [root.as_bytes(), &[0; 1024][..]].concat();
    build(&[&[0; 1024][..]].concat(), &to).unwrap();
    let image = fs::read(&to).unwrap();
    for (bytes, expected) in [
        (&b""[..], "an empty file (see that what should write it"),
        (&image, "a squashfs (a gvmi image is one already"),
        (&[1; 1024], "a file of unknown format (see the path)"),
        (&root, "entry /"),
    ] {
        let error = build(bytes, &to).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_is_no_source_or_no_destination_is_named() {
    let folder = scratch();
    let to = folder.path().join("a.gvmi");
    let missing = Builder::default().pack(&folder.path().join("none"), &to);
    assert!(
        missing
            .unwrap_err()
            .to_string()
            .contains("none: cannot be packed")
    );
    let nowhere = Builder::default().pack(folder.path(), &folder.path().join("none/a.gvmi"));
    assert!(
        matches!(nowhere, Err(BuildError::Destination { .. })),
        "{nowhere:?}"
    );
    assert!(is_empty(&folder));
}

#[test]
fn files_that_are_no_image_are_named_with_the_remedy() {
    let folder = scratch();
    let message = |name: &str| {
        Image::open(folder.path().join(name))
            .unwrap_err()
            .to_string()
    };
    fs::write(folder.path().join("text"), "x".repeat(200)).unwrap();
    for (name, what) in [
        ("none", "no such file"),
        (".", "is a folder"),
        ("text", "not a gvmi image"),
    ] {
        let message = message(name);
        let path = folder.path().join(name).display().to_string();
        assert!(message.starts_with(&format!("{path}: ")), "{message}");
        assert!(
            message.contains(what) && message.contains("`shem image build`"),
            "{message}"
        );
        assert!(!message.contains('\n'));
    }
    let device = Image::open("/dev/null").unwrap_err().to_string();
    assert!(device.contains("not a regular file"), "{device}");
}

/// Not a test by itself: what the next two run as a process of their own.
#[test]
fn pack_standard_input() {
    let Some(to) = std::env::var_os("GVMI_TEST_PACK") else {
        return;
    };
    let answer = Builder::default().pack_tar(std::io::stdin().lock(), Path::new(&to));
    eprintln!("{}", answer.unwrap_err());
}

/// Runs [`pack_standard_input`], with a third descriptor that its children
/// inherit, open on its standard output.
fn pack_in_a_process(to: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args([
            "-c",
            "exec 3>&1; exec \"$0\" --exact pack_standard_input --nocapture",
        ])
        .arg(std::env::current_exe().unwrap())
        .env("GVMI_TEST_PACK", to)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Puts a `mksquashfs` that runs `script` into `folder`.
fn fake_mksquashfs(folder: &TempDir, script: &str) {
    let path = folder.path().join("mksquashfs");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn killed_build_leaves_neither_file_nor_process() {
    let (folder, programs) = (scratch(), scratch());
    // It would wait for ever, for nobody opens the pipe.
    let pipe = programs.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let wait = format!("echo started >&3; read line < {}", pipe.display());
    fake_mksquashfs(&programs, &wait);
    let mut child = pack_in_a_process(&folder.path().join("a.gvmi"))
        .env("PATH", programs.path())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&[0; 1024]).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().ends_with("started")));
    child.kill().unwrap();
    // Ends when the last process has ended that holds the descriptor.
    assert_eq!(lines.count(), 0);
    child.wait().unwrap();
    assert!(is_empty(&folder));
}

#[test]
fn what_mksquashfs_says_is_in_the_error() {
    for (script, expected) in [
        ("echo 'FATAL: no \x1b[31mroom' >&2; exit 1", "FATAL: no "),
        (
            "while read line; do :; done",
            "cannot be read (install squashfs-tools",
        ),
    ] {
        let (folder, programs) = (scratch(), scratch());
        fake_mksquashfs(&programs, script);
        let mut child = pack_in_a_process(&folder.path().join("a.gvmi"))
            .env("PATH", programs.path())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&[0; 1024]).unwrap();
        let out = child.wait_with_output().unwrap();
        let message = String::from_utf8_lossy(&out.stderr);
        assert!(message.contains(expected), "{message}");
        assert!(!message.contains('\x1b'), "{message}");
        assert!(is_empty(&folder));
    }
}

#[test]
fn without_mksquashfs_its_package_is_named() {
    let folder = scratch();
    let mut command = pack_in_a_process(&folder.path().join("a.gvmi"));
    let mut child = command.env("PATH", folder.path()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&[0; 1024]).unwrap();
    drop(stdin);
    let out = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&out.stderr);
    assert!(
        message.contains("apt-get install squashfs-tools"),
        "{message}"
    );
    assert!(is_empty(&folder));
}
