//! Images made of Docker's and OCI's are the files that other tools unpack of these: each
//! with its type, permissions, owner, size, names, attributes and content. Boots no
//! guest, and takes root.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e_tests::{Layout, Outcome, Shem, assert_same_tree, debian_root};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use rustix::fs::XattrFlags;
use serde_json::Value;

const TAG: &str = "latest";
/// `cap_net_bind_service=ep`, as the kernel stores it (`vfs_cap_data`, version 2).
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// `shem image build SOURCE -o IMAGE`, which goes well.
fn build(source: &str, image: &Path) -> PathBuf {
    let mut shem = Shem::new(&["image", "build", "--comp", "zstd:1", source, "-o"]);
    shem.command().arg(image);
    let built = shem.outcome();
    assert_eq!(built.status, Some(0), "{built:?}");
    image.to_owned()
}

/// The files of an image, unpacked by the tool that comes with `mksquashfs`.
fn unsquash(image: &Path) -> PathBuf {
    let folder = image.with_extension("unsquashed");
    let mut unsquashfs = Command::new("unsquashfs");
    unsquashfs
        .args(["-q", "-n", "-d"])
        .args([folder.as_os_str(), image.as_os_str()]);
    let outcome = Outcome::of(unsquashfs.output().unwrap());
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    folder
}

/// The files of an image, unpacked by GNU tar from what `shem image export` writes.
fn export(image: &Path) -> PathBuf {
    let folder = image.with_extension("exported");
    let archive = image.with_extension("tar");
    fs::create_dir(&folder).unwrap();
    let mut shem = Shem::new(&["image", "export", "-o"]);
    shem.command().args([&*archive, image]);
    shem.outcome().assert_ok("");
    let mut tar = Command::new("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"])
        .arg(archive)
        .arg("-C")
        .arg(&folder);
    let outcome = Outcome::of(tar.output().unwrap());
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    folder
}

