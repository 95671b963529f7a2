//! Commands in a running VM: environment, users, streams, signals, exits.

use std::io::{BufRead, BufReader};

use e2e_tests::{HostSum, Shem, collect, long, output, run, vm};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shem::{Command, Event, ExecError, ExecFailureKind, ExitStatus, Tty, WindowSize};

/// 64 MiB every day, 1 GiB in the long run.
fn bulk() -> usize {
    if long() { 1 << 30 } else { 64 << 20 }
}

#[test]
fn the_environment_is_dockers() {
    let vm = vm().hostname("box").boot().unwrap();
    let (text, _) = run(&vm, &Command::new(["env"]).env("A", "1").user("user"));
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(lines, ["A=1", "HOME=/home/user", "HOSTNAME=box", path]);
    assert_eq!(output(&vm, &["hostname"]), "box\n");
    assert!(output(&vm, &["cat", "/etc/hosts"]).contains("127.0.0.1\tlocalhost"));
    assert!(output(&vm, &["cat", "/etc/hosts"]).contains("box"));
}

#[test]
fn users_go_by_name_and_number() {
    let vm = vm().boot().unwrap();
    for (user, expected) in [
        (
            "user",
            "uid=1000(user) gid=1000(user) groups=1000(user),2000(extra)",
        ),
        ("user:root", "uid=1000(user) gid=0(root)"),
        ("1000", "uid=1000(user) gid=1000(user)"),
        ("7:8", "uid=7 gid=8"),
    ] {
        let (text, status) = run(&vm, &Command::new(["id"]).user(user));
        assert_eq!(status, ExitStatus::Code(0));
        assert!(text.starts_with(expected), "{user}: {text}");
    }
}

#[test]
fn what_cannot_start_is_told_apart() {
    let vm = vm().boot().unwrap();
    let kind = |command: &Command| match vm.exec(command) {
        Err(ExecError::Failed(failure)) => failure.kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        kind(&Command::new(["no-such-program"])),
        ExecFailureKind::NotFound
    );
    assert_eq!(
        kind(&Command::new(["/etc/passwd"])),
        ExecFailureKind::NotExecutable
    );
    assert_eq!(
        kind(&Command::new(["true"]).user("nobody-here")),
        ExecFailureKind::NoSuchUser
    );
    assert_eq!(
        kind(&Command::new(["true"]).cwd("/no/such/folder")),
        ExecFailureKind::NoSuchWorkdir
    );
}

#[test]
fn the_working_directory_is_where_it_starts() {
    let vm = vm().boot().unwrap();
    let (text, _) = run(&vm, &Command::new(["pwd"]).cwd("/usr/bin"));
    assert_eq!(text, "/usr/bin\n");
    assert_eq!(output(&vm, &["pwd"]), "/\n");
}

#[test]
fn an_end_by_signal_is_told_as_one() {
    let vm = vm().boot().unwrap();
    let (_, status) = run(&vm, &Command::new(["sh", "-c", "kill -9 $$"]));
    assert!(
        matches!(status, ExitStatus::Signal { signal: 9, .. }),
        "{status:?}"
    );
    let mut process = vm
        .exec(&Command::new([
            "sh",
            "-c",
            "trap 'exit 7' TERM; echo ready; while :; do sleep 1; done",
        ]))
        .unwrap();
    assert!(matches!(process.next_event().unwrap(), Event::Stdout(_)));
    process.stdin().signal(15).unwrap();
    assert_eq!(collect(process).1, ExitStatus::Code(7));
}

#[test]
fn every_byte_of_output_arrives_through_a_reader_that_pauses() {
    let vm = vm().boot().unwrap();
    let script = format!(
        "mkfifo /tmp/f; sha256sum < /tmp/f > /tmp/sum & head -c {} /dev/urandom | tee /tmp/f; wait",
        bulk()
    );
    let mut process = vm.exec(&Command::new(["sh", "-c", &script])).unwrap();
    let mut sum = HostSum::start();
    let mut unread_for = 0;
    let status = loop {
        match process.next_event().unwrap() {
            Event::Stdout(bytes) => {
                sum.add(&bytes);
                unread_for += bytes.len();
            }
            Event::Stderr(text) => panic!("{}", String::from_utf8_lossy(&text)),
            Event::Exit(exit) => break exit.status,
        }
        if unread_for > bulk() / 8 {
            // The pause: as long as another command takes, start to end.
            assert_eq!(output(&vm, &["echo", "meanwhile"]), "meanwhile\n");
            unread_for = 0;
        }
    };
    assert_eq!(status, ExitStatus::Code(0));
    assert_eq!(
        sum.finish(),
        (bulk(), output(&vm, &["cut", "-c1-64", "/tmp/sum"]))
    );
    let anonymous = anonymous_memory();
    assert!(
        anonymous < 64 << 20,
        "{anonymous} bytes of this process are neither guest nor file"
    );
}

