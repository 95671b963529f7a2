//! What is passed on of well-formed archives, cut ones and any bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use std::io::{Read, Write};

use super::header::{BLOCK, Header};
use super::*;
use crate::blob::Blob;
use crate::builder::BuildError;
use crate::layer::Layer;
use crate::limits::Limits;
use crate::merge::{LayerError, Merge, Rules, Whiteouts};
use crate::owners::Owners;
use crate::progress::{Meter, Progress};

fn owners() -> Owners {
    Owners::run_by(70_001, 70_002, Attributes::default())
}

/// What was made of an archive.
struct Packed {
    root: Attributes,
    archive: Vec<u8>,
    warnings: Vec<String>,
}

fn pack_within(archive: &[u8], limits: &Limits) -> Result<Packed, TarError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(archive).unwrap();
    let layers = [Layer {
        name: String::new(),
        blob: Blob::whole(file).unwrap(),
        digest: None,
        diff_id: None,
    }];
    let rules = Rules {
        limits: *limits,
        whiteouts: Whiteouts::AreFiles,
        readers: 1,
    };
    let mut ignore = |_: Progress| {};
    let mut meter = Meter::new(&layers, &mut ignore);
    let mut archive = Vec::new();
    let packed = Merge::new(&layers, &rules, &mut meter).and_then(|merge| {
        let root = merge.root();
        let warnings = merge.write(Some(&owners()), &mut archive, &mut meter)?;
        Ok((root, warnings.into_lines()))
    });
    match packed {
        Ok((root, warnings)) => Ok(Packed {
            root,
            archive,
            warnings,
        }),
        Err(BuildError::Layer {
            source: LayerError::Archive(error),
            ..
        }) => Err(error),
        Err(error) => panic!("{error:?}"),
    }
}

fn pack(archive: &[u8]) -> Result<Packed, TarError> {
    pack_within(archive, &Limits::default())
}

fn forward(archive: &[u8]) -> Result<Vec<u8>, TarError> {
    pack(archive).map(|packed| packed.archive)
}

fn header(name: &str, kind: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_entry_type(kind);
    header.set_mode(0o1750);
    header.set_uid(42);
    header.set_gid(43);
    header.set_size(size);
    header.set_mtime(1);
    header.set_cksum();
    header
}

/// A root, a file with extended records, a long name, a link with a size.
fn sample() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    builder
        .append(&header("./", tar::EntryType::Directory, 0), &b""[..])
        .unwrap();
    let records: [(&str, &[u8]); 5] = [
        ("SCHILY.xattr.user.k", b"v\0w"),
        ("uid", b"3000000"),
        ("uname", b"daemon"),
        ("mtime", b"12"),
        ("path", b"caf\xc3\xa9"),
    ];
    builder.append_pax_extensions(records).unwrap();
    let mut file = header("f", tar::EntryType::Regular, 5);
    file.as_ustar_mut().unwrap().set_username("daemon").unwrap();
    file.set_cksum();
    builder.append(&file, &b"hello"[..]).unwrap();
    let mut long = tar::Header::new_gnu();
    long.set_size(0);
    builder
        .append_data(&mut long, "n".repeat(150), &b""[..])
        .unwrap();
    let mut link = header("l", tar::EntryType::Link, 0);
    link.set_link_name("café").unwrap();
    link.set_size(5);
    link.set_cksum();
    builder.append(&link, &b""[..]).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn root_entry_is_taken_out_and_its_attributes_kept() {
    let packed = pack(&sample()).unwrap();
    assert_eq!(
        packed.root,
        Attributes {
            mode: 0o1750,
            uid: 42,
            gid: 43,
            mtime: 1
        }
    );
    assert_eq!(
        names(&packed.archive),
        ["café".into(), b"l".to_vec(), "n".repeat(150).into_bytes()]
    );
}

#[test]
fn owners_go_by_number_and_attributes_stay() {
    let out = forward(&sample()).unwrap();
    let mut archive = tar::Archive::new(&out[..]);
    let mut entries = archive.entries().unwrap();
    let mut file = entries.next().unwrap().unwrap();
    assert_eq!(file.header().uid().unwrap(), 3_000_000);
    assert_eq!(file.header().gid().unwrap(), 43);
    assert_eq!(file.header().username_bytes(), Some(&b""[..]));
    let records: Vec<_> = file
        .pax_extensions()
        .unwrap()
        .unwrap()
        .map(|record| record.unwrap())
        .map(|record| (record.key_bytes().to_vec(), record.value_bytes().to_vec()))
        .collect();
    let expected: [(&[u8], &[u8]); 1] = [(b"SCHILY.xattr.user.k", b"v\0w")];
    assert_eq!(file.header().mtime().unwrap(), 12);
    assert_eq!(
        records,
        expected.map(|(key, value)| (key.to_vec(), value.to_vec()))
    );
    let mut data = String::new();
    file.read_to_string(&mut data).unwrap();
    assert_eq!(data, "hello");
}

