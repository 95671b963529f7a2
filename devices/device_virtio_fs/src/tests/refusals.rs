//! What a guest sends that is wrong.

use super::*;
use crate::wire::OpenIn;

/// Arguments of each operation that are right, so that a test can spoil them.
fn right(opcode: Opcode) -> Vec<u8> {
    let structure = match opcode {
        Opcode::Destroy | Opcode::Readlink | Opcode::Statfs => 0,
        Opcode::Lookup | Opcode::Symlink | Opcode::Unlink | Opcode::Rmdir | Opcode::Removexattr => {
            0
        }
        Opcode::Forget
        | Opcode::BatchForget
        | Opcode::Mkdir
        | Opcode::Rename
        | Opcode::Link
        | Opcode::Open
        | Opcode::Opendir
        | Opcode::Getxattr
        | Opcode::Listxattr
        | Opcode::Interrupt => 8,
        Opcode::Getattr
        | Opcode::Mknod
        | Opcode::Rename2
        | Opcode::Create
        | Opcode::Tmpfile
        | Opcode::Fsync
        | Opcode::Fsyncdir
        | Opcode::Setxattr => 16,
        Opcode::Release | Opcode::Releasedir | Opcode::Flush | Opcode::Lseek | Opcode::Statx => 24,
        Opcode::Fallocate => 32,
        Opcode::Read | Opcode::Write | Opcode::Readdir | Opcode::Readdirplus => 40,
        Opcode::Getlk | Opcode::Setlk | Opcode::Setlkw => 48,
        Opcode::CopyFileRange => 56,
        Opcode::Init => return init(),
        Opcode::Setattr => 88,
        Opcode::Syncfs => 0,
    };
    let mut arguments = vec![0; structure];
    if matches!(opcode, Opcode::Readdir | Opcode::Readdirplus) {
        arguments[16..20].copy_from_slice(&1000_u32.to_ne_bytes());
    }
    let names: &[u8] = match opcode {
        Opcode::Lookup
        | Opcode::Unlink
        | Opcode::Rmdir
        | Opcode::Removexattr
        | Opcode::Mkdir
        | Opcode::Mknod
        | Opcode::Link
        | Opcode::Create
        | Opcode::Getxattr
        | Opcode::Setxattr => b"x\0",
        Opcode::Symlink | Opcode::Rename | Opcode::Rename2 => b"x\0y\0",
        _ => b"",
    };
    arguments.extend(names);
    arguments
}

fn is_silent(opcode: Opcode) -> bool {
    matches!(opcode, Opcode::Forget | Opcode::BatchForget)
}

/// Operations that change files, by what their names say.
const CHANGES: &[Opcode] = &[
    Opcode::Setattr,
    Opcode::Symlink,
    Opcode::Mknod,
    Opcode::Mkdir,
    Opcode::Unlink,
    Opcode::Rmdir,
    Opcode::Rename,
    Opcode::Rename2,
    Opcode::Link,
    Opcode::Create,
    Opcode::Tmpfile,
    Opcode::Write,
    Opcode::Fallocate,
    Opcode::CopyFileRange,
    Opcode::Setxattr,
    Opcode::Removexattr,
];

#[test]
fn request_that_is_short_by_a_byte_never_reaches_the_file_system() {
    for opcode in Opcode::ALL {
        let whole = right(*opcode);
        let mut bench = Bench::coherent();
        let reply = bench.ask(*opcode, &whole);
        let accepted = match opcode {
            Opcode::Interrupt => reply == Reply::Error(Errno::AGAIN),
            _ if is_silent(*opcode) => reply == Reply::Nothing,
            _ => matches!(reply, Reply::Body(_)),
        };
        assert!(accepted, "{opcode:?}: {reply:?}");
        bench.mock.calls();
        for len in 0..whole.len() {
            if *opcode == Opcode::Tmpfile && len >= 16 {
                continue;
            }
            let reply = bench.ask(*opcode, &whole[..len]);
            assert_eq!(reply, Reply::Error(Errno::INVAL), "{opcode:?} {len}");
            assert!(bench.mock.calls().is_empty(), "{opcode:?} {len}");
        }
    }
}

