//! Whose files are on the host and in the guest.

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use rustix::fs::XattrFlags;

use super::*;
use crate::fs::{Attr, SetAttr};

fn record(share: &Share, at: &str) -> String {
    let mut value = vec![0; 256];
    let name = "user.containers.override_stat";
    let len = rustix::fs::getxattr(share.path(at), name, &mut value[..]).unwrap();
    value.truncate(len);
    String::from_utf8(value).unwrap()
}

fn chown(uid: u32, gid: u32) -> SetAttr {
    SetAttr {
        uid: Some(uid),
        gid: Some(gid),
        ..SetAttr::default()
    }
}

fn chmod(mode: u32) -> SetAttr {
    SetAttr {
        mode: Some(mode),
        ..SetAttr::default()
    }
}

fn owner(attr: &Attr) -> (u32, u32) {
    (attr.uid, attr.gid)
}

fn write_unprivileged(share: &Share, (node, handle): (Node, Handle)) {
    let mut bytes = *b"x";
    let memory = Memory::new(vec![VolatileSlice::from(&mut bytes[..])]);
    share.write(node, handle, 0, &memory, UNPRIVILEGED).unwrap();
}

#[test]
fn mapped_owner_and_permissions_are_recorded_and_not_the_hosts() {
    let share = Share::new(MAPPED);
    let by = caller(1000, 1001);
    let (file, _) = share
        .create(by, Node::ROOT, name(c"f"), 0o4444, flags(OFlags::RDWR))
        .unwrap();
    let folder = share.mkdir(by, Node::ROOT, name(c"d"), 0o555).unwrap();
    assert_eq!(
        (owner(&file.attr), file.attr.mode),
        ((1000, 1001), 0o10_4444)
    );
    assert_eq!(
        (owner(&folder.attr), folder.attr.mode),
        ((1000, 1001), 0o4_0555)
    );
    assert_eq!(record(&share, "f"), "1000:1001:4444:file");
    assert_eq!(record(&share, "d"), "1000:1001:0555:dir");
    let own = fs::metadata(share.path("")).unwrap().uid();
    for (at, mode) in [("f", 0o10_0644), ("d", 0o4_0755)] {
        let real = fs::metadata(share.path(at)).unwrap();
        assert_eq!((real.uid(), real.mode()), (own, mode), "{at}");
    }
}

#[test]
fn mapped_changes_are_recorded_and_seen_by_the_next_guest() {
    let share = Share::new(MAPPED);
    fs::write(share.path("f"), "").unwrap();
    let node = share.look("f").unwrap().node;
    let attr = share.setattr(node, None, &chown(12, 34)).unwrap();
    assert_eq!(owner(&attr), (12, 34));
    let attr = share.setattr(node, None, &chmod(0o7000)).unwrap();
    assert_eq!(attr.mode, 0o10_7000);
    assert_eq!(record(&share, "f"), "12:34:7000:file");
    assert_eq!(fs::metadata(share.path("f")).unwrap().mode(), 0o10_0600);
    share.reset();
    let attr = share.look("f").unwrap().attr;
    assert_eq!((owner(&attr), attr.mode), ((12, 34), 0o10_7000));
}

#[test]
fn mapped_files_without_a_record_belong_to_the_default() {
    let share = Share::new(Ownership::Mapped { default: (33, 44) });
    fs::write(share.path("f"), "").unwrap();
    let real = fs::metadata(share.path("f")).unwrap().mode();
    let attr = share.look("f").unwrap().attr;
    assert_eq!((owner(&attr), attr.mode), ((33, 44), real));
    let broken = b"no record";
    let name = "user.containers.override_stat";
    rustix::fs::setxattr(share.path("f"), name, broken, XattrFlags::empty()).unwrap();
    assert_eq!(owner(&share.look("f").unwrap().attr), (33, 44));
}

#[test]
fn mapped_special_files_are_empty_regular_ones() {
    let share = Share::new(MAPPED);
    for (text, mode, rdev, kind) in [
        (c"fifo", 0o1_0640, 0, "pipe"),
        (c"socket", 0o14_0777, 0, "socket"),
        (c"char", 0o2_0666, 0x103, "char-1-3"),
        (c"block", 0o6_0600, 0x801, "block-8-1"),
    ] {
        let made = share
            .mknod(caller(9, 9), Node::ROOT, name(text), mode, rdev)
            .unwrap();
        assert_eq!((made.attr.mode, made.attr.rdev), (mode, rdev));
        assert_eq!(made.attr.size, 0);
        let at = text.to_str().unwrap();
        assert!(fs::metadata(share.path(at)).unwrap().is_file());
        let expected = format!("9:9:{:04o}:{kind}", mode & 0o7777);
        assert_eq!(record(&share, at), expected);
        share.forget(made.node, 1);
        assert_eq!(share.look(at).unwrap().attr.mode, mode);
    }
}

