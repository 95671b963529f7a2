//! What a process starts with, and why one does not start.

use super::*;

#[test]
fn environment_is_exactly_what_was_sent_and_the_defaults() {
    let env = vec![("A".into(), OsString::from_vec(b"\xff=".into()))];
    let guest = Guest::boot();
    let process = guest.start(Exec {
        env,
        ..exec(&["env"])
    });
    let output = process.wait_with_output(LIMIT).unwrap();
    let mut lines: Vec<_> = output.stdout.split(|&b| b == b'\n').collect();
    lines.sort_unstable();
    let path = b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let expected: [&[u8]; 5] = [b"", b"A=\xff=", b"HOME=/", b"HOSTNAME=golem", path];
    assert_eq!(lines, expected);
}

#[test]
fn process_starts_with_nothing_of_the_agents() {
    let script = "umask; ls /proc/self/fd | wc -l; grep -E '^Sig(Blk|Ign)' /proc/self/status; \
                  ps -o sid= -p $$ | tr -d ' ' | grep -x $$ >/dev/null && echo leader";
    let output = Guest::boot().shell(script);
    let text = String::from_utf8(output.stdout).unwrap();
    let empty = "0000000000000000";
    // The fourth descriptor is the folder that ls reads.
    assert_eq!(
        text,
        format!("0022\n4\nSigBlk:\t{empty}\nSigIgn:\t{empty}\nleader\n")
    );
}

#[test]
fn working_directory_is_the_one_asked_for() {
    let guest = Guest::boot();
    let pwd = |cwd: Option<&str>| {
        let exec = Exec {
            cwd: cwd.map(OsString::from),
            ..exec(&["pwd"])
        };
        guest.start(exec).wait_with_output(LIMIT).unwrap().stdout
    };
    assert_eq!(pwd(None), b"/\n");
    assert_eq!(pwd(Some("/usr")), b"/usr\n");
}

#[test]
fn failures_to_start_are_told_apart_and_name_the_thing() {
    use ExecFailureKind::{NoSuchUser, NoSuchWorkdir, NotExecutable, NotFound};
    let guest = Guest::boot();
    let file = guest.root.path().join("program");
    fs::write(&file, "not a program").unwrap();
    let file = file.to_str().unwrap();
    let refusal = |argv: &[&str]| guest.refusal(exec(argv));

    assert_eq!(
        refusal(&["no-such"]),
        (NotFound, "no-such: not found in PATH".into())
    );
    let missing = (NotFound, "/no/such: No such file or directory".into());
    assert_eq!(refusal(&["/no/such"]), missing);
    assert_eq!(
        refusal(&["/"]),
        (NotExecutable, "/: Permission denied".into())
    );
    assert_eq!(
        refusal(&[file]),
        (NotExecutable, format!("{file}: Permission denied"))
    );
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(
        refusal(&[file]),
        (NotExecutable, format!("{file}: Exec format error"))
    );
    fs::write(file, "#!/no/interpreter\n").unwrap();
    let message = format!("{file}: its interpreter or loader is missing");
    assert_eq!(refusal(&[file]), (NotFound, message));

    let workdir = Exec {
        cwd: Some("/no/dir".into()),
        ..exec(&["true"])
    };
    let message = "working directory /no/dir: No such file or directory".into();
    assert_eq!(guest.refusal(workdir), (NoSuchWorkdir, message));
    let user = Exec {
        user: Some("ghost".into()),
        ..exec(&["true"])
    };
    assert_eq!(
        guest.refusal(user),
        (NoSuchUser, "no user ghost in the image".into())
    );
}

#[test]
fn argument_list_beyond_the_kernels_limit_is_refused_as_such() {
    let argument = OsString::from("x".repeat(200_000));
    let exec = Exec {
        argv: vec!["true".into(), argument],
        ..Exec::default()
    };
    assert!(matches!(
        Guest::boot().client.exec(exec),
        Err(ExecError::Client(ClientError::Request(_)))
    ));
}
