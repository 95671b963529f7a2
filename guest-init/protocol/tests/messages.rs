//! Messages come back as they went, limits hold both ways, and versions are told apart.

use std::ffi::OsString;
use std::fmt::Debug;
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt;

use guest_protocol::{
    Answer, ArchiveRead, BootConfig, BootTimes, Done, Exec, Exit, ExitStatus, Failure, FileMessage,
    FileRequest, FileStat, FrameError, FrameReader, FromAgent, Hello, HostEntry, MAX_ARG,
    MAX_HOSTNAME, MAX_LAYERS, MAX_MOUNTS, MAX_NAME, MAX_PATH, MAX_REQUEST, Message, MessageError,
    Mount, MountSource, OnError, Open, ProcessMessage, ProcessRequest, Request, RequestBody, Tty,
    Upper, VERSION, WindowSize, decode, encode, write_message,
};
use proptest::prelude::*;

fn os_string() -> impl Strategy<Value = OsString> {
    prop::collection::vec(1_u8..=255, 0..40).prop_map(OsString::from_vec)
}

fn exec() -> impl Strategy<Value = Exec> {
    let name = prop::collection::vec(b'A'..=b'Z', 1..10).prop_map(OsString::from_vec);
    let size = (any::<u16>(), any::<u16>()).prop_map(|(rows, cols)| WindowSize { rows, cols });
    let tty = (size, prop::option::of("[a-z]{1,10}")).prop_map(|(size, term)| Tty { size, term });
    (
        prop::option::of(os_string()),
        prop::collection::vec(os_string(), 1..6),
        prop::collection::vec((name, os_string()), 0..6),
        prop::option::of(os_string().prop_filter("a path", |path| !path.is_empty())),
        prop::option::of("[a-z0-9:]{0,20}"),
        prop::option::of(tty),
        any::<bool>(),
    )
        .prop_map(|(program, argv, env, cwd, user, tty, stdin)| Exec {
            program,
            argv,
            env,
            cwd,
            user,
            tty,
            stdin,
        })
}

fn host_entry() -> impl Strategy<Value = HostEntry> {
    (any::<IpAddr>(), "[a-z.]{1,30}").prop_map(|(address, name)| HostEntry { address, name })
}

fn request_body() -> impl Strategy<Value = RequestBody> {
    prop_oneof![
        prop::collection::vec(host_entry(), 0..5).prop_map(RequestBody::Hosts),
        Just(RequestBody::Sync),
        any::<u64>().prop_map(|unix_nanos| RequestBody::SetTime { unix_nanos }),
        Just(RequestBody::Shutdown),
    ]
}

fn boot_config() -> impl Strategy<Value = BootConfig> {
    (
        "[a-z0-9-]{1,64}",
        prop::collection::vec("[a-z0-9-]{1,20}", 0..5),
        upper(),
        prop::collection::vec((prop::collection::vec("[a-z ]{1,9}", 1..4), mount()), 0..5),
        prop::collection::vec("[a-z_]{1,20}[.]ko", 0..5),
    )
        .prop_map(|(hostname, layers, upper, mounts, modules)| BootConfig {
            hostname,
            layers,
            upper,
            // Numbers make targets and serials differ.
            mounts: (0..)
                .zip(mounts)
                .map(|(index, (names, (mut source, read_only)))| {
                    if let MountSource::Disk { serial, .. } = &mut source {
                        *serial = format!("{serial}_{index}");
                    }
                    let target = format!("/{index}/{}", names.join("/"));
                    let source = if read_only { unfilled(source) } else { source };
                    Mount {
                        target,
                        source,
                        read_only,
                    }
                })
                .collect(),
            modules,
        })
}

fn upper() -> impl Strategy<Value = Upper> {
    prop_oneof![
        prop::option::of(1..=u64::MAX).prop_map(|size| Upper::Tmpfs { size }),
        "[A-Z]{1,20}".prop_map(|serial| Upper::Disk { serial }),
    ]
}

fn mount() -> impl Strategy<Value = (MountSource, bool)> {
    let errors = prop_oneof![
        Just(OnError::Continue),
        Just(OnError::RemountReadOnly),
        Just(OnError::Panic),
    ];
    let source = prop_oneof![
        ("[a-z/.]{1,36}", any::<bool>()).prop_map(|(tag, fill)| MountSource::Share { tag, fill }),
        ("[a-z]{1,18}", errors, any::<bool>()).prop_map(|(serial, errors, fill)| {
            MountSource::Disk {
                serial,
                errors,
                fill,
            }
        }),
        (prop::option::of(1..=u64::MAX), 0..=0o7777_u32)
            .prop_map(|(size, mode)| MountSource::Tmpfs { size, mode }),
    ];
    (source, any::<bool>())
}

