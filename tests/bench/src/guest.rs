//! What guests start from: programs, kernels, images, and QEMU's machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use shem::KernelPack;

use crate::run::done;

/// What `cargo xtask bench` tells by a variable.
pub fn told(variable: &str) -> Result<PathBuf> {
    let value = env::var_os(variable).map(PathBuf::from);
    value.with_context(|| format!("{variable} is not set: run `cargo xtask bench`"))
}

/// Its name and its version.
pub fn name(kernel: &KernelPack) -> String {
    format!("{} {}", kernel.name(), kernel.version())
}

/// The command `shem`.
pub struct Shem(PathBuf);

impl Shem {
    /// Finds it where `cargo xtask bench` has put it.
    pub fn find() -> Result<Self> {
        Ok(Shem(told("SHEM_BIN")?))
    }

    /// Makes an image in `folder` with `program` alone, as `/NAME`, and gives its path.
    pub fn image_of(&self, program: &Path, name: &str, folder: &Path) -> Result<PathBuf> {
        let tree = folder.join("tree");
        // For the file that names the name servers.
        fs::create_dir_all(tree.join("etc"))?;
        fs::copy(program, tree.join(name))
            .with_context(|| format!("copy {}", program.display()))?;
        let image = folder.join("image.gvmi");
        let mut build = Command::new(&self.0);
        build.args(["image", "build"]).arg(&tree);
        done(build.arg("-o").arg(&image))?;
        Ok(image)
    }

    /// A guest of this image; the words of its command are still to be added.
    pub fn run(
        &self,
        kernel: &KernelPack,
        memory: &str,
        options: &[&str],
        image: &Path,
    ) -> Command {
        let mut command = Command::new(&self.0);
        command
            .args(["run", "--kernel", kernel.name(), "--memory", memory])
            .args(options)
            .arg(image)
            .arg("--");
        command
    }
}

/// Words for a machine of QEMU's whose virtio devices are of version 1, as ours are.
pub const LIKE_OURS: [&str; 2] = ["-global", "virtio-mmio.force-legacy=false"];

/// QEMU's leanest machine, with the devices that its documentation
/// (system/i386/microvm) advises to leave out left out.
pub fn microvm(kernel: &KernelPack, initramfs: &Path, memory: &str, line: &str) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-M", "microvm,pit=off,pic=off,rtc=off,isa-serial=on"])
        .args(["-accel", "kvm", "-cpu", "host", "-smp", "1", "-m", memory])
        .args(["-nodefaults", "-no-user-config", "-no-reboot"])
        .args(["-display", "none", "-serial", "stdio", "-append", line])
        .arg("-kernel")
        .arg(kernel.vmlinux())
        .arg("-initrd")
        .arg(initramfs);
    command
}
