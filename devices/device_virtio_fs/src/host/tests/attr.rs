//! Attributes shown and changed.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::fs::{SetAttr, SetTime, Time};

#[test]
fn attributes_are_those_of_the_host() {
    let share = Share::new(MAPPED);
    fs::write(share.path("f"), vec![1; 10_000]).unwrap();
    let host = fs::metadata(share.path("f")).unwrap();
    let attr = share.look("f").unwrap().attr;
    assert_eq!(attr.ino, host.ino());
    assert_eq!(attr.size, 10_000);
    assert_eq!(attr.blocks, host.blocks());
    assert_eq!(attr.mtime.sec, host.mtime());
    assert_eq!(i64::from(attr.mtime.nsec), host.mtime_nsec());
    assert_eq!(attr.ctime.sec, host.ctime());
    assert!(attr.btime.is_none_or(|birth| birth <= attr.ctime));
}

#[test]
fn times_are_set_each_alone() {
    let share = Share::new(MAPPED);
    let (node, _) = share.file(c"f");
    let then = |sec| SetTime::At(Time { sec, nsec: 5 });
    let set = SetAttr {
        atime: Some(then(-100)),
        mtime: Some(then(200)),
        ..SetAttr::default()
    };
    let attr = share.setattr(node, None, &set).unwrap();
    assert_eq!(attr.atime, Time { sec: -100, nsec: 5 });
    assert_eq!(attr.mtime, Time { sec: 200, nsec: 5 });
    let set = SetAttr {
        mtime: Some(SetTime::Now),
        ..SetAttr::default()
    };
    let attr = share.setattr(node, None, &set).unwrap();
    assert_eq!(attr.atime.sec, -100);
    assert!(attr.mtime.sec > 200);
}

#[test]
fn times_of_a_symbolic_link_are_its_own() {
    let share = Share::new(MAPPED);
    let (node, _) = share.file(c"f");
    let before = share.getattr(node, None).unwrap().mtime;
    let link = share
        .symlink(ROOT_USER, Node::ROOT, name(c"l"), c"f")
        .unwrap();
    let set = SetAttr {
        mtime: Some(SetTime::At(Time { sec: 1, nsec: 0 })),
        ..SetAttr::default()
    };
    let attr = share.setattr(link.node, None, &set).unwrap();
    assert_eq!(attr.mtime.sec, 1);
    assert_eq!(share.getattr(node, None).unwrap().mtime, before);
}

#[test]
fn sticky_bit_of_a_folder_is_kept() {
    for ownership in [MAPPED, SQUASH] {
        let share = Share::new(ownership);
        let folder = share
            .mkdir(ROOT_USER, Node::ROOT, name(c"tmp"), 0o1777)
            .unwrap();
        assert_eq!(folder.attr.mode, 0o4_1777);
        let set = SetAttr {
            mode: Some(0o1700),
            ..SetAttr::default()
        };
        let attr = share.setattr(folder.node, None, &set).unwrap();
        assert_eq!(attr.mode, 0o4_1700);
        let real = fs::metadata(share.path("tmp")).unwrap().permissions();
        assert_eq!(real.mode() & 0o777, 0o700);
    }
}

#[test]
fn room_on_the_host_is_told() {
    let share = Share::new(MAPPED);
    let told = share.statfs(Node::ROOT).unwrap();
    assert!(told.blocks >= told.bfree && told.bfree >= told.bavail);
    assert!(told.bsize >= 512 && told.namelen >= 255);
    share.syncfs(Node::ROOT).unwrap();
    let link = share
        .symlink(ROOT_USER, Node::ROOT, name(c"l"), c"f")
        .unwrap();
    share.syncfs(link.node).unwrap();
}
