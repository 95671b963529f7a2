//! What is measured: the commands, and the files that both machines start from.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use guest_client::initramfs;
use guest_protocol::{BootConfig, Upper};
use shem::{DEFAULT_HOSTNAME, KERNEL_CMDLINE, KernelPack, Store};
use tempfile::TempDir;

use crate::guest::{self, Shem, told};

/// What the guest's init writes to the console before anything else.
pub const INIT_LINE: &str = "shem-init: start";

/// RAM of each guest, Firecracker's default.
const MEMORY: &str = "128m";

/// Programs and files for the measurements.
pub struct Setup {
    shem: Shem,
    image: PathBuf,
    kernel: KernelPack,
    /// Holds the initramfs that shem would build in memory.
    folder: TempDir,
}

impl Setup {
    /// Finds them where `cargo xtask bench` has put them.
    pub fn new() -> Result<Self> {
        let store = Store::discover();
        let kernel = store.kernel(Some("tuned"))?;
        let boot = BootConfig {
            hostname: DEFAULT_HOSTNAME.into(),
            layers: vec!["layer0".into()],
            upper: Upper::Tmpfs { size: None },
            mounts: Vec::new(),
            modules: Vec::new(),
        };
        let init = store.guest_init()?;
        let init = fs::read(&init).with_context(|| format!("read {}", init.display()))?;
        let parts = [initramfs::base(&init, &[]), initramfs::boot_part(&boot)?];
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("initramfs"), parts.concat())?;
        Ok(Setup {
            shem: Shem::find()?,
            image: told("SHEM_DEMO_IMAGE")?,
            kernel,
            folder,
        })
    }

    /// Name and version of the kernel that both boot.
    pub fn kernel(&self) -> String {
        guest::name(&self.kernel)
    }

    /// A guest whose console is shown.
    pub fn shem_boot(&self) -> Command {
        let mut command = self.shem_run(&["--console"]);
        command.args(["sleep", "60"]);
        command
    }

    /// A guest that runs `echo`.
    pub fn shem_echo(&self) -> Command {
        let mut command = self.shem_run(&[]);
        command.args(["echo", "hello"]);
        command
    }

    fn shem_run(&self, options: &[&str]) -> Command {
        self.shem.run(&self.kernel, MEMORY, options, &self.image)
    }

    /// The same guest in QEMU.
    pub fn qemu_boot(&self) -> Command {
        let initramfs = self.folder.path().join("initramfs");
        let mut command = guest::microvm(&self.kernel, &initramfs, MEMORY, KERNEL_CMDLINE);
        command
            .arg("-drive")
            .arg(format!(
                "id=layer0,if=none,format=raw,readonly=on,file={}",
                self.image.display()
            ))
            .args(["-device", "virtio-blk-device,drive=layer0,serial=layer0"]);
        command
    }
}
