//! What is passed on of well-formed archives, cut ones and any bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn owners() -> Owners {
    Owners::run_by(70_001, 70_002, Root::default())
}

fn forward(archive: &[u8]) -> Result<Vec<u8>, TarError> {
    let mut out = Vec::new();
    Archive::open(archive)?.forward(&mut out, &owners())?;
    Ok(out)
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
    link.set_link_name("f").unwrap();
    link.set_size(5);
    link.set_cksum();
    builder.append(&link, &b""[..]).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn root_entry_is_taken_out_and_its_attributes_kept() {
    let root = Archive::open(&sample()[..]).unwrap().root();
    assert_eq!(
        root,
        Root {
            mode: 0o1750,
            uid: 42,
            gid: 43
        }
    );
    let out = forward(&sample()).unwrap();
    let names: Vec<_> = tar::Archive::new(&out[..])
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap().path_bytes().into_owned())
        .collect();
    assert_eq!(
        names,
        ["café".into(), "n".repeat(150).into_bytes(), b"l".to_vec()]
    );
}

#[test]
fn owners_go_by_number_and_records_stay() {
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
    let expected: [(&[u8], &[u8]); 3] = [
        (b"SCHILY.xattr.user.k", b"v\0w"),
        (b"mtime", b"12.0"),
        (b"path", "café".as_bytes()),
    ];
    assert_eq!(
        records,
        expected.map(|(key, value)| (key.to_vec(), value.to_vec()))
    );
    let mut data = String::new();
    file.read_to_string(&mut data).unwrap();
    assert_eq!(data, "hello");
}

#[test]
fn root_entry_that_comes_late_is_reported() {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind) in [
        ("a", tar::EntryType::Regular),
        ("./", tar::EntryType::Directory),
    ] {
        builder.append(&header(name, kind, 0), &b""[..]).unwrap();
    }
    let archive = builder.into_inner().unwrap();
    let archive = Archive::open(&archive[..]).unwrap();
    assert_eq!(archive.root(), Root::default());
    assert!(archive.forward(&mut io::sink(), &owners()).unwrap());
}

#[test]
fn cut_short_anywhere_is_an_error() {
    let sample = sample();
    // The last block is the second half of the end mark.
    for len in 0..sample.len() - 2 * BLOCK {
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
fn compressed_archive_is_called_so() {
    let answer = forward(&[0x1f, 0x8b, 8, 0]).unwrap_err();
    assert!(
        answer.to_string().contains("compressed with gzip"),
        "{answer}"
    );
}

#[test]
fn owner_that_no_file_system_stores_is_an_error() {
    let mut builder = tar::Builder::new(Vec::new());
    let mut file = header("f", tar::EntryType::Regular, 0);
    file.set_uid(u64::from(u32::MAX));
    file.set_cksum();
    builder.append(&file, &b""[..]).unwrap();
    let answer = forward(&builder.into_inner().unwrap());
    assert!(matches!(answer, Err(TarError::Owner { .. })), "{answer:?}");
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
            header.set_kind(kind);
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
