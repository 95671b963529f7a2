//! The packs "stock" and "bench": Debian's kernels, as they are but unpacked.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::debian::Package;
use super::{Manifest, bzimage, elf, key, modules};
use crate::say;

/// One of Debian's builds of the kernel.
pub struct Flavour {
    /// The pack's name.
    name: &'static str,
    /// The package that depends on the current kernel.
    newest: &'static str,
    /// To be raised when this file or what it uses makes something else of the
    /// same package.
    recipe: &'static str,
    /// Modules on demand that the other packs do not have.
    also: &'static [&'static str],
    /// For the user.
    megabytes: u32,
}

/// For virtual machines: what `shem` boots.
pub const CLOUD: Flavour = Flavour {
    name: "stock",
    newest: "linux-image-cloud-amd64",
    recipe: "stock 1",
    also: &[],
    megabytes: 30,
};

/// For all machines, and as new as the pack "tuned".
pub const FULL: Flavour = Flavour {
    name: "bench",
    newest: "linux-image-6.12-amd64",
    recipe: "bench 1",
    also: &["9p", "9pnet_virtio"],
    megabytes: 110,
};

/// Finds out what the pack is to be made from.
pub fn plan(flavour: &Flavour) -> Result<(Package, Manifest)> {
    let newest = Package::candidate(flavour.newest)?;
    let name = newest
        .dependency("linux-image-")
        .with_context(|| format!("{} depends on no kernel", newest.origin()))?;
    let package = Package::candidate(name)?;
    let manifest = Manifest {
        name: flavour.name,
        version: package.upstream_version().to_owned(),
        origin: package.origin(),
        features: &["pvh", "modules"],
        key: key(&[
            flavour.recipe,
            &package.origin(),
            &modules::recipe(flavour.also),
        ])?,
        modules: Vec::new(),
        on_demand: Default::default(),
    };
    Ok((package, manifest))
}

/// Fills `folder` with the pack.
pub fn make(
    flavour: &Flavour,
    package: &Package,
    scratch: &Path,
    folder: &Path,
    manifest: &mut Manifest,
) -> Result<()> {
    say(&format!(
        "kernel {}: fetching {} ({} MB, once)",
        flavour.name,
        package.origin(),
        flavour.megabytes
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
    let place = folder.join("modules");
    modules::collect(&root, &release, flavour.also, &place, manifest)
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
