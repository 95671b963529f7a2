//! Inodes, file data and extended attributes.

use super::maker::{BLOCK_SIZE, FILE, LONG_FILE, Maker, NO_FRAGMENT, SYMLINK, reference};
use super::*;

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
        // Enough to step over the holes, not to read them.
        tree.set_data_limit(size + size / 2);
        let entry = tree.lookup(b"f", false).unwrap();
        let mut reader = tree.file(&entry.inode).unwrap();
        assert!(std::io::copy(&mut reader, &mut std::io::sink()).is_err());
        tree.set_data_limit(3 * size);
        let mut reader = tree.file(&entry.inode).unwrap();
        assert_eq!(
            std::io::copy(&mut reader, &mut std::io::sink()).unwrap(),
            size
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
    let no_reference = [key(0x100, "a"), value("x")].concat();
    let no_reference = damage(read(&no_reference, [0, 0, 1, 0], 0));
    assert!(matches!(no_reference, Damage::Xattr { value_len: 1, .. }));
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

#[test]
fn what_no_name_leads_to_is_verified_too() {
    let mut maker = Maker {
        xattrs: vec![0; 8],
        xattr_lists: [0, 0, 1, 0].map(u32::to_le_bytes).concat(),
        ..Maker::default()
    };
    let (root, _) = maker.dir(&[], None);
    assert!(matches!(
        first_damage(&maker.image(root)),
        Damage::Xattr { .. }
    ));

    let exporting = |second| {
        let mut maker = Maker::default();
        let (link, number) = maker.symlink(b"x");
        let (root, _) = maker.dir(&[(b"l", link, number, SYMLINK)], None);
        maker.exports = [link, if second { root } else { link }].to_vec();
        maker.image(root)
    };
    with_tree(&exporting(true), |tree| assert!(tree.verify().is_ok()));
    let damage = first_damage(&exporting(false));
    assert_eq!(
        damage,
        Damage::Export {
            number: 2,
            found: 1
        }
    );
}
