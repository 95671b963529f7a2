//! Tar archives as such: forms of entries, damage, and where they come from.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::thread;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::blob::Blob;
use crate::oci::archive::{Archive, ArchiveKind, archive_kind};
use crate::oci::fixture::{self, Image, file, layers, tar};
use crate::oci::{Input, OciFault, OciImage, OpenOptions};

fn blob(bytes: &[u8]) -> Blob {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    Blob::whole(file).unwrap()
}

fn open(bytes: &[u8]) -> Result<Archive, OciFault> {
    Archive::open(blob(bytes))
}

fn kind(bytes: &[u8]) -> ArchiveKind {
    archive_kind(&blob(bytes), u64::MAX).unwrap()
}

/// An entry of which only the header is there.
fn header(name: &str, size: u64, kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_size(size);
    header.set_entry_type(kind);
    header.set_cksum();
    header
}

#[test]
fn names_of_any_form_are_found() {
    let long = format!("{}/{}", "d".repeat(120), "n".repeat(150));
    let mut builder = tar::Builder::new(Vec::new());
    // The header's own name and size are not the ones that count.
    let records = [
        ("path", long.as_bytes()),
        ("comment", b"\n\0"),
        ("size", b"3"),
    ];
    builder.append_pax_extensions(records).unwrap();
    let pax = header("short", 0, tar::EntryType::Regular);
    builder.append(&pax, &b""[..]).unwrap();
    let mut bytes = builder.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    bytes.extend(b"pax");
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    let gnu = tar(&vec![(format!("./{long}2"), b"gnu".to_vec())]);
    let archive = open(&[bytes, gnu].concat()).unwrap();
    assert_eq!(archive.get(&long).unwrap().unwrap().len(), 3);
    assert_eq!(archive.get(&format!("{long}2")).unwrap().unwrap().len(), 3);
    assert!(archive.get("short").unwrap().is_none());
}

#[test]
fn cut_short_anywhere_is_an_error() {
    let archive = tar(&Image::new(&["a", "b"]).docker(&["demo:1"]));
    // The last block is the second half of the end mark.
    for len in 0..archive.len() - 1024 {
        let answer = open(&archive[..len]).err();
        assert!(
            matches!(
                answer,
                Some(OciFault::Truncated { .. } | OciFault::NotTar { .. })
            ),
            "{len}: {answer:?}"
        );
    }
}

