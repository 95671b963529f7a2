//! An image of real programs for the long tests: databases, git, a compiler, a
//! stress test. Made of Debian's packages, which are fetched by the host's own
//! apt and unpacked, never installed: no script of theirs runs, and it takes
//! no root.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::process::{self, command};
use crate::{packages, paths, say};

/// What the tests run. What these need comes with them; an essential package
/// needs to be named, as Debian leaves out that it is needed.
const PACKAGES: &[&str] = &[
    "base-files",
    "bash",
    "cargo",
    "coreutils",
    "findutils",
    "fio",
    "gcc",
    "git",
    "grep",
    "libc6-dev",
    "postgresql-15",
    "rustc",
    "sed",
    "sqlite3",
    "stress-ng",
];
/// Folders of the packages that no test looks at.
const LEFT_OUT: &[&str] = &[
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
];
/// Since Debian 12 these are links into `usr`, which a package makes by a script.
const MERGED: &[&str] = &["bin", "lib", "lib64", "sbin"];
/// Packs in seconds, where the default takes minutes.
const COMPRESSION: &str = "zstd:1";
const USERS: &str = "root:x:0:0:root:/root:/bin/bash\nuser:x:1000:1000:user:/tmp:/bin/bash\n";
const GROUPS: &str = "root:x:0:\nuser:x:1000:\n";

/// Finds the image in the cache or makes it, in about a minute. Newer packages
/// are taken when the cache is removed.
pub fn ensure(shem: &Path) -> Result<PathBuf> {
    let folder = paths::cache()?.join("images");
    let _lock = paths::lock("images")?;
    let mut hasher = DefaultHasher::new();
    (PACKAGES, LEFT_OUT, MERGED, COMPRESSION, USERS, GROUPS).hash(&mut hasher);
    let image = folder.join(format!("debian-{:016x}.gvmi", hasher.finish()));
    if !image.exists() {
        say("making the image of Debian's programs (250 MB to fetch, once)");
        paths::make(&folder)?;
        make(shem, &image).context("make the image of Debian's programs")?;
    }
    Ok(image)
}

fn make(shem: &Path, image: &Path) -> Result<()> {
    let scratch = paths::Scratch::new("debian-image")?;
    let archives = scratch.path().join("archives");
    fetch(scratch.path(), &archives).or_else(|_| {
        packages::apt_update()?;
        fetch(scratch.path(), &archives)
    })?;
    let tree = scratch.path().join("tree");
    for name in MERGED {
        paths::make(&tree.join("usr").join(name))?;
        symlink(Path::new("usr").join(name), tree.join(name))?;
    }
    let mut unpacked = 0;
    for entry in fs::read_dir(&archives)?.flatten() {
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "deb")
        {
            unpack(&entry.path(), &tree)?;
            unpacked += 1;
        }
    }
    ensure!(unpacked >= PACKAGES.len(), "apt left {unpacked} packages");
    finish(&tree)?;
    // In an archive everything can belong to root without us being root.
    let archive = scratch.path().join("tree.tar");
    let mut tar = command("tar");
    tar.args(["--owner=root:0", "--group=root:0", "--numeric-owner", "-C"]);
    process::quiet(tar.arg(&tree).arg("-cf").arg(&archive).arg("."))?;
    let made = scratch.path().join("image.gvmi");
    let mut build = command(shem);
    build
        .args(["image", "build"])
        .arg(&archive)
        .arg("-o")
        .arg(&made)
        .args(["--comp", COMPRESSION]);
    process::quiet(&mut build)?;
    fs::rename(&made, image).with_context(|| format!("keep {}", image.display()))
}

/// Has apt fetch the packages and all that they need, as on a machine that has none.
fn fetch(scratch: &Path, archives: &Path) -> Result<()> {
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
    process::quiet(apt.arg("install").args(PACKAGES))
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

/// What scripts of the packages would have done.
fn finish(tree: &Path) -> Result<()> {
    fs::write(tree.join("etc/passwd"), USERS)?;
    fs::write(tree.join("etc/group"), GROUPS)?;
    symlink("gcc", tree.join("usr/bin/cc"))?;
    symlink("bash", tree.join("usr/bin/sh")).or_else(|error| {
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            Ok(())
        } else {
            Err(error)
        }
    })?;
    Ok(())
}
