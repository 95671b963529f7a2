//! What the guest must never reach: a canary beside the shared folder, and the
//! devices and pipes of the host in it.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{CWD, FileType as Kind, Mode as Permissions};

use super::*;
use crate::fs::SetAttr;

#[test]
fn names_that_are_no_component_cannot_be_said() {
    for (text, error) in [
        (c"", Errno::INVAL),
        (c".", Errno::INVAL),
        (c"..", Errno::INVAL),
        (c"/", Errno::INVAL),
        (c"/etc", Errno::INVAL),
        (c"../outside", Errno::INVAL),
        (c"a/b", Errno::INVAL),
    ] {
        assert_eq!(Name::new(text), Err(error));
    }
    let long = CString::new([b'x'; 256]).unwrap();
    assert_eq!(Name::new(&long), Err(Errno::NAMETOOLONG));
}

/// Links out of the shared folder, of every kind.
fn trapped() -> Share {
    let share = Share::new(MAPPED);
    symlink(share.outside(), share.path("folder")).unwrap();
    symlink("../outside/canary", share.path("file")).unwrap();
    symlink("/proc/self/root", share.path("magic")).unwrap();
    symlink("file", share.path("chain")).unwrap();
    share
}

#[test]
fn links_lead_nowhere_in_any_position() {
    let share = trapped();
    for link in ["folder", "file", "magic", "chain"] {
        let found = share.look(link).unwrap();
        assert_eq!(found.attr.mode & 0o17_0000, 0o12_0000, "{link}");
        let node = found.node;
        let inside = share.lookup(node, name(c"canary"));
        assert_eq!(inside.unwrap_err(), Errno::NOTDIR);
        assert_eq!(share.open(node, flags(OFlags::RDWR)), Err(Errno::LOOP));
        assert_eq!(share.opendir(node), Err(Errno::NOTDIR));
        let made = share.mkdir(ROOT_USER, node, name(c"x"), 0o755);
        assert_eq!(made.unwrap_err(), Errno::NOTDIR);
        let size = SetAttr {
            size: Some(0),
            ..SetAttr::default()
        };
        assert_eq!(share.setattr(node, None, &size).unwrap_err(), Errno::LOOP);
        let at = CString::new(link).unwrap();
        let opened = share.create(
            ROOT_USER,
            Node::ROOT,
            name(&at),
            0o644,
            flags(OFlags::RDWR | OFlags::TRUNC),
        );
        assert_eq!(opened.unwrap_err(), Errno::LOOP, "{link}");
    }
    assert_untouched(&share);
}

#[test]
fn what_is_set_on_a_link_stays_on_the_link() {
    let share = trapped();
    let canary = share.outside().join("canary");
    let before = fs::metadata(&canary).unwrap();
    let node = share.look("file").unwrap().node;
    let set = SetAttr {
        mode: Some(0o777),
        ..SetAttr::default()
    };
    share.setattr(node, None, &set).unwrap_err();
    let set = SetAttr {
        uid: Some(1234),
        gid: Some(1234),
        ..SetAttr::default()
    };
    share.setattr(node, None, &set).unwrap();
    share.setxattr(node, c"user.x", b"1", 0).unwrap_err();
    let hard = share.link(node, Node::ROOT, name(c"hard")).unwrap();
    assert_eq!(hard.node, node);
    share.unlink(Node::ROOT, name(c"hard")).unwrap();
    share.unlink(Node::ROOT, name(c"file")).unwrap();
    let after = fs::metadata(&canary).unwrap();
    assert_eq!(before.permissions(), after.permissions());
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    assert_untouched(&share);
}

#[test]
fn pipes_and_sockets_of_the_host_are_shown_and_not_opened() {
    let share = Share::new(MAPPED);
    let fifo = share.path("fifo");
    let permissions = Permissions::from_raw_mode(0o666);
    rustix::fs::mknodat(CWD, &fifo, Kind::Fifo, permissions, 0).unwrap();
    let _listener = UnixListener::bind(share.path("socket")).unwrap();
    for (special, kind) in [("fifo", 0o1_0000), ("socket", 0o14_0000)] {
        let found = share.look(special).unwrap();
        assert_eq!(found.attr.mode & 0o17_0000, kind);
        for access in [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR] {
            assert_eq!(share.open(found.node, flags(access)), Err(Errno::ACCESS));
        }
        let at = CString::new(special).unwrap();
        let opened = share.create(ROOT_USER, Node::ROOT, name(&at), 0, flags(OFlags::RDWR));
        assert_eq!(opened.unwrap_err(), Errno::ACCESS);
    }
}

#[test]
fn device_nodes_of_the_host_are_never_opened() {
    // Device nodes take root to make; the check is by type, as above.
    if !is_root() {
        return;
    }
    let share = Share::new(Ownership::AsIs);
    let null = share
        .mknod(ROOT_USER, Node::ROOT, name(c"null"), 0o2_0666, 0x103)
        .unwrap();
    assert_eq!((null.attr.mode, null.attr.rdev), (0o2_0666, 0x103));
    for access in [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR] {
        assert_eq!(share.open(null.node, flags(access)), Err(Errno::ACCESS));
    }
}

