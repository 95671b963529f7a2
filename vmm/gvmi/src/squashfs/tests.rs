//! What the reader promises of images that no packer would make: each is
//! written here byte by byte, uncompressed.

use std::io::Read;

use super::*;
use crate::{ContainerConfig, Contents, trailer};

/// Bytes of a full metadata block.
const BLOCK: usize = 8192;
const BLOCK_SIZE: u32 = 4096;
const NO_FRAGMENT: u32 = u32::MAX;
const DIR: u16 = 1;
const FILE: u16 = 2;
const SYMLINK: u16 = 3;
const LONG_FILE: u16 = 9;

/// An image in the making, children before their folders.
#[derive(Default)]
struct Maker {
    /// File data, behind the superblock.
    data: Vec<u8>,
    inodes: Vec<u8>,
    names: Vec<u8>,
    count: u32,
    /// Start, stored length.
    fragments: Vec<(u64, u32)>,
    /// Names and values, and lists of them.
    xattrs: Vec<u8>,
    xattr_lists: Vec<u8>,
}

/// A name, its inode's place, number and type.
type Name<'a> = (&'a [u8], u64, u32, u16);

/// Where byte `at` of some metadata will be.
fn reference(at: usize) -> u64 {
    let block = at / BLOCK * (BLOCK + 2);
    ((block << 16) + at % BLOCK) as u64
}

fn blocks(metadata: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for block in metadata.chunks(BLOCK) {
        out.extend((block.len() as u16 | 0x8000).to_le_bytes());
        out.extend(block);
    }
    out
}

impl Maker {
    /// Adds an inode with the next number; returns its place and that.
    fn inode(&mut self, kind: u16, rest: &[u8]) -> (u64, u32) {
        self.count += 1;
        let at = reference(self.inodes.len());
        let header = [kind, 0o755, 0, 0].map(u16::to_le_bytes).concat();
        self.inodes.extend(header);
        self.inodes.extend(7u32.to_le_bytes());
        self.inodes.extend(self.count.to_le_bytes());
        self.inodes.extend(rest);
        (at, self.count)
    }

    fn symlink(&mut self, target: &[u8]) -> (u64, u32) {
        let lengths = [1, target.len() as u32].map(u32::to_le_bytes).concat();
        self.inode(SYMLINK, &[&lengths, target].concat())
    }

    /// A file with data at `start`, a tail, and blocks of the given lengths.
    fn file(&mut self, size: u32, start: u32, tail: (u32, u32), lengths: &[u32]) -> (u64, u32) {
        let fields = [&[start, tail.0, tail.1, size], lengths].concat();
        let fields: Vec<u8> = fields
            .iter()
            .flat_map(|field| field.to_le_bytes())
            .collect();
        self.inode(FILE, &fields)
    }

