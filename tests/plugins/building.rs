//! Builds plugins for tests: those of the workspace, and C files of it. A part of the
//! tests that name this file by `#[path]`.

#![allow(dead_code, reason = "each test file uses its part")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

/// A library in a folder that goes with it.
pub struct Library {
    pub path: PathBuf,
    pub folder: TempDir,
}

/// The folder of the workspace: crates with such tests are two below it.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Cargo, in the profile of this test and without the network.
pub fn cargo(command: &str) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = Command::new(program);
    cargo.args([command, "--quiet", "--offline"]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    cargo
}

/// Runs `cargo build`, prepared by [`cargo`], and returns the shared library.
pub fn built(mut build: Command) -> PathBuf {
    build.arg("--message-format=json");
    let output = build.output().expect("cargo runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let messages = String::from_utf8(output.stdout).unwrap();
    let library = messages.lines().rev().find_map(|line| {
        let message: Value = serde_json::from_str(line).unwrap();
        let files = message["filenames"].as_array()?;
        let files = files.iter().filter_map(Value::as_str);
        files
            .map(PathBuf::from)
            .find(|file| file.extension().is_some_and(|end| end == "so"))
    });
    library.expect("a shared library was built")
}

/// Builds a plugin of this workspace.
pub fn package(name: &str) -> PathBuf {
    let mut build = cargo("build");
    build.args(["-p", name]).current_dir(root());
    built(build)
}

/// Builds `tests/plugins/SOURCE` with the given definitions.
pub fn library(source: &str, definitions: &[&str]) -> Library {
    library_at(&format!("tests/plugins/{source}"), definitions)
}

/// Builds the file of the workspace with the given definitions.
pub fn library_at(source: &str, definitions: &[&str]) -> Library {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("libshem_fixture.so");
    let output = Command::new("cc")
        .args([
            "-std=c11",
            "-g",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-pedantic",
            "-Wno-unused-const-variable",
        ])
        .args(["-fPIC", "-shared", "-fvisibility=hidden", "-pthread", "-I"])
        .arg(root().join("plugins/abi/include"))
        .args(
            definitions
                .iter()
                .map(|definition| format!("-D{definition}")),
        )
        .arg(root().join(source))
        .arg("-o")
        .arg(&path)
        .output()
        .expect("cc runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    Library { path, folder }
}

/// A plugin that was built with `version` of the ABI.
pub fn kept(version: &str, name: &str) -> PathBuf {
    let folder = format!("tests/plugins/kept/{version}-x86-64");
    root().join(folder).join(name)
}