#[test]
fn request_with_more_at_its_end_than_we_know_is_served() {
    for opcode in Opcode::ALL {
        // The rest of a WRITE is its data.
        if matches!(opcode, Opcode::Write | Opcode::Interrupt) || is_silent(*opcode) {
            continue;
        }
        let longer = [right(*opcode), vec![0; 8]].concat();
        let reply = Bench::coherent().ask(*opcode, &longer);
        assert!(matches!(reply, Reply::Body(_)), "{opcode:?}: {reply:?}");
    }
}

#[test]
fn length_in_the_header_has_to_be_there() {
    for (len, expected) in [
        (0, Errno::INVAL),
        (39, Errno::INVAL),
        (40, Errno::INVAL),
        (43, Errno::INVAL),
        (46, Errno::INVAL),
        (u32::MAX, Errno::INVAL),
    ] {
        let mut bench = Bench::coherent();
        let mut request = request(Opcode::Lookup as u32, UNIQUE, b"name\0");
        request[..4].copy_from_slice(&len.to_ne_bytes());
        assert_eq!(bench.raw(&request, 4096), Reply::Error(expected), "{len}");
        assert!(bench.mock.calls().is_empty());
    }
}

#[test]
fn bytes_after_the_length_in_the_header_are_not_the_request() {
    let mut bench = Bench::coherent();
    let mut request = request(Opcode::Lookup as u32, UNIQUE, b"a\0");
    request.extend([0xff; 100]);
    assert!(matches!(bench.raw(&request, 4096), Reply::Body(_)));
}

#[test]
fn request_without_a_whole_header_is_given_back() {
    let whole = request(Opcode::Statfs as u32, UNIQUE, &[]);
    for len in 1..40 {
        let mut bench = Bench::coherent();
        assert_eq!(bench.raw(&whole[..len], 4096), Reply::Nothing);
        assert!(bench.mock.calls().is_empty());
    }
}

#[test]
fn unknown_operations_are_not_implemented() {
    let mut bench = Bench::coherent();
    for opcode in [0, 7, 19, 34, 37, 39, 40, 41, 48, 49, 53, 4096, u32::MAX] {
        let reply = bench.raw(&request(opcode, UNIQUE, &[0; 64]), 4096);
        assert_eq!(reply, Reply::Error(Errno::NOSYS), "{opcode}");
    }
    assert!(bench.mock.calls().is_empty());
}

#[test]
fn names_are_one_component() {
    let long = [&[b'n'; 255][..], b"\0"].concat();
    let longer = [&[b'n'; 256][..], b"\0"].concat();
    for (name, expected) in [
        (&b"\0"[..], Some(Errno::INVAL)),
        (b".\0", Some(Errno::INVAL)),
        (b"..\0", Some(Errno::INVAL)),
        (b"/\0", Some(Errno::INVAL)),
        (b"/etc\0", Some(Errno::INVAL)),
        (b"a/b\0", Some(Errno::INVAL)),
        (b"a/\0", Some(Errno::INVAL)),
        (b"../x\0", Some(Errno::INVAL)),
        (b"no final zero", Some(Errno::INVAL)),
        (&longer, Some(Errno::NAMETOOLONG)),
        (&long, None),
        (b"...\0", None),
        (b"..x\0", None),
        (b"\xff\xfe\0", None),
        (b"\n\0", None),
    ] {
        let mut bench = Bench::coherent();
        for (opcode, place) in [
            (Opcode::Lookup, 0),
            (Opcode::Unlink, 0),
            (Opcode::Rmdir, 0),
            (Opcode::Mkdir, 8),
            (Opcode::Mknod, 16),
            (Opcode::Create, 16),
            (Opcode::Link, 8),
            (Opcode::Symlink, 0),
            (Opcode::Rename, 8),
            (Opcode::Rename2, 16),
        ] {
            let mut arguments = vec![0; place];
            arguments.extend(name);
            if matches!(opcode, Opcode::Symlink | Opcode::Rename | Opcode::Rename2) {
                arguments.extend(b"other\0");
            }
            // A name that does not end takes in what follows, so that it may
            // be another one; the file system sees no bad one either way.
            if !name.ends_with(b"\0") {
                arguments.truncate(place + name.len());
            }
            let reply = bench.ask(opcode, &arguments);
            match expected {
                Some(errno) => {
                    assert_eq!(reply, Reply::Error(errno), "{opcode:?} {name:?}");
                    assert!(bench.mock.calls().is_empty());
                }
                None => assert!(matches!(reply, Reply::Body(_)), "{opcode:?} {name:?}"),
            }
            bench.mock.calls();
        }
    }
}

