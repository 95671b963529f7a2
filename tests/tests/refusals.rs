//! What cannot work is refused in one line that names it, with the right status.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use e2e_tests::{Shem, demo_image};

#[test]
fn files_that_are_no_images() {
    let folder = tempfile::tempdir().unwrap();
    let whole = fs::read(demo_image()).unwrap();
    let mut wrong_crc = whole.clone();
    let at = wrong_crc.len() - 12;
    wrong_crc[at] ^= 1;
    let cases: [(&str, Vec<u8>, &str); 4] = [
        ("text.gvmi", b"no image at all".to_vec(), "text.gvmi"),
        ("empty.gvmi", Vec::new(), "empty.gvmi"),
        ("cut.gvmi", whole[..whole.len() / 2].to_vec(), "cut.gvmi"),
        ("bad.gvmi", wrong_crc, "bad.gvmi"),
    ];
    for (name, bytes, word) in cases {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        Shem::run_image("tuned", &[], &path, &["true"])
            .outcome()
            .assert_refused(125, &[word]);
    }
    let missing = folder.path().join("missing.gvmi");
    Shem::run_image("tuned", &[], &missing, &["true"])
        .outcome()
        .assert_refused(125, &["missing.gvmi"]);
    Shem::run_image("tuned", &[], folder.path(), &["true"])
        .outcome()
        .assert_refused(125, &["folder"]);
}

#[test]
fn kernels_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let pack = folder.path().to_str().unwrap().to_owned() + "/pack";
    Shem::run("nosuch", &[], &["true"])
        .outcome()
        .assert_refused(125, &["nosuch", "cargo xtask kernel"]);
    fs::create_dir(&pack).unwrap();
    Shem::run(&pack, &[], &["true"])
        .outcome()
        .assert_refused(125, &["pack.json"]);
    fs::write(
        format!("{pack}/pack.json"),
        r#"{"name":"broken","version":"0"}"#,
    )
    .unwrap();
    Shem::run(&pack, &[], &["true"])
        .outcome()
        .assert_refused(125, &["vmlinux is missing"]);
    fs::write(format!("{pack}/vmlinux"), "not a kernel").unwrap();
    Shem::run(&pack, &[], &["true"])
        .outcome()
        .assert_refused(125, &["not an uncompressed x86_64 ELF kernel"]);
}

#[test]
fn memory_that_is_too_little_or_too_much() {
    Shem::run("tuned", &["--memory", "32m"], &["true"])
        .outcome()
        .assert_refused(125, &["64"]);
    Shem::run("tuned", &["--memory", "900g"], &["true"])
        .outcome()
        .assert_refused(125, &["921600 MiB", "memory"]);
}

#[test]
fn commands_that_do_not_start() {
    let refused =
        |command: &[&str], options: &[&str]| Shem::run("tuned", options, command).outcome();
    refused(&["no-such-program"], &[]).assert_refused(127, &["no-such-program"]);
    refused(&["/etc/passwd"], &[]).assert_refused(126, &["/etc/passwd"]);
    refused(&["true"], &["--user", "ghost"]).assert_refused(125, &["ghost"]);
    refused(&["true"], &["--workdir", "/nowhere"]).assert_refused(125, &["/nowhere"]);
}

#[test]
fn a_kvm_that_may_not_be_opened() {
    // In a mount namespace of its own, as `nobody` would see it.
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("run");
    let shem = std::env::var("SHEM_BIN").unwrap();
    let image = demo_image();
    fs::write(
        &script,
        format!(
            "mount -t tmpfs none /dev && exec {shem} run --kernel tuned {} -- true\n",
            image.display()
        ),
    )
    .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh"])
        .arg(&script)
        .output()
        .unwrap();
    e2e_tests::Outcome::of(output).assert_refused(125, &["/dev/kvm does not exist"]);
}
