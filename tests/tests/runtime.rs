//! The runtime for exe-unit: every message of its protocol, in real guests.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use e2e_tests::{
    Activity, Answer, Call, Folder, HostSum, LIMIT, Message, Outcome, Runtime, Unprivileged,
    build_image, bytes, demo_image, long, number, text,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use rustix::process::{PidfdFlags, pidfd_open};
use tempfile::TempDir;

/// A folder for an activity with the demo's files, below an image of this
/// configuration: words for `shem image build`.
fn activity(words: &[&str]) -> (TempDir, Activity) {
    let dir = TempDir::new().unwrap();
    let tree = dir.path().join("top");
    fs::create_dir(&tree).unwrap();
    let top = build_image(&tree, words);
    let activity = Activity::new(dir.path(), &[&top, &demo_image()]);
    (dir, activity)
}

/// A runtime that was deployed and started with an image of this configuration.
fn started(words: &[&str]) -> (TempDir, Activity, Runtime) {
    let (dir, activity) = activity(words);
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

#[test]
fn end_of_input_ends_the_vm_in_every_phase() {
    let (_dir, activity) = activity(&[]);
    activity.deployed(&[]);
    let outcome = activity.start(&[], &[]).outcome_with_input(&[]);
    assert_eq!(
        (outcome.status, &*outcome.stdout),
        (Some(0), ""),
        "{outcome:?}"
    );
    let mut runtime = activity.started();
    runtime.run("/bin/sleep", &["1000"]);
    assert_eq!(runtime.close().code(), Some(0));
    // With output that nobody reads.
    let mut runtime = activity.started();
    runtime.run("/bin/yes", &[]);
    let outcome = {
        drop(runtime.stdin());
        runtime.close()
    };
    assert_eq!(outcome.code(), Some(0));
}

#[test]
fn vm_that_ends_by_itself_is_a_failure() {
    let (_dir, activity) = activity(&[]);
    activity.deployed(&[]);
    for script in ["poweroff -f", "echo c > /proc/sysrq-trigger", "kill -9 -1"] {
        let mut runtime = activity.started();
        runtime.run("/bin/sh", &["-c", &format!("{script}; sleep 1000")]);
        let status = runtime.wait();
        assert_eq!(status.code(), Some(1), "{script}");
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
fn volumes_are_shared_while_the_vm_runs_and_the_folder_is_used_again() {
    let words = ["--volume", "/golem/work", "--volume", "/seeded"];
    let dir = TempDir::new().unwrap();
    let tree = dir.path().join("top");
    fs::create_dir_all(tree.join("seeded")).unwrap();
    fs::write(tree.join("seeded/of-image"), "seed").unwrap();
    let top = build_image(&tree, &words);
    let activity = Activity::new(dir.path(), &[&top, &demo_image()]);
    let wishes = r#"{"/":{"storage":{"size":"100.7 MB","preallocate":"1mi","errors":"continue"}},"/golem/out":{"host":{}},"/ram":{"ram":{"size":"1.6 MB"}},"/disk":{"storage":{"size":"10.7 MB","errors":"panic"}}}"#;
    let mut names = Vec::new();
    for round in 0..2 {
        let told = activity.deployed(&["--volume-override", wishes, "--hostname", "myhost"]);
        let vols = told["vols"].as_array().unwrap();
        let paths: Vec<_> = vols
            .iter()
            .map(|vol| vol["path"].as_str().unwrap())
            .collect();
        assert_eq!(paths, ["/golem/work", "/seeded", "/golem/out"]);
        names.extend(
            vols.iter()
                .map(|vol| vol["name"].as_str().unwrap().to_owned()),
        );
        let work = activity.volume(&told, "/golem/work");
        fs::write(work.join("early"), "before the start").unwrap();
        let mut runtime = activity.started();
        assert_eq!(runtime.output("hostname"), "myhost\n");
        assert_eq!(runtime.output("cat /golem/work/early"), "before the start");
        assert_eq!(runtime.output("cat /seeded/of-image"), "seed");
        // A transfer into the live volume, in exe-unit's manner: over the old file.
        for text in ["first", "second, and longer", "3"] {
            fs::write(work.join("in"), text).unwrap();
            assert_eq!(runtime.output("cat /golem/work/in"), text);
        }
        // What a run wrote is in the host's file when its end is told.
        runtime.output(
            "mkdir /golem/out/d && echo result > /golem/out/d/file && chown 7:8 /golem/out/d",
        );
        let out = activity.volume(&told, "/golem/out");
        assert_eq!(fs::read_to_string(out.join("d/file")).unwrap(), "result\n");
        assert_eq!(runtime.output("stat -c %u:%g /golem/out/d"), "7:8\n");
        assert_eq!(
            runtime.output("stat -c %a /ram; df -k / /ram /disk | awk 'NR>1 {print ($2 > 1000)}'"),
            "700\n1\n1\n1\n"
        );
        let mounts = runtime.output("grep -E ' (/|/ram|/disk) ' /proc/mounts");
        assert!(
            mounts.contains("overlay / overlay") && mounts.contains("/disk ext4"),
            "{mounts}"
        );
        assert_eq!(
            runtime.output("ls /disk /ram | grep -v lost.found | wc -l"),
            "3\n",
            "round {round}"
        );
        runtime.output("echo kept > /disk/kept; head -c 5000000 /dev/zero > /root-file; sync");
        runtime.shut_down();
        // What was deployed starts again, with its disks.
        let mut runtime = activity.started();
        assert_eq!(
            runtime.output("cat /disk/kept; wc -c < /root-file"),
            "kept\n5000000\n"
        );
        runtime.shut_down();
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 6, "each deployment has names of its own");
}

#[test]
fn room_in_the_work_folder_is_that_which_is_used() {
    let (_dir, mut activity) = activity(&[]);
    activity.caps[5] = "8".into();
    activity.deployed(&[
        "--volume-override",
        r#"{"/disk":{"storage":{"size":"50gi"}}}"#,
    ]);
    let mut runtime = activity.started();
    assert_eq!(
        runtime.output("df -k / | awk 'NR==2 {print ($2 > 7000000)}'"),
        "1\n",
        "--storage-gib"
    );
    runtime.output(
        "head -c 20000000 /dev/urandom > /file; head -c 20000000 /dev/urandom > /disk/file; sync",
    );
    let apparent = apparent_size(&activity.workdir);
    assert!(
        (20_000_000..200_000_000).contains(&apparent),
        "{apparent} bytes"
    );
    runtime.shut_down();
    assert!(apparent_size(&activity.workdir) < 200_000_000);
}

/// As exe-unit counts it.
fn apparent_size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let data = entry.metadata().unwrap();
            if data.is_dir() {
                apparent_size(&entry.path())
            } else {
                data.len()
            }
        })
        .sum()
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
    let (_dir, activity) = activity(&["--entrypoint", entrypoint, "--cmd", r#"["name","arg"]"#]);
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

    let (_dir, activity) = self::activity(&["--cmd", "/bin/sh"]);
    activity.deployed(&[]);
    let outcome = activity.start(&[], &["start-entrypoint"]).outcome();
    assert_refused(&outcome, "does not define an entrypoint!");
}

#[test]
fn what_cannot_be_deployed_or_started_is_refused_in_one_line() {
    let (_dir, activity) = activity(&["--volume", "/data"]);
    for (options, word) in [
        (
            ["--volume-override", r#"{"/":{"host":{}}}"#],
            "Volume of type `host` specified for path=\"/\"",
        ),
        (["--volume-override", "nonsense"], "--volume-override"),
        (["--volume-override", r#"{"/x":{"cloud":{}}}"#], "cloud"),
        (["--cpu-cores", "0"], "--cpu-cores"),
        (["--pci-device", "0000:01:00.0"], "no plugin"),
    ] {
        assert_refused(&activity.deploy(&options).outcome(), word);
    }
    let missing = |file: &str| {
        let mut other = activity.clone();
        other.images = vec![PathBuf::from(file)];
        other.deploy(&[]).outcome()
    };
    assert_refused(&missing("/nonexistent.gvmi"), "/nonexistent.gvmi");
    assert_refused(&missing("/bin/sh"), "/bin/sh");
    let mut other = activity.clone();
    other.workdir = "/nonexistent".into();
    let mut call = other.deploy(&[]);
    call.command().current_dir("/");
    assert_refused(&call.outcome(), "/nonexistent");
    assert_refused(&activity.start(&[], &[]).outcome(), "`deploy`");
    assert_eq!(
        fs::read_dir(&activity.workdir).unwrap().count(),
        1,
        "only logs are there"
    );
    activity.deployed(&[]);
    let image = &activity.images[0];
    let mut bytes = fs::read(image).unwrap();
    bytes[8] ^= 1;
    fs::write(image, &bytes).unwrap();
    assert_refused(&activity.start(&[], &[]).outcome(), "deploy again");
    let file = activity.workdir.join("deployment.json");
    fs::write(&file, r#"{"cpu_cores":2,"mem_mib":512}"#).unwrap();
    assert_refused(&activity.start(&[], &[]).outcome(), "is damaged");
    assert_refused(
        &activity.start(&["--vpn-endpoint", "x"], &[]).outcome(),
        "is damaged",
    );
    let outcome = Call::new(&["run", "/bin/sh"]).outcome();
    assert_refused(&outcome, "CLI `run` is not supported");
}

#[track_caller]
fn assert_refused(outcome: &Outcome, word: &str) {
    assert_eq!(
        (outcome.status, &*outcome.stdout),
        (Some(1), ""),
        "{outcome:?}"
    );
    assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    assert!(
        outcome.stderr.contains(word),
        "{word:?} is not in {outcome:?}"
    );
}

#[test]
fn provider_without_rights_keeps_the_files_and_the_guest_its_owners() {
    let (user, folder) = (Unprivileged::new(), Folder::of(64 << 20));
    let activity = user.activity(&folder);
    let told = activity.deployed(&["--volume-override", r#"{"/golem/work":{"host":{}}}"#]);
    let work = activity.volume(&told, "/golem/work");
    fs::write(work.join("in"), "from the host").unwrap();
    let mut runtime = activity.started();
    let script = "cd /golem/work; cat in; echo out > out; chown 7:8 out; chmod 4711 out; stat -c %u:%g:%a out in";
    assert_eq!(runtime.output(script), "from the host7:8:4711\n0:0:644\n");
    let out = fs::metadata(work.join("out")).unwrap();
    assert_eq!(out.uid(), activity.workdir.metadata().unwrap().uid());
    assert_eq!(fs::read_to_string(work.join("out")).unwrap(), "out\n");
    runtime.shut_down();
}

#[test]
fn runtime_ends_with_its_parent_however_that_ends() {
    let (_dir, activity) = activity(&[]);
    activity.deployed(&[]);
    let call = activity.start(&[], &[]);
    // While it boots, and when its VM is up: it has answered then.
    for script in [
        "coproc R { exec \"$0\" \"$@\"; }; echo $R_PID; wait",
        "coproc R { exec \"$0\" \"$@\"; }; printf '\\x0b\\x08\\x02\\x12\\x07\\x0a\\x050.1.0' >&${R[1]}; \
         read -N 4 -u ${R[0]} x; echo $R_PID; wait",
    ] {
        let mut parent = Command::new("bash");
        parent
            .args(["-c", script])
            .arg(call.program())
            .args(call.args());
        let mut parent = parent.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(parent.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        let pid = rustix::process::Pid::from_raw(line.trim().parse().unwrap()).unwrap();
        let runtime = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        parent.kill().unwrap();
        parent.wait().unwrap();
        let mut ended = [PollFd::new(runtime.as_fd(), PollFlags::POLLIN)];
        let limit = PollTimeout::try_from(LIMIT).unwrap();
        assert_eq!(poll(&mut ended, limit), Ok(1), "it lives on");
    }
}

#[test]
fn work_folder_that_is_full_is_an_error_of_deploy() {
    let (_dir, mut activity) = activity(&["--volume", "/data"]);
    let folder = Folder::of(4 << 20);
    activity.workdir = folder.path().to_owned();
    fs::create_dir(folder.join("logs")).unwrap();
    let wish = r#"{"/disk":{"storage":{"size":"1gi","preallocate":"8mi"}}}"#;
    assert_refused(
        &activity.deploy(&["--volume-override", wish]).outcome(),
        "No space left on device",
    );
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[test]
fn killed_runtime_leaves_nothing_and_starts_again() {
    let (_dir, activity) = activity(&["--volume", "/data"]);
    activity.deployed(&[
        "--volume-override",
        r#"{"/disk":{"storage":{"size":"10mi"}}}"#,
    ]);
    let files = || {
        let mut names: Vec<_> = fs::read_dir(&activity.workdir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        names.sort();
        names
    };
    activity.started().shut_down();
    let before = files();
    // While it boots, when it is up, and in the middle of a run.
    for phase in 0..3 {
        let mut runtime = activity.start(&[], &[]).spawn();
        if phase > 0 {
            runtime.hello();
        }
        if phase > 1 {
            let script = "echo x > /disk/x; sync; echo written; while :; do echo y > /disk/y; done";
            let pid = runtime.run("/bin/sh", &["-c", script]);
            while runtime.heard(pid).stdout.is_empty() {
                runtime.hear();
            }
        }
        kill(runtime.pid(), Signal::SIGKILL).unwrap();
        let pid = runtime.pid();
        assert_eq!(runtime.wait().code(), None);
        assert!(kill(pid, None).is_err(), "it is gone");
        assert_eq!(files(), before, "phase {phase}");
    }
    let mut runtime = activity.started();
    assert_eq!(runtime.output("cat /disk/x"), "x\n");
    runtime.shut_down();
}
