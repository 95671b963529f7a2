//! The first process of QEMU's guests: there is no other, and no agent.
//!
//! Further words: `modules=A.ko,B.ko` (in `/modules`, in load order) and what
//! mount(8) would be told, `type=`, `source=` and `options=`.

use std::ffi::CString;
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::Mode;
use rustix::mount::{MountFlags, UnmountFlags};

use crate::Words;

/// The last line on the console.
const END: &str = "bench: end";

/// Loads the modules and mounts the folder.
pub fn prepare(words: &Words) -> Result<()> {
    mount("proc", "proc", "/proc", "")?;
    mount("devtmpfs", "devtmpfs", "/dev", "")?;
    let modules = words.text("modules")?.split(',');
    for module in modules.filter(|module| !module.is_empty()) {
        let file = File::open(Path::new("/modules").join(module));
        let file = file.with_context(|| format!("open module {module}"))?;
        rustix::system::finit_module(&file, c"", 0)
            .with_context(|| format!("load module {module}"))?;
    }
    let folder = words.text("folder")?;
    fs::create_dir_all(folder).with_context(|| format!("make {folder}"))?;
    mount(
        words.text("type")?,
        words.text("source")?,
        folder,
        words.text("options")?,
    )
}

/// Unmounts the folder, says that all is done, and waits to be killed: the end
/// of the first process would be a panic of the kernel.
pub fn finish(words: &Words) -> Result<()> {
    let folder = words.text("folder")?;
    rustix::mount::unmount(folder, UnmountFlags::empty())
        .with_context(|| format!("unmount {folder}"))?;
    println!("{END}");
    loop {
        std::thread::park();
    }
}

fn mount(kind: &str, source: &str, folder: &str, options: &str) -> Result<()> {
    let options = CString::new(options).context("mount options")?;
    rustix::fs::mkdir(folder, Mode::from_raw_mode(0o755)).ok();
    rustix::mount::mount(source, folder, kind, MountFlags::empty(), &*options)
        .with_context(|| format!("mount {kind} {source} at {folder}"))
}
