//! How the runtime for exe-unit ends, wanted and unwanted, and that nothing is left.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use e2e_tests::{Activity, LIMIT};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use rustix::process::{PidfdFlags, pidfd_open};

#[test]
fn end_of_input_ends_the_vm_in_every_phase() {
    let (_dir, activity) = Activity::configured(&[]);
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
    let (_dir, activity) = Activity::configured(&[]);
    activity.deployed(&[]);
    for script in ["poweroff -f", "echo c > /proc/sysrq-trigger", "kill -9 -1"] {
        let mut runtime = activity.started();
        runtime.run("/bin/sh", &["-c", &format!("{script}; sleep 1000")]);
        let status = runtime.wait();
        assert_eq!(status.code(), Some(1), "{script}");
    }
}

#[test]
fn runtime_ends_with_its_parent_however_that_ends() {
    let (_dir, activity) = Activity::configured(&[]);
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
fn killed_runtime_leaves_nothing_and_starts_again() {
    let (_dir, activity) = Activity::configured(&["--volume", "/data"]);
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
