//! The pack "tuned": built from Debian's kernel sources with our
//! configuration, everything a guest needs built in.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::debian::Package;
use super::{Manifest, elf, kconfig, key};
use crate::process::{self, command};
use crate::{paths, say};

/// The sources are Debian's, patches and security updates included.
const SOURCE: &str = "linux-source-6.12";
/// What the kernel is to be, and why.
pub const FRAGMENT: &str = include_str!("../../../guest/tuned.config");
/// To be raised when this file or what it uses makes something else of the
/// same source and configuration.
const RECIPE: &str = "tuned 1";
/// How much of the log a failed build shows.
const LOG_LINES: usize = 30;

/// Finds out what the pack is to be made from.
pub fn plan() -> Result<(Package, Manifest)> {
    let package = Package::candidate(SOURCE)?;
    let manifest = Manifest {
        name: "tuned",
        version: package.upstream_version().to_owned(),
        origin: package.origin(),
        features: &[
            "pvh",
            "modules",
            "builtin-virtio",
            "virtio-fs",
            "virtio-net",
            "containers",
        ],
        key: key(&[RECIPE, &package.origin(), FRAGMENT])?,
        modules: Vec::new(),
        on_demand: Default::default(),
    };
    Ok((package, manifest))
}

/// Fills `folder` with the pack. The log stays in the cache.
pub fn make(package: &Package, scratch: &Path, folder: &Path) -> Result<()> {
    let jobs = available_parallelism().map_or(1, usize::from).to_string();
    say(&format!(
        "kernel tuned: fetching {} (150 MB, once)",
        package.origin()
    ));
    let files = package.unpack(scratch)?;
    let tree = scratch.join("tree");
    paths::make(&tree)?;
    let archive = files.join("usr/src").join(format!("{SOURCE}.tar.xz"));
    let unpack = ["--strip-components=1", "-xJf"];
    process::quiet(
        command("tar")
            .arg("-C")
            .arg(&tree)
            .args(unpack)
            .arg(archive),
    )?;

    let log = paths::cache()?.join("kernel-tuned.log");
    File::create(&log).with_context(|| format!("create {}", log.display()))?;
    configure(&tree, &log)?;
    say(&format!(
        "kernel tuned: building on {jobs} processors (about 6 minutes on 2); log: {}",
        log.display()
    ));
    let start = Instant::now();
    logged(make_in(&tree).args(["-j", &jobs, "vmlinux"]), &log)?;
    say(&format!(
        "kernel tuned: built in {} s",
        start.elapsed().as_secs()
    ));

    let place = folder.join("vmlinux");
    process::quiet(
        command("strip")
            .arg("-o")
            .arg(&place)
            .arg(tree.join("vmlinux")),
    )?;
    let mut kernel = fs::read(&place).with_context(|| format!("read {}", place.display()))?;
    elf::trim(&mut kernel)?;
    fs::write(&place, kernel).with_context(|| format!("write {}", place.display()))
}

/// Configures the tree: our fragment, and "no" to everything else.
fn configure(tree: &Path, log: &Path) -> Result<()> {
    let fragment = tree.join("tuned.config");
    fs::write(&fragment, FRAGMENT).with_context(|| format!("write {}", fragment.display()))?;
    logged(
        make_in(tree)
            .env("KCONFIG_ALLCONFIG", &fragment)
            .arg("allnoconfig"),
        log,
    )?;
    let result = tree.join(".config");
    let result =
        fs::read_to_string(&result).with_context(|| format!("read {}", result.display()))?;
    kconfig::check(FRAGMENT, &result)
}

/// `make` in the kernel's tree, deaf to what the caller's shell may have set
/// for other builds.
fn make_in(tree: &Path) -> Command {
    let mut make = command("make");
    let foreign = [
        "ARCH",
        "CROSS_COMPILE",
        "KBUILD_OUTPUT",
        "KCONFIG_CONFIG",
        "KCFLAGS",
        "LLVM",
        "LOCALVERSION",
        "MAKEFLAGS",
        "MAKELEVEL",
        "MFLAGS",
        "O",
    ];
    for name in foreign {
        make.env_remove(name);
    }
    // The kernel prints these; the machine that built it is nobody's business.
    make.envs([("KBUILD_BUILD_USER", "shem"), ("KBUILD_BUILD_HOST", "shem")]);
    make.arg("-s").current_dir(tree);
    make
}

/// Runs a step whose output goes to the log, and shows its end on failure.
fn logged(step: &mut Command, log: &Path) -> Result<()> {
    let open = || File::options().append(true).open(log);
    let file = open().with_context(|| format!("open {}", log.display()))?;
    let errors = file.try_clone().context("share the log")?;
    let status = step
        .stdin(std::process::Stdio::null())
        .stdout(file)
        .stderr(errors)
        .status()
        .with_context(|| format!("start `{}`", process::show(step)))?;
    if status.success() {
        return Ok(());
    }
    let text = fs::read(log).with_context(|| format!("read {}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
    bail!(
        "`{}` failed: {status}\n{end}\nall of it: {}",
        process::show(step),
        log.display()
    );
}
