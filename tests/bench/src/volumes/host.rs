//! The host's side: a file system for all candidates, and the files that guests
//! start from.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use guest_client::initramfs;
use nix::unistd::geteuid;
use shem::{KernelPack, Store};
use tempfile::TempDir;

use crate::guest::{Shem, told};
use crate::options::Options;
use crate::run::done;

/// Bytes of the ext4 that all folders and disks are on, of which only what is
/// used is there.
const ROOM: u64 = 4 << 30;

/// Modules that some guest needs, by their packages' names.
const MODULES: &[&str] = &["virtiofs", "9p", "9pnet_virtio", "ext4"];

/// What all candidates share.
pub struct Setup {
    pub shem: Shem,
    pub kernel: KernelPack,
    /// An image with the workload alone.
    pub image: PathBuf,
    /// The workload as the first process, with all modules.
    pub initramfs: PathBuf,
    /// Names of the modules in load order.
    pub modules: String,
    /// Words for the workload.
    pub amounts: Vec<String>,
    mount: PathBuf,
    _folder: Unmounted,
}

/// A folder for temporary files, in which something may be mounted at `mount`.
struct Unmounted(TempDir);

impl Drop for Unmounted {
    fn drop(&mut self) {
        let mount = self.0.path().join("mount");
        // Fails where nothing is mounted.
        let _ = Command::new("umount").arg("-lq").arg(mount).status();
    }
}

impl Setup {
    /// Makes all of it.
    pub fn new(options: &Options) -> Result<Self> {
        let (shem, workload) = (Shem::find()?, told("SHEM_BENCH_WORKLOAD")?);
        let kernel = Store::discover().kernel(Some("bench"))?;
        let folder = Unmounted(tempfile::tempdir()?);
        let place = folder.0.path();

        let image = shem.image_of(&workload, "workload", place)?;

        let (mut names, mut contents) = (Vec::new(), Vec::new());
        for (name, path) in kernel.modules(MODULES) {
            names.push(name);
            contents.push(fs::read(&path).with_context(|| format!("read {}", path.display()))?);
        }
        let modules: Vec<(&str, &[u8])> = names
            .iter()
            .zip(&contents)
            .map(|(name, content)| (*name, content.as_slice()))
            .collect();
        let program = fs::read(&workload).context("read the workload")?;
        let initramfs = place.join("initramfs");
        fs::write(&initramfs, initramfs::base(&program, &modules))?;

        let mount = place.join("mount");
        fs::create_dir(&mount)?;
        // Others have to do with the file system that is there.
        if geteuid().is_root() {
            let disk = place.join("disk");
            format_disk(&disk, ROOM)?;
            done(
                Command::new("mount")
                    .args(["-o", "loop"])
                    .arg(&disk)
                    .arg(&mount),
            )?;
        }
        Ok(Setup {
            shem,
            modules: names.join(","),
            kernel,
            image,
            initramfs,
            amounts: options.words(),
            mount,
            _folder: folder,
        })
    }

    /// Calls `act` with a new folder on the common file system, which is empty
    /// before and after.
    pub fn with_folder<T>(&self, act: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
        let folder = tempfile::tempdir_in(&self.mount)?;
        let result = act(folder.path())?;
        folder.close()?;
        // What is still to be written would slow down the next.
        nix::unistd::sync();
        Ok(result)
    }
}

/// An ext4 in a file of its own, with nothing left to be done in the background.
pub fn format_disk(path: &Path, size: u64) -> Result<()> {
    File::create(path)
        .and_then(|file| file.set_len(size))
        .with_context(|| format!("make {}", path.display()))?;
    let options = ["-q", "-m0", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
    done(Command::new("mkfs.ext4").args(options).arg(path))
}