#[test]
fn root_entry_that_comes_late_counts() {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind) in [
        ("a", tar::EntryType::Regular),
        ("./", tar::EntryType::Directory),
    ] {
        builder.append(&header(name, kind, 0), &b""[..]).unwrap();
    }
    let packed = pack(&builder.into_inner().unwrap()).unwrap();
    assert_eq!(packed.root.mode, 0o1750);
    assert_eq!(names(&packed.archive), [b"a"]);
}

fn names(archive: &[u8]) -> Vec<Vec<u8>> {
    tar::Archive::new(archive)
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path_bytes().into_owned())
        .collect()
}

#[test]
fn folders_without_an_entry_get_one_before_what_is_in_them() {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind) in [
        ("a/b/c", tar::EntryType::Regular),
        ("d/e", tar::EntryType::Regular),
        ("d/", tar::EntryType::Directory),
    ] {
        builder.append(&header(name, kind, 0), &b""[..]).unwrap();
    }
    let out = forward(&builder.into_inner().unwrap()).unwrap();
    assert_eq!(names(&out), [&b"a"[..], b"a/b", b"d", b"a/b/c", b"d/e"]);
    let mut archive = tar::Archive::new(&out[..]);
    let first = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(first.header().mode().unwrap(), 0o755);
    assert_eq!(first.header().mtime().unwrap(), 1);
}

#[test]
fn compressed_archives_are_passed_on_as_the_plain_one() {
    let plain = sample();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for packed in [gzip.finish().unwrap(), zstd] {
        assert_eq!(forward(&packed).unwrap(), forward(&plain).unwrap());
        let cut = forward(&packed[..packed.len() / 2]).unwrap_err();
        assert!(matches!(cut, TarError::Read { .. }), "{cut:?}");
    }
}

#[test]
fn archive_that_unpacks_to_more_than_allowed_is_refused_with_the_flag() {
    let limits = Limits {
        max_size: 4096,
        ..Default::default()
    };
    let mut builder = tar::Builder::new(Vec::new());
    builder
        .append(
            &header("f", tar::EntryType::Regular, 1 << 20),
            &[0; 1 << 20][..],
        )
        .unwrap();
    let bomb = zstd::encode_all(&builder.into_inner().unwrap()[..], 1).unwrap();
    let sparse = sparse_old(1 << 32);
    for archive in [bomb, sparse] {
        let error = pack_within(&archive, &limits).map(drop).unwrap_err();
        assert!(error.to_string().contains("--max-size"), "{error}");
    }
}

/// A sparse file of GNU's old format with "data" at 4096.
fn sparse_old(size: u64) -> Vec<u8> {
    let mut header = Header::new(b'S');
    header.set_path(b"holes");
    header.set_size(4);
    header.0[386..398].copy_from_slice(b"00000010000\0");
    header.0[398..410].copy_from_slice(b"00000000004\0");
    header.0[483..495].copy_from_slice(format!("{size:011o}\0").as_bytes());
    // Of the form before POSIX's.
    header.0[257..265].copy_from_slice(b"ustar  \0");
    header.seal();
    let mut archive = header.0.to_vec();
    archive.extend_from_slice(b"data");
    archive.resize(BLOCK * 2 + 1024, 0);
    archive
}

