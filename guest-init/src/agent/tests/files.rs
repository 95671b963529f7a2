//! Files and trees into the guest and out of it.

use super::*;

#[test]
fn file_goes_in_and_comes_out_with_mode_and_owner() {
    let guest = Guest::boot();
    let data: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    let write = || FileWrite {
        path: "/etc/data".into(),
        mode: 0o640,
        uid,
        gid,
    };
    assert_eq!(
        guest
            .client
            .port()
            .write_file(write(), &mut data.as_slice())
            .unwrap(),
        400_000
    );

    let mut back = Vec::new();
    assert_eq!(
        guest
            .client
            .port()
            .read_file("/etc/data", &mut back, 1 << 20)
            .unwrap(),
        400_000
    );
    assert!(back == data);
    let stat = guest.client.port().stat_file("etc/data").unwrap();
    assert_eq!(
        (stat.kind, stat.mode, stat.size),
        (FileKind::File, 0o640, 400_000)
    );
    assert_eq!((stat.uid, stat.gid), (uid, gid));
    let too_long = guest.client.port().read_file("/etc/data", &mut back, 1000);
    assert!(matches!(
        too_long,
        Err(ClientError::OutputLimit { limit: 1000 })
    ));
}

#[test]
fn file_paths_cannot_leave_the_root() {
    let guest = Guest::boot();
    let root = guest.root.path();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink(outside.path(), root.join("link")).unwrap();
    let up = format!("../../../..{}/secret", outside.path().display());
    for path in ["/link/secret", &up] {
        match guest.client.port().read_file(path, &mut Vec::new(), 100) {
            Err(ClientError::Failed(failure)) => assert_eq!(failure.errno, libc::ENOENT),
            other => panic!("{path}: {other:?}"),
        }
        let write = FileWrite {
            path: path.into(),
            mode: 0o600,
            uid: 0,
            gid: 0,
        };
        let written = guest.client.port().write_file(write, &mut b"x".as_slice());
        assert!(
            matches!(written, Err(ClientError::Failed(_))),
            "{path}: {written:?}"
        );
    }
    assert_eq!(fs::read(outside.path().join("secret")).unwrap(), b"secret");
}

#[test]
fn what_is_no_file_is_refused_without_a_wait() {
    let guest = Guest::boot();
    mkfifo(&guest.root.path().join("fifo"), Mode::S_IRWXU).unwrap();
    let errno = |path| match guest.client.port().read_file(path, &mut Vec::new(), 100) {
        Err(ClientError::Failed(failure)) => failure.errno,
        other => panic!("{other:?}"),
    };
    assert_eq!(errno("/fifo"), libc::EINVAL);
    assert_eq!(errno("/etc"), libc::EISDIR);
    assert_eq!(
        guest.client.port().stat_file("/etc").unwrap().kind,
        FileKind::Directory
    );
}

#[test]
fn file_that_breaks_off_leaves_the_old_one_and_nothing_else() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::Other.into())
        }
    }
    let guest = Guest::boot();
    let etc = guest.root.path().join("etc");
    fs::write(etc.join("data"), "old").unwrap();
    let write = FileWrite {
        path: "/etc/data".into(),
        mode: 0o600,
        uid: 0,
        gid: 0,
    };
    let result = guest.client.port().write_file(write, &mut Broken);
    assert!(matches!(result, Err(ClientError::Local(_))));
    // The slot comes back when the agent is through with the connection.
    while *guest.agent.connections.lock().unwrap() > 0 {
        thread::yield_now();
    }
    assert_eq!(fs::read_to_string(etc.join("data")).unwrap(), "old");
    assert_eq!(fs::read_dir(&etc).unwrap().count(), 1);
}
