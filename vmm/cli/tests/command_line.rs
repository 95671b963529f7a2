//! The program `shem` as its users meet it, as far as that needs no KVM: what
//! it prints, where, and its exit status.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// The exit status for failures of shem itself, as Docker's.
const FAILED: i32 = 125;

fn shem(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shem"));
    command.args(args).stdin(Stdio::null());
    command
}

fn output(args: &[&str]) -> Output {
    shem(args).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Fails with one line on standard error, and returns it.
fn one_line(args: &[&str]) -> String {
    let output = output(args);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(FAILED), "{stderr}");
    assert_eq!(text(&output.stdout), "");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("shem: "), "{stderr}");
    stderr.trim_end().to_owned()
}

/// A small image in `folder`.
fn image(folder: &Path) -> String {
    let root = folder.join("root");
    fs::create_dir(&root).unwrap();
    fs::write(root.join("hello"), "hello").unwrap();
    let image = folder.join("a.gvmi").display().to_string();
    let root = root.display().to_string();
    let output = output(&["image", "build", &root, "-o", &image, "--cmd", "/hello"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    image
}

#[test]
fn missing_image_is_one_line_and_125() {
    let line = one_line(&["run", "/nonexistent/a.gvmi"]);
    assert!(line.contains("/nonexistent/a.gvmi: no such file"), "{line}");
}

#[test]
fn port_that_cannot_be_published_is_named_before_anything_else() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = taken.local_addr().unwrap().to_string();
    let line = one_line(&["run", "-p", &format!("{host}:80"), "/nonexistent/a.gvmi"]);
    let words = format!("listen at {host}: Address already in use");
    assert!(line.contains(&words), "{line}");
    let line = one_line(&["run", "-p", "53:53/udp", "/nonexistent/a.gvmi"]);
    assert_eq!(line, "shem: --publish 53:53/udp: udp needs --net passt");
}

#[test]
fn file_that_is_no_image_is_named() {
    let line = one_line(&["run", "/etc/passwd", "--", "true"]);
    assert!(line.contains("/etc/passwd: not a gvmi image"), "{line}");
}

#[test]
fn command_without_separator_is_spelled_out() {
    let line = one_line(&["run", "/etc/passwd", "echo", "hi"]);
    assert!(
        line.ends_with("write: shem run /etc/passwd -- echo hi"),
        "{line}"
    );
}

#[test]
fn option_of_a_command_without_separator_gets_a_hint() {
    let output = output(&["run", "a.gvmi", "sh", "-c", "date"]);
    assert_eq!(output.status.code(), Some(FAILED));
    let stderr = text(&output.stderr);
    assert!(stderr.contains("goes after `--`"), "{stderr}");
    assert!(!stderr.contains("tip:"), "{stderr}");
}

#[test]
fn terminal_without_a_terminal_is_refused() {
    let line = one_line(&["run", "-it", "a.gvmi"]);
    assert!(
        line.contains("needs a terminal on standard input"),
        "{line}"
    );
}

#[test]
fn too_little_memory_is_refused_before_anything_is_opened() {
    let line = one_line(&["run", "-m", "512", "/nonexistent/a.gvmi"]);
    assert!(line.contains("write a unit, as in 512m"), "{line}");
}

#[test]
fn missing_kernel_pack_names_it_and_where_it_was_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path());
    let output = shem(&["run", "--kernel", "mine", &image])
        .env("SHEM_STORE", folder.path())
        .output()
        .unwrap();
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(FAILED), "{stderr}");
    let kernels = folder.path().join("kernels").display().to_string();
    assert!(
        stderr.contains("mine") && stderr.contains(&kernels),
        "{stderr}"
    );
}

#[test]
fn image_without_a_command_says_how_to_give_one() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path());
    let line = one_line(&["run", "--entrypoint", "", &image]);
    assert!(line.contains("shem run IMAGE -- sh"), "{line}");
}

#[test]
fn built_image_is_inspected_as_text_and_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let image = image(folder.path());
    let shown = output(&["image", "inspect", &image]);
    assert!(text(&shown.stdout).contains("Cmd          [\"/hello\"]\n"));
    let shown = output(&["image", "inspect", "--json", &image]);
    let json: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(json["config"]["Cmd"][0], "/hello");
    assert_eq!(json["size"], fs::metadata(&image).unwrap().len());
}

#[test]
fn doctor_exits_with_what_it_found() {
    let output = output(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["healthy"], output.status.success());
    assert_eq!(
        output.status.code(),
        Some(i32::from(report["healthy"] == false))
    );
}

#[test]
fn help_version_and_completions_go_to_standard_output() {
    for args in [
        &["--help"] as &[&str],
        &["help", "run"],
        &["--version"],
        &["completions", "bash"],
        &["completions", "zsh"],
        &["completions", "fish"],
    ] {
        let output = output(args);
        assert!(output.status.success());
        assert!(text(&output.stdout).contains("shem"));
        assert_eq!(text(&output.stderr), "");
    }
}

#[test]
fn output_that_nobody_reads_is_no_error_to_print() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let output = shem(&["completions", "bash"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(text(&output.stderr), "");
    // As SIGPIPE would have ended it.
    assert_eq!(output.status.code(), Some(141));
}
