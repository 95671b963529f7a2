//! Assembles the container's root: image layers, an overlay above, and the switch to it.
//!
//! Paths of the initramfs are used before the switch; afterwards they are out
//! of reach, and so are the layers' own mounts.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, chroot};
use std::path::{Path, PathBuf};

use guest_protocol::Upper;
use nix::mount::{MsFlags, mount};

use crate::error::{Attempt, BootError, Result};

const BLOCK_DEVICES: &str = "/sys/block";
const LAYERS: &str = "/mnt/layers";
const UPPER: &str = "/mnt/upper";
const NEW_ROOT: &str = "/mnt/root";

/// Mounts the layers with these serial numbers, the first on top, and an
/// overlay over them whose root has mode and owner of the top layer's.
pub fn assemble(serials: &[String], upper: &Upper) -> Result<()> {
    let disks = Disks::find(Path::new(BLOCK_DEVICES))?;
    let mut lower = String::new();
    for (index, serial) in serials.iter().enumerate() {
        let device = disks.by_serial(serial)?;
        let target = format!("{LAYERS}/{index}");
        make_dir(&target)?;
        mount(
            Some(device),
            target.as_str(),
            Some("squashfs"),
            MsFlags::MS_RDONLY | MsFlags::MS_NODEV,
            None::<&str>,
        )
        .attempt(format_args!(
            "mount image layer {serial} ({})",
            device.display()
        ))?;
        if index > 0 {
            lower.push(':');
        }
        lower.push_str(&target);
    }
    mount_upper(upper)?;
    let (upper_dir, work_dir) = (format!("{UPPER}/upper"), format!("{UPPER}/work"));
    make_dir(&upper_dir)?;
    make_dir(&work_dir)?;
    copy_mode_and_owner(&format!("{LAYERS}/0"), &upper_dir)?;
    make_dir(NEW_ROOT)?;
    let options = format!("lowerdir={lower},upperdir={upper_dir},workdir={work_dir}");
    mount(
        Some("overlay"),
        NEW_ROOT,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .attempt("mount the overlay")
}

/// Makes the new root the root of this process and all that follow.
pub fn switch() -> Result<()> {
    // The initramfs stays below, so free what it holds; the text of a running
    // program survives its name.
    let _ = fs::remove_file("/init");
    std::env::set_current_dir(NEW_ROOT).attempt(NEW_ROOT)?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).attempt("move the root")?;
    chroot(".").attempt("change the root")?;
    std::env::set_current_dir("/").attempt("/")
}

fn mount_upper(upper: &Upper) -> Result<()> {
    make_dir(UPPER)?;
    let Upper::Tmpfs { size } = upper;
    let options = match size {
        Some(bytes) => format!("mode=0755,size={bytes}"),
        None => "mode=0755".to_owned(),
    };
    mount(
        Some("tmpfs"),
        UPPER,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .attempt("mount the overlay's tmpfs")
}

fn make_dir(path: &str) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .attempt(path)
}

fn copy_mode_and_owner(from: &str, to: &str) -> Result<()> {
    let attributes = fs::metadata(from).attempt(from)?;
    chown(to, Some(attributes.uid()), Some(attributes.gid())).attempt(to)?;
    let mode = fs::Permissions::from_mode(attributes.mode() & 0o7777);
    fs::set_permissions(to, mode).attempt(to)
}

/// The virtio block devices by serial number.
struct Disks(Vec<(String, PathBuf)>);

impl Disks {
    /// Looks through a folder such as `/sys/block`.
    fn find(block: &Path) -> Result<Self> {
        let mut disks = Vec::new();
        for entry in fs::read_dir(block).attempt(block.display())? {
            let entry = entry.attempt(block.display())?;
            if !entry.file_name().as_encoded_bytes().starts_with(b"vd") {
                continue;
            }
            // A disk without a serial number is not ours.
            if let Ok(serial) = fs::read_to_string(entry.path().join("serial")) {
                disks.push((
                    serial.trim_end().to_owned(),
                    Path::new("/dev").join(entry.file_name()),
                ));
            }
        }
        Ok(Self(disks))
    }

    fn by_serial(&self, serial: &str) -> Result<&Path> {
        match self.0.iter().find(|(of, _)| of == serial) {
            Some((_, device)) => Ok(device),
            None => {
                let found: Vec<_> = self.0.iter().map(|(serial, _)| serial.as_str()).collect();
                let found = if found.is_empty() {
                    "none".into()
                } else {
                    found.join(", ")
                };
                Err(BootError::new(format!(
                    "no disk with serial {serial} (found: {found})"
                )))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sys_block(disks: &[(&str, Option<&str>)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, serial) in disks {
            fs::create_dir(dir.path().join(name)).unwrap();
            if let Some(serial) = serial {
                fs::write(dir.path().join(name).join("serial"), serial).unwrap();
            }
        }
        dir
    }

    #[test]
    fn layers_are_found_by_serial_whatever_the_order_of_disks() {
        let disks = [
            ("vda", Some("rootfs-1")),
            ("vdb", Some("rootfs-0\n")),
            ("vdc", None),
        ];
        let block = sys_block(&disks);
        let disks = Disks::find(block.path()).unwrap();
        assert_eq!(disks.by_serial("rootfs-0").unwrap(), Path::new("/dev/vdb"));
        assert_eq!(disks.by_serial("rootfs-1").unwrap(), Path::new("/dev/vda"));
    }

    #[test]
    fn missing_layer_is_an_error_that_lists_what_is_there() {
        let block = sys_block(&[("vda", Some("data")), ("loop0", Some("rootfs-0"))]);
        let error = Disks::find(block.path())
            .unwrap()
            .by_serial("rootfs-0")
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "no disk with serial rootfs-0 (found: data)"
        );
    }
}