#[test]
fn header_with_a_changed_byte_is_refused() {
    let archive = tar(&vec![
        ("a".to_owned(), vec![0; 512]),
        ("b".to_owned(), Vec::new()),
    ]);
    for (at, offset) in [(0, 0), (1024, 1024), (1024 + 511, 1024)] {
        let mut archive = archive.clone();
        archive[at] ^= 1;
        match open(&archive).err() {
            Some(OciFault::NotTar { .. }) => assert_eq!(offset, 0),
            Some(OciFault::Damaged { offset: found }) => assert_eq!(found, offset),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn sizes_beyond_all_files_are_refused() {
    for size in [u64::MAX, u64::MAX - 1000, 1 << 62] {
        for kind in [tar::EntryType::Regular, tar::EntryType::XHeader] {
            let answer = open(header("f", size, kind).as_bytes()).err();
            assert!(
                matches!(
                    answer,
                    Some(
                        OciFault::Damaged { .. }
                            | OciFault::TooLarge { .. }
                            | OciFault::Truncated { .. }
                    )
                ),
                "{answer:?}"
            );
        }
    }
}

#[test]
fn list_of_entries_is_limited() {
    // Each takes a little more than 4 KiB of the 16 MiB.
    let files = |count| {
        let name = |number| format!("{}/{number}", "n".repeat(4080));
        tar(&(0..count)
            .map(|number| (name(number), Vec::new()))
            .collect())
    };
    assert!(open(&files(3900)).is_ok());
    assert!(matches!(open(&files(4100)), Err(OciFault::TooManyEntries)));
}

#[test]
fn archives_are_recognised_by_what_is_in_them() {
    let made = Image::new(&["a"]);
    let docker = tar(&made.docker(&[]));
    let oci = tar(&made.layout("t"));
    let both = fixture::joined(&oci, &docker);
    let tree = tar(&vec![
        ("oci-layout".to_owned(), Vec::new()),
        ("bin/sh".to_owned(), Vec::new()),
        ("manifest.json".to_owned(), Vec::new()),
    ]);
    for (bytes, expected) in [
        (docker, ArchiveKind::Docker),
        (oci, ArchiveKind::Oci),
        (both, ArchiveKind::Docker),
        (tree, ArchiveKind::Other),
    ] {
        assert_eq!(kind(&bytes), expected);
        assert_eq!(kind(&fixture::gzip(&bytes)), expected);
        assert_eq!(kind(&zstd::encode_all(&bytes[..], 1).unwrap()), expected);
    }
}

#[test]
fn recognition_unpacks_no_more_than_its_limit() {
    let archive = fixture::gzip(&tar(&Image::new(&["a"]).docker(&[])));
    let answer = archive_kind(&blob(&archive), 1024);
    assert!(
        matches!(answer, Err(OciFault::TooLarge { limit: 1024 })),
        "{answer:?}"
    );
}

#[test]
fn archive_in_a_pipe_is_read() {
    let made = Image::new(&["a", "b"]);
    let plain = tar(&made.docker(&[]));
    for bytes in [fixture::gzip(&plain), plain] {
        let len = bytes.len() as u64;
        let read = |unpacked_limit| {
            let (reader, writer) = nix::unistd::pipe().unwrap();
            let bytes = bytes.clone();
            let writing = thread::spawn(move || {
                // Whoever reads may stop at the limit.
                let _ = File::from(writer).write_all(&bytes);
            });
            let input = Input::File(format!("/proc/self/fd/{}", reader.as_raw_fd()).into());
            let options = OpenOptions {
                unpacked_limit,
                ..Default::default()
            };
            let image = OciImage::open_docker_archive(&input, None, &options);
            drop(reader);
            writing.join().unwrap();
            image
        };
        assert_eq!(layers(&read(1 << 20).unwrap()), made.layers);
        let fault = read(len - 1).unwrap_err().fault;
        assert!(matches!(fault, OciFault::TooLarge { .. }), "{fault:?}");
    }
}

#[test]
fn file_is_opened_as_it_is_and_a_folder_is_not() {
    let packed = fixture::gzip(b"anything");
    let (dir, input) = file(&packed);
    assert_eq!(input.open(0).unwrap().len(), packed.len() as u64);
    let folder = Input::File(dir.path().to_path_buf());
    assert!(matches!(folder.open(0), Err(OciFault::Folder)));
    let missing = Input::File(dir.path().join("missing"));
    assert!(matches!(missing.open(0), Err(OciFault::Open(_))));
}

/// Opens everything that a hostile archive lists.
fn open_all(bytes: &[u8]) {
    if let Ok(archive) = open(bytes) {
        for name in ["manifest.json", "index.json", "a", "a/b", "b"] {
            let _ = archive.get(name);
        }
    }
    let _ = archive_kind(&blob(bytes), 1 << 20);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..3000)) {
        open_all(&bytes);
    }

    #[test]
    fn arbitrary_headers_never_panic(
        blocks in vec(vec(any::<u8>(), 512), 1..4),
        kind in prop::sample::select(b"0125xgLKS7".to_vec()),
        size in prop_oneof![0..2000u64, any::<u64>()],
    ) {
        let mut archive = Vec::new();
        for block in blocks {
            let mut header = tar::Header::new_old();
            header.as_mut_bytes().copy_from_slice(&block);
            header.set_entry_type(tar::EntryType::new(kind));
            header.set_size(size);
            header.set_cksum();
            archive.extend_from_slice(header.as_bytes());
        }
        archive.resize(archive.len() + 4096, 0);
        open_all(&archive);
    }

    #[test]
    fn changed_byte_is_a_fault_or_an_image(at: prop::sample::Index, to: u8) {
        let mut archive = tar(&Image::new(&["a"]).docker(&["demo:1"]));
        let at = at.index(archive.len());
        archive[at] = to;
        let (_dir, input) = file(&archive);
        let _ = OciImage::open_docker_archive(&input, None, &OpenOptions::default());
    }
}