    /// A folder with a list whose length is put as `size`, or the right one.
    fn dir(&mut self, names: &[Name<'_>], size: Option<u16>) -> (u64, u32) {
        let at = reference(self.names.len());
        let start = self.names.len();
        for (name, reference, number, kind) in names {
            self.names.extend(0u32.to_le_bytes());
            self.names.extend(((reference >> 16) as u32).to_le_bytes());
            self.names.extend(number.to_le_bytes());
            self.names.extend((*reference as u16).to_le_bytes());
            self.names.extend(0u16.to_le_bytes());
            self.names.extend(kind.to_le_bytes());
            self.names.extend((name.len() as u16 - 1).to_le_bytes());
            self.names.extend(*name);
        }
        let size = size.unwrap_or((self.names.len() - start + 3) as u16);
        let mut rest = ((at >> 16) as u32).to_le_bytes().to_vec();
        rest.extend(2u32.to_le_bytes());
        rest.extend(size.to_le_bytes());
        rest.extend((at as u16).to_le_bytes());
        rest.extend(0u32.to_le_bytes());
        self.inode(DIR, &rest)
    }

    fn image(self, root: u64) -> Vec<u8> {
        let mut bytes = vec![0; 96];
        bytes.extend(&self.data);
        let inode_table = bytes.len() as u64;
        bytes.extend(blocks(&self.inodes));
        let directory_table = bytes.len() as u64;
        // A table of names is there even if no folder has any.
        bytes.extend(blocks(&[&self.names[..], &[0; 3]].concat()));
        let fragments = bytes.len() as u64;
        let entries = self
            .fragments
            .iter()
            .flat_map(|(at, len)| [&at.to_le_bytes()[..], &len.to_le_bytes(), &[0; 4]].concat());
        bytes.extend(blocks(&entries.collect::<Vec<_>>()));
        let fragment_table = bytes.len() as u64;
        bytes.extend(fragments.to_le_bytes());
        let ids = bytes.len() as u64;
        bytes.extend(blocks(&1000u32.to_le_bytes()));
        let id_table = bytes.len() as u64;
        bytes.extend(ids.to_le_bytes());
        let mut xattr_table = u64::MAX;
        if !self.xattr_lists.is_empty() {
            let start = bytes.len() as u64;
            bytes.extend(blocks(&self.xattrs));
            let lists = bytes.len() as u64;
            bytes.extend(blocks(&self.xattr_lists));
            xattr_table = bytes.len() as u64;
            bytes.extend(start.to_le_bytes());
            bytes.extend((self.xattr_lists.len() as u32 / 16).to_le_bytes());
            bytes.extend(0u32.to_le_bytes());
            bytes.extend(lists.to_le_bytes());
        }
        let used = bytes.len() as u64;
        let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
        put(0, b"hsqs");
        put(4, &self.count.to_le_bytes());
        put(12, &BLOCK_SIZE.to_le_bytes());
        put(16, &(self.fragments.len() as u32).to_le_bytes());
        put(20, &1u16.to_le_bytes());
        put(22, &12u16.to_le_bytes());
        put(26, &1u16.to_le_bytes());
        put(28, &4u16.to_le_bytes());
        put(32, &root.to_le_bytes());
        let tables = [
            used,
            id_table,
            xattr_table,
            inode_table,
            directory_table,
            fragment_table,
        ];
        for (table, offset) in tables.iter().enumerate() {
            put(40 + table * 8, &offset.to_le_bytes());
        }
        put(88, &u64::MAX.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(4096), 0);
        bytes.extend(trailer::encode(&ContainerConfig::default()).unwrap());
        bytes
    }

    /// The image with a root folder of `names`.
    fn rooted(mut self, names: &[Name<'_>]) -> Vec<u8> {
        let (root, _) = self.dir(names, None);
        self.image(root)
    }
}

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

#[test]
fn folders_in_themselves_or_in_two_places_are_entered_once() {
    let mut maker = Maker::default();
    let (dir, number) = maker.dir(&[], None);
    let image = maker.rooted(&[(b"a", dir, number, DIR), (b"b", dir, number, DIR)]);
    assert_eq!(
        paths(&image),
        [
            "",
            "a",
            "?/b: damaged: folder 1 is in more than one place (fetch the image again)"
        ]
    );
    // The root is the first inode of this one.
    let image = Maker::default().rooted(&[(b"self", 0, 1, DIR)]);
    assert_eq!(first_damage(&image), Damage::Loop(1));
}

#[test]
fn a_root_that_is_no_folder_is_refused() {
    let mut maker = Maker::default();
    let (link, _) = maker.symlink(b"x");
    let image = maker.image(link);
    assert_eq!(first_damage(&image), Damage::Root(SYMLINK));
    with_tree(&image, |tree| assert!(tree.lookup(b"", true).is_err()));
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for name in [&b"."[..], b"..", b"../x", b"a/b", b"/", b"a\0"] {
        let mut maker = Maker::default();
        let (link, number) = maker.symlink(b"x");
        let damage = damage_of(maker, (name, link, number, SYMLINK));
        assert_eq!(damage, Damage::Name(name.to_vec()));
    }
    for second in [&b"b"[..], b"a"] {
        let mut maker = Maker::default();
        let (link, number) = maker.symlink(b"x");
        let image = maker.rooted(&[
            (b"b", link, number, SYMLINK),
            (second, link, number, SYMLINK),
        ]);
        assert_eq!(first_damage(&image), Damage::Order(second.to_vec()));
    }
}

#[test]
fn lists_that_contradict_themselves_are_refused() {
    for size in [4, 14, 16, 23, 24] {
        let mut maker = Maker::default();
        let (link, number) = maker.symlink(b"x");
        let (root, _) = maker.dir(&[(b"ab", link, number, SYMLINK)], Some(size));
        assert_eq!(first_damage(&maker.image(root)), Damage::List, "{size}");
    }
    // Behind the only list there are three bytes more.
    let mut maker = Maker::default();
    let (root, _) = maker.dir(&[], Some(3 + 12));
    let damage = first_damage(&maker.image(root));
    assert!(
        matches!(damage, Damage::TooLong { .. } | Damage::Outside { .. }),
        "{damage:?}"
    );
}

#[test]
fn inodes_that_are_none_are_refused() {
    let damage = |number, kind| {
        let mut maker = Maker::default();
        let (link, _) = maker.symlink(b"x");
        damage_of(maker, (b"a", link, number, kind))
    };
    assert!(matches!(
        damage(2, SYMLINK),
        Damage::Mismatch { number: 1, .. }
    ));
    assert!(matches!(
        damage(1, FILE),
        Damage::Mismatch { kind: SYMLINK, .. }
    ));

    for kind in [0, 15, 0xffff] {
        let mut maker = Maker::default();
        let (inode, number) = maker.inode(kind, &[0; 64]);
        assert_eq!(
            damage_of(maker, (b"a", inode, number, kind)),
            Damage::Type(kind)
        );
    }
    for len in [0, 4097] {
        let mut maker = Maker::default();
        let (inode, number) = maker.symlink(&vec![b'x'; len as usize]);
        assert_eq!(
            damage_of(maker, (b"a", inode, number, SYMLINK)),
            Damage::Target(len)
        );
    }
    let mut maker = Maker::default();
    let (link, number) = maker.symlink(b"x");
    maker.inodes[12..16].copy_from_slice(&9u32.to_le_bytes());
    let damage = damage_of(maker, (b"a", link, number, SYMLINK));
    assert_eq!(
        damage,
        Damage::Number {
            number: 9,
            count: 2
        }
    );
    // Behind the last inode.
    let damage = damage_of(Maker::default(), (b"a", 200, 1, SYMLINK));
    assert!(
        matches!(
            damage,
            Damage::Outside {
                what: What::Inodes,
                ..
            }
        ),
        "{damage:?}"
    );
    let damage = damage_of(Maker::default(), (b"a", 0xffff_ffff_0000, 1, SYMLINK));
    assert!(
        matches!(
            damage,
            Damage::Outside {
                what: What::Inodes,
                ..
            }
        ),
        "{damage:?}"
    );
}

#[test]
fn file_data_that_is_not_there_is_refused() {
    let stored = |len: u32| len | 1 << 24;
    let damage = |size, start, tail, lengths: &[u32]| {
        let mut maker = Maker {
            data: vec![1; 8192],
            fragments: vec![
                (96, stored(100)),
                (u64::MAX, stored(100)),
                (96, stored(5000)),
            ],
            ..Maker::default()
        };
        let (file, number) = maker.file(size, start, tail, lengths);
        let image = maker.rooted(&[(b"f", file, number, FILE)]);
        assert!(content(&image, "f").is_err());
        first_damage(&image)
    };
    let none = (NO_FRAGMENT, 0);
    let what = What::Data;
    let length = |what, len, expected| Damage::Length {
        what,
        at: 96,
        len,
        expected,
    };
    assert_eq!(
        damage(4096, 96, none, &[stored(4095)]),
        length(what, 4095, 4096)
    );
    assert_eq!(damage(10, 96, none, &[stored(11)]), length(what, 11, 10));
    assert!(matches!(
        damage(4096, 96, none, &[stored(4097)]),
        Damage::TooLong { .. }
    ));
    assert!(matches!(
        damage(4096, 96, none, &[1 << 25]),
        Damage::TooLong { .. }
    ));
    assert!(matches!(
        damage(4096, 95, none, &[stored(4096)]),
        Damage::Outside { .. }
    ));
    assert!(matches!(
        damage(4096, u32::MAX, none, &[stored(4096)]),
        Damage::Outside { .. }
    ));
    assert!(matches!(
        damage(4096, 96, none, &[100]),
        Damage::Unpack { .. }
    ));
    let what = What::Tails;
    assert_eq!(damage(10, 0, (0, 91), &[]), length(what, 100, 101));
    assert_eq!(
        damage(10, 0, (0, u32::MAX), &[]),
        length(what, 100, u64::from(u32::MAX) + 10)
    );
    assert!(matches!(damage(10, 0, (1, 0), &[]), Damage::Outside { .. }));
    assert!(matches!(damage(10, 0, (2, 0), &[]), Damage::TooLong { .. }));
    assert!(matches!(
        damage(10, 0, (3, 0), &[]),
        Damage::NoSuch {
            number: 3,
            count: 3,
            ..
        }
    ));
    // Of the second block the length is the root folder's inode.
    let damage = damage(u32::MAX, 96, none, &[0]);
    assert!(matches!(damage, Damage::TooLong { .. }), "{damage:?}");
}

#[test]
fn a_file_of_holes_ends_at_the_limit() {
    let mut maker = Maker::default();
    let size: u64 = 1 << 30;
    let mut rest = Vec::new();
    rest.extend(96u64.to_le_bytes());
    rest.extend(size.to_le_bytes());
    rest.extend(size.to_le_bytes());
    rest.extend([1, NO_FRAGMENT, 0, u32::MAX].map(u32::to_le_bytes).concat());
    rest.extend(vec![0; (size / u64::from(BLOCK_SIZE)) as usize * 4]);
    let (file, number) = maker.inode(LONG_FILE, &rest);
    let image = maker.rooted(&[(b"f", file, number, FILE)]);
    with_tree(&image, |tree| {
        assert!(tree.verify().is_ok());
        tree.set_data_limit(size / 2);
        let found = tree.verify();
        assert!(
            matches!(found.faults[0].fault, TreeFault::Limit { .. }),
            "{found:?}"
        );
        tree.set_data_limit(1 << 20);
        let entry = tree.lookup(b"f", false).unwrap();
        let mut reader = tree.file(&entry.inode).unwrap();
        assert!(std::io::copy(&mut reader, &mut std::io::sink()).is_err());
        tree.set_data_limit(2 * size + (1 << 20));
        let mut reader = tree.file(&entry.inode).unwrap();
        assert_eq!(
            std::io::copy(&mut reader, &mut std::io::sink()).unwrap(),
            size
        );
    });
}

#[test]
fn folders_deeper_than_the_limit_are_not_entered() {
    let deep = |depth| {
        let mut maker = Maker::default();
        let (mut dir, mut number) = maker.dir(&[], None);
        for _ in 2..depth {
            (dir, number) = maker.dir(&[(b"d", dir, number, DIR)], None);
        }
        maker.rooted(&[(b"d", dir, number, DIR)])
    };
    let walked = paths(&deep(1024));
    assert_eq!(walked.len(), 1024);
    assert!(!walked[1023].starts_with('?'), "{}", walked[1023]);
    let walked = paths(&deep(1026));
    assert_eq!(walked.len(), 1025);
    assert!(
        walked[1024].contains("more than 1024 folders"),
        "{}",
        walked[1024]
    );
}

#[test]
fn links_are_followed_inside_the_image_and_not_for_ever() {
    let mut maker = Maker::default();
    let (a, a_number) = maker.symlink(b"b");
    let (b, b_number) = maker.symlink(b"../../a");
    let (up, up_number) = maker.symlink(b"../../../d");
    let (dir, dir_number) = maker.dir(&[(b"up", up, up_number, SYMLINK)], None);
    let image = maker.rooted(&[
        (b"a", a, a_number, SYMLINK),
        (b"b", b, b_number, SYMLINK),
        (b"d", dir, dir_number, DIR),
    ]);
    with_tree(&image, |tree| {
        assert_eq!(tree.lookup(b"d/up/up/up", true).unwrap().path, b"d");
        let fault = |path: &[u8], follow| tree.lookup(path, follow).unwrap_err().fault;
        assert!(matches!(
            fault(b"a", true),
            TreeFault::TooManyLinks { max: 40 }
        ));
        assert!(matches!(fault(b"d/up/up", false), TreeFault::NotADirectory));
        assert!(matches!(fault(b"a/", false), TreeFault::NotADirectory));
        assert!(matches!(fault(b"d/none", true), TreeFault::NotFound));
        assert_eq!(tree.lookup(b"a", false).unwrap().inode.size(), 1);
        let error = tree.lookup(b"//d/no ne", true).unwrap_err();
        assert!(
            error.to_string().starts_with("/d/no ne: no such entry"),
            "{error}"
        );
    });
}

#[test]
fn attributes_are_read_where_they_are_and_no_others() {
    // A pipe's extended form ends with the number of its list.
    let read = |xattrs: &[u8], list: [u32; 4], number: u32| {
        let mut maker = Maker {
            xattrs: xattrs.to_vec(),
            xattr_lists: list.map(u32::to_le_bytes).concat(),
            ..Maker::default()
        };
        let rest = [1, number].map(u32::to_le_bytes).concat();
        let (pipe, inode) = maker.inode(13, &rest);
        let image = maker.rooted(&[(b"p", pipe, inode, 6)]);
        with_tree(&image, |tree| {
            let entry = tree.lookup(b"p", false).unwrap();
            tree.xattrs(&entry.inode)
        })
    };
    let value = |value: &str| [&(value.len() as u32).to_le_bytes()[..], value.as_bytes()].concat();
    let key = |kind: u16, name: &str| {
        let lengths = [kind, name.len() as u16].map(u16::to_le_bytes).concat();
        [&lengths, name.as_bytes()].concat()
    };
    // A value, then two attributes of which the second one's value is that.
    let far = value("far");
    let elsewhere = [&8u32.to_le_bytes()[..], &0u64.to_le_bytes()].concat();
    let bytes = [
        far.clone(),
        key(2, "b"),
        value("near"),
        key(0x100, "a"),
        elsewhere,
    ]
    .concat();
    let list = [far.len() as u32, 0, 2, 0];
    let found = read(&bytes, list, 0).unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|xattr| (&*xattr.name, &*xattr.value))
        .collect();
    let expected: [(&[u8], &[u8]); 2] = [(b"security.b", b"near"), (b"user.a", b"far")];
    assert_eq!(found, expected);

    let damage = |answer| match answer {
        Err(TreeFault::Damaged(damage)) => damage,
        other => panic!("{other:?}"),
    };
    let none = damage(read(&bytes, list, 1));
    assert!(
        matches!(
            none,
            Damage::NoSuch {
                number: 1,
                count: 1,
                ..
            }
        ),
        "{none:?}"
    );
    let more = damage(read(&bytes, [far.len() as u32, 0, 3, 0], 0));
    assert!(
        matches!(
            more,
            Damage::Xattr { .. } | Damage::Unpack { .. } | Damage::TooLong { .. }
        ),
        "{more:?}"
    );
    for bad in [
        key(3, "a"),
        key(0, ""),
        key(0, &"n".repeat(251)),
        key(1, "a\0"),
    ] {
        let bytes = [bad, value("x")].concat();
        let bad = damage(read(&bytes, [0, 0, 1, 0], 0));
        assert!(matches!(bad, Damage::Xattr { .. }), "{bad:?}");
    }
    let long = [key(0, "a"), 65537u32.to_le_bytes().to_vec()].concat();
    let long = damage(read(&long, [0, 0, 1, 0], 0));
    assert!(
        matches!(
            long,
            Damage::Xattr {
                value_len: 65537,
                ..
            }
        ),
        "{long:?}"
    );
}

#[test]
fn attributes_without_end_stop_at_the_limit() {
    let value = vec![b'v'; 60000];
    let mut xattrs = [&60000u32.to_le_bytes()[..], &value].concat();
    let list = xattrs.len();
    for _ in 0..20 {
        xattrs.extend([0x100u16, 1].map(u16::to_le_bytes).concat());
        xattrs.push(b'a');
        xattrs.extend(8u32.to_le_bytes());
        xattrs.extend(0u64.to_le_bytes());
    }
    let mut maker = Maker {
        xattr_lists: [
            &reference(list).to_le_bytes()[..],
            &20u32.to_le_bytes(),
            &[0; 4],
        ]
        .concat(),
        xattrs,
        ..Maker::default()
    };
    let rest = [1u32, 0].map(u32::to_le_bytes).concat();
    let (pipe, inode) = maker.inode(13, &rest);
    let image = maker.rooted(&[(b"p", pipe, inode, 6)]);
    with_tree(&image, |tree| {
        let entry = tree.lookup(b"p", false).unwrap();
        let answer = tree.xattrs(&entry.inode);
        assert!(matches!(answer, Err(TreeFault::Limit { .. })), "{answer:?}");
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
