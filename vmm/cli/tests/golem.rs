//! `shem golem exec-script` against a runtime that the tests play: a shell script that
//! takes requests of known lengths and says what the test wants. No KVM.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime_api::request::{Command as Asked, Hello, RunProcess, Shutdown};
use runtime_api::response::{self, Command as Answer};
use runtime_api::{ProcessStatus, Request, Response, to_frame};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A place with a runtime, a script and a folder for temporary ones.
struct Place(TempDir);

impl Place {
    /// With a runtime whose `start` does `steps`, lines of a shell script.
    fn new(steps: &[String], script: &Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let told =
            r#"{"valid":{"Ok":""},"vols":[{"name":"vol-1","path":"/v"}],"startMode":"blocking"}"#;
        let runtime = format!(
            "#!/bin/sh\nprintf '%s\\n' \"$@\" >> \"$0.argv\"\n\
             case \"$*\" in *' deploy --') mkdir vol-1; echo noise; echo '{told}'; exit 0;; esac\n{}\n",
            steps.join("\n")
        );
        let program = dir.path().join("runtime");
        fs::write(&program, runtime).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("script.json"), script.to_string()).unwrap();
        fs::create_dir(dir.path().join("tmp")).unwrap();
        Place(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The call, in this place.
    fn call(&self, options: &[&str]) -> Command {
        self.call_with("script.json", options)
    }

    fn call_with(&self, script: &str, options: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shem"));
        command
            .args(["golem", "exec-script", "my.gvmi", script])
            .args(["--runtime", "./runtime"])
            .args(options)
            .current_dir(self.0.path())
            .env("TMPDIR", self.path("tmp"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn temporary_folders(&self) -> usize {
        fs::read_dir(self.path("tmp")).unwrap().count()
    }

    /// The runtime's arguments, of all its calls.
    fn argv(&self) -> String {
        let argv = fs::read_to_string(self.path("runtime.argv")).unwrap();
        argv.lines().collect::<Vec<_>>().join(" ")
    }
}

fn run(script: &str) -> RunProcess {
    RunProcess {
        bin: "/bin/sh".into(),
        args: ["sh", "-c", script].map(String::from).into(),
        ..RunProcess::default()
    }
}

/// A step that takes a request: its length is known.
fn take(id: u64, command: Asked) -> String {
    let command = Some(command);
    format!(
        "head -c {} >/dev/null",
        to_frame(&Request { id, command }).len()
    )
}

fn say(event: bool, id: u64, command: Answer) -> String {
    let command = Some(command);
    let octal = |byte: u8| format!("\\{byte:03o}");
    let frame: String = to_frame(&Response { event, id, command })
        .into_iter()
        .map(octal)
        .collect();
    format!("printf '{frame}'")
}

fn greet() -> [String; 2] {
    let hello = Hello {
        version: "0.1.0".into(),
    };
    let version = "0.5.2".into();
    [
        take(2, Asked::Hello(hello)),
        say(false, 2, Answer::Hello(response::Hello { version })),
    ]
}

/// Takes the run of `script` as request `id`, and starts process `pid`.
fn start(id: u64, pid: u64, script: &str) -> [String; 2] {
    [
        take(id, Asked::Run(run(script))),
        say(false, id, Answer::Run(response::RunProcess { pid })),
    ]
}

fn status(pid: u64, running: bool, return_code: i32, stdout: &str) -> String {
    let (stdout, stderr) = (stdout.into(), Vec::new());
    let status = ProcessStatus {
        pid,
        running,
        return_code,
        stdout,
        stderr,
    };
    say(true, 0, Answer::Status(status))
}

fn shut_down(id: u64) -> [String; 2] {
    [
        take(id, Asked::Shutdown(Shutdown {})),
        say(false, id, Answer::Shutdown(response::Shutdown {})),
    ]
}

fn run_command(script: &str) -> Value {
    json!({ "run": { "entry_point": "/bin/sh", "args": ["-c", script] } })
}

#[track_caller]
fn assert_ended(output: &Output, status: i32, stdout: &str, words: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout, "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{word:?} is not in {stderr}");
    }
}

#[test]
fn script_runs_as_exe_unit_would_run_it() {
    let steps = [
        &greet()[..],
        &start(3, 1, "work"),
        &[
            "cp vol-1/in vol-1/out".into(),
            status(1, true, 0, "working\n"),
        ],
        &[status(1, false, 0, "")],
        &shut_down(4),
    ];
    let script = json!([
        { "deploy": { "volumes": ["/v"], "hostname": "box", "net": [] } },
        { "start": { "args": ["a", "b"] } },
        { "transfer": { "from": "in.txt", "to": "container:/v/in" } },
        run_command("work"),
        { "transfer": { "from": "container:/v/out", "to": "out.txt" } },
        { "terminate": {} },
    ]);
    let place = Place::new(&steps.concat(), &script);
    fs::write(place.path("in.txt"), "hello").unwrap();
    let options = ["--workdir", "work", "--mem-gib", "1.5", "--runtime-arg=--x"];
    let output = place.call(&options).output().unwrap();
    let volume = format!("/v -> {}", place.path("work/vol-1").display());
    let words = [
        &*volume,
        "4/6 run /bin/sh -c work: done in ",
        "6 of 6 commands ran in ",
    ];
    assert_ended(&output, 0, "working\n", &words);
    assert_eq!(fs::read_to_string(place.path("out.txt")).unwrap(), "hello");
    let root = place.0.path().display();
    let common = format!(
        "--workdir {root}/work --task-package {root}/my.gvmi --cpu-cores 1 --mem-gib 1.5 \
         --storage-gib 0.25 --x"
    );
    let volumes = r#"--volume-override {"/v":{"host":{}}}"#;
    assert_eq!(
        place.argv(),
        format!("{common} {volumes} --hostname box deploy -- {common} start a b")
    );
}

#[test]
fn failing_run_ends_the_script_and_the_vm_is_shut_down() {
    let steps = [
        &greet()[..],
        &start(3, 1, "exit 3"),
        &[status(1, false, 3, "")],
        &shut_down(4),
        &["touch \"$0.was-shut-down\"".into()],
    ];
    let run = run_command("exit 3");
    let script = json!([{ "deploy": {} }, { "start": {} }, run, run]);
    let place = Place::new(&steps.concat(), &script);
    let output = place.call(&[]).output().unwrap();
    let words = [
        "3/4 run /bin/sh -c 'exit 3': failed after ",
        "3 of 4 commands ran in ",
        "; command 3 failed: ExeScript command exited with code 3",
    ];
    assert_ended(&output, 1, "", &words);
    assert!(place.path("runtime.was-shut-down").exists());
    assert_eq!(place.temporary_folders(), 0);
}

#[test]
fn exit_status_of_a_runtime_that_dies_is_that_of_its_command() {
    let script = json!([{ "deploy": {} }, { "start": {} }, run_command("x")]);
    let dies = [
        &greet()[..],
        &start(3, 1, "x"),
        &[status(1, true, 0, "last"), "exit 7".into()],
    ];
    let output = Place::new(&dies.concat(), &script)
        .call(&[])
        .output()
        .unwrap();
    assert_ended(
        &output,
        1,
        "last",
        &["command 3 failed: ExeScript command exited with code 7"],
    );

    let does_not_boot = ["echo no KVM >&2; exit 101".into()];
    let output = Place::new(&does_not_boot, &script)
        .call(&[])
        .output()
        .unwrap();
    let words = [
        "no KVM",
        "2 of 3 commands ran",
        "command 2 failed: ExeScript command exited with code 101",
    ];
    assert_ended(&output, 1, "", &words);
}

#[test]
fn run_that_takes_too_long_fails() {
    let steps = [&greet()[..], &start(3, 1, "x"), &shut_down(4)];
    let script = json!([{ "deploy": {} }, { "start": {} }, run_command("x")]);
    let output = Place::new(&steps.concat(), &script)
        .call(&["--timeout", "50ms"])
        .output()
        .unwrap();
    assert_ended(
        &output,
        1,
        "",
        &["command 3 failed: it took longer than 0.05 s"],
    );
}

#[test]
fn deploy_that_fails_is_told_with_its_own_words() {
    let place = Place::new(&[], &json!([{ "deploy": {} }]));
    fs::write(
        place.path("runtime"),
        "#!/bin/sh\necho no such image >&2\nexit 5\n",
    )
    .unwrap();
    let output = place.call(&[]).output().unwrap();
    let words = [
        "no such image\n",
        "command 1 failed: ExeScript command exited with code 5",
    ];
    assert_ended(&output, 1, "", &words);
}

#[test]
fn what_cannot_begin_is_one_line_and_125() {
    let place = Place::new(&[], &json!([{ "run": {} }]));
    let output = place.call(&[]).output().unwrap();
    let expected = "shem: script.json: command 1 (run): deploy and start come before\n";
    assert_ended(&output, 125, "", &[expected]);
    assert_eq!(output.stderr.len(), expected.len());
    let place = Place::new(&[], &json!([{ "deploy": {} }]));
    fs::remove_file(place.path("runtime")).unwrap();
    let output = place.call(&[]).output().unwrap();
    assert_ended(&output, 1, "", &["name the runtime by --runtime"]);
}

#[test]
fn script_comes_from_standard_input_too() {
    let place = Place::new(&[], &json!([]));
    let script = place.path("other.json");
    fs::write(&script, r#"[{"deploy":{}}]"#).unwrap();
    let mut call = place.call_with("-", &[]);
    let output = call
        .stdin(fs::File::open(script).unwrap())
        .output()
        .unwrap();
    assert_ended(&output, 0, "", &["1 of 1 commands ran in "]);
}

/// Starts a script whose run never ends, and returns when it runs.
fn running(place: &Place) -> std::process::Child {
    let mut child = place.call(&[]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "runs\n");
    child
}

fn signal(child: &std::process::Child, signal: Signal) {
    kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
}

fn endless() -> (Vec<String>, Value) {
    let steps = [
        &greet()[..],
        &start(3, 1, "x"),
        &[status(1, true, 0, "runs\n")],
        &shut_down(4),
    ];
    let script = json!([{ "deploy": {} }, { "start": {} }, run_command("x")]);
    (
        [steps.concat(), vec!["touch \"$0.was-shut-down\"".into()]].concat(),
        script,
    )
}

#[test]
fn interrupt_has_the_vm_shut_down() {
    let (steps, script) = endless();
    let place = Place::new(&steps, &script);
    let child = running(&place);
    signal(&child, Signal::SIGINT);
    let output = child.wait_with_output().unwrap();
    assert_ended(&output, 130, "", &["command 3 failed: interrupted"]);
    assert!(place.path("runtime.was-shut-down").exists());
    assert_eq!(place.temporary_folders(), 0);
}

#[test]
fn killed_it_leaves_no_runtime_and_no_folder() {
    let (steps, script) = endless();
    let place = Place::new(&steps, &script);
    let mut child = running(&place);
    assert_eq!(place.temporary_folders(), 1);
    signal(&child, Signal::SIGKILL);
    child.wait().unwrap();
    // Ends when the last one that writes there is gone.
    child
        .stderr
        .take()
        .unwrap()
        .read_to_end(&mut Vec::new())
        .unwrap();
    assert_eq!(place.temporary_folders(), 0);
}