#[test]
fn second_name_of_a_move_is_one_component_too() {
    let mut bench = Bench::coherent();
    for name in [&b"..\0"[..], b"a/b\0", b"\0", b"none"] {
        let arguments = [&[0; 8], &b"x\0"[..], name].concat();
        let reply = bench.ask(Opcode::Rename, &arguments);
        assert_eq!(reply, Reply::Error(Errno::INVAL));
    }
    assert!(bench.mock.calls().is_empty());
}

#[test]
fn target_of_a_symbolic_link_may_be_anything_up_to_a_length() {
    for (length, expected) in [
        (0, Some(Errno::NOENT)),
        (1, None),
        (4095, None),
        (4096, Some(Errno::NAMETOOLONG)),
    ] {
        let mut bench = Bench::coherent();
        let arguments = [b"x\0", &vec![b'/'; length][..], b"\0"].concat();
        let reply = bench.ask(Opcode::Symlink, &arguments);
        match expected {
            Some(errno) => assert_eq!(reply, Reply::Error(errno)),
            None => assert!(matches!(reply, Reply::Body(_)), "{length}"),
        }
    }
}

#[test]
fn extended_attributes_have_limits() {
    let setxattr = |name: usize, value: usize, says: u32| {
        let sizes = [says, 0, 0, 0].map(u32::to_ne_bytes).concat();
        [&sizes[..], &vec![b'n'; name], b"\0", &vec![0xaa; value]].concat()
    };
    for (arguments, expected) in [
        (setxattr(1, 0, 0), None),
        (setxattr(255, 65536, 65536), None),
        (setxattr(0, 1, 1), Some(Errno::RANGE)),
        (setxattr(256, 1, 1), Some(Errno::RANGE)),
        (setxattr(1, 65537, 65537), Some(Errno::TOOBIG)),
        (setxattr(1, 10, u32::MAX), Some(Errno::TOOBIG)),
        (setxattr(1, 10, 11), Some(Errno::INVAL)),
        (setxattr(1, 1 << 20, 10), Some(Errno::TOOBIG)),
    ] {
        let mut bench = Bench::coherent();
        let reply = bench.ask(Opcode::Setxattr, &arguments);
        match expected {
            Some(errno) => {
                assert_eq!(reply, Reply::Error(errno));
                assert!(bench.mock.calls().is_empty());
            }
            None => assert_eq!(reply, Reply::Body(vec![])),
        }
    }
}

#[test]
fn read_only_volume_refuses_every_change() {
    for opcode in Opcode::ALL {
        let mut bench = Bench::ready(Cache::Coherent, true);
        bench.mock.calls();
        let reply = bench.ask(*opcode, &right(*opcode));
        let refused = reply == Reply::Error(Errno::ROFS);
        assert_eq!(refused, CHANGES.contains(opcode), "{opcode:?}");
        assert!(!refused || bench.mock.calls().is_empty());
    }
}

