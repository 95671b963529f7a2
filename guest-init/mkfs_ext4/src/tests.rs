//! e2fsprogs judges what was made: it shares no code with it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Command;

use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const GROUP: u64 = 128 * MIB;

fn options() -> Options<'static> {
    Options {
        label: "sixteen bytes ok",
        uuid: *b"\xc0\xff\xee0123456789abc",
        hash_seed: *b"seed of hashes..",
        root_mode: 0o755,
        root_owner: (0, 0),
        now: 1_700_000_000,
    }
}

fn formatted(size: u64, options: &Options<'_>) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(size).unwrap();
    format(file.as_file(), options).unwrap();
    assert_eq!(file.as_file().metadata().unwrap().len(), size);
    file
}

/// Runs a program of e2fsprogs on the file. Gives its output, and whether it
/// was content.
fn judge(program: &str, arguments: &[&str], file: &NamedTempFile) -> (String, bool) {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(program)
        // Debian keeps them out of the path of most users.
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .args(arguments)
        .arg(file.path())
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}; these tests need the package e2fsprogs"));
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text += &String::from_utf8_lossy(&output.stderr);
    (text, output.status.success())
}

fn assert_clean(file: &NamedTempFile) {
    let (text, clean) = judge("e2fsck", &["-fn"], file);
    // It mends some things without calling them errors.
    let quiet = ["Fix", "WARNING", "ignore", "invalid", "differ"]
        .iter()
        .all(|word| !text.contains(word));
    assert!(clean && quiet, "{text}");
}

/// The value behind `name:` in what dumpe2fs says.
fn field(text: &str, name: &str) -> String {
    let line = text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found == name).then(|| value.trim().to_owned())
    });
    line.unwrap_or_else(|| panic!("no {name:?} in {text}"))
}

#[test]
fn every_size_is_clean() {
    for size in [
        SMALLEST,
        SMALLEST + 4095,
        3 * MIB,
        16 * MIB - 1,
        16 * MIB,
        100 * MIB + 12_345,
        512 * MIB - 1,
        512 * MIB,
        GIB,
        5 * GIB + 7 * MIB,
        100 * GIB,
        2 << 40,
    ] {
        assert_clean(&formatted(size, &options()));
    }
}

#[test]
fn sizes_around_the_borders_of_groups_are_clean() {
    // One group, two, the first that holds metadata of sixteen and the next.
    for groups in [1, 2, 3, 16, 17, 32] {
        for beyond in [-4096_i64, -1, 0, 1, 4096, 50 * 4096, 3 << 20, 6 << 20] {
            let size = groups * GROUP;
            assert_clean(&formatted(size.wrapping_add_signed(beyond), &options()));
        }
    }
}

#[test]
fn features_and_label_are_the_documented_ones() {
    let (text, _) = judge("dumpe2fs", &["-h"], &formatted(2 * GIB, &options()));
    assert_eq!(
        field(&text, "Filesystem features"),
        "has_journal ext_attr dir_index filetype extent 64bit flex_bg \
         sparse_super large_file huge_file dir_nlink extra_isize metadata_csum"
    );
    assert_eq!(field(&text, "Filesystem volume name"), "sixteen bytes ok");
    assert_eq!(
        field(&text, "Filesystem UUID"),
        "c0ffee30-3132-3334-3536-373839616263"
    );
    assert_eq!(field(&text, "Block size"), "4096");
    assert_eq!(field(&text, "Inode size"), "256");
    assert_eq!(field(&text, "Filesystem state"), "clean");
    assert_eq!(field(&text, "Total journal size"), "64M");
    assert_eq!(field(&text, "Checksum type"), "crc32c");
}

#[test]
fn small_volumes_have_no_journal() {
    for (size, journal) in [(SMALLEST, false), (16 * MIB - 1, false), (16 * MIB, true)] {
        let (text, _) = judge("dumpe2fs", &["-h"], &formatted(size, &options()));
        let features = field(&text, "Filesystem features");
        assert_eq!(features.contains("has_journal"), journal, "{size}");
    }
}

#[test]
fn root_folder_has_the_given_mode_and_owner() {
    let options = Options {
        root_mode: 0o1770,
        root_owner: (70_001, 70_002),
        ..options()
    };
    let file = formatted(64 * MIB, &options);
    assert_clean(&file);
    let (text, _) = judge("debugfs", &["-R", "ls -l /"], &file);
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .filter(|words: &Vec<&str>| {
            words
                .first()
                .is_some_and(|word| word.parse::<u32>().is_ok())
        })
        .collect();
    let names: Vec<&str> = lines.iter().map(|words| words[words.len() - 1]).collect();
    assert_eq!(names, [".", "..", "lost+found"], "{text}");
    assert_eq!(lines[0][..4], ["2", "41770", "(2)", "70001"], "{text}");
    assert_eq!(lines[0][4], "70002");
    assert_eq!(lines[2][..4], ["11", "40700", "(2)", "0"], "{text}");
}

