//! The runtime for exe-unit: the messages of its protocol, in real guests.

use std::fs;

use e2e_tests::{Activity, Answer, Call, HostSum, Message, Runtime, bytes, long, number, text};
use tempfile::TempDir;

/// A runtime that was deployed and started with an image of this configuration.
fn started(words: &[&str]) -> (TempDir, Activity, Runtime) {
    let (dir, activity) = Activity::configured(words);
    activity.deployed(&[]);
    let runtime = activity.started();
    (dir, activity, runtime)
}

#[test]
fn programs_run_with_the_images_configuration_and_end_with_their_codes() {
    let words = ["--env", "A=b c", "--workdir", "/usr", "--user", "user"];
    let (_dir, activity, mut runtime) = started(&words);
    let said = runtime.output("echo $A; pwd; id -un; echo $HOME; echo $PATH; hostname; cat");
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    assert_eq!(
        said,
        format!("b c\n/usr\nuser\n/home/user\n{path}\ngolem\n")
    );
    let heard = runtime.shell("echo out; echo err >&2; exit 7");
    assert_eq!(
        (heard.text().as_str(), &*heard.stderr, heard.code),
        ("out\n", &b"err\n"[..], Some(7))
    );
    assert_eq!(
        runtime.shell("kill -9 $$").code,
        Some(9),
        "the bare number of the signal"
    );
    assert_eq!(runtime.shell("kill -11 $$").code, Some(11));
    // The first argument is the program's name to itself, and no more than that.
    let id = runtime.ask(
        10,
        &[text(1, "/bin/busybox"), text(2, "echo"), text(2, "hi")].concat(),
    );
    let Answer::Run(pid) = runtime.answer(id) else {
        panic!()
    };
    assert_eq!(runtime.ended(pid).text(), "hi\n");
    // Files of Golem's.
    let hosts = runtime.output("cat /etc/hosts");
    assert!(hosts.contains("127.0.0.1\tlocalhost"), "{hosts}");
    assert_eq!(
        runtime.output("cat /etc/resolv.conf"),
        "nameserver 1.1.1.1\nnameserver 8.8.8.8\n"
    );
    runtime.shut_down();
    assert!(activity.workdir.join("deployment.json").is_file());
}

#[test]
fn what_does_not_run_says_the_error_number() {
    let (_dir, _, mut runtime) = started(&[]);
    let failed = |errno| format!("Running process failed, exit code: {errno}");
    assert_eq!(runtime.run_error("/no/such/program"), failed(2));
    assert_eq!(runtime.run_error("/etc/passwd"), failed(13));
    assert_eq!(runtime.run_error(""), failed(2));
    assert_eq!(runtime.run_error("echo"), failed(2), "nothing is searched");
    assert_eq!(
        runtime.run("bin/true", &[]),
        1,
        "a path from the working directory"
    );
    runtime.output("printf 'not a program' > /tmp/x; chmod +x /tmp/x");
    assert_eq!(runtime.run_error("/tmp/x"), failed(8));
    runtime.shut_down();
    let (_dir, _, mut runtime) = started(&["--workdir", "/missing"]);
    assert_eq!(runtime.run_error("/bin/true"), failed(2));
    runtime.shut_down();
    let (_dir, _, mut runtime) = started(&["--user", "nobody-here"]);
    assert_eq!(runtime.run_error("/bin/true"), failed(22));
    runtime.shut_down();
}

#[test]
fn signals_reach_processes_and_no_others() {
    let (_dir, _, mut runtime) = started(&[]);
    let script = "trap 'echo caught; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let pid = runtime.run("/bin/sh", &["-c", script]);
    while runtime.heard(pid).stdout.is_empty() {
        runtime.hear();
    }
    assert_eq!(runtime.kill(pid, 15), Answer::Kill);
    let heard = runtime.ended(pid);
    assert_eq!(
        (heard.text().as_str(), heard.code),
        ("ready\ncaught\n", Some(3))
    );
    let failed = |pid, errno| {
        Answer::Error(
            0,
            format!("Killing process {pid} failed, exit code: {errno}"),
        )
    };
    assert_eq!(runtime.kill(pid, 9), failed(pid, 3), "it has ended");
    assert_eq!(runtime.kill(999, 9), failed(999, 3));
    let pid = runtime.run("/bin/sleep", &["1000"]);
    assert_eq!(runtime.kill(pid, 1000), failed(pid, 22));
    // Clients that do not say which signal mean the end.
    assert_eq!(runtime.kill(pid, 0), Answer::Kill);
    assert_eq!(runtime.ended(pid).code, Some(9));
    runtime.shut_down();
}