fn write(path: &Path, content: &[u8], mode: u32, owner: u32) {
    fs::write(path, content).unwrap();
    chown(path, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn set_attribute(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

/// What a first layer has of everything that a tree may hold.
fn everything(root: &Path) {
    let at = |name: &str| root.join(name);
    for name in ["kept", "gone", "was-folder", "opaque/below", "empty"] {
        fs::create_dir_all(at(name)).unwrap();
        fs::write(at(name).join("old"), name).unwrap();
    }
    fs::remove_file(at("empty/old")).unwrap();
    fs::set_permissions(at("kept"), fs::Permissions::from_mode(0o1777)).unwrap();
    write(&at("was-file"), b"file", 0o644, 0);
    write(&at("setuid"), b"#!", 0o6755, 1000);
    write(&at("far-owner"), b"", 0o600, 3_000_000_000);
    set_attribute(&at("far-owner"), "user.note", b"of\0any\xffbytes");
    write(&at("capable"), b"\x7fELF", 0o755, 0);
    set_attribute(&at("capable"), "security.capability", &CAPABILITY);
    write(&at("linked"), b"three names", 0o640, 7);
    fs::hard_link(at("linked"), at("kept/link")).unwrap();
    fs::hard_link(at("linked"), at("gone/link")).unwrap();
    symlink("kept", at("symlink")).unwrap();
    lchown(at("symlink"), Some(12), Some(13)).unwrap();
    symlink("/nowhere/\u{e4}", at("dangling")).unwrap();
    let node = |name: &str, kind, device| {
        mknod(&at(name), kind, Mode::from_bits_truncate(0o640), device).unwrap();
    };
    node("pipe", SFlag::S_IFIFO, 0);
    node("null", SFlag::S_IFCHR, makedev(1, 3));
    node("disk", SFlag::S_IFBLK, makedev(259, 70_000));
    fs::write(root.join(OsStr::from_bytes(b"\xff\xfename\n")), "any bytes").unwrap();
    fs::write(at(&"long".repeat(60)), "a long name").unwrap();
    let deep: PathBuf = (0..20).map(|_| "a-folder-in-a-folder").collect();
    fs::create_dir_all(root.join(&deep)).unwrap();
    fs::write(root.join(deep).join("deep"), "a long path").unwrap();
    let mut sparse = File::create(at("sparse")).unwrap();
    sparse.set_len(64 << 20).unwrap();
    sparse.write_all(b"start").unwrap();
}

/// What a second layer makes of it.
fn change_everything(root: &Path) {
    let at = |name: &str| root.join(name);
    fs::remove_dir_all(at("gone")).unwrap();
    fs::remove_dir_all(at("was-folder")).unwrap();
    write(&at("was-folder"), b"a file now", 0o644, 0);
    fs::remove_file(at("was-file")).unwrap();
    fs::create_dir(at("was-file")).unwrap();
    fs::write(at("was-file/inside"), "").unwrap();
    // The old file lives on in its other name.
    fs::remove_file(at("linked")).unwrap();
    write(&at("linked"), b"alone", 0o600, 8);
    fs::remove_file(at("kept/old")).unwrap();
    fs::set_permissions(at("kept"), fs::Permissions::from_mode(0o2750)).unwrap();
    fs::write(at("kept/new"), "new").unwrap();
    fs::hard_link(at("setuid"), at("second-name")).unwrap();
    fs::set_permissions(root, fs::Permissions::from_mode(0o751)).unwrap();
    chown(root, Some(5), Some(5)).unwrap();
}

/// A layout whose image has all of that in three layers, the last with an opaque folder.
fn layered() -> Layout {
    let layout = Layout::new(TAG);
    layout.layer(TAG, everything);
    layout.layer(TAG, change_everything);
    let folder = layout.beside("opaque");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("only"), "").unwrap();
    layout.replace(TAG, &folder, "/opaque");
    layout
}

fn from(kind: &str, path: &Path) -> String {
    format!("{kind}:{}", path.display())
}

#[test]
fn files_of_all_kinds_are_as_umoci_unpacks_them() {
    let layout = layered();
    let expected = layout.unpack(TAG, "expected");
    let image = build(&from("oci", &layout.path()), &layout.beside("a.gvmi"));
    assert_same_tree(&expected, &unsquash(&image));
    assert_same_tree(&expected, &export(&image));
}

#[test]
fn a_debian_of_several_layers_is_as_umoci_unpacks_it() {
    let layout = Layout::new(TAG);
    layout.layer(TAG, |root| {
        let mut copy = Command::new("cp");
        copy.args(["-a", "--"])
            .arg(debian_root().join("."))
            .arg(root);
        let outcome = Outcome::of(copy.output().unwrap());
        assert_eq!(outcome.status, Some(0), "{outcome:?}");
    });
    layout.layer(TAG, |root| {
        fs::remove_dir_all(root.join("usr/share/bash-completion")).ok();
        fs::remove_dir_all(root.join("var/lib/dpkg")).unwrap();
        fs::write(root.join("etc/hostname"), "box\n").unwrap();
        set_attribute(
            &root.join("usr/bin/perl"),
            "security.capability",
            &CAPABILITY,
        );
    });
    layout.layer(TAG, everything);
    layout.configure(TAG, &["--config.user", "1000:1000"]);
    let expected = layout.unpack(TAG, "expected");
    let image = build(&from("oci", &layout.path()), &layout.beside("a.gvmi"));
    assert_same_tree(&expected, &unsquash(&image));
    let mut inspect = Shem::new(&["image", "inspect", "--json"]);
    inspect.command().arg(&image);
    let text = inspect.outcome().stdout;
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(told["config"]["User"], "1000:1000", "{text}");
}

#[test]
fn the_same_image_is_the_same_bytes_from_every_kind_of_file() {
    let layout = layered();
    let words = [
        "--config.env",
        "A=1",
        "--config.cmd",
        "/bin/app",
        "--config.cmd",
        "-x",
    ];
    layout.configure(TAG, &words);
    let archives = [
        ("docker-archive", "saved.tar", ":name:tag"),
        ("oci-archive", "layout.tar", ""),
    ];
    for (kind, file, name) in archives {
        let to = from(kind, &layout.beside(file)) + name;
        layout.copy(TAG, &[], &to);
    }
    let saved = layout.beside("saved.tar");
    let zipped = Command::new("gzip").args(["-1", "-k"]).arg(&saved).status();
    assert!(zipped.unwrap().success());
    let sources = [
        from("oci", &layout.path()),
        from("docker-archive", &saved),
        from("docker-archive", &layout.beside("saved.tar.gz")),
        from("oci-archive", &layout.beside("layout.tar")),
        // Told by what they are.
        layout.path().display().to_string(),
        saved.display().to_string(),
    ];
    let mut images = BTreeMap::new();
    for (number, source) in sources.iter().enumerate() {
        let image = build(source, &layout.beside(&format!("{number}.gvmi")));
        images.insert(source, fs::read(image).unwrap());
    }
    let first = &images[&sources[0]];
    for (source, image) in &images {
        assert!(image == first, "{source} gives something else");
    }
}

#[test]
fn docker_save_is_read_from_standard_input() {
    let layout = layered();
    let saved = layout.beside("saved.tar");
    layout.copy(TAG, &[], &from("docker-archive", &saved));
    let from_file = build(&from("docker-archive", &saved), &layout.beside("a.gvmi"));
    let mut shem = Shem::new(&[
        "image",
        "build",
        "docker-archive:-",
        "--comp",
        "zstd:1",
        "-o",
    ]);
    let from_stdin = layout.beside("b.gvmi");
    shem.command()
        .arg(&from_stdin)
        .stdin(File::open(saved).unwrap());
    // `outcome` would take its standard input away.
    let outcome = Outcome::of(shem.command().output().unwrap());
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    assert!(fs::read(from_file).unwrap() == fs::read(from_stdin).unwrap());
}