#[test]
fn folder_that_the_host_moves_out_is_lost() {
    let share = Share::new(MAPPED);
    fs::create_dir_all(share.path("d/e")).unwrap();
    fs::write(share.path("d/e/f"), "in").unwrap();
    let folder = share.look("d").unwrap().node;
    let inner = share.look("d/e").unwrap().node;
    let file = share.look("d/e/f").unwrap().node;
    fs::rename(share.path("d"), share.outside().join("d")).unwrap();
    fs::write(share.outside().join("d/e/secret"), "out").unwrap();

    for node in [folder, inner] {
        assert_eq!(share.opendir(node), Err(Errno::STALE));
        let made = share.mkdir(ROOT_USER, node, name(c"x"), 0o755);
        assert_eq!(made.unwrap_err(), Errno::STALE);
    }
    let secret = share.lookup(inner, name(c"secret"));
    assert_eq!(secret.unwrap_err(), Errno::STALE);
    assert_eq!(share.open(file, flags(OFlags::RDONLY)), Err(Errno::STALE));
    let set = SetAttr {
        mode: Some(0o777),
        ..SetAttr::default()
    };
    let set = share.setattr(file, None, &set);
    assert_eq!(set.unwrap_err(), Errno::STALE);
    let set = share.setxattr(file, c"user.x", b"1", 0);
    assert_eq!(set, Err(Errno::STALE));
    assert_eq!(share.removexattr(file, c"user.x"), Err(Errno::STALE));
    assert_eq!(
        share.link(file, Node::ROOT, name(c"l")).unwrap_err(),
        Errno::STALE
    );

    fs::rename(share.outside().join("d"), share.path("d")).unwrap();
    share.open(file, flags(OFlags::RDONLY)).unwrap();
}

#[test]
fn folder_beside_with_a_longer_name_is_not_inside() {
    let share = Share::new(MAPPED);
    fs::create_dir(share.path("d")).unwrap();
    let folder = share.look("d").unwrap().node;
    let beside = share.folder.path().join("share-2");
    fs::create_dir(&beside).unwrap();
    fs::rename(share.path("d"), beside.join("d")).unwrap();
    assert_eq!(share.opendir(folder), Err(Errno::STALE));
}

#[test]
fn shared_folder_may_be_moved_as_a_whole() {
    let share = Share::new(MAPPED);
    fs::create_dir(share.path("d")).unwrap();
    let folder = share.look("d").unwrap().node;
    let moved = share.folder.path().join("moved");
    fs::rename(share.path(""), &moved).unwrap();
    share.opendir(folder).unwrap();
    share.mkdir(ROOT_USER, folder, name(c"e"), 0o755).unwrap();
    assert!(moved.join("d/e").is_dir());
}

#[test]
fn folders_too_deep_to_have_a_path_are_still_told_to_be_inside() {
    let share = Share::new(MAPPED);
    let part = CString::new([b'd'; 200]).unwrap();
    let mut at = Node::ROOT;
    for _ in 0..40 {
        at = share.mkdir(ROOT_USER, at, name(&part), 0o755).unwrap().node;
    }
    let (file, _) = share
        .create(ROOT_USER, at, name(c"f"), 0o644, flags(OFlags::RDWR))
        .unwrap();
    share.open(file.node, flags(OFlags::RDONLY)).unwrap();
    let top = "d".repeat(200);
    fs::rename(share.path(&top), share.outside().join("d")).unwrap();
    assert_eq!(share.opendir(at), Err(Errno::STALE));
    let opened = share.open(file.node, flags(OFlags::RDONLY));
    assert_eq!(opened, Err(Errno::STALE));
}

#[test]
fn host_that_swaps_folders_for_links_leads_the_guest_nowhere() {
    let share = Share::new(MAPPED);
    fs::create_dir(share.path("d")).unwrap();
    fs::write(share.path("d/canary"), "inside").unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fs::rename(share.path("d"), share.path("hidden")).unwrap();
                symlink(share.outside(), share.path("d")).unwrap();
                fs::remove_file(share.path("d")).unwrap();
                fs::rename(share.path("hidden"), share.path("d")).unwrap();
            }
        });
        for _ in 0..2000 {
            let Ok(found) = share.look("d/canary") else {
                continue;
            };
            if let Ok(handle) = share.open(found.node, flags(OFlags::RDWR)) {
                let file = (found.node, handle);
                assert_eq!(share.text(file, 0, 99), b"inside");
                share.put(file, 0, b"inside");
                share.release(found.node, handle).unwrap();
            }
            let folder = share.look("d").map(|found| found.node);
            if let Ok(made) = folder.and_then(|d| share.mkdir(ROOT_USER, d, name(c"x"), 0o755)) {
                share.forget(made.node, 1);
            }
            if let Ok(d) = folder {
                let _ = share.rmdir(d, name(c"x"));
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_untouched(&share);
}

fn assert_untouched(share: &Share) {
    let canary = fs::read(share.outside().join("canary")).unwrap();
    assert_eq!(canary, b"canary");
    assert_eq!(fs::read_dir(share.outside()).unwrap().count(), 1);
}

#[test]
fn what_cannot_be_shared_says_why_and_what_to_do() {
    let share = Share::new(MAPPED);
    fs::write(share.path("f"), "").unwrap();
    let options = HostFsOptions {
        ownership: MAPPED,
        read_only: false,
        max_descriptors: Some(63),
    };
    let error = |path: &str| HostFs::open(&share.path(path), &options).err().unwrap();
    assert!(matches!(error("none"), HostFsError::Missing { .. }));
    assert!(matches!(error("f"), HostFsError::NotAFolder { .. }));
    assert!(matches!(
        error("."),
        HostFsError::FewDescriptors { max: 63, .. }
    ));
    assert!(error("none").to_string().contains("none: create it first"));
}
