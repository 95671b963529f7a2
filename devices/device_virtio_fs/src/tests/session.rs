//! The handshake, and what each choice of cache agrees on.

use super::*;
use crate::wire::{AttrOut, EntryOut, Flags, GetattrIn, InitOut, OpenIn, OpenOut};

const BOTH: &[Flags] = &[
    Flags::ASYNC_READ,
    Flags::POSIX_LOCKS,
    Flags::ATOMIC_O_TRUNC,
    Flags::BIG_WRITES,
    Flags::FLOCK_LOCKS,
    Flags::ASYNC_DIO,
    Flags::PARALLEL_DIROPS,
    Flags::MAX_PAGES,
    Flags::HANDLE_KILLPRIV_V2,
    Flags::SETXATTR_EXT,
    Flags::INIT_EXT,
    Flags::CREATE_SUPP_GROUP,
];

fn flags(reply: &InitOut) -> u64 {
    u64::from(reply.flags2) << 32 | u64::from(reply.flags)
}

#[test]
fn handshake_agrees_on_what_both_can_do() {
    for (cache, more) in [
        (
            Cache::Coherent,
            vec![Flags::AUTO_INVAL_DATA, Flags::DIRECT_IO_ALLOW_MMAP],
        ),
        (
            Cache::Exclusive,
            vec![
                Flags::CACHE_SYMLINKS,
                Flags::WRITEBACK_CACHE,
                Flags::DO_READDIRPLUS,
                Flags::READDIRPLUS_AUTO,
            ],
        ),
    ] {
        let mut bench = Bench::new(cache, false);
        let reply: InitOut = bench.ask(Opcode::Init, &init()).body();
        assert_eq!((reply.major, reply.minor), (7, 41));
        assert_eq!(reply.max_readahead, 0x2_0000);
        assert_eq!((reply.max_write, reply.max_pages), (1 << 20, 256));
        assert_eq!(reply.time_gran, 1);
        let expected = Flags::of(BOTH).0 | Flags::of(&more).0;
        assert_eq!(flags(&reply), expected, "{cache}");
    }
}

#[test]
fn guest_that_can_do_less_gets_less() {
    let mut bench = Bench::new(Cache::Exclusive, false);
    let asked = Flags::of(&[Flags::BIG_WRITES, Flags::CREATE_SUPP_GROUP]).0;
    let reply: InitOut = bench.ask(Opcode::Init, &init_with(7, 31, asked)).body();
    // Without INIT_EXT the second word of flags is not there.
    assert_eq!(flags(&reply), Flags::BIG_WRITES.0);
}

#[test]
fn short_handshake_of_an_older_guest_is_one() {
    let mut bench = Bench::new(Cache::Coherent, false);
    let reply: InitOut = bench.ask(Opcode::Init, &init_with(7, 31, 1)[..16]).body();
    assert_eq!(flags(&reply), 1);
}

#[test]
fn newer_major_version_is_told_ours_and_has_to_ask_again() {
    let mut bench = Bench::new(Cache::Coherent, false);
    let reply: InitOut = bench.ask(Opcode::Init, &init_with(8, 0, 1)).body();
    assert_eq!((reply.major, reply.flags), (7, 0));
    let early = bench.ask(Opcode::Statfs, &[]);
    assert_eq!(early, Reply::Error(Errno::IO));
}

#[test]
fn versions_too_old_are_refused() {
    for (major, minor) in [(6, 99), (7, 30)] {
        let mut bench = Bench::new(Cache::Coherent, false);
        let reply = bench.ask(Opcode::Init, &init_with(major, minor, 1));
        assert_eq!(reply, Reply::Error(Errno::PROTO));
    }
}

#[test]
fn nothing_is_served_before_the_handshake_and_after_the_end() {
    let mut bench = Bench::new(Cache::Coherent, false);
    assert_eq!(bench.ask(Opcode::Statfs, &[]), Reply::Error(Errno::IO));
    assert!(bench.mock.calls().is_empty());
    bench.ask(Opcode::Init, &init());
    assert!(matches!(bench.ask(Opcode::Statfs, &[]), Reply::Body(_)));
    assert_eq!(bench.ask(Opcode::Destroy, &[]), Reply::Body(vec![]));
    assert_eq!(bench.mock.calls(), ["statfs 5", "reset"]);
    assert_eq!(bench.ask(Opcode::Statfs, &[]), Reply::Error(Errno::IO));
    assert!(bench.mock.calls().is_empty());
}

#[test]
fn second_handshake_ends_the_first_session() {
    let mut bench = Bench::coherent();
    assert!(bench.mock.calls().is_empty());
    bench.ask(Opcode::Init, &init());
    assert_eq!(bench.mock.calls(), ["reset"]);
    assert!(matches!(bench.ask(Opcode::Statfs, &[]), Reply::Body(_)));
}

#[test]
fn holes_are_not_told_of_while_the_guest_has_data_to_write_back() {
    let mut bench = Bench::ready(Cache::Exclusive, false);
    let arguments: Vec<u8> = [9_u64, 10, 4]
        .iter()
        .flat_map(|n| n.to_ne_bytes())
        .collect();
    let reply = bench.ask(Opcode::Lseek, &arguments);
    assert_eq!(reply, Reply::Error(Errno::NOSYS));
}

