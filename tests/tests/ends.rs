//! How VMs end, wanted and unwanted, and that nothing is left of them.

use std::io::{BufRead, BufReader};
use std::sync::{Mutex, MutexGuard, PoisonError};

use e2e_tests::{Outcome, Resources, Shem, long, output, vm, with_each_kernel};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shem::{Command, STOP_GRACE, StopReason};

with_each_kernel!(
    an_orderly_stop_is_a_shutdown,
    a_guest_that_panics_is_told_as_that,
    a_guest_that_powers_off_ends_its_commands,
);

fn boot(kernel: &str) -> shem::Vm {
    let image = shem::Image::open(e2e_tests::demo_image()).unwrap();
    e2e_tests::builder(kernel).layer(image).boot().unwrap()
}

fn an_orderly_stop_is_a_shutdown(kernel: &str) {
    assert_eq!(
        boot(kernel).stop(STOP_GRACE).reason,
        StopReason::GuestShutdown
    );
}

fn a_guest_that_panics_is_told_as_that(kernel: &str) {
    let outcome = Shem::run(
        kernel,
        &[],
        &["sh", "-c", "echo c > /proc/sysrq-trigger; sleep 100"],
    )
    .outcome();
    assert_eq!(outcome.status, Some(125), "{outcome:?}");
    assert!(
        outcome.stderr.contains("panicked: sysrq triggered crash"),
        "{outcome:?}"
    );
}

fn a_guest_that_powers_off_ends_its_commands(kernel: &str) {
    let vm = boot(kernel);
    let mut process = vm.exec(&Command::new(["poweroff", "-f"])).unwrap();
    assert!(
        process.next_event().is_err(),
        "its stream ends without an exit"
    );
    assert_eq!(vm.wait().reason, StopReason::GuestShutdown);
}

#[test]
fn an_agent_that_is_killed_ends_the_vm() {
    let outcome = Shem::run("tuned", &[], &["sh", "-c", "kill -9 -1; sleep 100"]).outcome();
    assert_eq!(outcome.status, Some(125), "{outcome:?}");
    assert!(
        outcome.stderr.contains("agent in the guest went away"),
        "{outcome:?}"
    );
}

#[test]
fn a_limit_ends_the_vm() {
    let mut shem = Shem::new(&["run", "--timeout", "20s", "--kernel", "tuned"]);
    shem.command()
        .arg(e2e_tests::demo_image())
        .args(["--", "sleep", "1000"]);
    let outcome = shem.outcome();
    assert_eq!(outcome.status, Some(124), "{outcome:?}");
}

#[test]
fn a_second_interrupt_kills_the_vm() {
    let mut child = Shem::run(
        "tuned",
        &[],
        &[
            "sh",
            "-c",
            "trap 'echo not yet' INT; echo ready; while :; do sleep 1; done",
        ],
    )
    .spawn();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let pid = Pid::from_raw(child.id() as i32);
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    kill(pid, Signal::SIGINT).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "not yet");
    kill(pid, Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[test]
fn a_reader_that_goes_away_ends_the_command() {
    let mut child = Shem::run("tuned", &[], &["yes"]).spawn();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "y");
    drop(lines);
    let outcome = Outcome::of(child.wait_with_output().unwrap());
    assert_eq!((outcome.status, &*outcome.stderr), (Some(141), ""));
}

#[test]
fn a_killed_shem_leaves_nothing() {
    let _alone = alone();
    let before = shared_files();
    let mut child = Shem::run("tuned", &[], &["sh", "-c", "echo ready; sleep 1000"]).spawn();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(lines.next().is_none(), "nobody holds its stdout");
    assert_eq!(shared_files(), before);
}

#[test]
fn boots_and_stops_leave_no_trace_in_the_process() {
    let _alone = alone();
    let image = e2e_tests::demo_image();
    let cycle = || {
        let vm = e2e_tests::vm_of(&image).memory(128 << 20).boot().unwrap();
        assert_eq!(output(&vm, &["echo", "hello"]), "hello\n");
        assert_eq!(vm.stop(STOP_GRACE).reason, StopReason::GuestShutdown);
    };
    // The first cycles fill caches of the allocator and the C library.
    cycle();
    cycle();
    let before = Resources::now();
    for _ in 0..if long() { 200 } else { 20 } {
        cycle();
    }
    let after = Resources::now();
    assert_eq!(
        (after.descriptors, after.threads, after.temporary_files),
        (before.descriptors, before.threads, before.temporary_files)
    );
    assert!(
        after.mappings <= before.mappings + 4,
        "{before:?} became {after:?}"
    );
}

#[test]
fn four_vms_live_in_one_process() {
    let _alone = alone();
    let vms: Vec<_> = std::thread::scope(|scope| {
        let boot = |index: u8| {
            vm().memory(128 << 20)
                .hostname(format!("vm{index}"))
                .boot()
                .unwrap()
        };
        let booting: Vec<_> = (0..4)
            .map(|index| scope.spawn(move || boot(index)))
            .collect();
        booting
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    for (index, vm) in vms.iter().enumerate() {
        assert_eq!(output(vm, &["hostname"]), format!("vm{index}\n"));
    }
    let mut vms = vms.into_iter();
    let first = vms.next().unwrap();
    first.kill();
    assert_eq!(first.wait().reason, StopReason::Killed);
    for vm in vms {
        assert_eq!(output(&vm, &["echo", "still here"]), "still here\n");
    }
}

/// Held by tests that count what this process or this machine has. One that
/// failed meanwhile is no reason for the others to fail.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a VMM could leave on the machine, by name.
fn shared_files() -> Vec<String> {
    let mut names: Vec<_> = [std::env::temp_dir(), "/dev/shm".into()]
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap())
        .map(|entry| entry.unwrap().path().display().to_string())
        .collect();
    names.sort();
    names
}
