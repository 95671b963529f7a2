//! Files made for the guest.

use super::*;

#[test]
fn permissions_are_those_asked_for_whatever_the_umask() {
    // The umask of test runners is 022 at least, so 0o777 would be cut.
    for ownership in [MAPPED, SQUASH] {
        let share = Share::new(ownership);
        let folder = share
            .mkdir(ROOT_USER, Node::ROOT, name(c"d"), 0o777)
            .unwrap();
        let file = share
            .mknod(ROOT_USER, Node::ROOT, name(c"f"), 0o10_0666, 0)
            .unwrap();
        let (made, _) = share
            .create(
                ROOT_USER,
                Node::ROOT,
                name(c"g"),
                0o666,
                flags(OFlags::RDWR),
            )
            .unwrap();
        assert_eq!(folder.attr.mode, 0o4_0777);
        assert_eq!(file.attr.mode, 0o10_0666);
        assert_eq!(made.attr.mode, 0o10_0666);
    }
}

#[test]
fn create_opens_what_is_there_unless_it_must_be_new() {
    let share = Share::new(MAPPED);
    fs::write(share.path("f"), "old").unwrap();
    let create =
        |flags_: OFlags| share.create(ROOT_USER, Node::ROOT, name(c"f"), 0o644, flags(flags_));
    let (entry, handle) = create(OFlags::RDWR).unwrap();
    assert_eq!(share.text((entry.node, handle), 0, 9), b"old");
    assert_eq!(
        create(OFlags::RDWR | OFlags::EXCL).unwrap_err(),
        Errno::EXIST
    );
    let (entry, handle) = create(OFlags::RDWR | OFlags::TRUNC).unwrap();
    assert_eq!(share.text((entry.node, handle), 0, 9), b"");
}

#[test]
fn name_that_is_taken_is_told() {
    let share = Share::new(MAPPED);
    share.file(c"f");
    let at = name(c"f");
    let made = share.mkdir(ROOT_USER, Node::ROOT, at, 0o755);
    assert_eq!(made.unwrap_err(), Errno::EXIST);
    let made = share.symlink(ROOT_USER, Node::ROOT, at, c"x");
    assert_eq!(made.unwrap_err(), Errno::EXIST);
    let made = share.mknod(ROOT_USER, Node::ROOT, at, 0o10_0644, 0);
    assert_eq!(made.unwrap_err(), Errno::EXIST);
}

#[test]
fn types_that_mknod_does_not_make_are_refused() {
    let share = Share::new(MAPPED);
    for mode in [0o4_0755, 0o12_0777, 0o17_0000] {
        let made = share.mknod(ROOT_USER, Node::ROOT, name(c"x"), mode, 0);
        assert_eq!(made.unwrap_err(), Errno::INVAL, "{mode:o}");
    }
    assert_eq!(share.look("x").unwrap_err(), Errno::NOENT);
}

#[test]
fn file_without_a_name_gets_one_later() {
    let share = Share::new(MAPPED);
    let (entry, handle) = share
        .tmpfile(caller(5, 6), Node::ROOT, 0o640, flags(OFlags::RDWR))
        .unwrap();
    assert_eq!((entry.attr.nlink, entry.attr.mode), (0, 0o10_0640));
    assert_eq!((entry.attr.uid, entry.attr.gid), (5, 6));
    assert_eq!(share.put((entry.node, handle), 0, b"late"), 4);
    assert!(share.entries(Node::ROOT).len() == 2);
    let linked = share.link(entry.node, Node::ROOT, name(c"f")).unwrap();
    assert_eq!(linked.node, entry.node);
    assert_eq!(fs::read(share.path("f")).unwrap(), b"late");
    assert_eq!((linked.attr.uid, linked.attr.nlink), (5, 1));
}
