//! Layers packed by the real `mksquashfs`, as `unsquashfs` lists them.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Command;

use gvmi::{Blob, BuildError, Builder, Built, Digest, Layer, Limits, Pass, Progress};
use tar::EntryType as Kind;
use tempfile::TempDir;

/// On a disk, because a tmpfs may refuse extended attributes.
fn scratch() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// A layer under way.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    fn header(path: &str, kind: Kind, mode: u32, owner: (u64, u64)) -> tar::Header {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(owner.0);
        header.set_gid(owner.1);
        header.set_size(0);
        header.set_mtime(86400);
        header
    }

    fn add(mut self, mut header: tar::Header, data: &[u8]) -> Self {
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, path: &str, data: &[u8]) -> Self {
        self.add(Self::header(path, Kind::Regular, 0o644, (0, 0)), data)
    }

    fn folder(self, path: &str, mode: u32) -> Self {
        self.add(Self::header(path, Kind::Directory, mode, (0, 0)), b"")
    }

    fn link(self, path: &str, kind: Kind, target: &str) -> Self {
        let mut header = Self::header(path, kind, 0o777, (0, 0));
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        self.add(header, b"")
    }

    fn records(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0
            .append_pax_extensions(records.iter().copied())
            .unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    fn layer(self) -> Layer {
        let bytes = self.bytes();
        Layer {
            diff_id: Some(Digest::of(&bytes)),
            ..stored(&bytes)
        }
    }

    fn gzip_layer(self) -> Layer {
        let bytes = self.bytes();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&bytes).unwrap();
        Layer {
            diff_id: Some(Digest::of(&bytes)),
            ..stored(&gzip.finish().unwrap())
        }
    }
}

fn stored(bytes: &[u8]) -> Layer {
    let mut file: File = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Layer {
        name: "bottom".to_owned(),
        blob: Blob::whole(file).unwrap(),
        digest: Some(Digest::of(bytes)),
        diff_id: None,
    }
}

fn build(layers: &[Layer], to: &Path) -> Result<Built, BuildError> {
    Builder::default().pack_layers(layers, to, &mut |_| {})
}

/// What `unsquashfs` prints of each entry: mode, owner, size and name, without
/// the size of folders and the times.
fn list(image: &Path) -> Vec<String> {
    let out = unsquashfs(&["-lln".as_ref(), image]);
    out.lines()
        .filter(|line| line.contains("squashfs-root"))
        .map(|line| {
            let (attributes, name) = line.split_once("squashfs-root").unwrap();
            let words: Vec<_> = attributes.split_whitespace().collect();
            let size = match words[0].starts_with('d') {
                true => "",
                false => words[2],
            };
            format!("{} {} {size}{name}", words[0], words[1])
        })
        .collect()
}

