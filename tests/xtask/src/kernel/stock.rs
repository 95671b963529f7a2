//! The pack "stock": Debian's cloud kernel, as it is but unpacked.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::debian::Package;
use super::{Manifest, bzimage, elf, key, modules};
use crate::say;

/// Depends on the current kernel.
const NEWEST: &str = "linux-image-cloud-amd64";
/// To be raised when this file or what it uses makes something else of the
/// same package.
const RECIPE: &str = "stock 1";

/// Finds out what the pack is to be made from.
pub fn plan() -> Result<(Package, Manifest)> {
    let newest = Package::candidate(NEWEST)?;
    let name = newest
        .dependency("linux-image-")
        .with_context(|| format!("{} depends on no kernel", newest.origin()))?;
    let package = Package::candidate(name)?;
    let manifest = Manifest {
        name: "stock",
        version: package.upstream_version().to_owned(),
        origin: package.origin(),
        features: &["pvh", "modules"],
        key: key(&[RECIPE, &package.origin(), &modules::recipe()])?,
        modules: Vec::new(),
        on_demand: Default::default(),
    };
    Ok((package, manifest))
}

/// Fills `folder` with the pack.
pub fn make(
    package: &Package,
    scratch: &Path,
    folder: &Path,
    manifest: &mut Manifest,
) -> Result<()> {
    say(&format!(
        "kernel stock: fetching {} (30 MB, once)",
        package.origin()
    ));
    let mut root = package.unpack(scratch)?;
    let image = only_entry(&root.join("boot"), "vmlinuz-")?;
    let release = image
        .strip_prefix("vmlinuz-")
        .expect("found by this prefix")
        .to_owned();

    let image = root.join("boot").join(image);
    let image = fs::read(&image).with_context(|| format!("read {}", image.display()))?;
    let mut kernel = bzimage::unpack(&image, scratch)?;
    elf::trim(&mut kernel)?;
    let place = folder.join("vmlinux");
    fs::write(&place, kernel).with_context(|| format!("write {}", place.display()))?;

    // From Debian 13 on, /lib is a link to /usr/lib.
    if !root.join("lib/modules").is_dir() {
        root.push("usr");
    }
    modules::collect(&root, &release, &folder.join("modules"), manifest)
}

/// The name in `folder` that starts with `prefix`.
fn only_entry(folder: &Path, prefix: &str) -> Result<String> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .find(|name| name.starts_with(prefix))
        .with_context(|| format!("the package has no {prefix}*"))
}
