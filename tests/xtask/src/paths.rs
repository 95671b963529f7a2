//! Where things are: the checkout, the cache, scratch folders, and the locks
//! that keep two of us from making the same thing at once.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde::Deserialize;

use crate::{cargo, process};

/// The folder of the workspace's `Cargo.toml`.
pub fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest
        .ancestors()
        .nth(2)
        .expect("xtask lies two folders below the root")
        .to_owned()
}

/// What survives the checkout: kernels, the lab, demo images. `$SHEM_CACHE`,
/// else `$XDG_CACHE_HOME/shem`, else `~/.cache/shem`; made when missing.
pub fn cache() -> Result<PathBuf> {
    let folder = absolute_variable("SHEM_CACHE")
        .or_else(|| Some(absolute_variable("XDG_CACHE_HOME")?.join("shem")))
        .or_else(|| Some(absolute_variable("HOME")?.join(".cache/shem")))
        .context("no place for the cache: set SHEM_CACHE or HOME")?;
    make(&folder)?;
    Ok(folder)
}

/// The store that `shem` reads kernel packs from: `$SHEM_STORE`, else
/// `$XDG_DATA_HOME/shem`, else `~/.local/share/shem`.
pub fn store() -> Result<PathBuf> {
    absolute_variable("SHEM_STORE")
        .or_else(|| Some(absolute_variable("XDG_DATA_HOME")?.join("shem")))
        .or_else(|| Some(absolute_variable("HOME")?.join(".local/share/shem")))
        .context("no place for the store: set SHEM_STORE or HOME")
}

fn absolute_variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name)
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
}

/// Cargo's target folder for this checkout, as cargo itself sees it.
pub fn target() -> Result<PathBuf> {
    Ok(workspace()?.target_directory)
}

/// The parts of `cargo metadata` that are of use here.
#[derive(Deserialize)]
pub struct Workspace {
    target_directory: PathBuf,
    pub packages: Vec<Package>,
}

/// A crate of the workspace.
#[derive(Deserialize)]
pub struct Package {
    pub name: String,
    pub targets: Vec<Target>,
}

/// A library, program or test of a crate.
#[derive(Deserialize)]
pub struct Target {
    pub name: String,
    pub kind: Vec<String>,
}

/// Asks cargo about the workspace.
pub fn workspace() -> Result<Workspace> {
    let metadata = "metadata --no-deps --format-version=1 --offline";
    let text = process::output(&mut cargo(metadata))?;
    serde_json::from_str(&text).context("read cargo's metadata")
}

/// Makes a folder and its parents.
pub fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))
}

/// Waits for the lock called `name`; it is free again when the file is dropped.
pub fn lock(name: &str) -> Result<File> {
    let path = cache()?.join(format!("{name}.lock"));
    let file = File::create(&path).with_context(|| format!("open {}", path.display()))?;
    if file.try_lock().is_err() {
        crate::say(&format!("waiting for another xtask ({name})"));
        file.lock()
            .with_context(|| format!("lock {}", path.display()))?;
    }
    Ok(file)
}

/// A folder in the cache that is removed when dropped. What a killed xtask
/// left behind is removed when the next one makes its own.
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes an empty folder, on the same file system as the cache so that
    /// results can be renamed into place.
    pub fn new(name: &str) -> Result<Self> {
        let parent = cache()?.join("scratch");
        make(&parent)?;
        remove_abandoned(&parent);
        let folder = parent.join(format!("{name}.{}", std::process::id()));
        make(&folder)?;
        Ok(Self(folder))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Nothing can be done about a failure; the next `new` tries again.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn remove_abandoned(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let owner = entry
            .path()
            .extension()
            .and_then(|pid| pid.to_str()?.parse().ok());
        let gone = owner.is_some_and(|pid| kill(Pid::from_raw(pid), None).is_err());
        if gone {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Copies `from` to `to` unless they are equal already. The new file appears
/// whole or not at all, so a running program that uses the old one goes on.
pub fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let same = |a: &Path, b: &Path| -> io::Result<bool> { Ok(fs::read(a)? == fs::read(b)?) };
    if same(from, to).unwrap_or(false) {
        return Ok(());
    }
    let parent = to.parent().expect("a file has a parent");
    make(parent)?;
    let fresh = to.with_extension(format!("new.{}", std::process::id()));
    fs::copy(from, &fresh)
        .and_then(|_| fs::rename(&fresh, to))
        .with_context(|| format!("copy {} to {}", from.display(), to.display()))
}