#[test]
fn strange_messages_are_answered_and_broken_streams_end_the_vm() {
    let (_dir, activity, mut runtime) = started(&[]);
    let id = runtime.ask(99, &[]);
    assert_eq!(runtime.error(id), "unknown command");
    runtime.send(&[0xff, 0xff, 0xff]);
    let answer = runtime.answer(0);
    assert!(
        matches!(&answer, Answer::Error(2, message) if message.contains("no request")),
        "{answer:?}"
    );
    runtime.send(&[]);
    assert_eq!(
        runtime.answer(0),
        Answer::Error(0, "unknown command".into())
    );
    let id = runtime.ask(30, &[bytes(1, &text(4, "10.0.0.2")), number(3, 1)].concat());
    assert!(runtime.error(id).contains("without --inet-endpoint"));
    assert_eq!(runtime.output("echo it lives"), "it lives\n");
    runtime.shut_down();

    // Before hello, and in one go: all is done, in order.
    let mut runtime = activity.start(&[], &[]).spawn();
    let first = runtime.ask_run("/bin/echo", &["a"]);
    let second = runtime.ask_run("/bin/echo", &["b"]);
    let Answer::Run(a) = runtime.answer(first) else {
        panic!()
    };
    let Answer::Run(b) = runtime.answer(second) else {
        panic!()
    };
    assert_eq!(
        (runtime.ended(a).text(), runtime.ended(b).text()),
        ("a\n".into(), "b\n".into())
    );
    runtime.shut_down();

    for (bytes, word) in [
        (&[0xff; 12][..], "the length of a message is no number"),
        (&[0x81, 0x80, 0x80, 0x40], "the longest has"),
        (&[5, 8, 2], "in the middle of a message"),
    ] {
        let outcome = activity.start(&[], &[]).outcome_with_input(bytes);
        assert_eq!(
            (outcome.status, &*outcome.stdout),
            (Some(1), ""),
            "{outcome:?}"
        );
        assert!(outcome.stderr.contains(word), "{outcome:?}");
    }
}

/// 64 MiB every day, 1 GiB in the long run.
fn bulk() -> usize {
    if long() { 1 << 30 } else { 64 << 20 }
}

#[test]
fn output_of_any_size_is_whole_before_the_end_is_told() {
    let (_dir, _, mut runtime) = started(&[]);
    for len in [1, 4095, 4096, 65_537, 1 << 20] {
        let heard = runtime.shell(&format!(
            "head -c {len} /dev/zero; head -c {len} /dev/zero >&2"
        ));
        assert_eq!(
            (heard.stdout.len(), heard.stderr.len(), heard.code),
            (len, len, Some(0))
        );
    }
    // Lines one by one make few events.
    let heard = runtime.shell("i=0; while [ $i -lt 2000 ]; do echo $i; i=$((i+1)); done");
    let lines: Vec<usize> = heard
        .text()
        .lines()
        .map(|line| line.parse().unwrap())
        .collect();
    assert_eq!(lines, (0..2000).collect::<Vec<_>>());
    assert!(heard.pieces < 500, "{} events for 2000 lines", heard.pieces);
    runtime.shut_down();
}

#[test]
fn slow_reader_gets_every_byte_and_costs_no_memory() {
    let (_dir, _, mut runtime) = started(&[]);
    let script = format!(
        "mkfifo /tmp/f; sha256sum < /tmp/f > /tmp/sum & head -c {} /dev/urandom | tee /tmp/f; wait",
        bulk()
    );
    let pid = runtime.run("/bin/sh", &["-c", &script]);
    let mut sum = HostSum::start();
    let mut unread_for = 0;
    let mut peak = 0;
    loop {
        match runtime.next_message().unwrap() {
            Message::Status(_, true, _, stdout, _) => {
                sum.add(&stdout);
                unread_for += stdout.len();
            }
            Message::Status(of, false, code, ..) => {
                assert_eq!((of, code), (pid, 0));
                break;
            }
            _ => {}
        }
        if unread_for > bulk() / 8 {
            // The pause: as long as another program takes, start to end.
            unread_for = 0;
            assert_eq!(Call::new(&["--help"]).outcome().status, Some(0));
            peak = peak.max(anonymous_memory(&runtime));
        }
    }
    let (len, hash) = sum.finish();
    assert_eq!((len, hash), (bulk(), runtime.output("cut -c1-64 /tmp/sum")));
    let limit = (512 << 20) + (64 << 20);
    assert!(
        peak > 0 && peak < limit,
        "{peak} bytes, of which 512 MiB are the guest's"
    );
    runtime.shut_down();
}

