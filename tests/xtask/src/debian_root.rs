//! A Debian without anything of ours, for the test of our package: Debian's essential
//! packages in a folder of the cache, and dpkg's list of them, so that it knows what is
//! there for ours to depend on.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::debian_tree::{self, LEFT_OUT, MERGED};
use crate::process::{self, command};
use crate::{paths, say};

/// What every Debian has, as apt calls it.
const PACKAGES: &[&str] = &["?essential"];
const LIST: &str = "var/lib/dpkg/status";

/// Finds the folder in the cache or makes it, in a quarter of a minute. Newer
/// packages are taken when the cache is removed.
pub fn ensure() -> Result<PathBuf> {
    let folder = paths::cache()?.join("images");
    let _lock = paths::lock("images")?;
    let mut hasher = DefaultHasher::new();
    (PACKAGES, LEFT_OUT, MERGED).hash(&mut hasher);
    let root = folder.join(format!("debian-root-{:016x}", hasher.finish()));
    if !root.exists() {
        say("making a Debian to install into (40 MB to fetch, once)");
        paths::make(&folder)?;
        make(&root).context("make a Debian to install into")?;
    }
    Ok(root)
}

fn make(root: &Path) -> Result<()> {
    let scratch = paths::Scratch::new("debian-root")?;
    let tree = scratch.path().join("tree");
    let packages = debian_tree::make(PACKAGES, scratch.path(), &tree)?;
    let mut list = String::new();
    for package in packages {
        let control = process::output(command("dpkg-deb").arg("--field").arg(package))?;
        list.push_str(&control);
        list.push_str("\nStatus: install ok installed\n\n");
    }
    let path = tree.join(LIST);
    fs::write(&path, list).with_context(|| format!("write {}", path.display()))?;
    fs::rename(&tree, root).with_context(|| format!("keep {}", root.display()))
}
