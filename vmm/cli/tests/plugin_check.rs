//! `shem plugin check`: sound plugins pass, and each bad one fails with its reason,
//! whatever it does to its process.

#[path = "../../../tests/plugins/building.rs"]
mod building;

use std::path::Path;
use std::process::{Command, Stdio};

use building::{library, library_at, package};
use serde_json::{Value, json};

/// How it ends when a check failed.
const FOUND: i32 = 1;
/// How it ends when it could not check.
const FAILED: i32 = 125;

/// Without valgrind, so that the others take no time.
fn check(library: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shem"));
    command.args(["plugin", "check"]).arg(library).args(args);
    command.stdin(Stdio::null()).env("PATH", "/nowhere");
    command
}

/// Its exit status and what it prints.
fn outcome(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let text = [output.stderr, output.stdout].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

/// A driver with `{"do": WORD}` fails only the check that is named, for that reason.
fn fails(library: &Path, driver: &str, word: &str, check_name: &str, reason: &str) {
    let config = json!({ "do": word }).to_string();
    // What blocks takes all of it, and the others far less.
    let limit = if word == "hang" { "5s" } else { "60s" };
    let args = ["--driver", driver, "--config", &config, "--limit", limit];
    let (status, said) = outcome(check(library, &args));
    assert_eq!(status, Some(FOUND), "{word}: {said}");
    let failed: Vec<_> = said
        .lines()
        .filter(|line| line.starts_with("FAIL"))
        .collect();
    let [line] = failed[..] else {
        panic!("{word}: {said}");
    };
    let expected = format!("FAIL {driver} {check_name}: ");
    assert!(line.starts_with(&expected), "{word}: {line}");
    assert!(line.contains(reason), "{word}: {line}");
}

#[test]
fn the_examples_pass() {
    let hello_c = library_at("plugins/examples/hello-c/hello.c", &[]);
    let udp_link = library_at("plugins/examples/udp-link-c/udp_link.c", &[]);
    for library in [
        &package("hello"),
        &package("entropy"),
        &hello_c.path,
        &udp_link.path,
    ] {
        let (status, said) = outcome(check(library, &[]));
        assert_eq!(status, Some(0), "{said}");
        assert!(said.ends_with("8 checks, 0 failed, 1 skipped\n"), "{said}");
        assert!(said.contains("memory: valgrind is not installed"), "{said}");
    }
}

#[test]
fn devices_of_each_kind_pass() {
    let library = library("device.c", &[]);
    let (status, said) = outcome(check(&library.path, &[]));
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.contains("ok   c-virtio use: worked as a virtio device of type 42"),
        "{said}"
    );
    assert!(
        said.contains("ok   c-net use: worked as a network backend"),
        "{said}"
    );
    assert!(said.ends_with("22 checks, 0 failed, 3 skipped\n"), "{said}");
}

#[test]
fn what_is_not_loaded_fails_the_first_check_and_no_other_is_made() {
    for (definition, reason) in [
        ("NO_ENTRY", "does not export shem_plugin_entry"),
        ("MAJOR=0", "built for version 0 of the plugin ABI"),
        ("DRIVER_SIZE=8", "struct_size of its driver 0 is 8"),
        ("DRIVER_COUNT=0", "it has no driver"),
        ("NAME=\"a b\"", "letters, digits and -"),
        ("OFFER=\"{\"", "a value that is no JSON"),
        ("PATH=\"dev\"", "is not absolute"),
        ("UNDEFINED", "nobody_defines_this"),
    ] {
        let library = library("entry.c", &[definition]);
        let (status, said) = outcome(check(&library.path, &[]));
        assert_eq!(status, Some(FOUND), "{said}");
        assert!(said.starts_with("FAIL load: "), "{said}");
        assert!(said.contains(reason), "{said}");
        assert!(said.ends_with("1 check, 1 failed\n"), "{said}");
    }
}

#[test]
fn what_breaks_the_process_fails_a_check_with_how_and_where() {
    let library = library("bad.c", &[]);
    for (word, reason) in [
        ("crash", "it crashed with SIGSEGV in create"),
        ("abort", "it crashed with SIGABRT in create"),
        ("exit", "it ended the process with status 7 in create"),
        ("hang", "still not done after 5 s, in create"),
    ] {
        fails(&library.path, "bad", word, "lifecycle", reason);
    }
}