#[test]
fn mapped_symbolic_link_keeps_its_owner_while_it_is_known() {
    let share = Share::new(MAPPED);
    let link = share
        .symlink(caller(5, 6), Node::ROOT, name(c"l"), c"target")
        .unwrap();
    assert_eq!(owner(&link.attr), (5, 6));
    assert_eq!(owner(&share.look("l").unwrap().attr), (5, 6));
    let attr = share.setattr(link.node, None, &chown(7, 8)).unwrap();
    assert_eq!(owner(&attr), (7, 8));
    share.forget(link.node, 2);
    assert_eq!(owner(&share.look("l").unwrap().attr), (0, 0));
}

#[test]
fn mapped_setgid_folder_hands_its_group_down() {
    let share = Share::new(MAPPED);
    let by = caller(5, 6);
    let top = share.mkdir(by, Node::ROOT, name(c"d"), 0o755).unwrap().node;
    share.setattr(top, None, &chown(5, 77)).unwrap();
    share.setattr(top, None, &chmod(0o2775)).unwrap();
    let folder = share.mkdir(by, top, name(c"e"), 0o755).unwrap();
    let file = share.mknod(by, top, name(c"f"), 0o10_0644, 0).unwrap();
    assert_eq!((owner(&folder.attr), folder.attr.mode), ((5, 77), 0o4_2755));
    assert_eq!((owner(&file.attr), file.attr.mode), ((5, 77), 0o10_0644));
}

#[test]
fn mapped_privileges_go_at_unprivileged_writes_truncates_and_chowns() {
    let share = Share::new(MAPPED);
    let file @ (node, handle) = share.file(c"f");
    let arm = || {
        share.setattr(node, None, &chmod(0o6755)).unwrap();
        let capability = share.setxattr(node, c"security.capability", b"c", 0);
        capability.unwrap();
    };
    let incapable = || share.getxattr(node, c"security.capability") == Err(Errno::NODATA);
    let disarmed = || share.getattr(node, None).unwrap().mode == 0o10_0755 && incapable();
    // Root's writes leave the bits of the mode, each time.
    for _ in 0..2 {
        arm();
        assert!(!incapable());
        share.put(file, 0, b"privileged");
        assert!(incapable() && !disarmed());
    }
    arm();
    share
        .open(node, flags(OFlags::WRONLY | OFlags::TRUNC))
        .unwrap();
    assert!(incapable() && !disarmed());
    write_unprivileged(&share, file);
    assert!(disarmed());
    arm();
    let truncate = SetAttr {
        size: Some(0),
        kill_privileges: true,
        ..SetAttr::default()
    };
    share.setattr(node, Some(handle), &truncate).unwrap();
    assert!(disarmed());
    arm();
    share.setattr(node, None, &chown(1, 1)).unwrap();
    assert!(disarmed());
    arm();
    let truncating = OpenFlags {
        flags: (OFlags::WRONLY | OFlags::TRUNC).bits(),
        kill_privileges: true,
    };
    share.open(node, truncating).unwrap();
    assert!(disarmed());
}

#[test]
fn squash_shows_one_owner_and_changes_none() {
    let share = Share::new(SQUASH);
    let (made, _) = share
        .create(
            caller(1000, 1000),
            Node::ROOT,
            name(c"f"),
            0o4444,
            flags(OFlags::RDWR),
        )
        .unwrap();
    assert_eq!((owner(&made.attr), made.attr.mode), ((7, 8), 0o10_0644));
    let node = made.node;
    assert_eq!(
        owner(&share.setattr(node, None, &chown(7, 8)).unwrap()),
        (7, 8)
    );
    let other = share.setattr(node, None, &chown(7, 9));
    assert_eq!(other.unwrap_err(), Errno::PERM);
    let attr = share.setattr(node, None, &chmod(0o6511)).unwrap();
    assert_eq!(attr.mode, 0o10_0711);
    let made = share.mknod(ROOT_USER, Node::ROOT, name(c"p"), 0o1_0644, 0);
    assert_eq!(made.unwrap_err(), Errno::PERM);
    let made = share.mknod(ROOT_USER, Node::ROOT, name(c"r"), 0o10_0644, 0);
    assert_eq!(owner(&made.unwrap().attr), (7, 8));
}