fn unfilled(mut source: MountSource) -> MountSource {
    if let MountSource::Share { fill, .. } | MountSource::Disk { fill, .. } = &mut source {
        *fill = false;
    }
    source
}

fn hello() -> Hello {
    Hello {
        agent_version: "1.2.3".into(),
        boot_times: BootTimes::default(),
    }
}

/// The body of the only frame in `bytes`.
fn only_body(bytes: &[u8]) -> Vec<u8> {
    let mut reader = FrameReader::new(bytes, MAX_REQUEST);
    let body = reader.read_frame().unwrap().unwrap().body.to_vec();
    assert_eq!(reader.read_frame().unwrap(), None);
    body
}

fn round_trips<M: Message + PartialEq + Debug>(message: &M) {
    assert_eq!(decode::<M>(&encode(message).unwrap()).as_ref(), Ok(message));
}

proptest! {
    #[test]
    fn exec_comes_back_as_it_went(exec in exec()) {
        round_trips(&Open::Exec(exec));
    }

    #[test]
    fn archives_come_back_as_they_went(path in os_string(), name in os_string(), follow: bool) {
        let name = OsString::from_vec(name.into_vec().into_iter().filter(|b| *b != b'/').collect());
        prop_assume!(!path.is_empty() && !name.is_empty() && name != "..");
        round_trips(&Open::ArchiveWrite { path: path.clone() });
        round_trips(&Open::ArchiveRead(ArchiveRead { path, name, follow }));
    }

    #[test]
    fn requests_come_back_as_they_went(id: u32, body in request_body()) {
        round_trips(&Request { id, body });
    }

    #[test]
    fn boot_config_comes_back_as_it_went(config in boot_config()) {
        prop_assert_eq!(BootConfig::decode(&config.encode().unwrap()), Ok(config));
    }

    #[test]
    fn arbitrary_bytes_decode_to_something_within_limits_or_fail(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        fn attempt<M: Message>(bytes: &[u8]) {
            if let Ok(message) = decode::<M>(bytes) {
                message.check().expect("what was decoded is within limits");
            }
        }
        attempt::<Open>(&bytes);
        attempt::<Request>(&bytes);
        attempt::<FromAgent>(&bytes);
        attempt::<ProcessMessage>(&bytes);
        attempt::<ProcessRequest>(&bytes);
        attempt::<FileMessage>(&bytes);
        attempt::<FileRequest>(&bytes);
        attempt::<Done>(&bytes);
        let versioned = [b"shem".as_slice(), &VERSION.to_le_bytes(), &bytes].concat();
        let _ = BootConfig::decode(&versioned);
        let _ = Hello::decode(&versioned);
        let _ = Answer::decode(&versioned);
    }
}

#[test]
fn list_that_announces_billions_of_entries_fails_without_them() {
    // Request 0, Hosts, then a count of 2^63 entries of which none follows.
    let bytes = [
        0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01,
    ];
    assert_eq!(decode::<Request>(&bytes), Err(MessageError::Malformed));
}

#[test]
fn bytes_behind_a_message_are_refused() {
    let mut bytes = encode(&ProcessRequest::CloseStdin).unwrap();
    bytes.push(0);
    assert_eq!(
        decode::<ProcessRequest>(&bytes),
        Err(MessageError::Malformed)
    );
}

#[test]
fn argument_beyond_the_kernel_limit_is_refused() {
    let exec = |len| {
        Open::Exec(Exec {
            argv: vec!["a".repeat(len).into()],
            ..Exec::default()
        })
    };
    round_trips(&exec(MAX_ARG));
    assert!(matches!(
        encode(&exec(MAX_ARG + 1)),
        Err(MessageError::TooLong { .. })
    ));
}

#[test]
fn message_that_the_other_side_would_refuse_is_not_written() {
    let argv = vec!["a".repeat(MAX_ARG).into(); MAX_REQUEST / MAX_ARG + 1];
    let mut written = Vec::new();
    let result = write_message(
        &mut written,
        &Open::Exec(Exec {
            argv,
            ..Exec::default()
        }),
    );
    assert!(matches!(
        result,
        Err(FrameError::Message(MessageError::TooLong { .. }))
    ));
    assert_eq!(written, b"");
}

#[test]
fn exec_that_no_kernel_would_take_is_refused() {
    let argv = || vec![OsString::from("true")];
    let bad = [
        Exec {
            argv: vec![],
            ..Exec::default()
        },
        Exec {
            argv: vec!["a\0b".into()],
            ..Exec::default()
        },
        Exec {
            argv: argv(),
            env: vec![("A=B".into(), "c".into())],
            ..Exec::default()
        },
        Exec {
            argv: argv(),
            env: vec![("".into(), "c".into())],
            ..Exec::default()
        },
        Exec {
            argv: argv(),
            cwd: Some("".into()),
            ..Exec::default()
        },
        Exec {
            argv: argv(),
            user: Some("root\0".into()),
            ..Exec::default()
        },
    ];
    for exec in bad {
        assert!(encode(&Open::Exec(exec.clone())).is_err(), "{exec:?}");
    }
}

