//! What devices are told of the guest, and what they add to it.

use std::path::PathBuf;

use plugin_abi::GUEST_CONFIG_LIMIT;

/// The guest as it will be.
#[derive(Clone, Copy, Debug)]
pub struct GuestFacts {
    /// How many.
    pub vcpus: u8,
    /// RAM in bytes.
    pub memory: u64,
}

/// What one device wants of the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestAdditions {
    /// Variables of every process, unless it or the image sets them.
    pub env: Vec<(String, String)>,
    /// Kernel modules.
    pub modules: Vec<String>,
    /// Images below the others, absolute paths.
    pub layers: Vec<PathBuf>,
    /// Folders of the host and where the guest has them, read-only.
    pub mounts: Vec<(PathBuf, String)>,
}

/// Adds `new` to `list` once; an errno when there are too many.
pub(crate) fn add<T: PartialEq>(list: &mut Vec<T>, new: T) -> Result<(), i32> {
    if list.contains(&new) {
        return Ok(());
    }
    if list.len() >= GUEST_CONFIG_LIMIT {
        return Err(libc::ENOSPC);
    }
    list.push(new);
    Ok(())
}
