//! Folders read.

use std::collections::BTreeSet;

use super::*;

fn share_of(files: usize) -> Share {
    let share = Share::new(MAPPED);
    for at in 0..files {
        fs::write(share.path(format!("file-{at:05}")), "").unwrap();
    }
    share
}

#[test]
fn every_entry_is_read_once_whatever_the_room() {
    let share = share_of(1000);
    for room in [1, 7, 1000, 5000] {
        let handle = share.opendir(Node::ROOT).unwrap().handle;
        let mut names = Vec::new();
        let mut offset = 0;
        loop {
            let mut listing = Listing::of(room);
            share
                .readdir(Node::ROOT, handle, offset, &mut listing)
                .unwrap();
            let Some(last) = listing.entries.last() else {
                break;
            };
            offset = last.next;
            names.extend(listing.entries.into_iter().map(|listed| listed.name));
        }
        let unique: BTreeSet<_> = names.iter().collect();
        assert_eq!((names.len(), unique.len()), (1002, 1002), "room {room}");
        share.releasedir(Node::ROOT, handle).unwrap();
    }
}

#[test]
fn positions_hold_while_entries_go() {
    let share = share_of(500);
    let handle = share.opendir(Node::ROOT).unwrap().handle;
    let mut seen = BTreeSet::new();
    let mut offset = 0;
    loop {
        let mut listing = Listing::of(10);
        share
            .readdir(Node::ROOT, handle, offset, &mut listing)
            .unwrap();
        let Some(last) = listing.entries.last() else {
            break;
        };
        offset = last.next;
        for listed in listing.entries {
            assert!(seen.insert(listed.name.clone()), "an entry came twice");
            let gone = CString::new(listed.name).unwrap();
            if let Ok(gone) = Name::new(&gone) {
                share.unlink(Node::ROOT, gone).unwrap();
            }
        }
    }
    assert_eq!(seen.len(), 502);
    assert_eq!(fs::read_dir(share.path("")).unwrap().count(), 0);
}

#[test]
fn read_from_the_start_a_folder_shows_what_has_come_since() {
    let share = share_of(3);
    let handle = share.opendir(Node::ROOT).unwrap().handle;
    for (room, new) in [(0, "first"), (usize::MAX, "second")] {
        let mut before = Listing::of(room);
        share.readdir(Node::ROOT, handle, 0, &mut before).unwrap();
        fs::write(share.path(new), "").unwrap();
        let mut after = Listing::default();
        share.readdir(Node::ROOT, handle, 0, &mut after).unwrap();
        assert!(!before.names().contains(&new.as_bytes()));
        assert!(after.names().contains(&new.as_bytes()));
    }
}

#[test]
fn entries_with_inodes_count_as_lookups_if_there_was_room() {
    let share = share_of(20);
    let handle = share.opendir(Node::ROOT).unwrap().handle;
    let mut listing = Listing::of(12);
    share
        .readdirplus(Node::ROOT, handle, 0, &mut listing)
        .unwrap();
    let entries: Vec<_> = listing
        .entries
        .iter()
        .filter_map(|l| l.entry.clone())
        .collect();
    let dots = listing
        .names()
        .iter()
        .filter(|name| name[0] == b'.')
        .count();
    assert_eq!(entries.len() + dots, 12);
    // The one without room is forgotten again.
    assert_eq!(share.inodes.counts().1, entries.len());
    for entry in &entries {
        assert_eq!(share.getattr(entry.node, None).unwrap(), entry.attr);
        share.forget(entry.node, 1);
    }
    assert_eq!(share.inodes.counts(), (0, 0));
}

#[test]
fn shared_folder_tells_nothing_of_what_lies_above() {
    let share = Share::new(MAPPED);
    fs::create_dir(share.path("d")).unwrap();
    let own = share.getattr(Node::ROOT, None).unwrap().ino;
    for listed in share.entries(Node::ROOT) {
        if listed.name != b"d" {
            assert_eq!(listed.ino, own);
        }
    }
    let folder = share.look("d").unwrap().node;
    let above = share.entries(folder).into_iter().find(|l| l.name == b"..");
    assert_eq!(above.unwrap().ino, own);
}

#[test]
fn types_are_told_where_they_cannot_be_wrong() {
    for (ownership, regular) in [(MAPPED, 0), (SQUASH, libc::DT_REG)] {
        let share = Share::new(ownership);
        fs::write(share.path("f"), "").unwrap();
        fs::create_dir(share.path("d")).unwrap();
        for listed in share.entries(Node::ROOT) {
            let kind = if listed.name == b"f" {
                regular
            } else {
                libc::DT_DIR
            };
            assert_eq!(listed.kind, kind);
        }
    }
}

#[test]
fn only_folders_are_opened_as_folders() {
    let share = share_of(1);
    let node = share.look("file-00000").unwrap().node;
    assert_eq!(share.opendir(node), Err(Errno::NOTDIR));
    assert_eq!(share.opendir(Node(77)), Err(Errno::STALE));
    let handle = share.opendir(Node::ROOT).unwrap().handle;
    share.fsyncdir(Node::ROOT, handle, false).unwrap();
    share.releasedir(Node::ROOT, handle).unwrap();
    assert_eq!(share.releasedir(Node::ROOT, handle), Err(Errno::BADF));
}

#[test]
fn positions_that_the_host_never_gave_do_no_harm() {
    let share = share_of(30);
    let handle = share.opendir(Node::ROOT).unwrap().handle;
    for offset in [1, 12345, u64::MAX >> 1, u64::MAX] {
        let mut listing = Listing::default();
        // What comes, or which error, is the host's to say.
        let _ = share.readdir(Node::ROOT, handle, offset, &mut listing);
        let mut whole = Listing::default();
        share.readdir(Node::ROOT, handle, 0, &mut whole).unwrap();
        assert_eq!(whole.entries.len(), 32);
    }
}

#[test]
fn one_handle_of_a_folder_at_a_time_is_listed_in_the_guest() {
    let share = share_of(1);
    fs::create_dir(share.path("d")).unwrap();
    let other = share.look("d").unwrap().node;
    let open = |node| share.opendir(node).unwrap();
    let close = |node, opened: OpenedFolder| share.releasedir(node, opened.handle);
    let first = open(Node::ROOT);
    let second = open(Node::ROOT);
    let beside = open(other);
    assert_eq!(
        [first, second, beside].map(|o| o.listed),
        [true, false, true]
    );
    close(Node::ROOT, second).unwrap();
    let third = open(Node::ROOT);
    assert!(!third.listed, "the first may still be read");
    close(Node::ROOT, first).unwrap();
    assert_eq!(close(Node::ROOT, first), Err(Errno::BADF));
    let fourth = open(Node::ROOT);
    assert!(fourth.listed, "the third keeps nothing");
    assert_eq!(close(other, fourth), Err(Errno::BADF));
    assert!(!open(Node::ROOT).listed, "the fourth is still open");
    share.reset();
    assert!(open(Node::ROOT).listed, "nothing is open any more");
}
