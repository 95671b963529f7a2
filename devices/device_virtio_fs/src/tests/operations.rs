//! Each operation: what arrives at the file system, and what is told of it.

use super::*;
use crate::tests::mock::attr;
use crate::wire::*;

/// Asks and checks which call that made.
fn call(bench: &mut Bench, opcode: Opcode, arguments: &[u8], expected: &str) -> Reply {
    let reply = bench.ask(opcode, arguments);
    assert_eq!(bench.mock.calls(), [expected], "{opcode:?}");
    reply
}

fn assert_entry(entry: &EntryOut) {
    assert_eq!((entry.nodeid, entry.generation), (7, 22));
    assert_attr(&entry.attr);
}

fn assert_attr(fields: &AttrFields) {
    let attr = attr();
    assert_eq!(fields.ino, attr.ino);
    assert_eq!(fields.size, attr.size);
    assert_eq!(fields.blocks, attr.blocks);
    assert_eq!(fields.blksize, attr.blksize);
    assert_eq!((fields.atime, fields.atimensec), (15, 915));
    assert_eq!((fields.mtime, fields.mtimensec), (-16, 916));
    assert_eq!((fields.ctime, fields.ctimensec), (17, 917));
    assert_eq!(fields.mode, attr.mode);
    assert_eq!(fields.nlink, attr.nlink);
    assert_eq!((fields.uid, fields.gid), (attr.uid, attr.gid));
    assert_eq!(fields.rdev, attr.rdev);
    assert_eq!(fields.flags, 0);
}

/// Words of 32 bits, low ones first.
fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

const BY: &str = "Caller { uid: 1000, gid: 1001, group: None }";

