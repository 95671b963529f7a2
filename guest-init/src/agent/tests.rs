//! The agent and its client together, over Unix sockets, with real processes of this machine.

mod archive;
mod forward;

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use guest_client::{Agent as Client, ClientError, Event, ExecError, Output, Process};
use guest_protocol::{
    BootTimes, Exec, ExecFailureKind, Exit, ExitStatus, FileKind, FileWrite, HostEntry, Interface,
    Resolver, Tty, WindowSize,
};
use nix::sys::stat::Mode;
use nix::unistd::{getgid, getuid, mkfifo};

use super::Agent;
use super::control::{self, End};
use super::drain::Drain;
use crate::error::BootError;

/// More than any test writes.
const LIMIT: usize = 64 << 20;

/// A client whose agent runs in this process.
struct Guest {
    client: Client,
    agent: Arc<Agent>,
    control: Option<JoinHandle<Result<End, BootError>>>,
    root: tempfile::TempDir,
}

impl Guest {
    fn boot() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let drain = Drain::start().unwrap();
        let agent = Arc::new(Agent::new("golem".into(), root.path().into(), drain));
        let (host, guest) = UnixStream::pair().unwrap();
        let files = root.path().to_owned();
        let control = thread::spawn(move || {
            let control = OwnedFd::from(guest).into();
            control::send_hello(
                &control,
                BootTimes {
                    init_start_us: 5,
                    ..BootTimes::default()
                },
            )?;
            control::serve(control, &files)
        });
        let port = Arc::clone(&agent);
        let connect = move |_port| {
            let (host, guest) = UnixStream::pair()?;
            port.accept(guest.into());
            Ok(host)
        };
        let client = Client::handshake(host, Box::new(connect)).unwrap();
        Self {
            client,
            agent,
            control: Some(control),
            root,
        }
    }

    fn start(&self, exec: Exec) -> Process {
        self.client.exec(exec).unwrap()
    }

    fn shell(&self, script: &str) -> Output {
        self.start(shell(script)).wait_with_output(LIMIT).unwrap()
    }

    fn refusal(&self, exec: Exec) -> (ExecFailureKind, String) {
        match self.client.exec(exec) {
            Err(ExecError::Failed(failure)) => (failure.kind, failure.message),
            other => panic!("not refused: {other:?}"),
        }
    }
}

fn exec(argv: &[&str]) -> Exec {
    Exec {
        argv: argv.iter().map(OsString::from).collect(),
        ..Exec::default()
    }
}

fn shell(script: &str) -> Exec {
    exec(&["sh", "-c", script])
}

fn tty(script: &str) -> Exec {
    let size = WindowSize { rows: 24, cols: 80 };
    Exec {
        tty: Some(Tty { size, term: None }),
        stdin: true,
        ..shell(script)
    }
}

fn code(code: i32) -> Exit {
    Exit {
        status: ExitStatus::Code(code),
        oom_killed: false,
    }
}

fn signalled(signal: i32) -> Exit {
    Exit {
        status: ExitStatus::Signal {
            signal,
            core_dumped: false,
        },
        oom_killed: false,
    }
}

