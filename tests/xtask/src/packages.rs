//! The host's Debian packages: what is needed, and getting what is missing.

use std::collections::HashSet;
use std::fs;

use anyhow::{Context, Result, bail};

use crate::process::{self, command};
use crate::say;

/// Debian packages of everything that is not Rust, and what they are for.
const NEEDED: &[&str] = &[
    // The lab: the emulated machine and its initramfs.
    "qemu-system-x86",
    "busybox-static",
    "kmod",
    "cpio",
    // Images.
    "squashfs-tools",
    // The tests make container images with these.
    "umoci",
    "skopeo",
    // Disks: the tests let e2fsck judge them, and qemu-img.
    "e2fsprogs",
    "qemu-utils",
    // Networks: the plugin starts passt; the tests set interfaces up and measure.
    "passt",
    "iproute2",
    "iperf3",
    // Kernel packs: unpacking a compressed kernel, building one.
    "binutils",
    "xz-utils",
    "lz4",
    "zstd",
    "gcc",
    "make",
    "flex",
    "bison",
    "bc",
    "libelf-dev",
    "libssl-dev",
    // The package of ours: what its programs need of the system.
    "dpkg-dev",
    // libFuzzer is C++.
    "g++",
];

/// Installs what is missing when we are root; otherwise says how to.
pub fn ensure() -> Result<()> {
    let missing = missing()?;
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !nix::unistd::geteuid().is_root() {
        bail!("packages are missing; run: sudo apt-get install --no-install-recommends {list}");
    }
    say(&format!("packages: installing {list}"));
    // A fresh machine has no package lists and an old one stale ones.
    if !has_lists() || install(&missing).is_err() {
        apt_update()?;
        install(&missing).with_context(|| format!("install {list}"))?;
    }
    Ok(())
}

fn has_lists() -> bool {
    let lists = fs::read_dir("/var/lib/apt/lists")
        .into_iter()
        .flatten()
        .flatten();
    lists
        .into_iter()
        .any(|list| list.file_name().to_string_lossy().contains("_Packages"))
}

/// Fetches apt's package lists. Needs root.
pub fn apt_update() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("apt's package lists are missing or stale; run: sudo apt-get update");
    }
    say("packages: apt-get update");
    process::quiet(command("apt-get").args(["-q", "update"])).context("fetch apt's package lists")
}

fn install(packages: &[&str]) -> Result<()> {
    let mut apt = command("apt-get");
    apt.args(["-q", "-y", "--no-install-recommends", "install"])
        .args(packages);
    process::quiet(apt.env("DEBIAN_FRONTEND", "noninteractive"))
}

fn missing() -> Result<Vec<&'static str>> {
    // dpkg-query fails when a name is unknown to it, yet lists the others.
    let listing = command("dpkg-query")
        .args(["-W", "-f=${binary:Package} ${db:Status-Status}\n"])
        .args(NEEDED)
        .output()
        .context("run dpkg-query: this needs Debian 12 or a relative of it")?;
    let listing = String::from_utf8_lossy(&listing.stdout).into_owned();
    let installed: HashSet<&str> = listing
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .map(|name| name.split(':').next().unwrap_or(name))
        .collect();
    Ok(NEEDED
        .iter()
        .copied()
        .filter(|name| !installed.contains(name))
        .collect())
}
