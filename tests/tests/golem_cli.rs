//! `shem shell` and `shem golem exec-script` with real guests, deployed and booted as
//! Golem's exe-unit has it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use e2e_tests::{LIMIT, Outcome, Shem, demo_image, runtime};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use serde_json::{Value, json};
use tempfile::TempDir;

/// `shem shell demo.gvmi OPTIONS…`, with its temporary folders in `place`.
fn shell(place: &Path, options: &[&str]) -> Shem {
    let mut shem = Shem::new(&["shell".into(), demo_image().into_os_string()]);
    shem.command().args(options).env("TMPDIR", place);
    shem
}

/// Runs a script of commands, with its temporary folders in `place`.
fn exec_script(place: &Path, script: &Value) -> Outcome {
    let file = place.join("script.json");
    fs::write(&file, script.to_string()).unwrap();
    let options = [
        "golem",
        "exec-script",
        "--timeout",
        &LIMIT.as_secs().to_string(),
    ]
    .map(OsString::from)
    .into_iter()
    .chain(["--runtime".into(), runtime().into_os_string()]);
    let mut shem = Shem::new(&options.collect::<Vec<_>>());
    shem.command()
        .arg(demo_image())
        .arg(&file)
        .env("TMPDIR", place);
    let outcome = shem.outcome();
    fs::remove_file(file).unwrap();
    outcome
}

fn run(script: &str) -> Value {
    json!({ "run": { "entry_point": "/bin/sh", "args": ["-c", script] } })
}

#[track_caller]
fn assert_left_alone(place: &TempDir) {
    let left: Vec<_> = fs::read_dir(place.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn shell_reads_a_script_and_tells_of_the_volumes() {
    let place = tempfile::tempdir().unwrap();
    let options = [
        "--volume-override",
        r#"{"/out":{"host":{}},"/mem":{"ram":{"size":"8mi"}}}"#,
        "--hostname",
        "box",
    ];
    let script =
        b"hostname; id -u; pwd; mkdir -m 700 /out/d; chown 1000 /out/d; echo x > /out/d/f\n\
                   tty; exit 7\n";
    let outcome = shell(place.path(), &options).outcome_with_input(script);
    assert_eq!(outcome.status, Some(7), "{outcome:?}");
    assert_eq!(outcome.stdout, "box\n0\n/\nnot a tty\n", "{outcome:?}");
    let volume = format!("/out -> {}/shem-", place.path().display());
    assert!(outcome.stderr.contains(&volume), "{outcome:?}");
    assert!(!outcome.stderr.contains("/mem ->"), "{outcome:?}");
    // Also what other users have made in the VM.
    assert_left_alone(&place);
}

/// Reads from a terminal until `words` came.
fn read_until(terminal: &mut File, words: &str) -> String {
    let mut text = String::new();
    let mut piece = [0; 4096];
    while !text.contains(words) {
        let limit = PollTimeout::try_from(LIMIT).unwrap();
        let mut fds = [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
        assert_eq!(
            poll(&mut fds, limit),
            Ok(1),
            "{words:?} does not come after {text:?}"
        );
        let len = terminal.read(&mut piece).unwrap();
        text += &String::from_utf8_lossy(&piece[..len]);
    }
    text
}

#[test]
fn shell_on_a_terminal_has_one_and_ctrl_d_ends_it() {
    let place = tempfile::tempdir().unwrap();
    let size = Winsize {
        ws_row: 30,
        ws_col: 100,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let pty = openpty(Some(&size), None).unwrap();
    let mut shem = shell(place.path(), &[]);
    let stdin = pty.slave.try_clone().unwrap();
    shem.command()
        .stdin(stdin)
        .stdout(pty.slave)
        .env("TERM", "xterm");
    let child = shem.spawn();
    let mut terminal = File::from(pty.master);
    read_until(&mut terminal, "# ");
    terminal.write_all(b"tty; stty size; echo $TERM\r").unwrap();
    // The next prompt comes when the shell reads again: an end of input that is typed
    // before would be lost.
    let mut text = read_until(&mut terminal, "xterm\r\n");
    if !text.ends_with("# ") && !text.ends_with("\u{1b}[6n") {
        text += &read_until(&mut terminal, "# ");
    }
    assert!(text.contains("/dev/pts/0\r\n30 100\r\n"), "{text:?}");
    terminal.write_all(b"\x04").unwrap();
    let outcome = Outcome::of(child.wait_with_output().unwrap());
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    assert_left_alone(&place);
}

#[test]
fn deployed_folder_is_started_again_with_what_is_in_its_volumes() {
    let place = tempfile::tempdir().unwrap();
    let work = place.path().join("work").display().to_string();
    let volumes = r#"{"/out":{"host":{}}}"#;
    let options = ["--workdir", &work, "--volume-override", volumes];
    let command = ["--", "sh", "-c", "echo kept > /out/f; echo gone > /f"];
    shell(place.path(), &[&options[..], &command].concat())
        .outcome()
        .assert_ok("");
    let again = Shem::new(&[
        "shell",
        "--workdir",
        &work,
        "--no-deploy",
        "--",
        "cat",
        "/out/f",
        "/f",
    ]);
    let outcome = again.outcome();
    assert_eq!(
        (outcome.status, &*outcome.stdout),
        (Some(1), "kept\n"),
        "{outcome:?}"
    );
    let volume = outcome
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("/out -> "));
    let file = Path::new(volume.unwrap()).join("f");
    assert_eq!(fs::read_to_string(file).unwrap(), "kept\n");
}

#[test]
fn script_of_a_requestor_runs_from_deploy_to_terminate() {
    let place = tempfile::tempdir().unwrap();
    let (input, output) = (place.path().join("in"), place.path().join("out"));
    fs::write(&input, "6 7\n").unwrap();
    let from = format!("file://{}", input.display());
    let outcome = exec_script(
        place.path(),
        &json!([
            { "deploy": { "volumes": ["/golem/work"], "hostname": "box" } },
            { "start": { "args": [] } },
            { "transfer": { "from": from, "to": "container:/golem/work/new/in" } },
            run("read a b < /golem/work/new/in; echo $((a * b)) > /golem/work/out; \
                 hostname; echo to-stderr >&2"),
            { "transfer": { "from": "container:/golem/work/out", "to": output } },
            { "terminate": {} },
        ]),
    );
    outcome.assert_ok("box\n");
    assert_eq!(fs::read_to_string(&output).unwrap(), "42\n");
    for words in ["/golem/work -> ", "to-stderr\n", "6 of 6 commands ran in "] {
        assert!(outcome.stderr.contains(words), "{words:?}: {outcome:?}");
    }
    fs::remove_file(input).unwrap();
    fs::remove_file(output).unwrap();
    assert_left_alone(&place);
}

#[test]
fn failing_run_ends_the_script() {
    let place = tempfile::tempdir().unwrap();
    let script =
        json!([{ "deploy": {} }, { "start": {} }, run("echo out; exit 3"), run("echo no")]);
    let outcome = exec_script(place.path(), &script);
    assert_eq!(
        (outcome.status, &*outcome.stdout),
        (Some(1), "out\n"),
        "{outcome:?}"
    );
    let words = "3 of 4 commands ran in ";
    assert!(outcome.stderr.contains(words), "{outcome:?}");
    let words = "command 3 failed: ExeScript command exited with code 3";
    assert!(outcome.stderr.contains(words), "{outcome:?}");
    assert_left_alone(&place);
}
