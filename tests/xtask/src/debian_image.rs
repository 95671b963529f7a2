//! An image of real programs for the long tests: databases, git, a compiler, a
//! stress test, curl. Made of Debian's packages.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::debian_tree::{self, LEFT_OUT, MERGED};
use crate::process::{self, command};
use crate::{paths, say};

/// What the tests run. What these need comes with them; an essential package
/// needs to be named, as Debian leaves out that it is needed.
const PACKAGES: &[&str] = &[
    "base-files",
    "bash",
    "cargo",
    "coreutils",
    "curl",
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
    let tree = scratch.path().join("tree");
    debian_tree::make(PACKAGES, scratch.path(), &tree)?;
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