#[test]
fn archive_name_that_is_a_path_is_refused() {
    let read = |name: OsString| {
        Open::ArchiveRead(ArchiveRead {
            path: "/etc".into(),
            name,
            follow: false,
        })
    };
    round_trips(&read(".".into()));
    round_trips(&read("n".repeat(MAX_NAME).into()));
    for bad in ["", "..", "a/b", "/", "a\0b", &"n".repeat(MAX_NAME + 1)] {
        assert!(encode(&read(bad.into())).is_err(), "{bad:?}");
    }
    for bad in ["", "a\0b", &"p".repeat(MAX_PATH + 1)] {
        let write = Open::ArchiveWrite { path: bad.into() };
        assert!(encode(&write).is_err(), "{bad:?}");
    }
}

#[test]
fn limits_are_enforced_at_decode_not_only_at_encode() {
    // A `Failed` whose text is longer than MAX_TEXT but well within a frame.
    let mut bytes = encode(&Done(Err(Failure {
        errno: 5,
        message: "x".repeat(1024),
    })))
    .unwrap();
    assert!(decode::<Done>(&bytes).is_ok());
    let at = bytes.len() - 1026;
    assert_eq!(bytes[at..at + 2], [0x80, 0x08], "varint of 1024");
    bytes[at] = 0x81;
    bytes.push(b'x');
    assert!(matches!(
        decode::<Done>(&bytes),
        Err(MessageError::TooLong { len: 1025, .. })
    ));
}

#[test]
fn exit_outside_of_what_wait_gives_is_refused() {
    let exit = |status| {
        ProcessMessage::Exit(Exit {
            status,
            oom_killed: false,
        })
    };
    let signal = |signal| {
        exit(ExitStatus::Signal {
            signal,
            core_dumped: false,
        })
    };
    round_trips(&exit(ExitStatus::Code(255)));
    round_trips(&signal(9));
    for bad in [
        exit(ExitStatus::Code(256)),
        exit(ExitStatus::Code(-1)),
        signal(0),
        signal(128),
    ] {
        assert!(encode(&bad).is_err(), "{bad:?}");
    }
}

#[test]
fn file_stat_comes_back_as_it_went() {
    round_trips(&FileMessage::Stat(FileStat {
        kind: guest_protocol::FileKind::Directory,
        mode: 0o1777,
        uid: 7,
        gid: u32::MAX,
        size: u64::MAX,
        modified_nanos: -1,
    }));
}

#[test]
fn greetings_travel_in_frames() {
    let mut bytes = Vec::new();
    hello().write_to(&mut bytes).unwrap();
    assert_eq!(Hello::decode(&only_body(&bytes)), Ok(hello()));

    let refuse = Answer::Refuse {
        reason: "no".into(),
    };
    let mut bytes = Vec::new();
    refuse.write_to(&mut bytes).unwrap();
    assert_eq!(Answer::decode(&only_body(&bytes)), Ok(refuse));
}

#[test]
fn other_version_is_told_whatever_follows_it() {
    let future = [
        b"shem".as_slice(),
        &(VERSION + 1).to_le_bytes(),
        b"anything",
    ]
    .concat();
    let mismatch = MessageError::VersionMismatch {
        ours: VERSION,
        theirs: VERSION + 1,
    };
    assert_eq!(Hello::decode(&future), Err(mismatch));
    let mismatch = MessageError::VersionMismatch {
        ours: VERSION,
        theirs: VERSION + 1,
    };
    assert_eq!(Answer::decode(&future), Err(mismatch));
    let mismatch = MessageError::VersionMismatch {
        ours: VERSION,
        theirs: VERSION + 1,
    };
    assert_eq!(BootConfig::decode(&future), Err(mismatch));
}

#[test]
fn stranger_is_told_from_another_version() {
    for bytes in [b"".as_slice(), b"SSH-2.0-x", b"shem", b"shem\x01\0\0"] {
        assert_eq!(Hello::decode(bytes), Err(MessageError::NotOurs));
    }
}

fn good_boot_config() -> BootConfig {
    BootConfig {
        hostname: "h".into(),
        layers: vec!["rootfs-0".into()],
        upper: Upper::Tmpfs { size: None },
        mounts: vec![],
        modules: vec![],
    }
}

