//! The reader of an image's tree on any bytes: as metadata that a packer left
//! uncompressed, and as what each decompressor gets.
//!
//! Holds: reading everything ends, within its limit and without a panic; a
//! walk is in order; what a walk gives is found by its path; a tree that was
//! verified can be read, exported and is equal to itself.
//!
//! The seeds are images of a small tree, one for each compressor and `plain`,
//! which `mksquashfs` made with `-noI -noF -noX -noId`, all with `-b 4096 -nopad`
//! and without a trailer.

#![cfg_attr(fuzzing, no_main)]

use std::io;

use gvmi::{Contents, Kind, Tree};

fuzz::target!(check);

/// Bytes that may be unpacked from an input: a few blocks of the largest size.
const LIMIT: u64 = 16 << 20;
/// What a squashfs is padded to.
const PADDING: usize = 4096;

fn check(data: &[u8]) {
    let image = image(data);
    let Ok(contents) = Contents::from_bytes(&image) else {
        return;
    };
    let mut tree = match Tree::from_bytes(&image, &contents) {
        Ok(tree) => tree,
        Err(error) => {
            assert!(!error.to_string().contains('\n'));
            return;
        }
    };
    tree.set_data_limit(LIMIT);
    let verification = tree.verify();
    for error in &verification.faults {
        let text = error.to_string();
        assert!(!text.contains('\n'), "{text:?}");
    }
    assert_eq!(verification.is_ok(), verification.faults.is_empty());

    tree.set_data_limit(LIMIT);
    let entries = check_walk(&tree);
    tree.set_data_limit(LIMIT);
    // A sparse file may be longer than the limit.
    let exported = tree.export(io::sink());
    if let Ok(exported) = exported
        && verification.is_ok()
    {
        assert!(exported.entries <= entries);
        tree.set_data_limit(LIMIT);
        let mut changes = tree.diff(&tree, true).expect("it was verified");
        match changes.next() {
            None => {}
            // Each name of a file is compared, and it was verified once.
            Some(Err(error)) => assert!(error.to_string().contains("more than"), "{error}"),
            Some(Ok(change)) => panic!("{change:?}"),
        }
    }
}

/// Returns how many entries there are.
fn check_walk(tree: &Tree<'_>) -> u64 {
    let Ok(walk) = tree.walk() else {
        return 0;
    };
    let mut count = 0;
    let mut last: Option<Vec<Vec<u8>>> = None;
    for entry in walk.flatten() {
        let parts: Vec<Vec<u8>> = entry
            .path
            .split(|byte| *byte == b'/')
            .map(<[u8]>::to_vec)
            .collect();
        assert!(last.is_none_or(|last| last < parts), "{entry:?}");
        last = Some(parts);
        count += 1;
        match tree.lookup(&entry.path, false) {
            Ok(found) => {
                assert_eq!(found.path, entry.path);
                assert_eq!(found.inode.number, entry.inode.number);
            }
            Err(error) => assert!(error.to_string().contains("more than"), "{error}"),
        }
        if let (Kind::File(data), Ok(mut file)) = (&entry.inode.kind, tree.file(&entry.inode))
            && let Ok(len) = io::copy(&mut file, &mut io::sink())
        {
            assert_eq!(len, data.size());
        }
    }
    count
}

/// The squashfs `data` with a trailer behind it.
fn image(data: &[u8]) -> Vec<u8> {
    let mut image = data.to_vec();
    image.resize(data.len().next_multiple_of(PADDING), 0);
    image.extend(crc32fast::hash(b"{}").to_le_bytes());
    image.extend(b"{}00000002");
    image
}
