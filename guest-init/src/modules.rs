//! Loads the kernel modules that the pack brings, in the pack's order.

use std::fs::{self, File};
use std::path::Path;

use guest_protocol::MODULES_DIR;

use crate::error::{Attempt, Result};
use crate::sys;

/// Loads each module and frees its file, which lies in guest memory. One that
/// the kernel has already, built in or loaded, is fine.
pub fn load(names: &[String]) -> Result<()> {
    for name in names {
        let path = Path::new(MODULES_DIR).join(name);
        let file = File::open(&path).attempt(path.display())?;
        match sys::load_module(&file) {
            Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
            other => other.attempt(format_args!("load module {name}"))?,
        }
        fs::remove_file(&path).attempt(path.display())?;
    }
    Ok(())
}