#[test]
fn what_breaks_a_rule_in_use_fails_the_check_of_that_rule() {
    let library = library("bad.c", &[]);
    for (word, check_name, reason) in [
        ("mute", "lifecycle", "create returns -22 without a word"),
        ("descriptor", "repeat", "left 100 descriptors"),
        ("thread", "repeat", "left 100 threads"),
        ("spin", "use", "with nothing to do"),
        (
            "rings",
            "use",
            "a guest that breaks its rings ends the device for good",
        ),
        ("late", "use", "it went on with its queues after deactivate"),
        (
            "silent",
            "use",
            "set_interest for sending is not answered by ready",
        ),
        ("beyond", "use", "receive wrote behind the room for a frame"),
    ] {
        fails(&library.path, "bad", word, check_name, reason);
    }
    let (status, said) = outcome(check(&library.path, &["--driver", "bad-open"]));
    assert_eq!(status, Some(FOUND), "{said}");
    assert!(
        said.contains("FAIL bad-open configuration: it takes {\"no-such-property\":true}"),
        "{said}"
    );
}

#[test]
fn answers_and_calls_against_the_abi_are_found() {
    let library = library("device.c", &[]);
    for (driver, word, check_name, reason) in [
        ("c-virtio", "create=1", "lifecycle", "create: it returned 1"),
        ("c-virtio", "nothing", "lifecycle", "NULL for its device"),
        ("c-virtio", "headless", "lifecycle", "NULL for destroy"),
        (
            "c-virtio",
            "tiny",
            "lifecycle",
            "struct_size 0 for its device",
        ),
        ("c-virtio", "huge", "lifecycle", "struct_size 4294967295"),
        ("c-virtio", "odd", "lifecycle", "a queue of 63"),
        ("c-virtio", "deaf", "lifecycle", "NULL for queue_ready"),
        (
            "c-virtio",
            "activate=-5",
            "use",
            "activate: Input/output error",
        ),
        (
            "c-virtio",
            "queue_ready=77",
            "use",
            "queue_ready: it returned 77",
        ),
        (
            "c-virtio",
            "queue_ready say",
            "use",
            "the cable is unplugged",
        ),
        (
            "c-virtio",
            "queue_ready sleep",
            "speed",
            "callbacks were slow in each of 5",
        ),
        ("c-net", "dumb", "lifecycle", "NULL for send"),
        ("c-net", "giant", "lifecycle", "max_frame 1048576"),
        ("c-net", "receive=0", "use", "receive: it returned 0"),
        ("c-net", "send=-5", "use", "send: Input/output error"),
        (
            "c-plain",
            "before_boot say",
            "lifecycle",
            "the cable is unplugged",
        ),
        (
            "c-plain",
            "thread",
            "lifecycle",
            "it called set_error, which is allowed inside",
        ),
    ] {
        fails(&library.path, driver, word, check_name, reason);
    }
}

#[test]
fn valgrind_finds_what_nothing_else_does_where_it_is_installed() {
    let library = library("bad.c", &[]);
    let is_there = Command::new("valgrind").arg("--version").output().is_ok();
    for (word, reason) in [
        (
            "overrun",
            "valgrind found: Invalid write of size 1 at misbehave (bad.c:",
        ),
        ("leak", "are definitely lost"),
    ] {
        let config = json!({ "do": word }).to_string();
        let mut command = check(&library.path, &["--driver", "bad", "--config", &config]);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let (status, said) = outcome(command);
        assert_eq!(status, Some(if is_there { FOUND } else { 0 }), "{said}");
        let reason = if is_there {
            reason
        } else {
            "valgrind is not installed"
        };
        assert!(said.contains(reason), "{said}");
    }
}

#[test]
fn a_driver_or_configuration_that_cannot_be_is_told() {
    let library = library("bad.c", &[]);
    for (args, said) in [
        (
            &["--driver", "x"][..],
            "the plugin has no driver \"x\"; it has bad, bad-open",
        ),
        (
            &["--config", "{}"],
            "say which of bad, bad-open by --driver",
        ),
        (&["--config", "[]"], "not a JSON object"),
        (&["--limit", "0"], "--limit"),
    ] {
        let (status, text) = outcome(check(&library.path, args));
        assert_eq!(status, Some(FAILED), "{text}");
        assert!(text.contains(said), "{text}");
    }
    let (status, text) = outcome(check(Path::new("nope"), &[]));
    assert_eq!(status, Some(FAILED), "{text}");
    assert!(text.contains("there is no plugin \"nope\""), "{text}");
}

#[test]
fn json_has_a_value_for_each_check() {
    let library = library("entry.c", &[]);
    let output = check(&library.path, &["--json"]).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let told = told.as_array().unwrap();
    assert_eq!(told.len(), 8);
    assert_eq!(
        (&told[0]["Check"], &told[0]["Driver"]),
        (&json!("load"), &Value::Null)
    );
    assert_eq!(told[1]["Driver"], "no-op");
    assert_eq!(
        (&told[1]["Verdict"], &told[7]["Verdict"]),
        (&json!("ok"), &json!("skip"))
    );
}
