//! The initramfs of one VM: the guest's init, the kernel's modules, and what
//! this guest must know.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use guest_client::initramfs;
use guest_protocol::{BootConfig, MessageError};

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

/// Its parts, to be laid end to end; `modules` are names and paths.
pub fn build(
    guest_init: &Path,
    modules: &[(&str, PathBuf)],
    config: &BootConfig,
) -> Result<Vec<Vec<u8>>, InitramfsError> {
    let init = read(guest_init)?;
    let modules = modules
        .iter()
        .map(|(name, path)| Ok((*name, read(path)?)))
        .collect::<Result<Vec<_>, InitramfsError>>()?;
    let modules: Vec<(&str, &[u8])> = modules
        .iter()
        .map(|(name, bytes)| (*name, bytes.as_slice()))
        .collect();
    Ok(vec![
        initramfs::base(&init, &modules),
        initramfs::boot_part(config)?,
    ])
}

fn read(path: &Path) -> Result<Vec<u8>, InitramfsError> {
    fs::read(path).map_err(|source| InitramfsError::Read {
        path: path.to_path_buf(),
        source,
    })
}
