//! Volumes are folders here; what needs privileges is tested as root.

use std::os::unix::fs::{FileTypeExt, symlink};
use std::time::{Duration, SystemTime};

use nix::unistd::{geteuid, mkfifo};
use tempfile::TempDir;

use super::*;

/// A file capability as the kernel stores it: version 2, CAP_NET_RAW.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

struct Place {
    _dir: TempDir,
    image: PathBuf,
    volume: PathBuf,
}

/// An image with one file in a folder, and an empty volume as a disk gives it.
fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let (image, volume) = (dir.path().join("image"), dir.path().join("volume"));
    fs::create_dir_all(image.join("sub")).unwrap();
    fs::write(image.join("sub/file"), "content").unwrap();
    fs::create_dir_all(volume.join(LOST_FOUND)).unwrap();
    Place {
        _dir: dir,
        image,
        volume,
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn long_ago() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789)
}

fn age(path: &Path) {
    let time = TimeSpec::new(1_000_000_000, 123_456_789);
    let flags = UtimensatFlags::NoFollowSymlink;
    utimensat(AT_FDCWD, path, &time, &time, flags).unwrap();
}

#[test]
fn empty_volume_gets_contents_modes_times_and_links() {
    let Place { image, volume, .. } = &place();
    let file = image.join("sub/file");
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    fs::hard_link(&file, image.join("same")).unwrap();
    symlink("/nowhere/at all", image.join("link")).unwrap();
    mkfifo(&image.join("pipe"), Mode::from_bits_truncate(0o604)).unwrap();
    lsetxattr(&file, "user.colour", b"blue", XattrFlags::empty()).unwrap();
    for name in ["sub/file", "sub", "link", "pipe", ""] {
        age(&image.join(name));
    }
    fs::set_permissions(image, Permissions::from_mode(0o1777)).unwrap();

    fill(image, volume).unwrap();

    assert_eq!(names(volume), ["link", "lost+found", "pipe", "same", "sub"]);
    let copy = volume.join("sub/file");
    assert_eq!(fs::read(&copy).unwrap(), b"content");
    let attributes = fs::metadata(&copy).unwrap();
    assert_eq!(attributes.mode() & 0o7777, 0o640);
    assert_eq!(attributes.nlink(), 2);
    assert_eq!(
        attributes.ino(),
        fs::metadata(volume.join("same")).unwrap().ino()
    );
    let link = fs::read_link(volume.join("link")).unwrap();
    assert_eq!(link, Path::new("/nowhere/at all"));
    let pipe = fs::metadata(volume.join("pipe")).unwrap();
    assert!(pipe.file_type().is_fifo() && pipe.mode() & 0o7777 == 0o604);
    let mut value = [0; 8];
    let length = lgetxattr(&copy, "user.colour", &mut value[..]).unwrap();
    assert_eq!(&value[..length], b"blue");
    for name in ["sub/file", "sub", "link", "pipe", ""] {
        let attributes = fs::symlink_metadata(volume.join(name)).unwrap();
        assert_eq!(attributes.modified().unwrap(), long_ago(), "{name}");
    }
    assert_eq!(fs::metadata(volume).unwrap().mode() & 0o7777, 0o1777);
}

#[test]
fn owners_set_id_bits_capabilities_and_devices_are_kept() {
    if !geteuid().is_root() {
        // Only root may give files away and make device nodes.
        return;
    }
    let Place { image, volume, .. } = &place();
    let file = image.join("sub/file");
    lchown(&file, Some(70_001), Some(70_002)).unwrap();
    lsetxattr(
        &file,
        "security.capability",
        CAPABILITY,
        XattrFlags::empty(),
    )
    .unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o6755)).unwrap();
    mknod(
        &image.join("null"),
        SFlag::S_IFCHR,
        Mode::from_bits_truncate(0o666),
        nix::sys::stat::makedev(1, 3),
    )
    .unwrap();
    symlink("sub", image.join("link")).unwrap();
    lchown(image.join("link"), Some(5), Some(6)).unwrap();
    lchown(image, Some(999), Some(998)).unwrap();

    fill(image, volume).unwrap();

    let owner = |name: &str| {
        let attributes = fs::symlink_metadata(volume.join(name)).unwrap();
        (attributes.uid(), attributes.gid())
    };
    assert_eq!(owner("sub/file"), (70_001, 70_002));
    assert_eq!(owner("link"), (5, 6));
    assert_eq!(owner("sub"), (0, 0));
    assert_eq!(owner(""), (999, 998));
    let copy = volume.join("sub/file");
    assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o7777, 0o6755);
    let mut value = [0; 64];
    let length = lgetxattr(&copy, "security.capability", &mut value[..]).unwrap();
    assert_eq!(&value[..length], CAPABILITY);
    let device = fs::symlink_metadata(volume.join("null")).unwrap();
    assert!(device.file_type().is_char_device());
    assert_eq!(device.rdev(), nix::sys::stat::makedev(1, 3));
}

#[test]
fn volume_with_something_in_it_is_left_alone() {
    let Place { image, volume, .. } = &place();
    fs::write(volume.join(".hidden"), "").unwrap();
    fs::set_permissions(image, Permissions::from_mode(0o700)).unwrap();
    fill(image, volume).unwrap();
    assert_eq!(names(volume), [".hidden", "lost+found"]);
    assert_eq!(fs::metadata(volume).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn failure_half_way_leaves_the_volume_empty() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("i");
    // Names that fit into a path here and not there.
    let volume = dir.path().join("v".repeat(200)).join("v".repeat(200));
    let long = "d".repeat(200);
    let mut deep = image.clone();
    while deep.as_os_str().len() < 4050 {
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), "content").unwrap();
        deep.push(&long);
    }
    fs::create_dir_all(volume.join(LOST_FOUND)).unwrap();
    let error = fill(&image, &volume).unwrap_err().to_string();
    assert!(error.starts_with("./dddd"), "{error}");
    assert!(error.ends_with("(os error 36)"), "{error}");
    assert_eq!(names(&volume), [LOST_FOUND]);
}

#[test]
fn copy_that_was_cut_short_is_made_anew() {
    let Place { image, volume, .. } = &place();
    fs::create_dir_all(volume.join(COPYING).join("sub/old")).unwrap();
    fill(image, volume).unwrap();
    assert_eq!(names(volume), ["lost+found", "sub"]);
    assert_eq!(names(&volume.join("sub")), ["file"]);
}

#[test]
fn whole_copy_is_put_in_place_though_the_volume_is_not_empty_any_more() {
    let Place { image, volume, .. } = &place();
    fs::create_dir_all(volume.join(COPIED).join("later")).unwrap();
    fs::write(volume.join("first"), "in place").unwrap();
    fs::set_permissions(image, Permissions::from_mode(0o711)).unwrap();
    fill(image, volume).unwrap();
    assert_eq!(names(volume), ["first", "later", "lost+found"]);
    assert_eq!(fs::metadata(volume).unwrap().mode() & 0o7777, 0o711);
}
