//! The mounts of the boot configuration: shares, disks, memory.
//!
//! Works in the container's root, so that links of the image lead where the
//! image means and no further. Nobody else runs yet. Each failure ends the
//! boot: a process that finds an empty folder instead of its data does harm.

use std::fs::{DirBuilder, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use guest_protocol::{Mount, MountSource};
use nix::mount::MsFlags;
use nix::sys::stat::{major, minor};

use crate::disks::Disks;
use crate::error::{Attempt, BootError, Result};
use crate::fill;

/// The longest READ of a share.
const READ_AHEAD_KIB: &str = "1024";

/// Mounts all of `mounts`, those that lie in others after these.
pub fn mount_all(mounts: &[Mount], disks: &mut Disks) -> Result<()> {
    for mount in outer_first(mounts) {
        // Only now, as it may lie in what was mounted last.
        let target = &mount.target;
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(target)
            .attempt(format_args!("create the mount point {target}"))?;
        let image = if fills(&mount.source) {
            Some(Below::open(target)?)
        } else {
            None
        };
        mount_one(mount, disks)?;
        if let Some(image) = image {
            fill::fill(&image.path(), target.as_ref()).map_err(|error| {
                BootError::new(format!("fill {target} from the image: {error}"))
            })?;
        }
    }
    Ok(())
}

fn mount_one(mount: &Mount, disks: &mut Disks) -> Result<()> {
    let target = mount.target.as_str();
    // A device node of a volume is of no use; set-id programs are, as in an image.
    let mut flags = MsFlags::MS_NODEV;
    if mount.read_only {
        flags |= MsFlags::MS_RDONLY;
    }
    match &mount.source {
        MountSource::Disk { serial, errors, .. } => {
            disks.mount_ext4(serial, target, flags, *errors)
        }
        MountSource::Share { tag, .. } => {
            nix::mount::mount(
                Some(tag.as_str()),
                target,
                Some("virtiofs"),
                flags,
                None::<&str>,
            )
            .attempt(format_args!("mount share {tag} on {target}"))?;
            read_ahead(target);
            Ok(())
        }
        MountSource::Tmpfs { size, mode } => {
            let mut options = format!("mode={mode:04o}");
            if let Some(bytes) = size {
                options += &format!(",size={bytes}");
            }
            nix::mount::mount(
                Some("tmpfs"),
                target,
                Some("tmpfs"),
                flags | MsFlags::MS_NOSUID,
                Some(options.as_str()),
            )
            .attempt(format_args!("mount a tmpfs on {target}"))
        }
    }
}

/// Has Linux read ahead on the share at `target` by as much as one request takes.
/// Where it cannot be told, it goes on with its eighth of that.
fn read_ahead(target: &str) {
    if let Ok(stat) = nix::sys::stat::stat(target) {
        let (major, minor) = (major(stat.st_dev), minor(stat.st_dev));
        let setting = format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb");
        let _ = std::fs::write(setting, READ_AHEAD_KIB);
    }
}

fn fills(source: &MountSource) -> bool {
    match source {
        MountSource::Share { fill, .. } | MountSource::Disk { fill, .. } => *fill,
        MountSource::Tmpfs { .. } => false,
    }
}

fn outer_first(mounts: &[Mount]) -> Vec<&Mount> {
    let mut sorted: Vec<&Mount> = mounts.iter().collect();
    sorted.sort_by_key(|mount| mount.target.matches('/').count());
    sorted
}

/// A folder that stays in reach when something is mounted on it.
struct Below(File);

impl Below {
    fn open(folder: &str) -> Result<Self> {
        File::options()
            .read(true)
            .custom_flags(libc::O_PATH | nix::libc::O_DIRECTORY)
            .open(folder)
            .map(Self)
            .attempt(folder)
    }

    /// The kernel takes this to the folder itself, not to what is on it. The
    /// dot makes it a folder, and not a link to one.
    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}/.", self.0.as_raw_fd()).into()
    }
}

#[cfg(test)]
mod tests;