#[test]
fn what_goes_in_by_stdin_comes_back() {
    let vm = vm().boot().unwrap();
    let mut process = vm.exec(&Command::new(["cat"]).stdin(true)).unwrap();
    let stdin = process.stdin();
    let feeder = std::thread::spawn(move || {
        let mut sum = HostSum::start();
        let mut block = vec![0u8; 1 << 20];
        for index in 0..64u32 {
            block.iter_mut().zip(0u32..).for_each(|(byte, at)| {
                *byte = (at.wrapping_mul(2_654_435_761 + index) >> 13) as u8
            });
            stdin.write_all(&block).unwrap();
            sum.add(&block);
        }
        stdin.close().unwrap();
        sum.finish()
    });
    let mut sum = HostSum::start();
    loop {
        match process.next_event().unwrap() {
            Event::Stdout(bytes) => sum.add(&bytes),
            Event::Stderr(text) => panic!("{}", String::from_utf8_lossy(&text)),
            Event::Exit(exit) => break assert_eq!(exit.status, ExitStatus::Code(0)),
        }
    }
    assert_eq!(sum.finish(), feeder.join().unwrap());
}

#[test]
fn a_background_child_neither_delays_the_exit_nor_dies() {
    let vm = vm().boot().unwrap();
    let script = "(while echo noise; do echo alive > /tmp/alive; usleep 1000; done) & echo $! > /tmp/pid; exit 5";
    let (text, status) = run(&vm, &Command::new(["sh", "-c", script]));
    assert_eq!(status, ExitStatus::Code(5));
    assert!(text.lines().all(|line| line == "noise"));
    // It still runs and can still write, long after its pipe's reader has its exit.
    let wait = "rm -f /tmp/alive; until [ -e /tmp/alive ]; do usleep 1000; done; kill -0 $(cat /tmp/pid) && echo yes";
    assert_eq!(output(&vm, &["sh", "-c", wait]), "yes\n");
}

#[test]
fn many_commands_run_at_once() {
    let vm = vm().vcpus(2).boot().unwrap();
    let processes: Vec<_> = (0..20)
        .map(|index| {
            vm.exec(&Command::new([
                "sh",
                "-c",
                &format!("head -c 100000 /dev/zero | wc -c; exit {index}"),
            ]))
            .unwrap()
        })
        .collect();
    for (index, process) in processes.into_iter().enumerate() {
        assert_eq!(
            collect(process),
            ("100000\n".into(), ExitStatus::Code(index as i32))
        );
    }
}

#[test]
fn a_terminal_is_one_and_changes_its_size() {
    let vm = vm().boot().unwrap();
    let tty = Tty {
        size: WindowSize {
            rows: 30,
            cols: 100,
        },
        term: Some("xterm".into()),
    };
    let script = "tty; stty size; echo $TERM; trap 'stty size; exit' WINCH; echo ready; while :; do sleep 1; done";
    let mut process = vm
        .exec(&Command::new(["sh", "-c", script]).tty(tty).stdin(true))
        .unwrap();
    let mut text = String::new();
    while !text.contains("ready") {
        match process.next_event().unwrap() {
            Event::Stdout(bytes) => text += &String::from_utf8_lossy(&bytes),
            other => panic!("{other:?} after {text:?}"),
        }
    }
    assert_eq!(text, "/dev/pts/0\r\n30 100\r\nxterm\r\nready\r\n");
    process
        .stdin()
        .resize(WindowSize { rows: 10, cols: 20 })
        .unwrap();
    assert_eq!(collect(process), ("10 20\r\n".into(), ExitStatus::Code(0)));
}

#[test]
fn orphans_are_reaped() {
    let vm = vm().boot().unwrap();
    output(
        &vm,
        &[
            "sh",
            "-c",
            "for i in 1 2 3 4 5 6 7 8; do (true & exec true) & done; wait",
        ],
    );
    let zombies = "until [ -z \"$(grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null)\" ]; do usleep 1000; done; echo none";
    assert_eq!(output(&vm, &["sh", "-c", zombies]), "none\n");
}

#[test]
fn a_disk_that_is_full_does_not_end_the_agent() {
    let vm = vm().boot().unwrap();
    let full = "dd if=/dev/zero of=/big bs=1M count=1000";
    let (text, _) = run(&vm, &Command::new(["sh", "-c", full]));
    assert!(text.contains("No space left"), "{text}");
    output(&vm, &["rm", "/big"]);
    assert_eq!(output(&vm, &["echo", "alive"]), "alive\n");
}

#[test]
fn memory_that_runs_out_ends_what_took_it_and_nothing_else() {
    let vm = vm().memory(128 << 20).boot().unwrap();
    run(
        &vm,
        &Command::new(["sh", "-c", "dd if=/dev/zero of=/big bs=1M"]),
    );
    let hog = vm.exec(&Command::new(["tail", "/dev/zero"])).unwrap();
    let exit = hog.wait_with_output(1 << 20).unwrap().exit;
    assert!(exit.oom_killed, "{exit:?}");
    assert!(matches!(exit.status, ExitStatus::Signal { signal: 9, .. }));
    output(&vm, &["rm", "/big"]);
    assert_eq!(output(&vm, &["echo", "alive"]), "alive\n");
}

#[test]
fn the_program_passes_stdin_and_signals_on() {
    let echoed = Shem::run("tuned", &["-i"], &["cat"]).outcome_with_input(b"through\n");
    assert_eq!(
        (echoed.status, &*echoed.stdout),
        (Some(0), "through\n"),
        "{}",
        echoed.stderr
    );

    let mut shem = Shem::run(
        "tuned",
        &[],
        &[
            "sh",
            "-c",
            "trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 1; done",
        ],
    );
    let mut child = shem.command().spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "interrupted");
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

/// Bytes of anonymous memory in this process.
fn anonymous_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}