#[test]
fn guest_keeps_nothing_of_a_coherent_volume_and_all_of_an_exclusive_one() {
    for (cache, seconds, file, folder) in [
        (Cache::Coherent, 0, 1, 0),
        (Cache::Exclusive, 86_400, 1 << 1, 1 << 1 | 1 << 3),
    ] {
        let mut bench = Bench::ready(cache, false);
        let entry: EntryOut = bench.ask(Opcode::Lookup, b"name\0").body();
        assert_eq!((entry.entry_valid, entry.attr_valid), (seconds, seconds));
        let asked = GetattrIn {
            getattr_flags: 0,
            dummy: 0,
            fh: 0,
        };
        let attr: AttrOut = bench.ask(Opcode::Getattr, asked.as_bytes()).body();
        assert_eq!(attr.attr_valid, seconds);
        let open = OpenIn {
            flags: 0,
            open_flags: 0,
        };
        let opened: OpenOut = bench.ask(Opcode::Open, open.as_bytes()).body();
        assert_eq!((opened.fh, opened.open_flags), (31, file));
        let opened: OpenOut = bench.ask(Opcode::Opendir, open.as_bytes()).body();
        assert_eq!((opened.fh, opened.open_flags), (32, folder));
    }
}

#[test]
fn guest_keeps_no_listing_that_would_be_read_twice_at_a_time() {
    for (cache, flags) in [(Cache::Coherent, 0), (Cache::Exclusive, 1 << 1)] {
        let mut bench = Bench::ready(cache, false);
        bench.mock.listed.store(false, Ordering::Relaxed);
        let opened: OpenOut = bench.ask(Opcode::Opendir, &[0; 8]).body();
        assert_eq!((opened.fh, opened.open_flags), (32, flags));
    }
}

#[test]
fn files_are_cached_by_guests_that_could_not_map_them_otherwise() {
    let mut bench = Bench::new(Cache::Coherent, false);
    let old = !Flags::DIRECT_IO_ALLOW_MMAP.0;
    bench.ask(Opcode::Init, &init_with(7, 38, old));
    let open = OpenIn {
        flags: 0,
        open_flags: 0,
    };
    let opened: OpenOut = bench.ask(Opcode::Open, open.as_bytes()).body();
    assert_eq!(opened.open_flags, 0);
}

#[test]
fn attributes_of_folders_alone_outlive_the_walk_in_a_coherent_volume() {
    let (folder, file) = (0o04_0755, 0o10_0644);
    let moment = Cache::Coherent.of_attributes(folder);
    assert!(!moment.is_zero() && moment < Duration::from_millis(100));
    assert!(Cache::Coherent.of_attributes(file).is_zero());
    let mut bench = Bench::coherent();
    bench.mock.mode.store(folder, Ordering::Relaxed);
    let entry: EntryOut = bench.ask(Opcode::Lookup, b"name\0").body();
    assert_eq!((entry.entry_valid, entry.entry_valid_nsec), (0, 0));
    let told = Duration::new(entry.attr_valid, entry.attr_valid_nsec);
    assert_eq!(told, moment);
    let asked = GetattrIn {
        getattr_flags: 0,
        dummy: 0,
        fh: 0,
    };
    let attr: AttrOut = bench.ask(Opcode::Getattr, asked.as_bytes()).body();
    assert_eq!(Duration::new(attr.attr_valid, attr.attr_valid_nsec), moment);
}

#[test]
fn only_the_guest_of_an_exclusive_volume_may_remember_that_a_name_is_not_there() {
    let mut bench = Bench::coherent();
    *bench.mock.failure.lock().unwrap() = Some(Errno::NOENT);
    let reply = bench.ask(Opcode::Lookup, b"name\0");
    assert_eq!(reply, Reply::Error(Errno::NOENT));
    let mut bench = Bench::ready(Cache::Exclusive, false);
    *bench.mock.failure.lock().unwrap() = Some(Errno::NOENT);
    let reply: EntryOut = bench.ask(Opcode::Lookup, b"name\0").body();
    assert_eq!((reply.nodeid, reply.entry_valid), (0, 86_400));
}

#[test]
fn write_back_cache_reads_through_every_handle_and_keeps_the_end_itself() {
    let flags = (libc::O_WRONLY | libc::O_APPEND | libc::O_TRUNC) as u32;
    let open = OpenIn {
        flags,
        open_flags: 1,
    };
    for (cache, agreed, expected) in [
        (Cache::Coherent, u64::MAX, flags),
        (
            Cache::Exclusive,
            u64::MAX,
            (libc::O_RDWR | libc::O_TRUNC) as u32,
        ),
        // A guest without such a cache.
        (Cache::Exclusive, 0, flags),
    ] {
        let mut bench = Bench::new(cache, false);
        bench.ask(Opcode::Init, &init_with(7, 41, agreed));
        bench.ask(Opcode::Open, open.as_bytes());
        let call = format!("open 5 OpenFlags {{ flags: {expected}, kill_privileges: true }}");
        assert_eq!(bench.mock.calls(), [call]);
    }
}

#[test]
fn caches_are_read_as_they_are_shown() {
    for cache in [Cache::Coherent, Cache::Exclusive] {
        assert_eq!(cache.to_string().parse::<Cache>().unwrap(), cache);
    }
    assert_eq!(
        "none".parse::<Cache>().unwrap_err().to_string(),
        "unknown cache \"none\": use coherent or exclusive"
    );
}
