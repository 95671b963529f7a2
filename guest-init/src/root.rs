//! Assembles the container's root: image layers, an overlay above, and the switch to it.
//!
//! What takes the changes may be a disk that a guest had before: then its
//! changes are there again, and only the overlay's scratch space starts anew.
//!
//! Paths of the initramfs are used before the switch; afterwards they are out
//! of reach, and so are the layers' own mounts.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown, chroot};
use std::path::Path;

use guest_protocol::{OnError, Upper};
use nix::mount::{MsFlags, mount};

use crate::disks::Disks;
use crate::error::{Attempt, Result};

const LAYERS: &str = "/mnt/layers";
const UPPER: &str = "/mnt/upper";
const NEW_ROOT: &str = "/mnt/root";

/// Mounts the layers with these serial numbers, the first on top, and an
/// overlay over them whose root has mode and owner of the top layer's. Without
/// layers what would take the changes is the root itself.
pub fn assemble(serials: &[String], upper: &Upper, disks: &mut Disks) -> Result<()> {
    if serials.is_empty() {
        return mount_upper(upper, disks, NEW_ROOT);
    }
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
    mount_upper(upper, disks, UPPER)?;
    let (upper_dir, work_dir) = prepare_upper(UPPER, &format!("{LAYERS}/0"))?;
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

fn mount_upper(upper: &Upper, disks: &mut Disks, target: &str) -> Result<()> {
    make_dir(target)?;
    let size = match upper {
        Upper::Tmpfs { size } => size,
        Upper::Disk { serial } => {
            let errors = OnError::RemountReadOnly;
            return disks.mount_ext4(serial, target, MsFlags::empty(), errors);
        }
    };
    let options = match size {
        Some(bytes) => format!("mode=0755,size={bytes}"),
        None => "mode=0755".to_owned(),
    };
    mount(
        Some("tmpfs"),
        target,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .attempt("mount the root's tmpfs")
}

/// Makes ready what the overlay needs in `above`: the folder of changes, which
/// when it is new gets mode and owner of `top`, and an empty scratch folder.
fn prepare_upper(above: &str, top: &str) -> Result<(String, String)> {
    let (upper, work) = (format!("{above}/upper"), format!("{above}/work"));
    if !Path::new(&upper).exists() {
        // Under another name until it is right, for the sake of a next start.
        let new = format!("{above}/upper.new");
        make_dir(&new)?;
        copy_mode_and_owner(top, &new)?;
        fs::rename(&new, &upper).attempt(&upper)?;
    }
    if Path::new(&work).exists() {
        fs::remove_dir_all(&work).attempt(&work)?;
    }
    make_dir(&work)?;
    Ok((upper, work))
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &str) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn changes_outlive_a_start_and_scratch_space_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let (above, top) = (path("above"), path("top"));
        make_dir(&above).unwrap();
        make_dir(&top).unwrap();
        fs::set_permissions(&top, fs::Permissions::from_mode(0o1751)).unwrap();

        let (upper, work) = prepare_upper(&above, &top).unwrap();
        assert_eq!(mode(&upper), 0o1751);
        fs::write(format!("{upper}/kept"), "").unwrap();
        fs::set_permissions(&upper, fs::Permissions::from_mode(0o700)).unwrap();
        make_dir(&format!("{work}/work/left")).unwrap();
        symlink("/nowhere", format!("{work}/link")).unwrap();

        assert_eq!(
            prepare_upper(&above, &top).unwrap(),
            (upper.clone(), work.clone())
        );
        assert_eq!(mode(&upper), 0o700, "the container changed it");
        assert!(Path::new(&upper).join("kept").exists());
        assert_eq!(fs::read_dir(&work).unwrap().count(), 0);
    }

    #[test]
    fn first_start_that_was_cut_short_is_made_good() {
        let dir = tempfile::tempdir().unwrap();
        let above = dir.path().to_str().unwrap();
        make_dir(&format!("{above}/upper.new")).unwrap();
        let top = format!("{above}/top");
        make_dir(&top).unwrap();
        fs::set_permissions(&top, fs::Permissions::from_mode(0o711)).unwrap();
        let (upper, _) = prepare_upper(above, &top).unwrap();
        assert_eq!(mode(&upper), 0o711);
        assert!(!Path::new(above).join("upper.new").exists());
    }
}