/// Reads stdout events until `wanted` has come.
fn wait_for(process: &mut Process, wanted: &str) {
    let mut text = String::new();
    while !text.contains(wanted) {
        match process.next_event().unwrap() {
            Event::Stdout(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
            other => panic!("{other:?} before {wanted:?}, after {text:?}"),
        }
    }
}

/// A FIFO that tells when the last process that holds it for writing is gone.
fn wait_for_hang_up_of(path: &Path) {
    let mut nothing = Vec::new();
    fs::File::open(path)
        .unwrap()
        .read_to_end(&mut nothing)
        .unwrap();
}

#[test]
fn output_streams_and_exit_code_arrive() {
    let output = Guest::boot().shell("echo out; echo err >&2; exit 3");
    assert_eq!(
        output,
        Output {
            exit: code(3),
            stdout: b"out\n".into(),
            stderr: b"err\n".into()
        }
    );
}

#[test]
fn signal_that_ends_a_process_is_told() {
    assert_eq!(
        Guest::boot().shell("kill -TERM $$").exit,
        signalled(libc::SIGTERM)
    );
    assert_eq!(Guest::boot().shell("kill -40 $$").exit, signalled(40));
}

#[test]
fn output_larger_than_all_buffers_arrives_whole_and_in_order() {
    let output = Guest::boot().shell("seq 1 300000; seq 1 300000 >&2");
    let numbers: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    assert_eq!(output.exit, code(0));
    assert!(
        output.stdout == numbers.as_bytes(),
        "stdout has {} bytes",
        output.stdout.len()
    );
    assert!(
        output.stderr == numbers.as_bytes(),
        "stderr has {} bytes",
        output.stderr.len()
    );
}

#[test]
fn last_words_are_not_lost() {
    let guest = Guest::boot();
    for round in 0..50 {
        let output = guest.shell("printf '%060000d' 7");
        assert_eq!((round, output.stdout.len()), (round, 60_000));
    }
}

#[test]
fn stdin_goes_through_and_back_with_more_than_all_buffers_hold() {
    let guest = Guest::boot();
    let mut process = guest.start(Exec {
        stdin: true,
        ..exec(&["cat"])
    });
    let stdin = process.stdin();
    let data: Vec<u8> = (0..4_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let sent = data.clone();
    let writer = thread::spawn(move || {
        stdin.write_all(&sent)?;
        stdin.close()
    });
    let mut received = Vec::new();
    let exit = loop {
        match process.next_event().unwrap() {
            Event::Stdout(bytes) => received.extend(bytes),
            Event::Exit(exit) => break exit,
            Event::Stderr(bytes) => panic!("{}", String::from_utf8_lossy(&bytes)),
        }
    };
    writer.join().unwrap().unwrap();
    assert_eq!(exit, code(0));
    assert!(
        received == data,
        "{} of {} bytes",
        received.len(),
        data.len()
    );
}

#[test]
fn stdin_is_empty_unless_asked_for() {
    assert_eq!(Guest::boot().shell("cat; echo end").stdout, b"end\n");
}

#[test]
fn stdin_that_nobody_takes_does_not_keep_the_exit_back() {
    let guest = Guest::boot();
    let mut process = guest.start(Exec {
        stdin: true,
        ..shell("exec <&-; echo ready; read x")
    });
    let stdin = process.stdin();
    wait_for(&mut process, "ready");
    let writer = thread::spawn(move || stdin.write_all(&vec![0; 1 << 20]));
    // The shell cannot read from what it closed.
    assert!(matches!(
        process.next_event(),
        Ok(Event::Stderr(_) | Event::Exit(_))
    ));
    drop(process);
    // Whether all of it was dropped in time or not, the writer is not stuck.
    assert!(matches!(
        writer.join().unwrap(),
        Ok(()) | Err(ClientError::Lost)
    ));
}

#[test]
fn signal_passes_stdin_that_is_stuck() {
    let guest = Guest::boot();
    let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done";
    let mut process = guest.start(Exec {
        stdin: true,
        ..shell(script)
    });
    wait_for(&mut process, "ready");
    let stuck = process.stdin();
    let writer = thread::spawn(move || stuck.write_all(&vec![0; 8 << 20]));
    process.stdin().signal(libc::SIGTERM).unwrap();
    assert_eq!(process.next_event().unwrap(), Event::Exit(code(7)));
    drop(process);
    // It depends on whether the agent saw the stream or the process end first.
    assert!(matches!(
        writer.join().unwrap(),
        Ok(()) | Err(ClientError::Lost)
    ));
}

#[test]
fn endless_stdin_does_not_keep_the_exit_back() {
    let guest = Guest::boot();
    let mut process = guest.start(Exec {
        stdin: true,
        ..shell("exec <&-; exit 6")
    });
    let stdin = process.stdin();
    let writer = thread::spawn(move || while stdin.write_all(&[0; 100_000]).is_ok() {});
    assert_eq!(process.next_event().unwrap(), Event::Exit(code(6)));
    drop(process);
    writer.join().unwrap();
}

#[test]
fn signal_after_the_end_says_that_there_is_no_process() {
    let guest = Guest::boot();
    let mut process = guest.start(exec(&["true"]));
    let stdin = process.stdin();
    assert_eq!(process.next_event().unwrap(), Event::Exit(code(0)));
    match stdin.signal(libc::SIGTERM) {
        Err(ClientError::Failed(failure)) => assert_eq!(failure.errno, libc::ESRCH),
        other => panic!("{other:?}"),
    }
}

#[test]
fn background_child_neither_delays_the_exit_nor_dies_of_its_output() {
    let guest = Guest::boot();
    let fifo = guest.root.path().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    // It writes far more than a pipe holds after its parent's exit, and says
    // so on the FIFO only when all writes went well.
    let child = format!(
        "exec 5>{0}; read x <&6; seq 1 200000 && echo well >&5",
        fifo.display()
    );
    let gate = guest.root.path().join("gate");
    mkfifo(&gate, Mode::S_IRWXU).unwrap();
    let script = format!(
        "echo first; ( exec 6<{}; {child} ) & exit 4",
        gate.display()
    );
    let output = guest.shell(&script);
    assert_eq!(
        (output.exit, output.stdout.as_slice()),
        (code(4), b"first\n".as_slice())
    );
    fs::write(&gate, "go\n").unwrap();
    assert_eq!(fs::read_to_string(&fifo).unwrap(), "well\n");
}

#[test]
fn slow_reader_slows_the_process_and_memory_stays_bounded() {
    let guest = Guest::boot();
    let marker = guest.root.path().join("done");
    let script = format!("head -c 8000000 /dev/zero; echo > {}", marker.display());
    let mut process = guest.start(shell(&script));
    assert!(matches!(process.next_event(), Ok(Event::Stdout(_))));
    // Nothing else was read, and 8 MB fit into no buffer on the way.
    assert!(!marker.exists());
    assert_eq!(process.wait_with_output(LIMIT).unwrap().exit, code(0));
    assert!(marker.exists());
}

#[test]
fn hang_up_kills_the_process_and_its_group() {
    let guest = Guest::boot();
    let fifo = guest.root.path().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let script = format!(
        "exec 5>{}; sleep 1000 & echo ready; sleep 1000",
        fifo.display()
    );
    let mut process = guest.start(shell(&script));
    let opened = thread::spawn(move || wait_for_hang_up_of(&fifo));
    wait_for(&mut process, "ready");
    drop(process);
    opened.join().unwrap();
}

#[test]
fn output_beyond_the_callers_limit_ends_the_wait() {
    let process = Guest::boot().start(exec(&["yes"]));
    let result = process.wait_with_output(100_000);
    assert!(matches!(
        result,
        Err(ClientError::OutputLimit { limit: 100_000 })
    ));
}

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

#[test]
fn terminal_has_its_size_and_type_and_takes_another_size() {
    let script = "tty >/dev/null && stty size; echo $TERM; trap 'stty size; exit 5' WINCH; \
                  echo ready; while :; do sleep 0.02; done";
    let guest = Guest::boot();
    let mut process = guest.start(tty(script));
    wait_for(&mut process, "24 80\r\nxterm\r\nready\r\n");
    process
        .stdin()
        .resize(WindowSize {
            rows: 50,
            cols: 132,
        })
        .unwrap();
    wait_for(&mut process, "50 132\r\n");
    assert_eq!(process.next_event().unwrap(), Event::Exit(code(5)));
}

#[test]
fn interrupt_character_reaches_the_foreground_of_a_terminal() {
    let guest = Guest::boot();
    let mut process = guest.start(tty(
        "trap 'echo caught; exit 9' INT; echo ready; while :; do sleep 0.02; done",
    ));
    wait_for(&mut process, "ready");
    process.stdin().write_all(b"\x03").unwrap();
    wait_for(&mut process, "caught\r\n");
    assert_eq!(process.next_event().unwrap(), Event::Exit(code(9)));
}

#[test]
fn closed_stdin_is_end_of_file_at_a_terminal() {
    let guest = Guest::boot();
    let process = guest.start(tty("stty -echo; echo ready; cat; echo end"));
    process.stdin().write_all(b"line\n").unwrap();
    let output = process.wait_with_output(LIMIT).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with("line\r\nend\r\n"), "{text:?}");
    assert_eq!(output.exit, code(0));
}

#[test]
fn terminal_output_arrives_whole() {
    let guest = Guest::boot();
    let output = guest
        .start(tty("seq 1 20000"))
        .wait_with_output(LIMIT)
        .unwrap();
    let numbers: String = (1..=20_000).map(|n| format!("{n}\r\n")).collect();
    assert!(
        output.stdout == numbers.as_bytes(),
        "{} bytes",
        output.stdout.len()
    );
}

#[test]
fn process_without_a_terminal_cannot_be_resized() {
    let guest = Guest::boot();
    let process = guest.start(Exec {
        stdin: true,
        ..exec(&["cat"])
    });
    match process.stdin().resize(WindowSize { rows: 1, cols: 1 }) {
        Err(ClientError::Failed(failure)) => assert_eq!(failure.errno, libc::ENOTTY),
        other => panic!("{other:?}"),
    }
}

#[test]
fn many_processes_at_once_keep_their_output_apart() {
    let guest = Guest::boot();
    let processes: Vec<_> = (0..40)
        .map(|n| guest.start(shell(&format!("echo {n}"))))
        .collect();
    for (n, process) in processes.into_iter().enumerate() {
        let output = process.wait_with_output(LIMIT).unwrap();
        assert_eq!(output.stdout, format!("{n}\n").as_bytes());
    }
    assert!(guest.agent.processes().is_empty());
}

#[test]
fn connection_beyond_the_limit_is_refused_with_a_reason() {
    let guest = Guest::boot();
    *guest.agent.connections.lock().unwrap() = super::MAX_CONNECTIONS;
    let refusal = guest.refusal(exec(&["true"]));
    assert_eq!(
        refusal,
        (
            ExecFailureKind::Other,
            "too many connections to the agent".into()
        )
    );
    *guest.agent.connections.lock().unwrap() = 0;
    assert_eq!(guest.shell("exit 0").exit, code(0));
}

#[test]
fn hello_carries_the_boot_times() {
    let guest = Guest::boot();
    assert_eq!(guest.client.hello().boot_times.init_start_us, 5);
    assert_eq!(
        guest.client.hello().agent_version,
        env!("CARGO_PKG_VERSION")
    );
}

#[test]
fn services_of_the_control_connection_answer() {
    let mut guest = Guest::boot();
    let entry = HostEntry {
        address: "10.1.2.3".parse().unwrap(),
        name: "peer".into(),
    };
    guest.client.hosts(vec![entry]).unwrap();
    let hosts = fs::read_to_string(guest.root.path().join("etc/hosts")).unwrap();
    assert_eq!(hosts, "10.1.2.3\tpeer\n");
    let resolver = Resolver {
        nameservers: vec!["10.1.2.1".parse().unwrap()],
        ..Resolver::default()
    };
    guest.client.set_resolver(resolver).unwrap();
    let resolver = fs::read_to_string(guest.root.path().join("etc/resolv.conf")).unwrap();
    assert_eq!(resolver, "nameserver 10.1.2.1\n");
    guest.client.sync().unwrap();
    guest.client.shutdown().unwrap();
    let end = guest.control.take().unwrap().join().unwrap();
    assert_eq!(end.unwrap(), End::Shutdown);
    guest.client.wait_lost().unwrap();
    assert!(matches!(guest.client.sync(), Err(ClientError::Lost)));
    // What the guest was asked for has happened, however it is asked.
    guest.client.shutdown().unwrap();
}

#[test]
fn interface_that_is_not_there_is_named_with_those_that_are() {
    let guest = Guest::boot();
    let interface = Interface {
        name: "no-such-card".into(),
        ..Interface::default()
    };
    match guest.client.set_interface(interface) {
        Err(ClientError::Failed(failure)) => {
            let there = "no-such-card: there is no such interface; the guest has ";
            assert_eq!(failure.errno, libc::ENODEV);
            assert!(failure.message.starts_with(there), "{}", failure.message);
            assert!(failure.message.contains("lo"), "{}", failure.message);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn host_that_hangs_up_ends_the_agent() {
    let mut guest = Guest::boot();
    let control = guest.control.take().unwrap();
    drop(guest);
    assert_eq!(control.join().unwrap().unwrap(), End::HungUp);
}

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
