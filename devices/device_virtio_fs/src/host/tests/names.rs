//! Names found, removed, moved and added.

use rustix::fs::RenameFlags;

use super::*;

#[test]
fn file_is_found_by_its_name_with_its_attributes() {
    let share = Share::new(MAPPED);
    fs::create_dir(share.path("d")).unwrap();
    fs::write(share.path("d/f"), "12345").unwrap();
    let found = share.look("d/f").unwrap();
    assert_eq!((found.attr.size, found.attr.nlink), (5, 1));
    assert_eq!(found.attr.mode & 0o17_0000, 0o10_0000);
    assert_eq!(share.look("d/g").unwrap_err(), Errno::NOENT);
    assert_eq!(share.look("d/f/x").unwrap_err(), Errno::NOTDIR);
}

#[test]
fn one_file_is_one_inode_by_all_of_its_names() {
    let share = Share::new(MAPPED);
    let (node, _) = share.file(c"one");
    let linked = share.link(node, Node::ROOT, name(c"two")).unwrap();
    assert_eq!((linked.node, linked.attr.nlink), (node, 2));
    assert_eq!(share.look("two").unwrap().node, node);
    share.unlink(Node::ROOT, name(c"one")).unwrap();
    assert_eq!(share.look("one").unwrap_err(), Errno::NOENT);
    assert_eq!(share.look("two").unwrap().node, node);
}

#[test]
fn folders_get_no_second_name() {
    let share = Share::new(MAPPED);
    let folder = share
        .mkdir(ROOT_USER, Node::ROOT, name(c"d"), 0o755)
        .unwrap();
    let linked = share.link(folder.node, Node::ROOT, name(c"e"));
    assert_eq!(linked.unwrap_err(), Errno::PERM);
}

#[test]
fn names_of_255_bytes_of_any_kind_are_kept() {
    let share = Share::new(MAPPED);
    let longest = CString::new([0xff; 255]).unwrap();
    let odd = c"\n\x01\xfe\\ name";
    for text in [longest.as_c_str(), odd] {
        let (node, _) = share.file(text);
        assert_eq!(share.lookup(Node::ROOT, name(text)).unwrap().node, node);
        let listed = share.entries(Node::ROOT);
        assert!(listed.iter().any(|listed| listed.name == text.to_bytes()));
    }
}

#[test]
fn file_without_a_name_stays_usable_while_it_is_open() {
    let share = Share::new(MAPPED);
    let (node, handle) = share.file(c"f");
    share.unlink(Node::ROOT, name(c"f")).unwrap();
    assert_eq!(share.put((node, handle), 0, b"still"), 5);
    assert_eq!(share.getattr(node, None).unwrap().nlink, 0);
    assert_eq!(share.getattr(node, Some(handle)).unwrap().size, 5);
    let again = share.open(node, flags(OFlags::RDONLY)).unwrap();
    assert_eq!(share.text((node, again), 0, 9), b"still");
}

#[test]
fn file_and_folder_are_removed_each_in_its_way() {
    let share = Share::new(MAPPED);
    share.file(c"f");
    share
        .mkdir(ROOT_USER, Node::ROOT, name(c"d"), 0o755)
        .unwrap();
    assert_eq!(share.rmdir(Node::ROOT, name(c"f")), Err(Errno::NOTDIR));
    assert_eq!(share.unlink(Node::ROOT, name(c"d")), Err(Errno::ISDIR));
    fs::write(share.path("d/inside"), "").unwrap();
    assert_eq!(share.rmdir(Node::ROOT, name(c"d")), Err(Errno::NOTEMPTY));
    fs::remove_file(share.path("d/inside")).unwrap();
    share.rmdir(Node::ROOT, name(c"d")).unwrap();
    share.unlink(Node::ROOT, name(c"f")).unwrap();
    assert_eq!(fs::read_dir(share.path("")).unwrap().count(), 0);
}

#[test]
fn moved_file_keeps_its_inode_and_replaces_what_was_there() {
    let share = Share::new(MAPPED);
    let folder = share
        .mkdir(ROOT_USER, Node::ROOT, name(c"d"), 0o755)
        .unwrap();
    let (moved, _) = share.file(c"from");
    let (replaced, _) = share.file(c"to");
    let from = (Node::ROOT, name(c"from"));
    share.rename(from, (Node::ROOT, name(c"to")), 0).unwrap();
    assert_eq!(share.look("to").unwrap().node, moved);
    assert_eq!(share.getattr(replaced, None).unwrap().nlink, 0);
    let to = (Node::ROOT, name(c"to"));
    share.rename(to, (folder.node, name(c"deep")), 0).unwrap();
    assert_eq!(share.look("d/deep").unwrap().node, moved);
}

#[test]
fn rename_flags_do_what_renameat2_says() {
    let share = Share::new(MAPPED);
    let (one, _) = share.file(c"one");
    let (two, _) = share.file(c"two");
    let ends = ((Node::ROOT, name(c"one")), (Node::ROOT, name(c"two")));
    let rename = |flags: u32| share.rename(ends.0, ends.1, flags);
    assert_eq!(rename(RenameFlags::NOREPLACE.bits()), Err(Errno::EXIST));
    rename(RenameFlags::EXCHANGE.bits()).unwrap();
    assert_eq!(share.look("one").unwrap().node, two);
    assert_eq!(share.look("two").unwrap().node, one);
    assert_eq!(rename(RenameFlags::WHITEOUT.bits()), Err(Errno::INVAL));
    assert_eq!(rename(1 << 31), Err(Errno::INVAL));
}

#[test]
fn symbolic_link_is_read_and_not_followed() {
    let share = Share::new(MAPPED);
    let target = c"../outside/canary";
    let link = share
        .symlink(ROOT_USER, Node::ROOT, name(c"l"), target)
        .unwrap();
    assert_eq!(link.attr.mode & 0o17_0000, 0o12_0000);
    assert_eq!(share.readlink(link.node).unwrap(), target.to_bytes());
    let (file, _) = share.file(c"f");
    assert_eq!(share.readlink(file), Err(Errno::INVAL));
    let hard = share.link(link.node, Node::ROOT, name(c"m")).unwrap();
    assert_eq!(hard.node, link.node);
}
