//! `shem plugin ls`, `info` and `new`: what plugins say of themselves, and new ones
//! that build and pass their tests.

#[path = "../../../tests/plugins/building.rs"]
mod building;

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use building::{built, cargo, library, library_at, package, root};
use plugin_host::Plugin;
use serde_json::Value;
use tempfile::TempDir;

/// The exit status for failures of shem itself.
const FAILED: i32 = 125;

fn shem(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shem"));
    command.arg("plugin").args(args).stdin(Stdio::null());
    command
        .env_remove("SHEM_PLUGIN_PATH")
        .env_remove("SHEM_SDK");
    command
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// What it prints when it succeeds.
fn said(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).to_owned()
}

/// The one line on standard error of a failure.
fn refused(mut command: Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let stderr = text(&stderr);
    assert_eq!(status.code(), Some(FAILED), "{stderr}");
    assert_eq!((text(&stdout), stderr.lines().count()), ("", 1), "{stderr}");
    assert!(stderr.starts_with("shem: "), "{stderr}");
    stderr.trim_end().to_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A folder with plugin `no-op`, and with a file that is none.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let library = library("entry.c", &[]);
    fs::copy(&library.path, folder.path().join("libshem_no_op.so")).unwrap();
    fs::write(folder.path().join("libshem_text.so"), "text").unwrap();
    fs::write(folder.path().join("other.so"), "no plugin by its name").unwrap();
    folder
}

#[test]
fn info_shows_all_that_a_plugin_declares() {
    let library = library("entry.c", &[]);
    let shown = said(shem(&["info", path(&library.path)]));
    for line in [
        "no-op 1.2.3: A plugin that does nothing",
        "  ABI           1.1",
        "  driver        no-op: Nothing",
        "  system calls  socket, bind",
        "  path          /dev/net/tun (read, write)",
        "  offers        golem.inf.test = [1,true]",
    ] {
        assert!(shown.lines().any(|found| found == line), "{line}: {shown}");
    }
}

#[test]
fn info_as_json_has_the_same_and_the_schema() {
    let library = library("entry.c", &[]);
    let shown = said(shem(&["info", "--json", path(&library.path)]));
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["Name"], "no-op");
    assert_eq!(shown["Abi"], "1.1");
    assert_eq!(shown["EntrySize"], 120);
    assert_eq!(shown["SystemCalls"], serde_json::json!(["socket", "bind"]));
    let access = serde_json::json!(["read", "write"]);
    assert_eq!(shown["Paths"][0]["Access"], access);
    assert_eq!(shown["OfferProperties"]["golem.inf.test"][1], true);
    let schema = &shown["Drivers"][0]["ConfigSchema"];
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn info_of_the_examples_names_their_drivers() {
    let hello_c = library_at("plugins/examples/hello-c/hello.c", &[]);
    let udp_link = library_at("plugins/examples/udp-link-c/udp_link.c", &[]);
    for (library, driver) in [
        (package("hello"), "hello: Says hello"),
        (package("entropy"), "entropy: Random numbers for the guest"),
        (hello_c.path.clone(), "hello-c"),
        (
            udp_link.path.clone(),
            "udp-link: A cable to one other VM, over UDP",
        ),
    ] {
        let shown = said(shem(&["info", path(&library)]));
        let line = format!("  driver        {driver}");
        assert!(shown.lines().any(|found| found == line), "{shown}");
    }
}

#[test]
fn info_finds_a_plugin_by_its_name_and_says_where_it_looked() {
    let folder = folder();
    let mut found = shem(&["info", "no-op"]);
    found.env("SHEM_PLUGIN_PATH", folder.path());
    assert!(said(found).starts_with("no-op 1.2.3"));
    let mut missing = shem(&["info", "nope"]);
    missing.env("SHEM_PLUGIN_PATH", folder.path());
    let line = refused(missing);
    let tried = folder.path().join("libshem_nope.so");
    assert!(line.contains(path(&tried)), "{line}");
    assert!(line.contains("SHEM_PLUGIN_PATH"), "{line}");
}

#[test]
fn info_of_what_is_no_plugin_is_one_line_with_the_reason() {
    let folder = folder();
    let text = folder.path().join("libshem_text.so");
    let line = refused(shem(&["info", path(&text)]));
    assert!(
        line.ends_with("libshem_text.so: it is no ELF file"),
        "{line}"
    );
    let line = refused(shem(&["info", "/nowhere/x.so"]));
    assert!(
        line.contains("/nowhere/x.so: read the file: No such file"),
        "{line}"
    );
    for (definition, reason) in [
        ("NO_ENTRY", "does not export shem_plugin_entry"),
        ("MAJOR=2", "built for version 2 of the plugin ABI"),
        ("ENTRY_SIZE=4", "struct_size of its entry is 4"),
        ("CREATE=NULL", "create of driver \"no-op\" is NULL"),
        (
            "SCHEMA=\"{\\\"pattern\\\":1}\"",
            "at /pattern: this host does not check it",
        ),
        ("UNDEFINED", "nobody_defines_this"),
    ] {
        let library = library("entry.c", &[definition]);
        let line = refused(shem(&["info", path(&library.path)]));
        assert!(line.contains(reason), "{line}");
    }
}

