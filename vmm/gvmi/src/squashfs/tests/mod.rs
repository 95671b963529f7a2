//! What the reader promises of images that no packer would make.

mod content;
mod maker;
mod names;

use std::io::Read;

use super::*;
use crate::{Contents, display_path};
use maker::{DIR, FILE, Maker, Name, SYMLINK};

fn with_tree<T>(image: &[u8], check: impl FnOnce(&mut Tree<'_>) -> T) -> T {
    let contents = Contents::from_bytes(image).unwrap();
    check(&mut Tree::from_bytes(image, &contents).unwrap())
}

/// The paths that a walk gives, and after a question mark those that it
/// cannot give.
fn paths(image: &[u8]) -> Vec<String> {
    with_tree(image, |tree| {
        let walk = tree.walk().unwrap();
        walk.map(|entry| match entry {
            Ok(entry) => display_path(&entry.path),
            Err(error) => format!("?{error}"),
        })
        .collect()
    })
}

/// What is wrong with a folder of one entry.
fn damage_of(maker: Maker, name: Name<'_>) -> Damage {
    first_damage(&maker.rooted(&[name]))
}

fn first_damage(image: &[u8]) -> Damage {
    with_tree(image, |tree| {
        let error = tree.verify().faults.remove(0);
        match error.fault {
            TreeFault::Damaged(damage) => damage,
            fault => panic!("{fault:?}"),
        }
    })
}

fn content(image: &[u8], path: &str) -> std::io::Result<Vec<u8>> {
    with_tree(image, |tree| {
        let entry = tree.lookup(path.as_bytes(), false).unwrap();
        let mut content = Vec::new();
        tree.file(&entry.inode).unwrap().read_to_end(&mut content)?;
        Ok(content)
    })
}

#[test]
fn a_small_tree_is_read() {
    let mut maker = Maker {
        data: [vec![1; 4096], vec![2; 100]].concat(),
        fragments: vec![(96 + 4096, 100 | 1 << 24)],
        ..Maker::default()
    };
    let (file, number) = maker.file(4096 * 2 + 50, 96, (0, 50), &[4096 | 1 << 24, 0]);
    let (link, link_number) = maker.symlink(b"/d/f");
    let (dir, dir_number) = maker.dir(&[(b"f", file, number, FILE)], None);
    let image = maker.rooted(&[
        (b"d", dir, dir_number, DIR),
        (b"d-l", link, link_number, SYMLINK),
    ]);
    assert_eq!(paths(&image), ["", "d", "d/f", "d-l"]);
    let expected = [vec![1; 4096], vec![0; 4096], vec![2; 50]].concat();
    assert_eq!(content(&image, "/d/f").unwrap(), expected);
    with_tree(&image, |tree| {
        let found = tree.verify();
        assert!(found.is_ok(), "{found:?}");
        assert_eq!(found.counts.data, 4096 * 2 + 50);
        assert_eq!(tree.lookup(b"d-l", true).unwrap().path, b"d/f");
        assert_eq!(
            tree.lookup(b"../d/./../d//f", false).unwrap().inode.uid,
            1000
        );
    });
}

/// Each byte of a small image, damaged in turn: nothing but an answer.
#[test]
fn no_damaged_byte_panics() {
    let mut maker = Maker {
        data: vec![3; 200],
        fragments: vec![(96, 200 | 1 << 24)],
        ..Maker::default()
    };
    let (file, number) = maker.file(150, 0, (0, 50), &[]);
    let (link, link_number) = maker.symlink(b"/d/f");
    let (dir, dir_number) = maker.dir(&[(b"f", file, number, FILE)], None);
    let image = maker.rooted(&[
        (b"d", dir, dir_number, DIR),
        (b"l", link, link_number, SYMLINK),
    ]);
    let len = Contents::from_bytes(&image).unwrap().superblock.bytes_used;
    for at in 0..len as usize {
        for change in [1, 0x80, 0xff] {
            let mut image = image.clone();
            image[at] ^= change;
            let Ok(contents) = Contents::from_bytes(&image) else {
                continue;
            };
            let Ok(tree) = Tree::from_bytes(&image, &contents) else {
                continue;
            };
            tree.verify();
            // It may be whole, only different.
            let _ = tree.export(std::io::sink());
            let _ = tree.lookup(b"l", true);
        }
    }
}