/// The same in a format of extended headers, which may have its map in front
/// of the data.
fn sparse_pax(records: &[(&str, &str)], data: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let records = records.iter().map(|(key, value)| (*key, value.as_bytes()));
    builder.append_pax_extensions(records).unwrap();
    let file = header(
        "GNUSparseFile.1/holes",
        tar::EntryType::Regular,
        data.len() as u64,
    );
    builder.append(&file, data).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn sparse_files_of_every_format_become_plain_ones() {
    let name = ("GNU.sparse.name", "holes");
    let mut map = b"2\n4096\n4\n8192\n0\n".to_vec();
    map.resize(BLOCK, 0);
    let in_data = [&map[..], b"data"].concat();
    let archives = [
        sparse_old(8192),
        sparse_pax(
            &[
                ("GNU.sparse.size", "8192"),
                ("GNU.sparse.numblocks", "2"),
                ("GNU.sparse.offset", "4096"),
                ("GNU.sparse.numbytes", "4"),
                ("GNU.sparse.offset", "8192"),
                ("GNU.sparse.numbytes", "0"),
                ("path", "holes"),
            ],
            b"data",
        ),
        sparse_pax(
            &[
                ("GNU.sparse.size", "8192"),
                ("GNU.sparse.numblocks", "2"),
                ("GNU.sparse.map", "4096,4,8192,0"),
                name,
            ],
            b"data",
        ),
        sparse_pax(
            &[
                ("GNU.sparse.major", "1"),
                ("GNU.sparse.minor", "0"),
                ("GNU.sparse.realsize", "8192"),
                name,
            ],
            &in_data,
        ),
    ];
    for archive in archives {
        let out = forward(&archive).unwrap();
        let mut out = tar::Archive::new(&out[..]);
        let mut file = out.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(&*file.path_bytes(), b"holes");
        let mut data = Vec::new();
        file.read_to_end(&mut data).unwrap();
        let mut expected = vec![0; 8192];
        expected[4096..4100].copy_from_slice(b"data");
        assert!(data == expected);
    }
}

#[test]
fn sparse_maps_that_contradict_themselves_are_refused_by_name() {
    let archive = sparse_pax(
        &[
            ("GNU.sparse.size", "3"),
            ("GNU.sparse.map", "0,4"),
            ("path", "holes"),
        ],
        b"data",
    );
    let error = forward(&archive).unwrap_err();
    assert!(
        matches!(&error, TarError::Entry { entry, .. } if entry == "holes"),
        "{error:?}"
    );
}

#[test]
fn names_that_lead_out_of_the_image_are_refused_and_named() {
    for (name, link) in [("../x", ""), ("a/../x", ""), ("x", "../etc/passwd")] {
        let mut header = Header::new(if link.is_empty() { b'0' } else { b'1' });
        header.set_path(name.as_bytes());
        header.set_link(link.as_bytes());
        header.seal();
        let mut archive = header.0.to_vec();
        archive.resize(BLOCK * 3, 0);
        let error = forward(&archive).unwrap_err();
        assert_eq!(error.to_string(), format!("entry {name}"));
    }
}

#[test]
fn kinds_that_are_no_files_are_left_out_with_a_warning() {
    let mut builder = tar::Builder::new(Vec::new());
    let volume = header("volume", tar::EntryType::new(b'V'), 600);
    builder.append(&volume, &[1; 600][..]).unwrap();
    builder
        .append(&header("f", tar::EntryType::Regular, 0), &b""[..])
        .unwrap();
    let archive = builder.into_inner().unwrap();
    let packed = pack(&archive).unwrap();
    assert_eq!(names(&packed.archive), [b"f"]);
    assert_eq!(packed.warnings, ["volume is of kind `V` and left out"]);
}

#[test]
fn cut_short_anywhere_is_an_error() {
    let sample = sample();
    // The last block is the second half of the end mark.
    for len in (0..sample.len() - 2 * BLOCK).step_by(61) {
        let answer = forward(&sample[..len]);
        assert!(
            matches!(
                answer,
                Err(TarError::Truncated { .. } | TarError::NotTar { .. })
            ),
            "{len}: {answer:?}"
        );
    }
}

#[test]
fn other_compression_is_called_so() {
    let answer = forward(b"\xfd7zXZ\0\0\0").unwrap_err();
    assert!(answer.to_string().contains("`xz -dc"), "{answer}");
}

#[test]
fn owner_that_no_file_system_stores_is_an_error() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut file = header("f", tar::EntryType::Regular, 0);
    file.set_uid(u64::from(u32::MAX));
    file.set_cksum();
    builder.append(&file, &b""[..]).unwrap();
    let answer = forward(&builder.into_inner().unwrap());
    let is_it = matches!(
        answer,
        Err(TarError::Entry {
            source: EntryError::Owner { .. },
            ..
        })
    );
    assert!(is_it, "{answer:?}");
}

