//! `shem image` as a user calls it: what it prints, and its exit statuses.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// `shem image WORDS…` in the folder.
fn image(dir: &Path, words: &[&str]) -> Command {
    let mut shem = Command::new(env!("CARGO_BIN_EXE_shem"));
    shem.args(["image"]).args(words).current_dir(dir);
    shem.stdin(Stdio::null());
    shem
}

/// What a call printed, and its status.
#[track_caller]
fn call(dir: &Path, words: &[&str], status: i32) -> (String, String) {
    let Output {
        status: ended,
        stdout,
        stderr,
    } = image(dir, words).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(stdout), text(stderr));
    assert_eq!(ended.code(), Some(status), "{words:?}: {stdout}{stderr}");
    (stdout, stderr)
}

/// A folder with an image, `a.gvmi`, of a tree with a file and two links to it.
fn built() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("etc")).unwrap();
    fs::write(tree.join("etc/motd"), "hello\n").unwrap();
    fs::hard_link(tree.join("etc/motd"), tree.join("etc/other")).unwrap();
    std::os::unix::fs::symlink("etc/motd", tree.join("link")).unwrap();
    let words = [
        "build", "tree", "-o", "a.gvmi", "--cmd", "[\"sh\"]", "-e", "A=1",
    ];
    let (_, said) = call(dir.path(), &words, 0);
    assert!(said.starts_with("a.gvmi: "), "{said}");
    dir
}

fn file(dir: &TempDir, name: &str) -> PathBuf {
    dir.path().join(name)
}

#[test]
fn what_is_in_an_image_is_listed_and_printed() {
    let dir = built();
    let listed = call(dir.path(), &["ls", "-R", "a.gvmi"], 0).0;
    assert_eq!(listed, "etc\netc/motd\netc/other\nlink\n");
    let long = call(dir.path(), &["ls", "-l", "a.gvmi", "link"], 0).0;
    assert!(
        long.starts_with('l') && long.ends_with(" link -> etc/motd\n"),
        "{long}"
    );
    assert_eq!(call(dir.path(), &["cat", "a.gvmi", "link"], 0).0, "hello\n");
    let (_, said) = call(dir.path(), &["cat", "a.gvmi", "nope"], 125);
    assert!(said.starts_with("shem: a.gvmi: /nope: "), "{said}");
}

#[test]
fn inspection_tells_how_it_runs_and_by_what_it_is_known() {
    let dir = built();
    let text = call(dir.path(), &["inspect", "a.gvmi"], 0).0;
    assert!(
        text.contains("Cmd          [\"sh\"]\nEnv          A=1\n"),
        "{text}"
    );
    let sum = Command::new("sha256sum")
        .arg(file(&dir, "a.gvmi"))
        .output()
        .unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    assert!(
        text.contains(&format!("SHA-256      {}\n", &sum[..64])),
        "{text}"
    );
    let link = call(
        dir.path(),
        &["inspect", "a.gvmi", "--link", "http://h/a"],
        0,
    )
    .0;
    let hash = link.strip_prefix("hash:sha3:").unwrap();
    let hash = hash.strip_suffix(":http://h/a\n").unwrap();
    assert!(text.contains(&format!("SHA3-224     {hash}\n")), "{text}");
}

#[test]
fn an_exported_image_is_built_again_the_same() {
    let dir = built();
    call(dir.path(), &["export", "a.gvmi", "-o", "a.tar"], 0);
    call(dir.path(), &["build", "a.tar", "-o", "b.gvmi"], 0);
    assert_eq!(call(dir.path(), &["diff", "a.gvmi", "b.gvmi"], 0).0, "");
    fs::write(file(&dir, "tree/etc/motd"), "hullo\n").unwrap();
    fs::remove_file(file(&dir, "tree/link")).unwrap();
    fs::write(file(&dir, "tree/new"), "").unwrap();
    call(dir.path(), &["build", "tree", "-o", "c.gvmi"], 0);
    let changes = call(dir.path(), &["diff", "a.gvmi", "c.gvmi"], 1).0;
    let expected = "C /etc/motd (content)\nC /etc/other (content)\nD /link\nA /new\n";
    assert_eq!(changes.replace("C /\n", ""), expected);
}

#[test]
fn damage_is_told_from_what_cannot_be_read() {
    let dir = built();
    let (told, _) = call(dir.path(), &["verify", "a.gvmi"], 0);
    assert!(told.starts_with("a.gvmi: ok, "), "{told}");
    let mut bytes = fs::read(file(&dir, "a.gvmi")).unwrap();
    // In the one block of data, behind the superblock.
    bytes[100] ^= 0xff;
    bytes[104] ^= 0xff;
    fs::write(file(&dir, "bad.gvmi"), bytes).unwrap();
    let (told, said) = call(dir.path(), &["verify", "bad.gvmi", "a.gvmi"], 1);
    assert!(said.starts_with("shem: bad.gvmi: damaged: "), "{said}");
    assert!(told.starts_with("a.gvmi: ok, "), "{told}");
    let (_, said) = call(dir.path(), &["verify", "nope.gvmi"], 125);
    assert!(said.starts_with("shem: nope.gvmi: no such file"), "{said}");
}

#[test]
fn what_is_read_is_not_replaced_and_a_failure_leaves_nothing() {
    let dir = built();
    call(dir.path(), &["export", "a.gvmi", "-o", "a.tar"], 0);
    for words in [
        ["build", "a.tar", "-o", "a.tar"],
        ["export", "a.gvmi", "-o", "a.gvmi"],
        ["build", "a.tar", "-o", "missing/x"],
        ["build", "nope.tar", "-o", "x"],
        ["build", "oci:tree", "-o", "x"],
        ["build", "docker-archive:a.tar", "-o", "x"],
    ] {
        let before = fs::read(file(&dir, "a.tar")).unwrap();
        let (told, said) = call(dir.path(), &words, 125);
        assert_eq!((told.as_str(), said.lines().count()), ("", 1), "{said}");
        assert!(said.starts_with("shem: "), "{said}");
        assert!(fs::read(file(&dir, "a.tar")).unwrap() == before);
    }
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["a.gvmi", "a.tar", "tree"]);
}

#[test]
fn output_that_cannot_be_written_is_named() {
    let dir = built();
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for words in [
        &["cat", "a.gvmi", "link"][..],
        &["ls", "a.gvmi"],
        &["inspect", "a.gvmi"],
    ] {
        let output = image(dir.path(), words).stdout(full()).output().unwrap();
        assert_eq!(output.status.code(), Some(125), "{words:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.starts_with("shem: write to standard output: "),
            "{said}"
        );
    }
    // An error that cannot be told is still one.
    let ended = image(dir.path(), &["verify", "nope"])
        .stderr(full())
        .status();
    assert_eq!(ended.unwrap().code(), Some(125));
}