/// Bytes of the runtime's own memory and its guest's.
fn anonymous_memory(runtime: &Runtime) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", runtime.pid())).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    line.trim()
        .trim_end_matches(" kB")
        .parse::<usize>()
        .unwrap()
        << 10
}

#[test]
fn background_children_live_on_and_are_not_heard_of() {
    let (_dir, _, mut runtime) = started(&[]);
    let script = "(while echo noise; do echo alive > /tmp/alive; usleep 1000; done) & exit 5";
    let pid = runtime.run("/bin/sh", &["-c", script]);
    assert_eq!(runtime.ended(pid).code, Some(5));
    // The client breaks when anything more is said of it.
    let wait = "rm -f /tmp/alive; until [ -e /tmp/alive ]; do usleep 1000; done; echo yes";
    assert_eq!(runtime.output(wait), "yes\n");
    for index in 0..100 {
        assert_eq!(
            runtime.output(&format!("echo {index}")),
            format!("{index}\n")
        );
    }
    let asked: Vec<u64> = (0..20)
        .map(|index| {
            let script = format!("head -c 100000 /dev/zero | wc -c; exit {index}");
            runtime.ask_run("/bin/sh", &["-c", &script])
        })
        .collect();
    for (index, id) in (0..).zip(asked) {
        let Answer::Run(pid) = runtime.answer(id) else {
            panic!()
        };
        let heard = runtime.ended(pid);
        assert_eq!(
            (heard.text().as_str(), heard.code),
            ("100000\n", Some(index))
        );
    }
    runtime.shut_down();
}

#[test]
fn usage_is_told_before_the_end() {
    let (_dir, _, mut runtime) = started(&[]);
    runtime.output("head -c 3000000 /dev/urandom > /file; sync");
    let id = runtime.ask(12, &[]);
    assert_eq!(runtime.answer(id), Answer::Shutdown);
    let counter = |name: &str| runtime.counters[&format!("golem.usage.{name}")];
    assert!(counter("cpu_sec") > 0.0);
    assert!(counter("gib") > 0.02, "{}", counter("gib"));
    assert!(
        counter("storage_gib") > 3e6 / f64::from(1 << 30),
        "{}",
        counter("storage_gib")
    );
    assert_eq!(
        (counter("network.in-mib"), counter("network.out-mib")),
        (0.0, 0.0)
    );
    assert_eq!(runtime.close().code(), Some(0));
}

#[test]
fn entry_point_runs_from_the_start() {
    let entrypoint = r#"["/bin/sh","-c","echo $0 $1; echo more; echo x > /tmp/x; sleep 1000"]"#;
    let (_dir, activity) =
        Activity::configured(&["--entrypoint", entrypoint, "--cmd", r#"["name","arg"]"#]);
    activity.deployed(&[]);
    let mut runtime = activity.start(&[], &["start-entrypoint"]).spawn();
    runtime.hello();
    let told: serde_json::Value = serde_json::from_slice(&runtime.heard(0).stdout).unwrap();
    assert_eq!(told["start"], serde_json::Value::Null);
    assert_eq!(told["entrypoint"]["pid"], 1);
    assert_eq!(told["entrypoint"]["command"][0], "sh");
    runtime.output("until [ -e /tmp/x ]; do usleep 1000; done");
    runtime.shut_down();
    let log = fs::read_to_string(activity.workdir.join("logs/entrypoint.log")).unwrap();
    assert_eq!(log, "name arg\nmore\n");

    let (_dir, activity) = Activity::configured(&["--cmd", "/bin/sh"]);
    activity.deployed(&[]);
    let outcome = activity.start(&[], &["start-entrypoint"]).outcome();
    outcome.assert_refused_by_runtime("does not define an entrypoint!");
}
