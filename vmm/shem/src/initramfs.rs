//! The initramfs of one VM: the guest's init, the kernel's modules, and what
//! this guest must know.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use guest_client::initramfs;
use guest_protocol::{BootConfig, MessageError};
use machine::InitramfsPart;

/// Why there is no initramfs.
#[derive(Debug, thiserror::Error)]
pub enum InitramfsError {
    /// The guest's init or a module cannot be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The boot configuration exceeds a limit.
    #[error("tell the guest how to boot")]
    Config(#[from] MessageError),
}

/// What it consists of; `modules` are names and paths. Files are opened here, and
/// read when they go into guest memory.
pub fn build(
    guest_init: &Path,
    modules: &[(&str, PathBuf)],
    config: &BootConfig,
) -> Result<Vec<InitramfsPart>, InitramfsError> {
    let (init, init_len) = open(guest_init)?;
    let mut files = vec![init];
    let mut sizes = Vec::new();
    for (name, path) in modules {
        let (file, len) = open(path)?;
        files.push(file);
        sizes.push((*name, len));
    }
    let mut around = initramfs::around(init_len, &sizes)
        .into_iter()
        .map(InitramfsPart::Bytes);
    let mut parts: Vec<_> = around.next().into_iter().collect();
    for (file, after) in files.into_iter().zip(around) {
        parts.extend([file, after]);
    }
    parts.push(InitramfsPart::Bytes(initramfs::boot_part(config)?));
    Ok(parts)
}

fn open(path: &Path) -> Result<(InitramfsPart, usize), InitramfsError> {
    let open = || {
        let file = File::open(path)?;
        let len = file.metadata()?.len() as usize;
        Ok((InitramfsPart::File { file, len }, len))
    };
    open().map_err(|source| InitramfsError::Read {
        path: path.to_path_buf(),
        source,
    })
}
