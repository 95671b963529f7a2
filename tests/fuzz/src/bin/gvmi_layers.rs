//! The merger on any bytes as one to three layers, plain or compressed, and
//! on archives whose checksums are right but whose names, kinds and numbers
//! are the input's.
//!
//! Holds: what comes out is a well-formed archive, whose every name is clean
//! and there once, behind its folder, and whose hard links lead back to a name
//! before them; what is refused is refused in one line. Memory is held by the
//! limit that libFuzzer has.

#![cfg_attr(fuzzing, no_main)]

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::Write;

use fuzz::Choices;
use gvmi::{Blob, BuildError, Digest, Layer, Limits};
use nix::sys::memfd::{MFdFlags, memfd_create};

fuzz::target!(check);

const BLOCK: usize = 512;
/// Small, so that they are met.
const LIMITS: Limits = Limits {
    max_entries: 200,
    max_size: 1 << 20,
};
/// Pieces of names, so that entries of different layers meet.
const PIECES: [&[u8]; 16] = [
    b"a",
    b"b",
    b"c",
    b"/",
    b"/",
    b"..",
    b".",
    b".wh.",
    b".wh..wh..opq",
    b".wh..wh.plnk",
    b"\0",
    // No newline: the crate that reads the archive here splits records at it.
    b"\t\xff",
    b"a/b",
    b"a/b/c",
    b"long-enough-to-need-a-header-of-its-own-",
    b"",
];
const KINDS: &[u8; 16] = b"0000552211346SxL";

fn check(data: &[u8]) {
    let mut choices = Choices::new(data);
    let shape = choices.byte();
    let layers: Vec<_> = (0..shape % 3 + 1)
        .map(|number| {
            let made = choices.byte();
            let archive = match made % 4 {
                0 => take(&mut choices),
                _ => archive(&mut choices),
            };
            layer(&archive, made / 4, number)
        })
        .collect();
    let mut out = Vec::new();
    match gvmi::merge_layers(&layers, &LIMITS, &mut out) {
        Ok(()) => check_archive(&out),
        Err(error) => check_error(&error),
    }
}

/// Some of the input as it is.
fn take(choices: &mut Choices<'_>) -> Vec<u8> {
    let len = usize::from(choices.byte()) * 8;
    (0..len).map(|_| choices.byte()).collect()
}

fn archive(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..choices.byte() % 24 {
        entry(&mut bytes, choices);
    }
    if !choices.byte().is_multiple_of(8) {
        bytes.resize(bytes.len() + 2 * BLOCK, 0);
    }
    bytes
}

/// An entry whose checksum is right.
fn entry(bytes: &mut Vec<u8>, choices: &mut Choices<'_>) {
    let mut header = [0; BLOCK];
    let kind = KINDS[usize::from(choices.byte() % 16)];
    let mut data = Vec::new();
    match kind {
        b'x' => records(&mut data, choices),
        b'L' => data = name(choices),
        b'0' | b'S' => data.resize(usize::from(choices.byte()) * 4, b'd'),
        _ => {}
    }
    let path = name(choices);
    header[..path.len().min(100)].copy_from_slice(&path[..path.len().min(100)]);
    let link = name(choices);
    header[157..][..link.len().min(100)].copy_from_slice(&link[..link.len().min(100)]);
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(100, b"0000644\0");
    put(124, format!("{:011o}\0", data.len()).as_bytes());
    put(257, b"ustar\x0000");
    header[156] = kind;
    if kind == b'S' {
        for byte in &mut header[386..495] {
            *byte = b"01\0"[usize::from(choices.byte() % 3)];
        }
    }
    for _ in 0..choices.byte() % 3 {
        let at = usize::from(choices.byte()) * 2;
        header[at] = choices.byte();
    }
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bytes.extend(header);
    bytes.extend(&data);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
}

fn name(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut name = Vec::new();
    for _ in 0..choices.byte() % 6 {
        name.extend(PIECES[usize::from(choices.byte() % 16)]);
    }
    name
}