#[test]
fn times_after_2038_are_kept() {
    let options = Options {
        now: 4_000_000_000,
        ..options()
    };
    let file = formatted(64 * MIB, &options);
    let (text, _) = judge("debugfs", &["-R", "stat /"], &file);
    assert_eq!(text.matches("2096").count(), 4, "{text}");
    let (text, _) = judge("dumpe2fs", &["-h"], &file);
    assert!(
        field(&text, "Filesystem created").contains("2096"),
        "{text}"
    );
}

#[test]
fn large_disk_takes_little_storage() {
    let file = formatted(100 * GIB, &options());
    let stored = file.as_file().metadata().unwrap().blocks() * 512;
    assert!(stored < 3 * MIB / 2, "{stored} bytes");
}

/// What was there before reaches neither a file nor the journal.
#[test]
fn disk_full_of_something_else_becomes_clean() {
    let file = NamedTempFile::new().unwrap();
    let junk = vec![0xa5; MIB as usize];
    for _ in 0..300 {
        file.as_file().write_all(&junk).unwrap();
    }
    format(file.as_file(), &options()).unwrap();
    assert_clean(&file);
    let geometry = Geometry::of(300 * MIB).unwrap();
    let mut journal = vec![0xff; 4095 * 4096];
    let at = (geometry.journal() + 1) * 4096;
    file.as_file().read_exact_at(&mut journal, at).unwrap();
    assert!(journal.iter().all(|byte| *byte == 0));
}

#[test]
fn head_is_written_last() {
    // Fails in the middle: the file is open for reading only.
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(64 * MIB).unwrap();
    let read_only = fs::File::open(file.path()).unwrap();
    assert!(matches!(
        format(&read_only, &options()),
        Err(FormatError::Write { .. })
    ));

    let mut device = Device::new(file.as_file());
    device.write(14, &[7; 3 * 4096]).unwrap();
    let mut head = vec![1; HEAD];
    file.as_file().read_exact_at(&mut head, 0).unwrap();
    assert!(head.iter().all(|byte| *byte == 0), "not before the end");
    let mut beyond = [0; 4096];
    file.as_file()
        .read_exact_at(&mut beyond, HEAD as u64)
        .unwrap();
    assert_eq!(beyond, [7; 4096]);
    device.finish().unwrap();
    let mut bytes = Vec::new();
    file.reopen()
        .unwrap()
        .take(HEAD as u64)
        .read_to_end(&mut bytes)
        .unwrap();
    assert_eq!(bytes[14 * 4096..], [7; 2 * 4096]);
}

#[test]
fn sizes_and_labels_out_of_range_are_refused() {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(SMALLEST - 1).unwrap();
    let error = format(file.as_file(), &options()).unwrap_err();
    assert!(matches!(error, FormatError::OutOfRange { size } if size == SMALLEST - 1));
    assert!(Geometry::of(LARGEST).is_some());
    assert!(Geometry::of(LARGEST + 1).is_none());

    file.as_file().set_len(MIB).unwrap();
    let long = Options {
        label: "seventeen bytes..",
        ..options()
    };
    let error = format(file.as_file(), &long).unwrap_err();
    assert!(matches!(error, FormatError::Label { .. }));
    assert_eq!(file.as_file().metadata().unwrap().blocks(), 0);
}

#[test]
fn checksum_is_that_of_the_standard() {
    // RFC 3720, appendix B.4, which inverts the result.
    assert_eq!(!Checksum::NEW.add(&[0; 32]).0, 0x8a91_36aa);
    let counting: Vec<u8> = (0..32).collect();
    assert_eq!(!Checksum::NEW.add(&counting).0, 0x46dd_794e);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn nothing_overlaps_at_any_size(size in SMALLEST..=LARGEST, small in SMALLEST..=20 * GIB) {
        for size in [size, small] {
            let geometry = Geometry::of(size).unwrap();
            prop_assert!(geometry.blocks * 4096 <= size);
            prop_assert!(size - geometry.blocks * 4096 < 4096 * 3000);
            prop_assert!(geometry.inodes_per_group <= GROUP / 4096);
            prop_assert!(geometry.journal_blocks <= GROUP / 4096);
            let end = geometry.journal() + geometry.journal_blocks;
            prop_assert_eq!(end, geometry.used(0));
            let last = geometry.groups - 1;
            for group in [0, 1, last / 16 * 16, last.saturating_sub(1), last] {
                let group = group.min(last);
                prop_assert!(geometry.used(group) + 50 <= geometry.group_blocks(group) || last == 0);
                prop_assert!(geometry.used(group) < geometry.group_blocks(group));
                let places = geometry.places(group);
                prop_assert!(places.block_bitmap < places.inode_bitmap);
                prop_assert!(places.inode_bitmap < places.inode_table);
            }
        }
    }
}
