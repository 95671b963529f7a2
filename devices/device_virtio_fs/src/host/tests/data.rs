//! Contents of files.

use rustix::fs::FallocateFlags;

use super::*;
use crate::fs::{SetAttr, WriteHow};

#[test]
fn what_is_written_is_read_and_is_on_the_host() {
    let share = Share::new(MAPPED);
    let file = share.file(c"f");
    assert_eq!(share.put(file, 3, b"abc"), 3);
    assert_eq!(share.text(file, 0, 100), b"\0\0\0abc");
    assert_eq!(share.text(file, 6, 100), b"");
    assert_eq!(fs::read(share.path("f")).unwrap(), b"\0\0\0abc");
    fs::write(share.path("f"), "host").unwrap();
    assert_eq!(share.text(file, 0, 100), b"host");
    share.fsync(file.0, file.1, true).unwrap();
    share.fsync(file.0, file.1, false).unwrap();
}

#[test]
fn file_opened_to_append_is_written_at_its_end() {
    let share = Share::new(MAPPED);
    let (node, handle) = share.file(c"f");
    share.put((node, handle), 0, b"begin");
    let append = share
        .open(node, flags(OFlags::WRONLY | OFlags::APPEND))
        .unwrap();
    share.put((node, append), 0, b" end");
    assert_eq!(share.text((node, handle), 0, 99), b"begin end");
}

#[test]
fn pages_of_a_mapping_stay_where_they_are_in_a_file_that_appends() {
    let share = Share::new(MAPPED);
    let (node, handle) = share.file(c"f");
    share.put((node, handle), 0, b"begin");
    let append = share
        .open(node, flags(OFlags::RDWR | OFlags::APPEND))
        .unwrap();
    let mut bytes = *b"B";
    let memory = Memory::new(vec![VolatileSlice::from(&mut bytes[..])]);
    let how = WriteHow {
        kill_privileges: false,
        from_cache: true,
    };
    assert_eq!(share.write(node, append, 0, &memory, how), Ok(1));
    assert_eq!(share.text((node, handle), 0, 99), b"Begin");
}

#[test]
fn handles_allow_what_they_were_opened_for() {
    let share = Share::new(MAPPED);
    let (node, _) = share.file(c"f");
    let handle = share.open(node, flags(OFlags::RDONLY)).unwrap();
    let mut byte = [1];
    let memory = Memory::new(vec![VolatileSlice::from(&mut byte[..])]);
    let written = share.write(node, handle, 0, &memory, WriteHow::default());
    assert_eq!(written, Err(Errno::BADF));
    assert_eq!(share.open(node, flags(OFlags::RWMODE)), Err(Errno::INVAL));
}

#[test]
fn numbers_that_name_no_handle_are_refused() {
    let share = Share::new(MAPPED);
    let (node, handle) = share.file(c"f");
    let (other, _) = share.file(c"g");
    let folder = share.opendir(Node::ROOT).unwrap().handle;
    let wrong = [
        (node, Handle(u64::MAX)),
        (other, handle),
        (Node::ROOT, folder),
        (Node(99), handle),
    ];
    for (node, handle) in wrong {
        assert_eq!(share.fsync(node, handle, true), Err(Errno::BADF));
        assert_eq!(share.release(node, handle), Err(Errno::BADF));
    }
    assert_eq!(share.fsyncdir(node, handle, true), Err(Errno::BADF));
    share.release(node, handle).unwrap();
    assert_eq!(share.release(node, handle), Err(Errno::BADF));
}

#[test]
fn handles_beyond_the_limit_are_refused_until_one_is_closed() {
    let share = Share::with(&HostFsOptions {
        ownership: MAPPED,
        read_only: false,
        max_descriptors: Some(64),
    });
    let (node, first) = share.file(c"f");
    let more: Vec<_> = (0..200)
        .map_while(|_| share.open(node, flags(OFlags::RDONLY)).ok())
        .collect();
    assert_eq!(more.len(), 39);
    assert_eq!(share.open(node, flags(OFlags::RDONLY)), Err(Errno::NFILE));
    let made = share.create(ROOT_USER, Node::ROOT, name(c"g"), 0, flags(OFlags::RDWR));
    assert_eq!(made.unwrap_err(), Errno::NFILE);
    assert!(!share.path("g").exists());
    share.release(node, first).unwrap();
    share.open(node, flags(OFlags::RDONLY)).unwrap();
}

#[test]
fn files_shrink_and_grow_by_inode_and_by_handle() {
    let share = Share::new(MAPPED);
    let file = share.file(c"f");
    share.put(file, 0, b"0123456789");
    let size = |size| SetAttr {
        size: Some(size),
        ..SetAttr::default()
    };
    assert_eq!(share.setattr(file.0, None, &size(4)).unwrap().size, 4);
    let grown = share.setattr(file.0, Some(file.1), &size(6)).unwrap();
    assert_eq!(grown.size, 6);
    assert_eq!(share.text(file, 0, 99), b"0123\0\0");
    let whole = share.setattr(Node::ROOT, None, &size(0));
    assert_eq!(whole.unwrap_err(), Errno::ISDIR);
    let huge = share.setattr(file.0, Some(file.1), &size(u64::MAX));
    assert_eq!(huge.unwrap_err(), Errno::INVAL);
}