/// Extended headers of these records each, and a folder behind them.
fn with_headers(headers: &[&[(&str, &[u8])]]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for records in headers {
        let records = records.iter().copied();
        builder.append_pax_extensions(records).unwrap();
    }
    builder
        .append(&header("d", tar::EntryType::Directory, 0), &b""[..])
        .unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn extended_headers_of_an_entry_are_limited_together() {
    let long = vec![b'c'; 1_500_000];
    let comment: &[(&str, &[u8])] = &[("comment", &long)];
    assert!(forward(&with_headers(&[comment; 2])).is_ok());
    let error = forward(&with_headers(&[comment; 3])).unwrap_err();
    assert!(
        matches!(error, TarError::ExtendedTooLong { .. }),
        "{error:?}"
    );
    // What is left out counts for itself.
    let mut twice = with_headers(&[comment; 2]);
    twice.truncate(twice.len() - 3 * BLOCK);
    let mut volume = Header::new(b'V');
    volume.set_path(b"v");
    volume.seal();
    twice.extend_from_slice(&volume.0);
    twice.extend_from_slice(&with_headers(&[comment; 2]));
    assert!(forward(&twice).is_ok());
}

#[test]
fn attributes_that_an_image_would_not_be_read_with_are_refused() {
    let name = |len: usize| format!("SCHILY.xattr.user.{}", "n".repeat(len - 5));
    let one = |len: usize, value: usize| {
        let (name, value) = (name(len), vec![b'v'; value]);
        forward(&with_headers(&[&[(&name[..], &value[..])]]))
    };
    assert!(one(255, 64 << 10).is_ok());
    let many = |count: usize, value: usize| {
        let names: Vec<_> = (0..count).map(|n| format!("{}{n:04}", name(196))).collect();
        let value = vec![b'v'; value];
        let records: Vec<_> = names.iter().map(|name| (&name[..], &value[..])).collect();
        forward(&with_headers(&[&records]))
    };
    assert!(many(300, 1).is_ok());
    for (answer, expected) in [
        (one(256, 1), "longer than 255 bytes"),
        (one(6, (64 << 10) + 1), "longer than 65536 bytes"),
        (many(400, 1), "65536 bytes, which Linux cannot list"),
        (many(700, 1), "65536 bytes, which Linux cannot list"),
        (many(17, 64 << 10), "more than 1048576 bytes together"),
        (many(40, 64 << 10), "more than 1048576 bytes together"),
    ] {
        match answer.unwrap_err() {
            TarError::Entry { entry, source } => {
                assert_eq!(entry, "d");
                assert!(source.to_string().contains(expected), "{source}");
            }
            error => panic!("{error:?}"),
        }
    }
}

#[test]
fn long_names_are_cut_in_errors_and_warnings() {
    let long = "n".repeat(1 << 20);
    let error = forward(&with_headers(&[&[("path", long.as_bytes())]])).unwrap_err();
    assert!(error.to_string().len() < 300, "{}", error.to_string().len());

    let mut builder = tar::Builder::new(Vec::new());
    let records: [(&str, &[u8]); 1] = [("path", long.as_bytes())];
    builder.append_pax_extensions(records).unwrap();
    let volume = header("v", tar::EntryType::new(b'V'), 0);
    builder.append(&volume, &b""[..]).unwrap();
    let warnings = pack(&builder.into_inner().unwrap()).unwrap().warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].len() < 300, "{}", warnings[0].len());
}

proptest! {
    #[test]
    fn arbitrary_blocks_never_panic(
        blocks in vec(vec(any::<u8>(), BLOCK), 0..4),
        kind in prop::sample::select(b"0x\x005gLKS1".to_vec()),
        size in 0..2000u64,
    ) {
        let mut archive = Vec::new();
        for block in blocks {
            let mut header = Header(block.try_into().unwrap());
            header.0[156] = kind;
            header.set_size(size);
            header.set_owner(1, 2);
            header.seal();
            archive.extend_from_slice(&header.0);
        }
        archive.resize(archive.len() + 8192, 0);
        let _ = forward(&archive);
    }

    #[test]
    fn changed_byte_is_an_error_or_an_archive(at: prop::sample::Index, to: u8) {
        let mut sample = sample();
        let at = at.index(sample.len());
        sample[at] = to;
        if let Ok(out) = forward(&sample) {
            // What was put right once needs nothing more, but for owners
            // that stand-ins replace.
            let again = forward(&out).map_err(|error| TestCaseError::fail(error.to_string()));
            prop_assert_eq!(again?, out);
        }
    }
}
