//! What a VM needs and this checkout builds: `shem` with its plugins, the runtime, the
//! static `guest-init`, a small demo image and that of the runtime's self-test.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

use crate::process::{self, command};
use crate::{cargo, paths, say};

/// The only target whose static standard library is at hand everywhere.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What providers look for beside or below the runtime.
const SELF_TEST_IMAGE: &str = "self-test.gvmi";
/// Its command, in the guest and among what is built.
const SELF_TEST: &str = "ya-self-test";
/// Most bytes of it: every provider has it, and boots it often.
const MAX_SELF_TEST_IMAGE: u64 = 2 << 20;

/// The programs and the images.
pub struct Built {
    pub shem: PathBuf,
    /// The image of its self-test lies beside it, where it looks for it.
    pub runtime: PathBuf,
    pub guest_init: PathBuf,
    pub demo_image: PathBuf,
    /// The folder of the programs that test file systems in a guest.
    pub guest_programs: PathBuf,
}

/// Builds all of it; what is up to date costs a second.
pub fn build() -> Result<Built> {
    let target = paths::target()?;
    let guest_init = build_guest_init(&target)?;
    say("building shem, its plugins and the runtime");
    let programs = "build --quiet --release -p shem_cli -p entropy -p net -p ya_runtime";
    process::quiet(&mut cargo(programs))?;
    let shem = target.join("release/shem");
    let demo_image = build_demo_image(&target, &shem)?;
    let guest_programs = target.join("guest").join(TARGET).join("guest");
    let self_test_image = target.join("release").join(SELF_TEST_IMAGE);
    build_self_test_image(&guest_programs.join(SELF_TEST), &self_test_image, &shem)?;
    Ok(Built {
        shem,
        runtime: target.join("release/ya-runtime-shem"),
        guest_init,
        demo_image,
        guest_programs,
    })
}

/// Builds what runs in guests, and puts `guest-init` beside the built programs,
/// where `shem` looks for it.
fn build_guest_init(target: &Path) -> Result<PathBuf> {
    say("building guest-init and the programs that run in guests");
    let packages = ["guest_init", "ya_self_test", "posix_suite", "net_probe"];
    let built = build_static(target, &packages)?.join("guest-init");
    for profile in ["debug", "release"] {
        paths::copy_if_changed(&built, &target.join(profile).join("guest-init"))?;
    }
    let size = fs::metadata(&built).context("look at guest-init")?.len();
    say(&format!("guest-init: {} KiB", size >> 10));
    Ok(target.join("release/guest-init"))
}

/// Builds what the benchmark of volumes runs in guests.
pub fn build_workload() -> Result<PathBuf> {
    say("building the benchmark's workload");
    Ok(build_static(&paths::target()?, &["bench_workload"])?.join("bench-workload"))
}

/// Builds programs that need nothing of the guest's but a kernel, and gives
/// their folder.
fn build_static(target: &Path, packages: &[&str]) -> Result<PathBuf> {
    // A folder of its own, because the flags differ from the host programs'.
    // The flags reach no build script, because the target is named.
    let folder = target.join("guest");
    let mut build = cargo("build --quiet --bins --profile guest --target");
    build.arg(TARGET);
    for package in packages {
        build.arg("-p").arg(package);
    }
    build.arg("--target-dir").arg(&folder);
    rust_flags(
        &mut build,
        &["-Ctarget-feature=+crt-static", "-Crelocation-model=static"],
    );
    process::quiet(&mut build)?;
    Ok(folder.join(TARGET).join("guest"))
}

/// Has cargo compile for `TARGET` with these flags. Those of the environment
/// would go before them, so they are taken away.
pub fn rust_flags(cargo: &mut Command, flags: &[&str]) {
    cargo
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    let list = serde_json::to_string(flags).expect("strings become JSON");
    cargo.args(["--config", &format!("target.{TARGET}.rustflags={list}")]);
}

/// Makes `demo.gvmi`: Debian's static busybox under all its names, a few
/// users, and a command that greets.
fn build_demo_image(target: &Path, shem: &Path) -> Result<PathBuf> {
    let image = target.join("demo.gvmi");
    // Its recipe is in this program and its writer in `shem`.
    if modified(&image) > modified(shem) && modified(&image) > modified(&std::env::current_exe()?) {
        return Ok(image);
    }
    say("making the demo image");
    let scratch = paths::Scratch::new("demo")?;
    let tree = scratch.path().join("tree");
    fill_demo_tree(&tree).context("lay out the demo image")?;
    let greeting = "echo \"Hello from a VM: $(uname -sr), up for $(cut -d' ' -f1 /proc/uptime) s\"";
    let cmd = serde_json::to_string(&["sh", "-c", greeting]).expect("strings become JSON");
    build_image(&tree, &image, shem, &["--cmd", &cmd])?;
    Ok(image)
}

/// Makes the self-test's image: its command, and the volume for its result. All else
/// is the guest's to make.
fn build_self_test_image(program: &Path, image: &Path, shem: &Path) -> Result<()> {
    if modified(image) > modified(program) && modified(image) > modified(shem) {
        return Ok(());
    }
    say("making the self-test's image");
    let scratch = paths::Scratch::new("self-test")?;
    let tree = scratch.path().join("tree");
    paths::make(&tree)?;
    fs::copy(program, tree.join(SELF_TEST))
        .with_context(|| format!("copy {}", program.display()))?;
    build_image(&tree, image, shem, &["--volume", "/mnt/out"])?;
    let size = fs::metadata(image).context("look at the image")?.len();
    ensure!(
        size < MAX_SELF_TEST_IMAGE,
        "{} has {size} bytes: what made {SELF_TEST} so large?",
        image.display()
    );
    Ok(())
}

/// Makes an image of what is in `tree`, with more words for `shem image build`.
/// Beside `tree` there is room.
fn build_image(tree: &Path, image: &Path, shem: &Path, words: &[&str]) -> Result<()> {
    // In an archive everything can belong to root without us being root.
    let archive = tree.with_extension("tar");
    let mut tar = command("tar");
    tar.args([
        "--owner=root:0",
        "--group=root:0",
        "--numeric-owner",
        "--sort=name",
        "-C",
    ]);
    process::quiet(tar.arg(tree).arg("-cf").arg(&archive).arg("."))?;
    let mut build = command(shem);
    build
        .args(["image", "build"])
        .arg(&archive)
        .arg("-o")
        .arg(image)
        .args(words);
    process::quiet(&mut build)
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|data| data.modified()).ok()
}

fn fill_demo_tree(tree: &Path) -> Result<()> {
    let folders = [
        "bin",
        "dev",
        "etc",
        "home/user",
        "proc",
        "root",
        "run",
        "sys",
        "tmp",
        "usr/bin",
        "var",
    ];
    for folder in folders {
        paths::make(&tree.join(folder))?;
    }
    fs::set_permissions(tree.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    fs::set_permissions(tree.join("root"), fs::Permissions::from_mode(0o700))?;
    fs::copy("/bin/busybox", tree.join("bin/busybox")).context("copy /bin/busybox")?;
    for applet in process::output(command("/bin/busybox").arg("--list"))?.lines() {
        if applet != "busybox" {
            symlink("busybox", tree.join("bin").join(applet))?;
        }
    }
    let users = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n";
    fs::write(tree.join("etc/passwd"), users)?;
    fs::write(
        tree.join("etc/group"),
        "root:x:0:\nuser:x:1000:\nextra:x:2000:user\n",
    )?;
    Ok(())
}
