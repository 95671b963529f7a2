//! Kernel packs: what `shem` boots. Each is a folder in the store with
//! `vmlinux`, `modules/` and `pack.json`, and a link with the pack's name that
//! leads to the current one.
//!
//! A pack is made aside and renamed into place, so that it is there whole or
//! not at all. Packs made from something else stay: an other checkout, or a VM
//! that is starting, may be using them.

mod bzimage;
mod debian;
mod elf;
mod kconfig;
mod modules;
mod stock;
mod tuned;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::process::{self, command};
use crate::{paths, say};

/// Which kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pack {
    /// Debian's cloud kernel with modules: seconds to fetch.
    Stock,
    /// Built from Debian's sources with our configuration: minutes to build,
    /// a fraction of the stock kernel's time to boot.
    Tuned,
    /// Debian's full kernel with 9p beside virtio-fs, which the others lack:
    /// what the benchmark of volumes boots, and never a default.
    Bench,
}

impl Pack {
    /// The name on command lines, in the store and in `pack.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stock => "stock",
            Self::Tuned => "tuned",
            Self::Bench => "bench",
        }
    }
}

/// Gives the pack's folder, and makes the pack first when it is absent or was
/// made from something else.
pub fn ensure(pack: Pack) -> Result<PathBuf> {
    ensure_in(&paths::store()?.join("kernels"), pack)
        .with_context(|| format!("kernel pack \"{}\"", pack.name()))
}

/// What a pack is made from, and what its `pack.json` says.
#[derive(Serialize)]
struct Manifest {
    name: &'static str,
    /// The kernel's version, without that of Debian's packaging.
    version: String,
    /// Debian's package and its full version.
    origin: String,
    /// What the kernel can do that the other packs may not.
    features: &'static [&'static str],
    /// SHA-256 of everything that the pack is made from.
    key: String,
    /// Files in `modules/` that every guest loads at its start, in this order.
    modules: Vec<String>,
    /// Files in `modules/` for a driver that some guests need, in load order
    /// and without those above.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    on_demand: BTreeMap<String, Vec<String>>,
}

fn ensure_in(store: &Path, pack: Pack) -> Result<PathBuf> {
    let _lock = paths::lock(&format!("kernel-{}", pack.name()))?;
    let (source, manifest) = match pack {
        Pack::Stock => stock::plan(&stock::CLOUD)?,
        Pack::Tuned => tuned::plan()?,
        Pack::Bench => stock::plan(&stock::FULL)?,
    };
    let make = |folder: &Path, manifest: &mut Manifest| {
        let scratch = paths::Scratch::new(&format!("kernel-{}", pack.name()))?;
        match pack {
            Pack::Stock => stock::make(&stock::CLOUD, &source, scratch.path(), folder, manifest),
            Pack::Tuned => tuned::make(&source, scratch.path(), folder),
            Pack::Bench => stock::make(&stock::FULL, &source, scratch.path(), folder, manifest),
        }
    };
    install(store, manifest, make)
}

/// Runs `make` unless its result is in the store, then points the link at it.
/// `make` gets the folder to fill. The caller holds the lock of this pack.
fn install(
    store: &Path,
    mut manifest: Manifest,
    make: impl FnOnce(&Path, &mut Manifest) -> Result<()>,
) -> Result<PathBuf> {
    let (name, short_key) = (manifest.name, &manifest.key[..12]);
    let folder_name = format!("{name}-{short_key}");
    let folder = store.join(&folder_name);
    if !folder.is_dir() {
        remove_abandoned(store, name)?;
        let fresh = store.join(format!(".{folder_name}.new"));
        paths::make(&fresh.join("modules"))?;
        let made = make(&fresh, &mut manifest)
            .and_then(|()| write_manifest(&fresh, &manifest))
            .and_then(|()| rename(&fresh, &folder));
        if let Err(error) = made {
            removed(&fresh, fs::remove_dir_all(&fresh))?;
            return Err(error);
        }
        say(&format!(
            "kernel {name}: {} is in {}",
            manifest.version,
            folder.display()
        ));
    }
    let link = store.join(name);
    if fs::read_link(&link).ok().as_deref() != Some(Path::new(&folder_name)) {
        let fresh = store.join(format!(".{name}.link"));
        removed(&fresh, fs::remove_file(&fresh))?;
        symlink(&folder_name, &fresh).with_context(|| format!("link {}", fresh.display()))?;
        rename(&fresh, &link)?;
    }
    Ok(folder)
}

fn write_manifest(folder: &Path, manifest: &Manifest) -> Result<()> {
    let text = serde_json::to_string_pretty(manifest).expect("a manifest is plain data");
    let path = folder.join("pack.json");
    fs::write(&path, text + "\n").with_context(|| format!("write {}", path.display()))?;
    // The rename that follows must not outlive the contents in a power cut.
    let flush = || File::open(folder).map(nix::unistd::syncfs);
    flush()
        .and_then(|done| Ok(done?))
        .with_context(|| format!("flush {}", folder.display()))
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("rename {} to {}", from.display(), to.display()))
}

/// Removes what runs that were killed left behind, whatever they made it from.
fn remove_abandoned(store: &Path, name: &str) -> Result<()> {
    let prefix = format!(".{name}-");
    // A store that is not there yet holds nothing.
    for entry in fs::read_dir(store).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            removed(&entry.path(), fs::remove_dir_all(entry.path()))?;
        }
    }
    Ok(())
}

/// The outcome of removing something that need not be there.
fn removed(path: &Path, outcome: io::Result<()>) -> Result<()> {
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// SHA-256 over `parts`, as hexadecimal digits. Moving a byte from one part to
/// the next changes it.
fn key(parts: &[&str]) -> Result<String> {
    let mut child = command("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start `sha256sum`")?;
    let mut stdin = child.stdin.take().expect("stdin is piped");
    for part in parts {
        write!(stdin, "{}\n{part}", part.len()).context("write to `sha256sum`")?;
    }
    drop(stdin);
    let finished = child.wait_with_output().context("read from `sha256sum`")?;
    let digest = String::from_utf8_lossy(&finished.stdout);
    let digest = digest.split(' ').next().unwrap_or_default();
    ensure!(
        finished.status.success() && digest.len() == 64,
        "`sha256sum` gave no digest"
    );
    Ok(digest.to_owned())
}

/// Runs a filter program from one file to an other.
fn filter(program: &str, arguments: &[&str], from: &Path, to: &Path) -> Result<()> {
    let input = File::open(from).with_context(|| format!("open {}", from.display()))?;
    let output = File::create(to).with_context(|| format!("create {}", to.display()))?;
    let mut filter = command(program);
    filter.args(arguments).stdin(input).stdout(output);
    let finished = filter
        .output()
        .with_context(|| format!("start `{program}`"))?;
    ensure!(
        finished.status.success(),
        "`{}` of {} failed: {}",
        process::show(&filter),
        from.display(),
        String::from_utf8_lossy(&finished.stderr).trim_end(),
    );
    Ok(())
}

#[cfg(test)]
mod tests;
