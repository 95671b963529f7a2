//! A tree of Debian's packages and all that they need, fetched by the host's own apt
//! and unpacked, never installed: no script of theirs runs, and it takes no root.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::process::{self, command};
use crate::{packages, paths};

/// Folders of the packages that no test looks at.
pub const LEFT_OUT: &[&str] = &[
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
];
/// Since Debian 12 these are links into `usr`, which a package makes by a script.
pub const MERGED: &[&str] = &["bin", "lib", "lib64", "sbin"];

/// Fetches these packages, named as for `apt-get install`, to a folder in `scratch` and
/// unpacks them to `tree`. Gives the packages' files.
pub fn make(wanted: &[&str], scratch: &Path, tree: &Path) -> Result<Vec<PathBuf>> {
    let archives = scratch.join("archives");
    fetch(wanted, scratch, &archives).or_else(|_| {
        packages::apt_update()?;
        fetch(wanted, scratch, &archives)
    })?;
    for name in MERGED {
        paths::make(&tree.join("usr").join(name))?;
        symlink(Path::new("usr").join(name), tree.join(name))?;
    }
    let is_package = |path: &PathBuf| path.extension().is_some_and(|end| end == "deb");
    let entries = fs::read_dir(&archives)?.flatten();
    let found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(is_package)
        .collect();
    ensure!(
        found.len() >= wanted.len(),
        "apt left {} packages",
        found.len()
    );
    for package in &found {
        unpack(package, tree)?;
    }
    Ok(found)
}

/// Has apt fetch the packages and all that they need, as on a machine that has none.
fn fetch(wanted: &[&str], scratch: &Path, archives: &Path) -> Result<()> {
    let status = scratch.join("status");
    fs::write(&status, "")?;
    paths::make(&archives.join("partial"))?;
    let mut apt = command("apt-get");
    for (option, value) in [
        ("Dir::State::status=", status.as_path()),
        ("Dir::Cache::archives=", archives),
        // As root apt would become a user who may not write into the cache.
        ("APT::Sandbox::User=", Path::new("root")),
        ("Debug::NoLocking=", Path::new("1")),
    ] {
        apt.arg("-o").arg(format!("{option}{}", value.display()));
    }
    apt.args(["-q", "-y", "--no-install-recommends", "--download-only"]);
    process::quiet(apt.arg("install").args(wanted))
}

fn unpack(package: &Path, tree: &Path) -> Result<()> {
    let mut files = command("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start dpkg-deb")?;
    let mut tar = command("tar");
    tar.args(["-x", "--no-same-owner", "--keep-directory-symlink", "-C"]);
    tar.arg(tree);
    for folder in LEFT_OUT {
        tar.arg(format!("--exclude=./{folder}/*"));
    }
    let unpacked = tar
        .stdin(files.stdout.take().expect("it is piped"))
        .status();
    let whole = unpacked.context("start tar")?.success() && files.wait()?.success();
    ensure!(whole, "{} cannot be unpacked", package.display());
    Ok(())
}