#[test]
fn holes_are_found_and_made() {
    let share = Share::new(MAPPED);
    let file @ (node, handle) = share.file(c"f");
    share.put(file, 1 << 20, &[1; 4096]);
    let seek = |offset, whence: i32| share.lseek(node, handle, offset, whence as u32);
    assert_eq!(seek(0, libc::SEEK_DATA), Ok(1 << 20));
    assert_eq!(seek(0, libc::SEEK_HOLE), Ok(0));
    assert_eq!(seek(1 << 30, libc::SEEK_DATA), Err(Errno::NXIO));
    assert_eq!(seek(0, libc::SEEK_SET), Err(Errno::INVAL));

    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    share
        .fallocate(node, handle, punch.bits(), 1 << 20, 4096)
        .unwrap();
    assert_eq!(seek(0, libc::SEEK_DATA), Err(Errno::NXIO));
    assert_eq!(share.getattr(node, None).unwrap().size, (1 << 20) + 4096);
}

#[test]
fn room_is_allocated_and_unknown_modes_are_refused() {
    let share = Share::new(MAPPED);
    let (node, handle) = share.file(c"f");
    share.fallocate(node, handle, 0, 0, 8192).unwrap();
    let attr = share.getattr(node, None).unwrap();
    assert_eq!((attr.size, attr.blocks), (8192, 16));
    for mode in [1 << 30, FallocateFlags::NO_HIDE_STALE.bits()] {
        let outcome = share.fallocate(node, handle, mode, 0, 1);
        assert_eq!(outcome, Err(Errno::OPNOTSUPP));
    }
    let outcome = share.fallocate(node, handle, 0, u64::MAX, u64::MAX);
    assert_eq!(outcome, Err(Errno::INVAL));
}

#[test]
fn ranges_are_copied_on_the_host() {
    let share = Share::new(MAPPED);
    let from = share.file(c"from");
    let to = share.file(c"to");
    share.put(from, 0, b"0123456789");
    let copied = share.copy_file_range((from.0, from.1, 2), (to.0, to.1, 1), 5);
    assert_eq!(copied, Ok(5));
    assert_eq!(share.text(to, 0, 99), b"\x0023456");
    let rest = share.copy_file_range((from.0, from.1, 8), (to.0, to.1, 0), u64::MAX);
    assert_eq!(rest, Ok(2));
}

#[test]
fn nothing_of_a_read_only_folder_can_be_changed() {
    let share = Share::with(&HostFsOptions {
        ownership: MAPPED,
        read_only: true,
        max_descriptors: None,
    });
    fs::write(share.path("f"), "text").unwrap();
    let (by, root, at) = (ROOT_USER, Node::ROOT, name(c"x"));
    let node = share.look("f").unwrap().node;
    let rofs = Some(Errno::ROFS);

    for writing in [OFlags::RDWR, OFlags::WRONLY, OFlags::TRUNC] {
        assert_eq!(share.open(node, flags(writing)).err(), rofs);
        let made = share.create(by, root, name(c"f"), 0, flags(writing));
        assert_eq!(made.err(), rofs);
    }
    let reading = flags(OFlags::RDONLY);
    assert_eq!(share.create(by, root, at, 0, reading).err(), rofs);
    assert_eq!(share.tmpfile(by, root, 0, reading).err(), rofs);
    assert_eq!(share.mkdir(by, root, at, 0o755).err(), rofs);
    assert_eq!(share.mknod(by, root, at, 0o10_0644, 0).err(), rofs);
    assert_eq!(share.symlink(by, root, at, c"f").err(), rofs);
    assert_eq!(share.link(node, root, at).err(), rofs);
    assert_eq!(share.unlink(root, name(c"f")).err(), rofs);
    assert_eq!(share.rmdir(root, name(c"f")).err(), rofs);
    assert_eq!(share.rename((root, name(c"f")), (root, at), 0).err(), rofs);
    assert_eq!(share.setxattr(node, c"user.x", b"1", 0).err(), rofs);
    assert_eq!(share.removexattr(node, c"user.x").err(), rofs);
    let attr = SetAttr::default();
    assert_eq!(share.setattr(node, None, &attr).err(), rofs);

    let handle = share.open(node, reading).unwrap();
    let mut bytes = [0; 4];
    let memory = Memory::new(vec![VolatileSlice::from(&mut bytes[..])]);
    assert_eq!(
        share.write(node, handle, 0, &memory, UNPRIVILEGED).err(),
        rofs
    );
    assert_eq!(share.fallocate(node, handle, 0, 0, 1).err(), rofs);
    let here = (node, handle, 0);
    assert_eq!(share.copy_file_range(here, here, 1).err(), rofs);
    assert_eq!(share.text((node, handle), 0, 9), b"text");
    let (entry, handle) = share.create(by, root, name(c"f"), 0, reading).unwrap();
    assert_eq!(share.text((entry.node, handle), 0, 9), b"text");
}

#[test]
fn any_length_is_written_by_a_handle_for_direct_transfers() {
    let share = Share::new(MAPPED);
    let (node, _) = share.file(c"f");
    let direct = share.open(node, flags(OFlags::RDWR | OFlags::DIRECT));
    let file = (node, direct.unwrap());
    assert_eq!(share.put(file, 5, b"odd"), 3);
    assert_eq!(share.text(file, 5, 9), b"odd");
}
