//! What a guest mounts beside its image: shares of the host, disks, memory.
//!
//! Part of the boot configuration; says what and where, not how.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::error::MessageError;
use crate::limits::{MAX_MOUNTS, MAX_PATH, MAX_SERIAL, MAX_TAG};
use crate::message::{check_len, check_text};

/// Where the guest's own file systems lie: a mount on one of them, or on the
/// root, would take away what PID 1 and the agent work with.
const TAKEN: [&str; 4] = ["/", "/proc", "/sys", "/dev"];

/// One file system of the container beside its root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path in the container, of at most [`MAX_PATH`] bytes, without
    /// empty, `.` and `..` components; not `/`, `/proc`, `/sys` or `/dev`
    /// itself. Links of the image are followed inside the container; folders
    /// that are missing are created with mode 0755.
    pub target: String,
    /// What is mounted.
    pub source: MountSource,
    /// Nothing below it can be changed. Excludes `fill`.
    pub read_only: bool,
}

/// What a [`Mount`] shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A folder of the host by virtio-fs.
    Share {
        /// Tag of the device: 1 to [`MAX_TAG`] bytes.
        tag: String,
        /// An empty share gets what the image has at the target.
        fill: bool,
    },
    /// A disk, formatted as ext4 when it is used first.
    Disk {
        /// virtio-blk serial number, as those of the layers; of no other disk.
        serial: String,
        /// What the guest does when it finds the file system damaged.
        errors: OnError,
        /// An empty disk gets what the image has at the target.
        fill: bool,
    },
    /// Guest memory, lost when the guest stops.
    Tmpfs {
        /// Size limit in bytes, not zero; `None` is the kernel's, half of the RAM.
        size: Option<u64>,
        /// Permission bits of its root, at most 0o7777.
        mode: u32,
    },
}

/// ext4's `errors=`: what follows on damage of the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnError {
    /// Note it and go on.
    Continue,
    /// Refuse changes from then on.
    RemountReadOnly,
    /// Panic, which ends the guest.
    Panic,
}

/// What takes the changes above the image layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Upper {
    /// Guest memory, lost when the guest stops.
    Tmpfs {
        /// Size limit in bytes, not zero; `None` is the kernel's, half of the RAM.
        size: Option<u64>,
    },
    /// A disk, formatted as ext4 when it is used first. The changes are there
    /// again when a guest with the same image starts on it.
    Disk {
        /// virtio-blk serial number, as those of the layers; of no other disk.
        serial: String,
    },
}

/// Checks what lies above and beside the layers; `layers` have been checked.
pub(crate) fn check(
    layers: &[String],
    upper: &Upper,
    mounts: &[Mount],
) -> Result<(), MessageError> {
    check_len("number of mounts", mounts.len(), MAX_MOUNTS)?;
    let mut serials: HashSet<&str> = layers.iter().map(String::as_str).collect();
    match upper {
        Upper::Tmpfs { size } => check_size(*size)?,
        Upper::Disk { serial } => check_disk(serial, &mut serials)?,
    }
    let mut targets = HashSet::new();
    for mount in mounts {
        check_target(&mount.target)?;
        if !targets.insert(mount.target.as_str()) {
            return Err(MessageError::Invalid {
                what: "mount target given twice",
            });
        }
        let fill = match &mount.source {
            MountSource::Share { tag, fill } => {
                check_name("share tag", tag, MAX_TAG)?;
                *fill
            }
            MountSource::Disk { serial, fill, .. } => {
                check_disk(serial, &mut serials)?;
                *fill
            }
            MountSource::Tmpfs { size, mode } => {
                check_size(*size)?;
                if *mode > 0o7777 {
                    return Err(MessageError::Invalid { what: "tmpfs mode" });
                }
                false
            }
        };
        if fill && mount.read_only {
            return Err(MessageError::Invalid {
                what: "read-only mount to fill",
            });
        }
    }
    Ok(())
}

/// A name that a device is found by.
pub(crate) fn check_name(what: &'static str, name: &str, limit: usize) -> Result<(), MessageError> {
    check_text(what, name.as_bytes(), limit)?;
    if name.is_empty() {
        return Err(MessageError::Invalid { what });
    }
    Ok(())
}

/// Of two users of one disk, each would take it for its own.
fn check_disk<'a>(serial: &'a str, taken: &mut HashSet<&'a str>) -> Result<(), MessageError> {
    check_name("disk serial", serial, MAX_SERIAL)?;
    if !taken.insert(serial) {
        return Err(MessageError::Invalid {
            what: "disk serial used twice",
        });
    }
    Ok(())
}

/// To the kernel, a size of zero is no limit at all.
fn check_size(size: Option<u64>) -> Result<(), MessageError> {
    if size == Some(0) {
        return Err(MessageError::Invalid { what: "tmpfs size" });
    }
    Ok(())
}

fn check_target(target: &str) -> Result<(), MessageError> {
    let what = "mount target";
    check_text(what, target.as_bytes(), MAX_PATH)?;
    let Some(relative) = target.strip_prefix('/') else {
        return Err(MessageError::Invalid { what });
    };
    let odd = |name: &str| matches!(name, "" | "." | "..");
    if TAKEN.contains(&target) || relative.split('/').any(odd) {
        return Err(MessageError::Invalid { what });
    }
    Ok(())
}
