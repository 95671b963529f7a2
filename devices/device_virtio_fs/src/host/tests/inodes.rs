//! The table of inodes: counts, limits, races.

use std::thread;

use super::*;

fn small(max_descriptors: usize) -> Share {
    Share::with(&HostFsOptions {
        ownership: MAPPED,
        read_only: false,
        max_descriptors: Some(max_descriptors),
    })
}

#[test]
fn inode_is_known_until_it_is_forgotten_as_often_as_it_was_given() {
    let share = Share::new(MAPPED);
    fs::write(share.path("f"), "").unwrap();
    let node = share.look("f").unwrap().node;
    assert_eq!(share.look("f").unwrap().node, node);
    share.forget(node, 1);
    share.getattr(node, None).unwrap();
    share.forget(node, 1);
    assert_eq!(share.getattr(node, None).unwrap_err(), Errno::STALE);
    assert_ne!(share.look("f").unwrap().node, node);
    share.forget(node, u64::MAX);
    share.forget(Node(1 << 40), 1);
}

#[test]
fn root_is_never_forgotten() {
    let share = Share::new(MAPPED);
    share.forget(Node::ROOT, u64::MAX);
    share.getattr(Node::ROOT, None).unwrap();
    share.reset();
    share.opendir(Node::ROOT).unwrap();
}

#[test]
fn reset_closes_and_forgets_everything() {
    let share = Share::new(MAPPED);
    let (node, handle) = share.file(c"f");
    let folder = share.opendir(Node::ROOT).unwrap().handle;
    share.reset();
    assert_eq!(share.inodes.counts(), (0, 0));
    assert_eq!(share.getattr(node, None).unwrap_err(), Errno::STALE);
    assert_eq!(share.release(node, handle), Err(Errno::BADF));
    assert_eq!(share.releasedir(Node::ROOT, folder), Err(Errno::BADF));
    assert_ne!(share.look("f").unwrap().node, node);
}

#[test]
fn five_thousand_inodes_get_along_with_64_descriptors() {
    let share = small(64);
    for folder in 0..50 {
        fs::create_dir(share.path(format!("d{folder}"))).unwrap();
        for file in 0..100 {
            let at = format!("d{folder}/f{file}");
            fs::write(share.path(&at), &at).unwrap();
        }
    }
    let mut known = Vec::new();
    for folder in 0..50 {
        let at = CString::new(format!("d{folder}")).unwrap();
        let parent = share.lookup(Node::ROOT, name(&at)).unwrap().node;
        for file in 0..100 {
            let at = CString::new(format!("f{file}")).unwrap();
            let node = share.lookup(parent, name(&at)).unwrap().node;
            known.push((node, format!("d{folder}/f{file}")));
        }
        assert!(share.inodes.counts().0 <= 16);
    }
    assert_eq!(share.inodes.counts().1, 5050);
    for (node, text) in &known {
        assert_eq!(share.look(text).unwrap().node, *node);
        assert!(share.inodes.counts().0 <= 16);
    }
    for (node, text) in &known {
        let handle = share.open(*node, flags(OFlags::RDONLY)).unwrap();
        assert_eq!(share.text((*node, handle), 0, 99), text.as_bytes());
        share.release(*node, handle).unwrap();
        assert!(share.inodes.counts().0 <= 16);
    }
}

/// Looks up more than there are descriptors for.
fn crowd(share: &Share, round: &str) {
    for at in 0..40 {
        let at = format!("crowd-{round}-{at}");
        fs::write(share.path(&at), "").unwrap();
        share.look(&at).unwrap();
    }
}

#[test]
fn closed_inode_is_found_again_where_the_guest_moved_it() {
    let share = small(64);
    let folder = share
        .mkdir(ROOT_USER, Node::ROOT, name(c"d"), 0o755)
        .unwrap();
    let (moved, handle) = share.file(c"f");
    share.put((moved, handle), 0, b"moved");
    crowd(&share, "before");
    let from = (Node::ROOT, name(c"f"));
    share.rename(from, (folder.node, name(c"g")), 0).unwrap();
    let from = (Node::ROOT, name(c"d"));
    share.rename(from, (Node::ROOT, name(c"e")), 0).unwrap();
    crowd(&share, "after");
    assert_eq!(share.getattr(moved, None).unwrap().size, 5);
    assert_eq!(share.look("e/g").unwrap().node, moved);
}

#[test]
fn closed_inodes_that_changed_places_are_found_again() {
    let share = small(64);
    let [one, two] = [c"one", c"two"].map(|at| share.file(at).0);
    let ends = ((Node::ROOT, name(c"one")), (Node::ROOT, name(c"two")));
    let exchange = rustix::fs::RenameFlags::EXCHANGE.bits();
    share.rename(ends.0, ends.1, exchange).unwrap();
    crowd(&share, "after");
    for node in [one, two] {
        share.getattr(node, None).unwrap();
    }
}

