//! Folders' lists, and where names lead.

use super::maker::{DIR, Maker, SYMLINK};
use super::*;

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
fn runs_of_more_than_256_names_are_refused() {
    let image = |count: u32| {
        let mut maker = Maker::default();
        let (link, number) = maker.symlink(b"x");
        assert_eq!((link, number), (0, 1));
        let len = 12 + count * (8 + 3);
        let (root, _) = maker.dir(&[], Some(len as u16 + 3));
        let header = [count - 1, 0, number].map(u32::to_le_bytes);
        maker.names.extend(header.concat());
        for name in 0..count {
            let fields = [0, 0, SYMLINK, 3 - 1].map(u16::to_le_bytes);
            maker.names.extend(fields.concat());
            maker.names.extend(format!("{name:03}").bytes());
        }
        maker.image(root)
    };
    assert_eq!(paths(&image(256)).len(), 257);
    assert_eq!(first_damage(&image(257)), Damage::List);
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
    let (root, root_number) = maker.symlink(b"/d/up");
    let (dir, dir_number) = maker.dir(
        &[
            (b"root", root, root_number, SYMLINK),
            (b"up", up, up_number, SYMLINK),
        ],
        None,
    );
    let image = maker.rooted(&[
        (b"a", a, a_number, SYMLINK),
        (b"b", b, b_number, SYMLINK),
        (b"d", dir, dir_number, DIR),
    ]);
    with_tree(&image, |tree| {
        assert_eq!(tree.lookup(b"d/up/up/up", true).unwrap().path, b"d");
        assert_eq!(tree.lookup(b"d/root/up", true).unwrap().path, b"d");
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
