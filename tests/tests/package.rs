//! The Debian package, installed by dpkg where there is Debian and nothing else: all
//! that its programs need of ours is in it, and found.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e_tests::{LIMIT, Outcome, debian_root, package};
use serde_json::Value;
use tempfile::TempDir;

const PLUGINS: &str = "usr/lib/yagna/plugins";
/// Where programs are looked for in there, and here by dpkg.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// The user and group `nobody`.
const NOBODY: &str = "65534:65534";

/// A Debian of its own, whose changes are gone at the end. Takes root.
struct Debian {
    dir: TempDir,
    root: PathBuf,
}

impl Debian {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let debian = Debian {
            root: dir.path().join("root"),
            dir,
        };
        let scratch = debian.dir.path().display().to_string();
        mount(&["-t", "tmpfs", "-o", "mode=755", "scratch", &scratch]);
        for name in ["root", "upper", "work"] {
            fs::create_dir(debian.dir.path().join(name)).unwrap();
        }
        let layers = format!(
            "lowerdir={},upperdir={scratch}/upper,workdir={scratch}/work",
            debian_root().display()
        );
        let root = |name: &str| debian.root.join(name).display().to_string();
        mount(&["-t", "overlay", "-o", &layers, "debian", &root("")]);
        mount(&["-t", "proc", "proc", &root("proc")]);
        mount(&["--rbind", "/dev", &root("dev")]);
        mount(&["-t", "tmpfs", "-o", "mode=1777", "tmp", &root("tmp")]);
        debian
    }

    fn install(&self, package: &Path) {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg("--root").arg(&self.root).arg("--install");
        let outcome = Outcome::of(dpkg.arg(package).env("PATH", PATH).output().unwrap());
        assert_eq!(outcome.status, Some(0), "{outcome:?}");
    }

    /// Runs a program of it as `user`, with nothing of this environment.
    fn run(&self, user: &str, words: &[&str]) -> Outcome {
        let mut chroot = Command::new("/usr/sbin/chroot");
        chroot
            .args(["--userspec", user, "--groups="])
            .arg(&self.root)
            .args(words)
            .env_clear()
            .envs([("PATH", PATH), ("HOME", "/tmp")]);
        Outcome::of(chroot.output().unwrap())
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        // Lazily: a test that fails may leave something open in it.
        let mut umount = Command::new("umount");
        let _ = umount.args(["-R", "-l"]).arg(self.dir.path()).status();
    }
}

fn mount(words: &[&str]) {
    let outcome = Outcome::of(Command::new("mount").args(words).output().unwrap());
    assert_eq!(outcome.status, Some(0), "mount {words:?}: {outcome:?}");
}

#[test]
fn installed_package_passes_its_self_test_and_finds_its_plugin() {
    let debian = Debian::new();
    debian.install(&package());
    let descriptor = debian.root.join(PLUGINS).join("ya-runtime-shem.json");
    let descriptor: Vec<Value> = serde_json::from_slice(&fs::read(descriptor).unwrap()).unwrap();
    let program = descriptor[0]["runtime-path"].as_str().unwrap();
    let program = format!("/{PLUGINS}/{program}");
    let limit = LIMIT.as_secs().to_string();
    // As a provider runs it, without rights.
    let test = debian.run(NOBODY, &[&program, "--test-timeout", &limit, "test"]);
    test.assert_ok("{}\n");
    let offer = debian.run(NOBODY, &[&program, "offer-template"]);
    assert_eq!(offer.status, Some(0), "{offer:?}");

    let version = debian.run(NOBODY, &["shem", "--version"]);
    assert_eq!(version.status, Some(0), "{version:?}");
    // As root, who loads nothing that others could have put there.
    let plugin = debian.run("0:0", &["shem", "plugin", "info", "net"]);
    assert_eq!(plugin.status, Some(0), "{plugin:?}");
    assert!(plugin.stdout.contains("net-golem"), "{plugin:?}");
}

#[test]
fn files_are_roots_alone_to_change_and_everybodys_to_read() {
    let contents = Command::new("dpkg-deb")
        .arg("--contents")
        .arg(package())
        .output()
        .unwrap();
    let contents = String::from_utf8(contents.stdout).unwrap();
    for line in contents.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let modes = ["drwxr-xr-x", "-rwxr-xr-x", "-rw-r--r--"];
        assert!(modes.contains(&words[0]), "{line}");
        // Numbers where this machine has no names for them.
        assert!(["root/root", "0/0"].contains(&words[1]), "{line}");
    }
    for file in [
        "/usr/bin/shem",
        "/usr/lib/shem/plugins/libshem_net.so",
        "/usr/share/bash-completion/completions/shem",
        "/usr/share/doc/shem/copyright",
        "/usr/share/doc/shem/tuned.config",
        "/usr/share/doc/shem/ya-runtime.md",
    ] {
        assert!(
            contents.contains(&format!(".{file}\n")),
            "{file}: {contents}"
        );
    }
}