#[test]
fn ls_lists_what_loads_and_why_the_others_do_not() {
    let folder = folder();
    let listed = |args: &[&str]| {
        let mut ls = shem(args);
        ls.env("SHEM_PLUGIN_PATH", folder.path());
        said(ls)
    };
    let shown = listed(&["ls"]);
    let sound = "no-op 1.2.3: A plugin that does nothing (drivers: no-op)";
    assert!(shown.lines().any(|line| line == sound), "{shown}");
    let text = folder.path().join("libshem_text.so");
    let broken = format!("{}: refused: it is no ELF file", text.display());
    assert!(shown.lines().any(|line| line == broken), "{shown}");
    assert!(!shown.contains("other.so"), "{shown}");
    let shown: Value = serde_json::from_str(&listed(&["ls", "--json"])).unwrap();
    let names = shown
        .as_array()
        .unwrap()
        .iter()
        .map(|plugin| &plugin["Name"]);
    assert!(names.into_iter().any(|name| name == "no-op"), "{shown}");
}

#[test]
fn a_new_plugin_in_rust_passes_its_test_and_the_checks() {
    let folder = tempfile::tempdir().unwrap();
    let mut new = shem(&["new", "made-in-test"]);
    new.current_dir(&folder).env("SHEM_SDK", root());
    let next = "made-in-test: made; next: cd made-in-test && cargo test\n";
    assert_eq!(said(new), next);
    let project = folder.path().join("made-in-test");
    // The crates that the workspace has, in its versions and without the network.
    fs::copy(root().join("Cargo.lock"), project.join("Cargo.lock")).unwrap();
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("..");
    let prepared = |command| {
        let mut cargo = cargo(command);
        cargo.current_dir(&project).env("CARGO_TARGET_DIR", &target);
        cargo
    };
    assert!(said(prepared("test")).contains("test result: ok. 1 passed"));
    let library = built(prepared("build"));
    let file = library.file_name().unwrap();
    assert_eq!(file, "libshem_made_in_test.so");
    let plugin = Plugin::load(&library).unwrap();
    assert_eq!(plugin.drivers[0].name, "made-in-test");
    let checked = said(shem(&["check", path(&library)]));
    assert!(checked.contains("8 checks, 0 failed"), "{checked}");
    // From the workspace's folder it would be found by its name.
    fs::remove_file(library).unwrap();
}

#[test]
fn a_new_plugin_in_c_passes_the_checks_by_its_makefile() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("a-folder");
    said(shem(&[
        "new",
        "in-c",
        "--lang",
        "c",
        "--path",
        path(&project),
    ]));
    let mut make = Command::new("make");
    make.args(["test", "CFLAGS=-Wall -Wextra -Werror -pedantic"]);
    make.arg(concat!("SHEM=", env!("CARGO_BIN_EXE_shem")));
    make.current_dir(&project);
    let checked = said(make);
    assert!(checked.contains("8 checks, 0 failed"), "{checked}");
    let library = project.join("libshem_in_c.so");
    let plugin = Plugin::load(&library).unwrap();
    assert_eq!((plugin.name.as_str(), plugin.abi), ("in-c", (1, 1)));
}

#[test]
fn new_changes_nothing_that_is_there_and_leaves_nothing_when_it_fails() {
    let folder = tempfile::tempdir().unwrap();
    let new = |args: &[&str]| {
        let mut new = shem(&["new"]);
        new.args(args).current_dir(&folder);
        new
    };
    fs::create_dir(folder.path().join("mine")).unwrap();
    let line = refused(new(&["mine", "--lang", "c"]));
    assert!(line.contains("make the folder mine: File exists"), "{line}");
    let line = refused(new(&["Mine", "--lang", "c"]));
    assert!(line.contains("\"Mine\" is no name for a plugin"), "{line}");
    let line = refused(new(&["other", "--sdk", path(folder.path())]));
    assert!(line.contains("not shem's sources"), "{line}");
    let line = refused(new(&["other", "--lang", "c", "--path", "no/where"]));
    assert!(line.contains("make the folder no/where"), "{line}");
    let left = fs::read_dir(&folder).unwrap().count();
    assert_eq!(left, 1, "only the folder that was there");
}