#[test]
fn names_are_looked_up_and_removed() {
    let b = &mut Bench::coherent();
    let reply = call(b, Opcode::Lookup, b"a b\0", r#"lookup 5 Name("a b")"#);
    assert_entry(&reply.body());
    for (opcode, word) in [(Opcode::Unlink, "unlink"), (Opcode::Rmdir, "rmdir")] {
        let reply = call(b, opcode, b"x\0", &format!(r#"{word} 5 Name("x")"#));
        assert_eq!(reply, Reply::Body(vec![]));
    }
}

#[test]
fn entries_are_made_for_the_caller() {
    let b = &mut Bench::coherent();
    let symlink = call(
        b,
        Opcode::Symlink,
        b"x\0../to\0",
        &format!(r#"symlink {BY} 5 Name("x") "../to""#),
    );
    assert_entry(&symlink.body());
    let arguments = [&words(&[0o060644, 9, 0o22, 0])[..], b"x\0"].concat();
    let mknod = call(
        b,
        Opcode::Mknod,
        &arguments,
        &format!(r#"mknod {BY} 5 Name("x") 60644 9"#),
    );
    assert_entry(&mknod.body());
    let arguments = [&words(&[0o755, 0o22])[..], b"x\0"].concat();
    let mkdir = call(
        b,
        Opcode::Mkdir,
        &arguments,
        &format!(r#"mkdir {BY} 5 Name("x") 755"#),
    );
    assert_entry(&mkdir.body());
    let arguments = [&longs(&[9])[..], b"x\0"].concat();
    let link = call(b, Opcode::Link, &arguments, r#"link 9 5 Name("x")"#);
    assert_entry(&link.body());
}

#[test]
fn names_move_with_and_without_flags() {
    let b = &mut Bench::coherent();
    let arguments = [&longs(&[9])[..], b"from\0to\0"].concat();
    let expected = r#"rename (Node(5), Name("from")) (Node(9), Name("to")) 0"#;
    assert_eq!(
        call(b, Opcode::Rename, &arguments, expected),
        Reply::Body(vec![])
    );
    let arguments = [&longs(&[9, 2])[..], b"from\0to\0"].concat();
    let expected = r#"rename (Node(5), Name("from")) (Node(9), Name("to")) 2"#;
    assert_eq!(
        call(b, Opcode::Rename2, &arguments, expected),
        Reply::Body(vec![])
    );
}

#[test]
fn files_are_made_and_opened_at_once() {
    let b = &mut Bench::coherent();
    let flags = (libc::O_RDWR | libc::O_CREAT) as u32;
    let how = format!("OpenFlags {{ flags: {flags}, kill_privileges: true }}");
    let arguments = [&words(&[flags, 0o100600, 0o22, 1])[..], b"x\0"].concat();
    for (opcode, arguments, expected) in [
        (
            Opcode::Create,
            arguments.clone(),
            format!(r#"create {BY} 5 Name("x") 100600 {how}"#),
        ),
        (
            Opcode::Tmpfile,
            // Linux sends this name.
            [&arguments[..16], b"/\0"].concat(),
            format!("tmpfile {BY} 5 100600 {how}"),
        ),
    ] {
        let Reply::Body(body) = call(b, opcode, &arguments, &expected) else {
            panic!("no reply");
        };
        let (entry, opened) = body.split_at(size_of::<EntryOut>());
        assert_entry(&EntryOut::read_from_bytes(entry).unwrap());
        assert_eq!(OpenOut::read_from_bytes(opened).unwrap().fh, 31);
    }
}

#[test]
fn group_of_the_folder_comes_with_what_makes_entries() {
    let group = |count: u32, kind: u32| words(&[16, kind, count, 77]);
    let other = words(&[12, 3, 0xffff_ffff, 0]);
    for (extensions, expected) in [
        (group(1, 32), Some("Some(77)")),
        ([other.clone(), group(1, 32)].concat(), Some("Some(77)")),
        (other, Some("None")),
        (group(2, 32), None),
        (group(0, 32), None),
        // Sizes that are too small, too large, or beyond all bounds.
        (words(&[7, 32, 1, 77]), None),
        (words(&[24, 32, 1, 77]), None),
        (words(&[u32::MAX, 32, 1, 77]), None),
        (words(&[12, 32, 1, 77]), None),
    ] {
        let b = &mut Bench::coherent();
        let mut request = request(Opcode::Mkdir as u32, UNIQUE, &{
            let name = [&words(&[0o755, 0])[..], b"x\0"].concat();
            [name, extensions.clone()].concat()
        });
        request[36..38].copy_from_slice(&(extensions.len() as u16 / 8).to_ne_bytes());
        let reply = b.raw(&request, 4096);
        match expected {
            Some(group) => {
                let by = BY.replace("None", group);
                assert_eq!(b.mock.calls(), [format!(r#"mkdir {by} 5 Name("x") 755"#)]);
            }
            None => assert_eq!(reply, Reply::Error(Errno::INVAL), "{extensions:?}"),
        }
    }
}

#[test]
fn extensions_longer_than_the_request_are_refused() {
    let b = &mut Bench::coherent();
    let mut request = request(Opcode::Lookup as u32, UNIQUE, b"name\0");
    request[36..38].copy_from_slice(&u16::MAX.to_ne_bytes());
    assert_eq!(b.raw(&request, 4096), Reply::Error(Errno::INVAL));
}

#[test]
fn attributes_are_told() {
    let b = &mut Bench::coherent();
    let reply = call(b, Opcode::Getattr, &longs(&[0, 9]), "getattr 5 None");
    assert_attr(&reply.body::<AttrOut>().attr);
    let arguments = longs(&[1, 9]);
    let reply = call(b, Opcode::Getattr, &arguments, "getattr 5 Some(Handle(9))");
    assert_attr(&reply.body::<AttrOut>().attr);
}

#[test]
fn attributes_are_told_with_the_birth() {
    let b = &mut Bench::coherent();
    let arguments = [longs(&[1, 9]), words(&[0, 0xfff])].concat();
    let reply = call(b, Opcode::Statx, &arguments, "getattr 5 Some(Handle(9))");
    let stat = reply.body::<StatxOut>().stat;
    let attr = attr();
    assert_eq!(stat.mask, 0xfff);
    assert_eq!((stat.ino, stat.size), (attr.ino, attr.size));
    assert_eq!((stat.blocks, stat.blksize), (attr.blocks, attr.blksize));
    assert_eq!((stat.mode, stat.nlink), (0o100640, attr.nlink));
    assert_eq!((stat.uid, stat.gid), (attr.uid, attr.gid));
    assert_eq!((stat.atime.sec, stat.atime.nsec), (15, 915));
    assert_eq!((stat.mtime.sec, stat.mtime.nsec), (-16, 916));
    assert_eq!((stat.ctime.sec, stat.ctime.nsec), (17, 917));
    assert_eq!((stat.btime.sec, stat.btime.nsec), (18, 918));
    assert_eq!((stat.rdev_major, stat.rdev_minor), (0x123, 0x45678));
}

/// All fields set, each its own.
fn setattr_in(valid: u32) -> Vec<u8> {
    SetattrIn {
        valid,
        padding: 0,
        fh: 9,
        size: 10,
        lock_owner: 0,
        atime: -11,
        mtime: 12,
        ctime: 13,
        atimensec: 14,
        mtimensec: 15,
        ctimensec: 16,
        mode: 0o104755,
        unused4: 0,
        uid: 17,
        gid: 18,
        unused5: 0,
    }
    .as_bytes()
    .to_vec()
}

#[test]
fn attributes_are_set_one_by_one() {
    let b = &mut Bench::coherent();
    let none = "SetAttr { mode: None, uid: None, gid: None, size: None, atime: None, \
                mtime: None, ctime: None, kill_privileges: false }";
    for (bits, from, to) in [
        (0, "mode: None", "mode: None"),
        (1 << 0, "mode: None", "mode: Some(2541)"),
        (1 << 1, "uid: None", "uid: Some(17)"),
        (1 << 2, "gid: None", "gid: Some(18)"),
        (1 << 3, "size: None", "size: Some(10)"),
        (
            1 << 4,
            "atime: None",
            "atime: Some(At(Time { sec: -11, nsec: 14 }))",
        ),
        (
            1 << 5,
            "mtime: None",
            "mtime: Some(At(Time { sec: 12, nsec: 15 }))",
        ),
        (1 << 4 | 1 << 7, "atime: None", "atime: Some(Now)"),
        (1 << 5 | 1 << 8, "mtime: None", "mtime: Some(Now)"),
        (
            1 << 10,
            "ctime: None",
            "ctime: Some(Time { sec: 13, nsec: 16 })",
        ),
        (1 << 11, "privileges: false", "privileges: true"),
    ] {
        let set = none.replace(from, to);
        let expected = format!("setattr 5 None {set}");
        let reply = call(b, Opcode::Setattr, &setattr_in(bits), &expected);
        assert_attr(&reply.body::<AttrOut>().attr);
    }
    let expected = format!("setattr 5 Some(Handle(9)) {none}");
    call(b, Opcode::Setattr, &setattr_in(1 << 6), &expected);
}

#[test]
fn time_of_more_than_a_second_s_nanoseconds_is_refused() {
    let b = &mut Bench::coherent();
    let mut arguments = setattr_in(1 << 4);
    arguments[56..60].copy_from_slice(&1_000_000_000_u32.to_ne_bytes());
    assert_eq!(
        b.ask(Opcode::Setattr, &arguments),
        Reply::Error(Errno::INVAL)
    );
}

#[test]
fn file_system_is_measured_and_synced() {
    let b = &mut Bench::coherent();
    let room: StatfsOut = call(b, Opcode::Statfs, &[], "statfs 5").body();
    assert_eq!(
        [room.blocks, room.bfree, room.bavail, room.files, room.ffree],
        [41, 42, 43, 44, 45]
    );
    assert_eq!([room.bsize, room.namelen, room.frsize], [46, 47, 48]);
    let reply = call(b, Opcode::Syncfs, &longs(&[0]), "syncfs 5");
    assert_eq!(reply, Reply::Body(vec![]));
}

#[test]
fn target_of_a_symbolic_link_is_read() {
    let b = &mut Bench::coherent();
    let reply = call(b, Opcode::Readlink, &[], "readlink 5");
    assert_eq!(reply, Reply::Body(b"some/target".to_vec()));
}

#[test]
fn open_files_are_synced_and_closed() {
    let b = &mut Bench::coherent();
    for (opcode, arguments, expected) in [
        (Opcode::Flush, longs(&[9, 0, 10]), "flush 5 9 10"),
        (Opcode::Release, longs(&[9, 0, 10]), "release 5 9"),
        (Opcode::Fsync, longs(&[9, 0]), "fsync 5 9 false"),
        (Opcode::Fsync, longs(&[9, 1]), "fsync 5 9 true"),
        (Opcode::Releasedir, longs(&[9, 0, 10]), "releasedir 5 9"),
        (Opcode::Fsyncdir, longs(&[9, 0]), "fsyncdir 5 9 false"),
        (Opcode::Fsyncdir, longs(&[9, 1]), "fsyncdir 5 9 true"),
        (
            Opcode::Fallocate,
            longs(&[9, 10, 11, 3]),
            "fallocate 5 9 3 10 11",
        ),
    ] {
        let reply = call(b, opcode, &arguments, expected);
        assert_eq!(reply, Reply::Body(vec![]), "{opcode:?}");
    }
}

#[test]
fn holes_are_found() {
    let b = &mut Bench::coherent();
    let reply = call(b, Opcode::Lseek, &longs(&[9, 10, 4]), "lseek 5 9 10 4");
    assert_eq!(reply.body::<LseekOut>().offset, 4096);
}

#[test]
fn ranges_are_copied_within_the_host_up_to_a_limit() {
    let b = &mut Bench::coherent();
    for (asked, copied) in [(100, 100), (u64::MAX, 64 << 20)] {
        let reply = call(
            b,
            Opcode::CopyFileRange,
            &longs(&[9, 10, 11, 12, 13, asked, 0]),
            &format!("copy (Node(5), Handle(9), 10) (Node(11), Handle(12), 13) {copied}"),
        );
        assert_eq!(u64::from(reply.body::<WriteOut>().size), copied);
    }
    let reply = b.ask(Opcode::CopyFileRange, &longs(&[9, 10, 11, 12, 13, 1, 1]));
    assert_eq!(reply, Reply::Error(Errno::INVAL));
}

#[test]
fn extended_attributes_are_set_in_both_layouts() {
    let value = [&words(&[5, 2])[..], b"user.n\0v\0lue"].concat();
    let expected = r#"setxattr 5 "user.n" v\x00lue 2"#;
    let b = &mut Bench::new(Cache::Coherent, false);
    b.ask(Opcode::Init, &init_with(7, 31, 0));
    call(b, Opcode::Setxattr, &value, expected);

    let value = [&words(&[5, 2, 0, 0])[..], b"user.n\0v\0lue"].concat();
    let b = &mut Bench::coherent();
    call(b, Opcode::Setxattr, &value, expected);
    let arguments = b"user.n\0";
    call(
        b,
        Opcode::Removexattr,
        arguments,
        r#"removexattr 5 "user.n""#,
    );
}

#[test]
fn extended_attributes_are_measured_before_they_are_read() {
    let b = &mut Bench::coherent();
    for (size, expected) in [
        (0, Reply::Body(words(&[5, 0]))),
        (4, Reply::Error(Errno::RANGE)),
        (5, Reply::Body(b"value".to_vec())),
        (4000, Reply::Body(b"value".to_vec())),
        (u32::MAX, Reply::Body(b"value".to_vec())),
    ] {
        let arguments = [&words(&[size, 0])[..], b"user.n\0"].concat();
        let reply = call(b, Opcode::Getxattr, &arguments, r#"getxattr 5 "user.n""#);
        assert_eq!(reply, expected);
    }
    for (size, expected) in [
        (0, Reply::Body(words(&[14, 0]))),
        (13, Reply::Error(Errno::RANGE)),
        (14, Reply::Body(b"user.a\0user.b\0".to_vec())),
    ] {
        let reply = call(b, Opcode::Listxattr, &words(&[size, 0]), "listxattr 5");
        assert_eq!(reply, expected);
    }
}

#[test]
fn nodes_are_forgotten_without_a_reply() {
    let b = &mut Bench::coherent();
    for room in [0, 4096] {
        let request = request(Opcode::Forget as u32, UNIQUE, &longs(&[3]));
        assert_eq!(b.raw(&request, room), Reply::Nothing);
        assert_eq!(b.mock.calls(), ["forget 5 3"]);
    }
}

#[test]
fn many_nodes_are_forgotten_at_once_as_far_as_they_are_there() {
    let b = &mut Bench::coherent();
    let nodes = [words(&[2, 0]), longs(&[10, 1, 11, 2])].concat();
    let request_of = |arguments: &[u8]| request(Opcode::BatchForget as u32, UNIQUE, arguments);
    assert_eq!(b.raw(&request_of(&nodes), 0), Reply::Nothing);
    assert_eq!(b.mock.calls(), ["forget 10 1", "forget 11 2"]);

    let nodes = [words(&[u32::MAX, 0]), longs(&[10, 1])].concat();
    assert_eq!(b.raw(&request_of(&nodes), 0), Reply::Nothing);
    assert_eq!(b.mock.calls(), ["forget 10 1"]);
}