#[test]
fn read_only_volume_opens_for_reading_only() {
    let mut bench = Bench::ready(Cache::Coherent, true);
    for (flags, refused) in [
        (libc::O_RDONLY, false),
        (libc::O_RDONLY | libc::O_NONBLOCK, false),
        (libc::O_WRONLY, true),
        (libc::O_RDWR, true),
        (libc::O_ACCMODE, true),
        (libc::O_RDONLY | libc::O_TRUNC, true),
    ] {
        let open = OpenIn {
            flags: flags as u32,
            open_flags: 0,
        };
        let reply = bench.ask(Opcode::Open, open.as_bytes());
        assert_eq!(reply == Reply::Error(Errno::ROFS), refused, "{flags:o}");
    }
}

#[test]
fn reply_that_has_no_room_is_refused_before_anything_is_done() {
    for opcode in Opcode::ALL {
        let arguments = right(*opcode);
        let mut bench = Bench::coherent();
        let Reply::Body(body) = bench.ask(*opcode, &arguments) else {
            continue;
        };
        bench.mock.calls();
        let request = request(*opcode as u32, UNIQUE, &arguments);
        for room in [16, 16 + body.len().saturating_sub(1)] {
            let listing = matches!(opcode, Opcode::Readdir | Opcode::Readdirplus);
            if room >= 16 + body.len() || listing {
                continue;
            }
            let reply = bench.raw(&request, room);
            assert!(
                matches!(reply, Reply::Error(_)),
                "{opcode:?} {room}: {reply:?}"
            );
            let kept = bench.mock.calls().iter().any(|call| {
                // These give nothing that the guest would have to give back.
                !["readlink", "getxattr", "listxattr"]
                    .iter()
                    .any(|word| call.starts_with(word))
            });
            assert!(!kept, "{opcode:?}");
        }
        for room in [0, 1, 15] {
            assert_eq!(bench.raw(&request, room), Reply::Nothing, "{opcode:?}");
            assert!(bench.mock.calls().is_empty(), "{opcode:?}");
        }
    }
}

#[test]
fn errors_of_the_file_system_are_told_as_they_are() {
    for errno in [Errno::STALE, Errno::NOSPC, Errno::BADF] {
        for opcode in Opcode::ALL {
            let mut bench = Bench::coherent();
            *bench.mock.failure.lock().unwrap() = Some(errno);
            let reply = bench.ask(*opcode, &right(*opcode));
            let asked = !bench
                .mock
                .calls()
                .iter()
                .all(|call| call == "reset" || call.starts_with("forget"));
            assert_eq!(reply == Reply::Error(errno), asked, "{opcode:?}");
        }
    }
}

#[test]
fn chain_that_is_no_request_is_given_back() {
    let mut bench = Bench::coherent();
    let request = request(Opcode::Statfs as u32, UNIQUE, &[]);
    bench.driver.put(&request, REQUEST);
    for buffers in [
        // The reply before the request, something beyond memory, something at its end.
        vec![wanted(REPLY, 4096), sent(REQUEST, 40)],
        vec![sent(REQUEST, 40), wanted(RAM, 4096)],
        vec![sent(RAM - 39, 40), wanted(REPLY, 4096)],
        vec![sent(REQUEST, 40), wanted(u64::MAX - 4, 4096)],
        vec![wanted(REPLY, 4096)],
        vec![sent(REQUEST, 0)],
    ] {
        bench.driver.send(&buffers);
        bench.serve();
        assert_eq!(bench.driver.used().map(|used| used.1), Some(0));
    }
    assert!(bench.mock.calls().is_empty());
}

#[test]
fn chain_that_is_a_loop_is_given_back() {
    let mut bench = Bench::coherent();
    let next = VRING_DESC_F_NEXT as u16;
    bench.driver.describe(60, sent(REQUEST, 40), next, 61);
    bench.driver.describe(61, sent(REQUEST, 40), next, 60);
    bench.driver.offer(60);
    bench.serve();
    assert_eq!(bench.driver.used(), Some((60, 0)));
}

#[test]
fn head_beyond_the_queue_ends_it() {
    let mut bench = Bench::coherent();
    bench.driver.offer(QUEUE);
    let outcome = bench.queue.serve(&AtomicBool::new(false));
    assert!(outcome.is_err());
}