#[test]
fn closed_inode_whose_name_leads_elsewhere_is_stale() {
    let share = small(64);
    fs::write(share.path("f"), "old").unwrap();
    fs::create_dir(share.path("d")).unwrap();
    let [file, folder] = ["f", "d"].map(|at| share.look(at).unwrap().node);
    crowd(&share, "before");
    fs::rename(share.path("f"), share.outside().join("f")).unwrap();
    fs::write(share.path("f"), "new").unwrap();
    fs::remove_dir(share.path("d")).unwrap();
    std::os::unix::fs::symlink(share.outside(), share.path("d")).unwrap();
    assert_eq!(share.getattr(file, None).unwrap_err(), Errno::STALE);
    assert_eq!(share.getattr(folder, None).unwrap_err(), Errno::STALE);
    assert_ne!(share.look("f").unwrap().node, file);
}

#[test]
fn inode_without_a_name_keeps_its_descriptor() {
    let share = small(64);
    fs::write(share.path("f"), "kept").unwrap();
    let node = share.look("f").unwrap().node;
    crowd(&share, "before");
    share.unlink(Node::ROOT, name(c"f")).unwrap();
    crowd(&share, "after");
    let handle = share.open(node, flags(OFlags::RDONLY)).unwrap();
    assert_eq!(share.text((node, handle), 0, 9), b"kept");
    share.forget(node, 1);
    assert_eq!(share.getattr(node, None).unwrap_err(), Errno::STALE);
}

#[test]
fn inodes_without_a_name_are_within_the_limit_too() {
    let share = small(64);
    for at in 0..100 {
        let at = CString::new(format!("f{at}")).unwrap();
        let (node, handle) = share.file(&at);
        share.unlink(Node::ROOT, name(&at)).unwrap();
        share.release(node, handle).unwrap();
        assert!(share.inodes.counts().0 <= 16);
    }
    assert_eq!(share.inodes.counts().1, 100);
    crowd(&share, "after");
    assert!(share.inodes.counts().0 <= 16);
}

#[test]
fn hard_link_is_found_by_the_name_that_is_left() {
    let share = small(64);
    let (node, _) = share.file(c"one");
    share.link(node, Node::ROOT, name(c"two")).unwrap();
    share.unlink(Node::ROOT, name(c"two")).unwrap();
    crowd(&share, "after");
    assert_eq!(share.getattr(node, None).unwrap().nlink, 1);
    assert_eq!(share.look("one").unwrap().node, node);
}

#[test]
fn inode_number_used_again_is_another_inode() {
    // Whether the host uses numbers again at once is its own affair; the table
    // must give a new number to the guest in any case.
    let share = small(64);
    for _ in 0..50 {
        fs::write(share.path("f"), "").unwrap();
        let node = share.look("f").unwrap().node;
        crowd(&share, "again");
        fs::remove_file(share.path("f")).unwrap();
        fs::write(share.path("f"), "").unwrap();
        assert_ne!(share.look("f").unwrap().node, node);
    }
}

#[test]
fn lookups_and_forgets_of_four_threads_agree() {
    for descriptors in [64, 4096] {
        let share = small(descriptors);
        for at in 0..8 {
            fs::write(share.path(format!("f{at}")), "text").unwrap();
        }
        thread::scope(|scope| {
            for thread in 0..4 {
                let share = &share;
                scope.spawn(move || {
                    for round in 0..2000 {
                        let at = CString::new(format!("f{}", (round + thread) % 8)).unwrap();
                        let entry = share.lookup(Node::ROOT, name(&at)).unwrap();
                        // Known for as long as this thread has not given it back.
                        assert_eq!(share.getattr(entry.node, None).unwrap().size, 4);
                        share.forget(entry.node, 1);
                    }
                });
            }
        });
        assert_eq!(share.inodes.counts(), (0, 0));
    }
}

#[test]
fn everything_at_once_from_four_threads_leaves_a_table_that_works() {
    let share = small(64);
    thread::scope(|scope| {
        for thread in 0..4 {
            let share = &share;
            scope.spawn(move || {
                for round in 0..300 {
                    let at = CString::new(format!("f{}", round % 20)).unwrap();
                    let to = CString::new(format!("f{}", (round + thread) % 20)).unwrap();
                    let how = flags(OFlags::RDWR);
                    // Any of these may lose against the others.
                    let made = share.create(ROOT_USER, Node::ROOT, name(&at), 0o644, how);
                    let _ = share.rename((Node::ROOT, name(&at)), (Node::ROOT, name(&to)), 0);
                    let _ = share.unlink(Node::ROOT, name(&to));
                    if let Ok((entry, handle)) = made {
                        share.getattr(entry.node, Some(handle)).unwrap();
                        share.release(entry.node, handle).unwrap();
                        share.forget(entry.node, 1);
                    }
                }
            });
        }
    });
    assert_eq!(share.inodes.counts(), (0, 0));
}
