//! What the emulated machine starts from: Debian's kernel and an initramfs of
//! our own, both made once and kept in the cache.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::process::{self, command};
use crate::{packages, paths, say};

/// The package that names Debian's current kernel. The cloud flavour has no 9p.
const KERNEL: &str = "linux-image-amd64";
const INIT: &str = include_str!("../../../lab/init");
const MODULES: &str = include_str!("../../../lab/modules");

/// Everything QEMU and the lab's init need.
pub struct Files {
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    /// `lib/modules` of the kernel's package.
    pub modules: PathBuf,
}

/// Finds the files in the cache or makes them.
pub fn ensure() -> Result<Files> {
    let folder = paths::cache()?.join("lab");
    let _lock = paths::lock("lab")?;
    let kernel = match find_kernel(&folder) {
        Some(kernel) => kernel,
        None => fetch_kernel(&folder)?,
    };
    let version = kernel_version(&kernel)?;
    let mut hasher = DefaultHasher::new();
    (&version, INIT, MODULES).hash(&mut hasher);
    let initramfs = folder.join(format!("initramfs-{version}-{:016x}.cpio", hasher.finish()));
    if !initramfs.exists() {
        say("lab: making the initramfs");
        build_initramfs(&kernel, &version, &initramfs)?;
    }
    Ok(Files {
        kernel: kernel.join("boot").join(format!("vmlinuz-{version}")),
        initramfs,
        modules: kernel.join("lib/modules"),
    })
}

/// The newest unpacked kernel package in the cache. A newer one in Debian is
/// taken when the cache is removed: nothing here depends on the version.
fn find_kernel(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path());
    entries
        .filter(|path| path.is_dir() && path.join("boot").is_dir())
        .max()
}

fn fetch_kernel(folder: &Path) -> Result<PathBuf> {
    say("lab: fetching Debian's kernel for the emulated machine (70 MB, once)");
    let package = kernel_package().or_else(|_| {
        packages::apt_update()?;
        kernel_package()
    })?;
    let scratch = paths::Scratch::new("lab-kernel")?;
    let download = || {
        process::quiet(
            command("apt-get")
                .current_dir(scratch.path())
                .args(["-q", "download", &package]),
        )
    };
    download().or_else(|_| {
        packages::apt_update()?;
        download()
    })?;
    let archive = only_entry(scratch.path())?;
    let unpacked = scratch.path().join("unpacked");
    process::quiet(command("dpkg-deb").arg("-x").arg(&archive).arg(&unpacked))?;
    let version = kernel_version(&unpacked)?;
    process::quiet(
        command("/sbin/depmod")
            .arg("-b")
            .arg(&unpacked)
            .arg(&version),
    )?;
    paths::make(folder)?;
    let place = folder.join(&package);
    fs::rename(&unpacked, &place).with_context(|| format!("rename to {}", place.display()))?;
    Ok(place)
}

/// The versioned package that `linux-image-amd64` depends on.
fn kernel_package() -> Result<String> {
    let depends = process::output(command("apt-cache").args(["depends", KERNEL]))?;
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "));
    Ok(package
        .with_context(|| format!("apt knows no package {KERNEL}"))?
        .to_owned())
}

fn kernel_version(kernel: &Path) -> Result<String> {
    let modules = only_entry(&kernel.join("lib/modules"))?;
    let name = modules.file_name().expect("a folder's entry has a name");
    Ok(name.to_string_lossy().into_owned())
}

fn only_entry(folder: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(folder)
        .with_context(|| format!("read {}", folder.display()))?
        .flatten();
    let entry = entries
        .next()
        .with_context(|| format!("{} is empty", folder.display()))?;
    ensure!(
        entries.next().is_none(),
        "{} holds more than one thing",
        folder.display()
    );
    Ok(entry.path())
}

fn build_initramfs(kernel: &Path, version: &str, place: &Path) -> Result<()> {
    let scratch = paths::Scratch::new("lab-initramfs")?;
    let tree = scratch.path().join("tree");
    for folder in ["bin", "modules", "dev", "proc", "sys"] {
        paths::make(&tree.join(folder))?;
    }
    fs::copy("/bin/busybox", tree.join("bin/busybox")).context("copy /bin/busybox")?;
    fs::write(tree.join("init"), INIT)?;
    fs::set_permissions(tree.join("init"), fs::Permissions::from_mode(0o755))?;

    let mut order: Vec<String> = Vec::new();
    for module in load_order(kernel, version)? {
        let name = module
            .file_name()
            .expect("a module is a file")
            .to_string_lossy()
            .into_owned();
        if !order.contains(&name) {
            fs::copy(&module, tree.join("modules").join(&name))
                .with_context(|| format!("copy {}", module.display()))?;
            order.push(name);
        }
    }
    fs::write(tree.join("modules/order"), order.join("\n") + "\n")?;

    let archive = scratch.path().join("initramfs.cpio");
    let pack = "find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 >\"$0\"";
    process::quiet(
        command("sh")
            .current_dir(&tree)
            .args(["-c", pack])
            .arg(&archive),
    )?;
    fs::rename(&archive, place).with_context(|| format!("rename to {}", place.display()))
}

/// The files of `MODULES` and of what they depend on, dependencies first.
fn load_order(kernel: &Path, version: &str) -> Result<Vec<PathBuf>> {
    let wanted = MODULES
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let listing = process::output(
        command("/sbin/modprobe")
            .arg("-d")
            .arg(kernel)
            .args(["-S", version, "--show-depends", "-a"])
            .args(wanted),
    )?;
    // Lines are `insmod PATH OPTIONS` or `builtin NAME`.
    let files = listing
        .lines()
        .filter_map(|line| line.strip_prefix("insmod "));
    Ok(files
        .map(|rest| PathBuf::from(rest.split(' ').next().unwrap_or(rest)))
        .collect())
}