fn unsquashfs(args: &[&Path]) -> String {
    let out = Command::new("unsquashfs")
        .arg("-q")
        .args(args)
        .env("TZ", "UTC")
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn unpack(image: &Path, to: &Path) {
    unsquashfs(&[
        "-n".as_ref(),
        "-user-xattrs".as_ref(),
        "-d".as_ref(),
        to,
        image,
    ]);
}

fn is_empty(folder: &TempDir) -> bool {
    fs::read_dir(folder.path()).unwrap().next().is_none()
}

fn text(error: &BuildError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[test]
fn layers_become_one_tree() {
    let folder = scratch();
    let mut owned = Tar::header("opt/app", Kind::Regular, 0o4755, (100_000, 4_000_000_000));
    owned.set_mtime(u64::from(u32::MAX) + 5);
    let mut null = Tar::header("dev/null", Kind::Char, 0o666, (0, 0));
    null.set_device_major(1).unwrap();
    null.set_device_minor(3).unwrap();
    let bottom = Tar::new()
        .folder("./", 0o700)
        .folder("usr/", 0o755)
        .folder("usr/lib/", 0o750)
        .file("usr/lib/a", b"first")
        .link("usr/lib/b", Kind::Link, "usr/lib/a")
        .link("lib", Kind::Symlink, "usr/lib")
        .file("gone", b"x")
        .folder("var", 0o755)
        .file("var/old", b"x")
        .add(null, b"");
    let middle = Tar::new()
        .file(".wh.gone", b"")
        .file("lib/c", b"through the link")
        .file("var/.wh..wh..opq", b"")
        .add(Tar::header("pipe", Kind::Fifo, 0o600, (1, 2)), b"")
        .add(owned, b"setuid");
    let top = Tar::new()
        .add(
            Tar::header("./", Kind::Directory, 0o1751, (70_000, 70_000)),
            b"",
        )
        .file("usr/lib/a", b"second one")
        .link("d", Kind::Link, "usr/lib/b");
    let to = folder.path().join("a.gvmi");
    let layers = [bottom.layer(), middle.gzip_layer(), top.layer()];

    let built = build(&layers, &to).unwrap();

    assert_eq!(built.warnings, [""; 0]);
    assert_eq!(
        list(&to),
        [
            "drwxr-x--t 70000/70000 ",
            "-rw-r--r-- 0/0 5/d",
            "drwxr-xr-x 0/0 /dev",
            "crw-rw-rw- 0/0 1,/dev/null",
            "lrwxrwxrwx 0/0 7/lib -> usr/lib",
            "drwxr-xr-x 0/0 /opt",
            "-rwsr-xr-x 100000/4000000000 6/opt/app",
            "prw------- 1/2 0/pipe",
            "drwxr-xr-x 0/0 /usr",
            "drwxr-x--- 0/0 /usr/lib",
            "-rw-r--r-- 0/0 10/usr/lib/a",
            "-rw-r--r-- 0/0 5/usr/lib/b",
            "-rw-r--r-- 0/0 16/usr/lib/c",
            "drwxr-xr-x 0/0 /var",
        ]
    );
    // Fourteen names, two of them of one inode.
    assert_eq!(built.contents.superblock.inodes, 13);
}

#[test]
fn contents_holes_and_attributes_survive() {
    let folder = scratch();
    let us = nix::unistd::getuid().as_raw();
    let group = nix::unistd::getgid().as_raw();
    let owner = (us.into(), group.into());
    let large: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    let header = |path| Tar::header(path, Kind::Regular, 0o644, owner);
    let layer = Tar::new()
        .add(header("large"), &large)
        .records(&[
            ("GNU.sparse.size", b"1000000"),
            ("GNU.sparse.numblocks", b"1"),
            ("GNU.sparse.map", b"999996,4"),
            ("GNU.sparse.name", b"holes"),
        ])
        .add(header("x"), b"data")
        .records(&[("SCHILY.xattr.user.k", b"a file's")])
        .add(header("attributes"), b"")
        .records(&[("SCHILY.xattr.user.k", b"a folder's")])
        .add(Tar::header("d", Kind::Directory, 0o755, owner), b"")
        .gzip_layer();
    let to = folder.path().join("a.gvmi");
    build(&[layer], &to).unwrap();
    let out = folder.path().join("out");
    unpack(&to, &out);
    assert!(fs::read(out.join("large")).unwrap() == large);
    let holes = fs::read(out.join("holes")).unwrap();
    assert_eq!((holes.len(), &holes[999_996..]), (1_000_000, &b"data"[..]));
    assert!(holes[..999_996].iter().all(|byte| *byte == 0));
    let listed = Command::new("tar")
        .args(["--xattrs", "--format=pax", "-cf", "-", "-C"])
        .args([&out, Path::new(".")])
        .output()
        .unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for value in ["a file's", "a folder's"] {
        assert!(listed.contains(&format!("SCHILY.xattr.user.k={value}\n")));
    }
}

#[test]
fn file_capabilities_survive() {
    let folder = scratch();
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let layer = Tar::new()
        .records(&[("SCHILY.xattr.security.capability", capability)])
        .file("ping", b"")
        .layer();
    let to = folder.path().join("a.gvmi");
    build(&[layer], &to).unwrap();
    // To unpack it would take privileges. It is in the image by its name
    // without the prefix, and nothing else in there is called so.
    let image = fs::read(&to).unwrap();
    let name = b"capability";
    assert!(image.windows(name.len()).any(|bytes| bytes == name));
}

#[test]
fn same_layers_make_the_same_bytes() {
    let folder = scratch();
    let layers = || {
        let mut tar = Tar::new();
        for number in 0..300 {
            let data = number.to_string().repeat(500);
            tar = tar.file(&format!("d{}/{number}", number % 7), data.as_bytes());
        }
        let mut late = Tar::header("late", Kind::Regular, 0o644, (0, 0));
        late.set_mtime(1_000_000);
        [tar.layer(), Tar::new().add(late, b"").gzip_layer()]
    };
    let pack = |name: &str| {
        let to = folder.path().join(name);
        build(&layers(), &to).unwrap();
        to
    };
    let (first, second) = (pack("a"), pack("b"));
    assert!(fs::read(&first).unwrap() == fs::read(second).unwrap());
    // Dated with the newest entry.
    let about = unsquashfs(&["-s".as_ref(), &first]);
    assert!(about.contains("Mon Jan 12 13:46:40 1970"), "{about}");
    let listed = unsquashfs(&["-lln".as_ref(), &first]);
    let root = listed
        .lines()
        .find(|line| line.contains("squashfs-root"))
        .unwrap();
    assert!(root.contains("1970-01-12 13:46"), "{root}");
}

#[test]
fn same_archive_or_folder_makes_the_same_bytes() {
    let folder = scratch();
    let tree = folder.path().join("source");
    fs::create_dir_all(tree.join("d")).unwrap();
    fs::write(tree.join("d/f"), "x").unwrap();
    let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(86400);
    for path in [tree.join("d/f"), tree.join("d"), tree.clone()] {
        File::open(path).unwrap().set_modified(then).unwrap();
    }
    let archive = folder.path().join("source.tar");
    fs::write(&archive, Tar::new().file("a/b/c", b"x").bytes()).unwrap();
    for source in [tree, archive] {
        let pack = |name: &str| {
            let to = folder.path().join(name);
            Builder::default().pack(&source, &to).unwrap();
            to
        };
        let (first, second) = (pack("a"), pack("b"));
        assert!(fs::read(&first).unwrap() == fs::read(second).unwrap());
        // No time of now is in it.
        let about = unsquashfs(&["-s".as_ref(), &first]);
        assert!(about.contains("Fri Jan  2 00:00:00 1970"), "{about}");
        let listed = unsquashfs(&["-lln".as_ref(), &first]);
        let entries = listed.lines().filter(|line| line.contains("squashfs-root"));
        for line in entries {
            assert!(line.contains("1970-01-02 00:00"), "{line}");
        }
    }
}

#[test]
fn archive_in_a_file_may_have_names_twice_and_any_order() {
    let folder = scratch();
    let tar = Tar::new()
        .file("d/twice", b"first")
        .file("d/twice", b"the second")
        .folder("d", 0o700)
        .folder("./", 0o711)
        .file(".wh.d", b"")
        .bytes();
    let source = folder.path().join("source.tar");
    fs::write(&source, tar).unwrap();
    let to = folder.path().join("a.gvmi");
    let built = Builder::default().pack(&source, &to).unwrap();
    assert_eq!(built.warnings, [""; 0]);
    assert_eq!(
        list(&to),
        [
            "drwx--x--x 0/0 ",
            "-rw-r--r-- 0/0 0/.wh.d",
            "drwx------ 0/0 /d",
            "-rw-r--r-- 0/0 10/d/twice",
        ]
    );
}

#[test]
fn no_layers_are_an_empty_image() {
    let folder = scratch();
    let to = folder.path().join("a.gvmi");
    build(&[], &to).unwrap();
    assert_eq!(list(&to), ["drwxr-xr-x 0/0 "]);
}

#[test]
fn bad_layers_are_named_with_their_entry_and_leave_no_image() {
    let folder = scratch();
    let to = folder.path().join("a.gvmi");
    let good = || Tar::new().file("a", &[1; 200_000]).layer();
    let truncated = {
        let bytes = Tar::new().file("a", &[1; 200_000]).bytes();
        Layer {
            digest: None,
            ..stored(&bytes[..100_000])
        }
    };
    let wrong_at_the_end = Layer {
        diff_id: Some(Digest::of(b"x")),
        ..good()
    };
    for (layer, expected) in [
        (truncated, "layer bottom: the archive is cut short"),
        (
            wrong_at_the_end,
            "layer bottom: unpacked, its digest is sha256:",
        ),
        (
            Tar::new().file("x/../y", b"").layer(),
            "layer bottom: entry x/../y: there is `..` in its name",
        ),
        (
            Tar::new().link("l", Kind::Link, "gone").layer(),
            "layer bottom: entry l: it is a hard link to gone, which is not there",
        ),
    ] {
        let error = build(&[good(), layer], &to).unwrap_err();
        let error = text(&error);
        assert!(error.starts_with(expected), "{error}");
        assert!(is_empty(&folder));
    }
}

#[test]
fn limits_of_the_builder_hold() {
    let folder = scratch();
    let builder = Builder {
        limits: Limits {
            max_entries: 1,
            max_size: 1 << 20,
        },
        ..Default::default()
    };
    let to = folder.path().join("a.gvmi");
    let two = Tar::new().file("a", b"").file("b", b"").layer();
    let large = Tar::new().file("a", &[0; 2 << 20]).gzip_layer();
    for (layer, flag) in [(two, "--max-entries"), (large, "--max-size")] {
        let error = builder.pack_layers(&[layer], &to, &mut |_| {}).unwrap_err();
        assert!(text(&error).contains(flag), "{error:?}");
        assert!(is_empty(&folder));
    }
}

#[test]
fn progress_goes_through_both_passes() {
    let folder = scratch();
    let layers = [Tar::new().file("a", &[1; 3 << 20]).layer()];
    let total = layers[0].blob.len();
    let mut told = Vec::new();
    Builder::default()
        .pack_layers(&layers, &folder.path().join("a"), &mut |progress| {
            told.push(progress);
        })
        .unwrap();
    for pass in [Pass::Index, Pass::Pack] {
        let done = Progress {
            pass,
            done: total,
            total,
        };
        assert!(told.contains(&done), "{told:?}");
    }
}

/// Not a test by itself: what the next ones run as a process of their own.
#[test]
fn pack_a_layer_in_a_process() {
    let Some(to) = std::env::var_os("GVMI_TEST_PACK_LAYER") else {
        return;
    };
    let mut bytes = Vec::new();
    File::open(std::env::var_os("GVMI_TEST_LAYER").unwrap())
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .unwrap();
    let error = build(&[stored(&bytes)], Path::new(&to)).unwrap_err();
    eprintln!("{}", text(&error));
}

/// Runs [`pack_a_layer_in_a_process`] behind `prelude`, commands of a shell;
/// returns what it prints.
fn pack_behind(prelude: &str, layer: Tar, folder: &Path, to: &Path) -> String {
    let tar = folder.join("layer.tar");
    fs::write(&tar, layer.bytes()).unwrap();
    let script = format!("{prelude}; exec \"$0\" --exact pack_a_layer_in_a_process --nocapture");
    let out = Command::new("/bin/sh")
        .args(["-c", &script])
        .arg(std::env::current_exe().unwrap())
        .env("GVMI_TEST_PACK_LAYER", to)
        .env("GVMI_TEST_LAYER", &tar)
        .output()
        .unwrap();
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let step = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(step).collect()
}

#[test]
fn image_that_outgrows_what_may_be_written_says_so_and_is_gone() {
    let (folder, target) = (scratch(), scratch());
    let layer = Tar::new().file("a", &noise(4 << 20));
    // The shell counts in blocks of 512 bytes; the signal would end mksquashfs
    // without a word.
    let limit = "trap '' XFSZ; ulimit -f 2048";
    let message = pack_behind(limit, layer, folder.path(), &target.path().join("a.gvmi"));
    assert!(message.contains("File too large"), "{message}");
    assert!(is_empty(&target));
}

#[test]
fn killed_mksquashfs_is_an_error_that_says_so() {
    let (folder, target) = (scratch(), scratch());
    let bin = folder.path().join("mksquashfs");
    fs::write(&bin, "#!/bin/sh\nread -r line\nkill -9 $$\n").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&bin, mode).unwrap();
    let path = format!("PATH={}:$PATH", folder.path().display());
    let layer = Tar::new().file("a", &noise(4 << 20));
    let message = pack_behind(&path, layer, folder.path(), &target.path().join("a.gvmi"));
    assert!(
        message.contains("mksquashfs failed (signal: 9"),
        "{message}"
    );
    assert!(is_empty(&target));
}