#[test]
fn boot_config_that_cannot_boot_is_refused() {
    let good = good_boot_config();
    assert!(good.encode().is_ok());
    let bad = [
        BootConfig {
            hostname: "a".repeat(MAX_HOSTNAME + 1),
            ..good.clone()
        },
        BootConfig {
            hostname: "two words".into(),
            ..good.clone()
        },
        BootConfig {
            layers: vec!["l".into(); MAX_LAYERS + 1],
            ..good.clone()
        },
        BootConfig {
            layers: vec!["serial-of-21-bytes-xx".into()],
            ..good.clone()
        },
        BootConfig {
            upper: Upper::Tmpfs { size: Some(0) },
            ..good.clone()
        },
        BootConfig {
            upper: Upper::Disk { serial: "".into() },
            ..good.clone()
        },
        BootConfig {
            upper: Upper::Disk {
                serial: "rootfs-0".into(),
            },
            ..good.clone()
        },
        BootConfig {
            modules: vec!["../x.ko".into()],
            ..good
        },
    ];
    for config in bad {
        assert!(config.encode().is_err(), "{config:?}");
    }
}

fn mount_at(target: &str, source: MountSource) -> Mount {
    Mount {
        target: target.into(),
        source,
        read_only: false,
    }
}

fn disk(serial: &str) -> MountSource {
    MountSource::Disk {
        serial: serial.into(),
        errors: OnError::Panic,
        fill: true,
    }
}

fn share(tag: &str) -> MountSource {
    MountSource::Share {
        tag: tag.into(),
        fill: true,
    }
}

fn with_mounts(mounts: Vec<Mount>) -> Result<Vec<u8>, MessageError> {
    BootConfig {
        mounts,
        ..good_boot_config()
    }
    .encode()
}

#[test]
fn mounts_within_the_limits_are_taken() {
    let longest = format!("/{}", "x".repeat(MAX_PATH - 1));
    with_mounts(vec![
        mount_at("/data", disk("exactly-20-character")),
        mount_at("/data/in data/..x", share(&"t".repeat(36))),
        mount_at(&longest, share(&"t".repeat(36))),
        mount_at(
            "/dev/shm",
            MountSource::Tmpfs {
                size: Some(1),
                mode: 0o7777,
            },
        ),
    ])
    .unwrap();
    let many = |count| {
        (0..count)
            .map(|n| mount_at(&format!("/m{n}"), share("t")))
            .collect()
    };
    with_mounts(many(MAX_MOUNTS)).unwrap();
    assert!(with_mounts(many(MAX_MOUNTS + 1)).is_err());
}

#[test]
fn mount_outside_of_the_container_or_on_its_foundations_is_refused() {
    for target in [
        "",
        "data",
        "/",
        "//data",
        "/data/",
        "/data//x",
        "/./data",
        "/data/../..",
        "/..",
        "/a\0b",
        "/proc",
        "/sys",
        "/dev",
    ] {
        let result = with_mounts(vec![mount_at(target, share("t"))]);
        assert!(
            matches!(result, Err(MessageError::Invalid { .. })),
            "{target:?}"
        );
    }
    let too_long = format!("/{}", "x".repeat(MAX_PATH));
    assert!(with_mounts(vec![mount_at(&too_long, share("t"))]).is_err());
}

#[test]
fn mount_sources_that_cannot_be_meant_are_refused() {
    let tmpfs = |size, mode| MountSource::Tmpfs { size, mode };
    for source in [
        disk(""),
        disk("serial-of-21-bytes-xx"),
        disk("rootfs-0"),
        share(""),
        share(&"t".repeat(37)),
        share("a\0b"),
        tmpfs(Some(0), 0o755),
        tmpfs(None, 0o10000),
    ] {
        let result = with_mounts(vec![mount_at("/data", source.clone())]);
        assert!(result.is_err(), "{source:?}");
    }
    for source in [disk("d"), share("t")] {
        let mut mount = mount_at("/data", source);
        mount.read_only = true;
        assert!(with_mounts(vec![mount.clone()]).is_err(), "{mount:?}");
        mount.source = unfilled(mount.source);
        with_mounts(vec![mount]).unwrap();
    }
}

#[test]
fn two_mounts_of_one_target_or_one_disk_are_refused() {
    let same_target = vec![mount_at("/a", share("t")), mount_at("/a", share("u"))];
    assert!(with_mounts(same_target).is_err());
    let same_disk = vec![mount_at("/a", disk("d")), mount_at("/b", disk("d"))];
    assert!(with_mounts(same_disk).is_err());
    let upper = BootConfig {
        upper: Upper::Disk { serial: "d".into() },
        mounts: vec![mount_at("/a", disk("d"))],
        ..good_boot_config()
    };
    assert!(upper.encode().is_err());
}