#[test]
fn as_is_files_belong_to_the_caller_on_the_host() {
    // It takes root to act as others, and to say that one may not.
    if !is_root() {
        let folder = TempDir::new().unwrap();
        let options = HostFsOptions {
            ownership: Ownership::AsIs,
            read_only: false,
            max_descriptors: None,
        };
        let refused = HostFs::open(folder.path(), &options).err();
        assert!(matches!(refused, Some(HostFsError::NeedsRoot { .. })));
        return;
    }
    let share = Share::new(Ownership::AsIs);
    let by = caller(1000, 1001);
    // Nobody but root may write here: the guest's kernel has checked already.
    let (file, handle) = share
        .create(by, Node::ROOT, name(c"f"), 0o4755, flags(OFlags::RDWR))
        .unwrap();
    share.mkdir(by, Node::ROOT, name(c"d"), 0o700).unwrap();
    share.symlink(by, Node::ROOT, name(c"l"), c"x").unwrap();
    share
        .mknod(by, Node::ROOT, name(c"p"), 0o1_0640, 0)
        .unwrap();
    share.file(c"root");
    let own = |at: &str| {
        let real = fs::symlink_metadata(share.path(at)).unwrap();
        ((real.uid(), real.gid()), real.mode())
    };
    assert_eq!(own("f"), ((1000, 1001), 0o10_4755));
    assert_eq!(own("d"), ((1000, 1001), 0o4_0700));
    assert_eq!(own("l").0, (1000, 1001));
    assert_eq!(own("p"), ((1000, 1001), 0o1_0640));
    assert_eq!(own("root").0, (0, 0));
    assert!(fs::metadata(share.path("p")).unwrap().file_type().is_fifo());
    assert_eq!(
        (owner(&file.attr), file.attr.mode),
        ((1000, 1001), 0o10_4755)
    );

    write_unprivileged(&share, (file.node, handle));
    assert_eq!(own("f").1, 0o10_0755);
    share.setattr(file.node, None, &chown(5, 6)).unwrap();
    share.setattr(file.node, None, &chmod(0o600)).unwrap();
    assert_eq!(own("f"), ((5, 6), 0o10_0600));
    let nobody = share.setattr(file.node, None, &chown(u32::MAX, 0));
    assert_eq!(nobody.unwrap_err(), Errno::INVAL);
    let nobody = share.mkdir(caller(u32::MAX, 0), Node::ROOT, name(c"n"), 0);
    assert_eq!(nobody.unwrap_err(), Errno::INVAL);
    let nobody = share.mkdir(caller(0, u32::MAX), Node::ROOT, name(c"n"), 0);
    assert_eq!(nobody.unwrap_err(), Errno::INVAL);
}

#[test]
fn as_is_thread_is_itself_again_after_each_call() {
    // As above.
    if !is_root() {
        return;
    }
    let share = Share::new(Ownership::AsIs);
    let status = || {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let of_rights = ["Uid:", "Gid:", "Groups:", "CapEff:"];
        let lines = status.lines();
        lines
            .filter(|line| of_rights.iter().any(|start| line.starts_with(start)))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let before = status();
    let by = Caller {
        uid: 1000,
        gid: 1000,
        group: Some(50),
    };
    share.mkdir(by, Node::ROOT, name(c"d"), 0o755).unwrap();
    assert_eq!(status(), before);
    let taken = share.mkdir(by, Node::ROOT, name(c"d"), 0o755);
    assert_eq!(taken.unwrap_err(), Errno::EXIST);
    assert_eq!(status(), before);
}

#[test]
fn as_is_setgid_bit_follows_the_callers_groups() {
    // As above.
    if !is_root() {
        return;
    }
    let share = Share::new(Ownership::AsIs);
    let top = share
        .mkdir(ROOT_USER, Node::ROOT, name(c"d"), 0o777)
        .unwrap()
        .node;
    share.setattr(top, None, &chown(0, 50)).unwrap();
    share.setattr(top, None, &chmod(0o2777)).unwrap();
    let stranger = caller(1000, 1000);
    let member = Caller {
        group: Some(50),
        ..stranger
    };
    for (by, at, mode) in [(stranger, c"s", 0o10_0755), (member, c"m", 0o10_2755)] {
        let how = flags(OFlags::RDWR);
        let (made, _) = share.create(by, top, name(at), 0o2755, how).unwrap();
        assert_eq!((owner(&made.attr), made.attr.mode), ((1000, 50), mode));
    }
}

#[test]
fn file_system_without_attributes_of_users_is_squashed() {
    // Of proc(5) it is certain that it has none.
    let options = HostFsOptions {
        ownership: Ownership::Mapped { default: (3, 4) },
        read_only: true,
        max_descriptors: None,
    };
    let fs = HostFs::open(Path::new("/proc/self/fdinfo"), &options).unwrap();
    assert_eq!(fs.ownership(), Ownership::Squash { uid: 3, gid: 4 });
    assert_eq!(Share::new(MAPPED).ownership(), MAPPED);
}