fn records(data: &mut Vec<u8>, choices: &mut Choices<'_>) {
    const KEYS: [&str; 16] = [
        "path",
        "path",
        "linkpath",
        "size",
        "uid",
        "mtime",
        "SCHILY.xattr.user.a",
        "SCHILY.xattr.system.b",
        "LIBARCHIVE.xattr.user.a",
        "GNU.sparse.major",
        "GNU.sparse.realsize",
        "GNU.sparse.size",
        "GNU.sparse.map",
        "GNU.sparse.offset",
        "GNU.sparse.numbytes",
        "GNU.sparse.name",
    ];
    for _ in 0..choices.byte() % 5 {
        let key = KEYS[usize::from(choices.byte() % 16)];
        let value = match key {
            "path" | "linkpath" | "GNU.sparse.name" => name(choices),
            "GNU.sparse.map" => format!("{},{}", choices.byte(), choices.byte()).into_bytes(),
            _ => (choices.byte() % 8).to_string().into_bytes(),
        };
        let rest = [b" ", key.as_bytes(), b"=", &value, b"\n"].concat();
        // The length counts its own digits.
        let digits = if rest.len() + 2 < 100 { 2 } else { 3 };
        let digits = if rest.len() + 1 < 10 { 1 } else { digits };
        data.extend((rest.len() + digits).to_string().bytes());
        data.extend(rest);
    }
}

fn layer(archive: &[u8], how: u8, number: u8) -> Layer {
    let stored = match how % 8 {
        0 => zstd::encode_all(archive, 1).expect("memory takes it"),
        1 => gzip(archive),
        _ => archive.to_vec(),
    };
    let mut file = memory_file();
    file.write_all(&stored).expect("memory takes it");
    Layer {
        name: number.to_string(),
        blob: Blob::whole(file).expect("it is open"),
        digest: (how & 8 > 0).then(|| Digest::of(&stored)),
        diff_id: (how & 16 > 0).then(|| Digest::of(archive)),
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).expect("memory takes it");
    gzip.finish().expect("memory takes it")
}

fn memory_file() -> File {
    const NAME: &CStr = c"layer";
    let file = memfd_create(NAME, MFdFlags::MFD_CLOEXEC).expect("Linux has memory files");
    File::from(file)
}

fn check_archive(out: &[u8]) {
    let mut kinds = BTreeMap::new();
    let mut archive = tar::Archive::new(out);
    let mut end = 0;
    for entry in archive.entries().expect("it is one") {
        let mut entry = entry.expect("its headers are in order");
        let path = entry.path_bytes().into_owned();
        assert!(is_clean(&path), "{path:?}");
        if let Some(slash) = path.iter().rposition(|byte| *byte == b'/') {
            let folder = kinds.get(&path[..slash]);
            assert_eq!(folder, Some(&tar::EntryType::Directory), "{path:?}");
        }
        let kind = entry.header().entry_type();
        if kind == tar::EntryType::Link {
            let target = entry.link_name_bytes().expect("it leads somewhere");
            let target = kinds.get(&*target);
            let file = target.is_some_and(|kind| *kind != tar::EntryType::Directory);
            assert!(file, "{path:?} leads to {target:?}");
        }
        let before = kinds.insert(path.clone(), kind);
        assert_eq!(before, None, "{path:?} is there twice");
        let len = std::io::copy(&mut entry, &mut std::io::sink()).expect("its data is there");
        assert_eq!(len, entry.size());
        end = entry.raw_file_position() + len.next_multiple_of(BLOCK as u64);
    }
    assert!(kinds.len() <= LIMITS.max_entries as usize);
    let mark = &out[end as usize..];
    assert_eq!(mark, [0; 2 * BLOCK]);
}

fn is_clean(path: &[u8]) -> bool {
    let clean = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && name.len() < 256;
    !path.contains(&0) && path.split(|byte| *byte == b'/').all(clean)
}

fn check_error(error: &BuildError) {
    let mut error: Option<&dyn std::error::Error> = Some(error);
    while let Some(one) = error {
        let text = one.to_string();
        assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
        error = one.source();
    }
}
