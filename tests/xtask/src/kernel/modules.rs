//! Which of a kernel's modules go into its pack, and in which order they load.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Manifest, filter};
use crate::process::{self, command};

/// Every guest loads these at its start, so only what finding the agent and
/// the image takes.
const AT_BOOT: &[&str] = &[
    "virtio_mmio",
    "virtio_blk",
    "vmw_vsock_virtio_transport",
    "squashfs",
    "overlay",
];

/// For guests that have the device, or use the file system.
const ON_DEMAND: &[&str] = &[
    "ext4",
    "fuse",
    "loop",
    "tun",
    "virtio_balloon",
    "virtio_console",
    "virtio_net",
    "virtio_pci",
    "virtio_rng",
    "virtiofs",
];

/// What of this file decides about a pack that has `also` these modules, for
/// its key.
pub fn recipe(also: &[&str]) -> String {
    [AT_BOOT, ON_DEMAND, also].concat().join(" ")
}

/// Copies the modules of the kernel `release` below `root` into `folder`,
/// uncompressed, and notes them in the manifest: the usual ones, and on demand
/// `also` these. What is built in is left out.
pub fn collect(
    root: &Path,
    release: &str,
    also: &[&str],
    folder: &Path,
    manifest: &mut Manifest,
) -> Result<()> {
    process::quiet(command("/sbin/depmod").arg("-b").arg(root).arg(release))?;
    let add = |names: &[&str], known: &[String]| -> Result<Vec<String>> {
        let mut order = Vec::new();
        for file in load_order(root, release, names)? {
            let name = module_name(&file);
            if !known.contains(&name) && !order.contains(&name) {
                copy_plain(&file, &folder.join(&name))?;
                order.push(name);
            }
        }
        Ok(order)
    };
    let at_boot = add(AT_BOOT, &[])?;
    let mut on_demand = BTreeMap::new();
    for name in ON_DEMAND.iter().chain(also) {
        let order = add(&[name], &at_boot)?;
        if !order.is_empty() {
            on_demand.insert((*name).to_owned(), order);
        }
    }
    manifest.modules = at_boot;
    manifest.on_demand = on_demand;
    Ok(())
}

/// The files of `names` and of what they depend on, dependencies first.
fn load_order(root: &Path, release: &str, names: &[&str]) -> Result<Vec<PathBuf>> {
    let mut modprobe = command("/sbin/modprobe");
    // An empty configuration instead of this machine's.
    modprobe
        .args(["-C", "/dev/null", "-S", release, "-d"])
        .arg(root);
    let listing = process::output(modprobe.args(["--show-depends", "-a"]).args(names))?;
    Ok(parse_depends(&listing))
}

/// Lines are `insmod PATH OPTIONS` or `builtin NAME`.
fn parse_depends(listing: &str) -> Vec<PathBuf> {
    let files = listing
        .lines()
        .filter_map(|line| line.strip_prefix("insmod "));
    files
        .map(|rest| PathBuf::from(rest.split(' ').next().unwrap_or(rest)))
        .collect()
}

/// `NAME.ko` of `…/NAME.ko` or `…/NAME.ko.xz`.
fn module_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.split_once(".ko").map_or(&*name, |(stem, _)| stem);
    format!("{stem}.ko")
}

fn copy_plain(from: &Path, to: &Path) -> Result<()> {
    let program = match from.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => {
            fs::copy(from, to).with_context(|| format!("copy {}", from.display()))?;
            return Ok(());
        }
    };
    filter(program, &["-dc"], from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_modules_and_options_are_not_files() {
        let listing = "insmod /m/virtio.ko \nbuiltin ext4\ninsmod /m/fs/loop.ko.xz max_loop=4";
        let files = parse_depends(listing);
        assert_eq!(
            files,
            [Path::new("/m/virtio.ko"), Path::new("/m/fs/loop.ko.xz")]
        );
    }

    #[test]
    fn names_lose_the_compression() {
        assert_eq!(module_name(Path::new("/m/virtio-rng.ko")), "virtio-rng.ko");
        assert_eq!(module_name(Path::new("/m/tun.ko.zst")), "tun.ko");
    }

    #[test]
    fn compressed_module_is_copied_plain() {
        let folder = tempfile::tempdir().unwrap();
        let (plain, packed) = (folder.path().join("a"), folder.path().join("a.ko.xz"));
        fs::write(&plain, b"module").unwrap();
        filter("xz", &["-c"], &plain, &packed).unwrap();
        copy_plain(&packed, &folder.path().join("a.ko")).unwrap();
        assert_eq!(fs::read(folder.path().join("a.ko")).unwrap(), b"module");
    }
}
