//! Mounts are made for real, in a mount namespace of the test's own: as root.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sched::{CloneFlags, unshare};

use super::*;

fn disks() -> Disks {
    Disks::find().unwrap()
}

fn tmpfs(target: &str, mode: u32) -> Mount {
    Mount {
        target: target.into(),
        source: MountSource::Tmpfs {
            size: Some(1 << 20),
            mode,
        },
        read_only: false,
    }
}

/// Runs `test` where its mounts are seen by nobody else, and end with it.
fn apart(test: impl FnOnce(&str) + Send) {
    if !nix::unistd::geteuid().is_root() {
        // Only root may mount.
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    std::thread::scope(|scope| {
        // A namespace belongs to a thread.
        scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            nix::mount::mount(
                None::<&str>,
                "/",
                None::<&str>,
                MsFlags::MS_REC | MsFlags::MS_PRIVATE,
                None::<&str>,
            )
            .unwrap();
            test(path);
        });
    });
}

#[test]
fn mounts_in_others_work_in_any_order() {
    apart(|dir| {
        let (outer, inner) = (format!("{dir}/a"), format!("{dir}/a/b/c"));
        mount_all(&[tmpfs(&inner, 0o1777), tmpfs(&outer, 0o711)], &mut disks()).unwrap();
        let mode = |path: &str| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&outer), 0o711);
        assert_eq!(mode(&format!("{dir}/a/b")), 0o755);
        assert_eq!(mode(&inner), 0o1777);
    });
}

#[test]
fn links_are_followed_and_files_are_no_mount_points() {
    apart(|dir| {
        fs::create_dir(format!("{dir}/real")).unwrap();
        std::os::unix::fs::symlink("real", format!("{dir}/link")).unwrap();
        mount_all(&[tmpfs(&format!("{dir}/link/in"), 0o700)], &mut disks()).unwrap();
        fs::write(format!("{dir}/real/in/file"), "").unwrap();
        let error = mount_all(
            &[tmpfs(&format!("{dir}/real/in/file"), 0o700)],
            &mut disks(),
        )
        .unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("create the mount point {dir}/real/in/file:")),
            "{text}"
        );
    });
}

#[test]
fn read_only_mount_cannot_be_changed() {
    apart(|dir| {
        let mut mount = tmpfs(&format!("{dir}/a"), 0o777);
        mount.read_only = true;
        mount_all(&[mount], &mut disks()).unwrap();
        let error = fs::write(format!("{dir}/a/file"), "").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    });
}

/// As for every volume that is filled: the image's folder is opened before
/// something is mounted on it, and copied after.
#[test]
fn what_a_mount_covers_can_be_copied_into_it() {
    apart(|dir| {
        let target = format!("{dir}/data");
        fs::create_dir_all(format!("{target}/sub")).unwrap();
        fs::write(format!("{target}/sub/file"), "from the image").unwrap();
        let image = Below::open(&target).unwrap();
        mount_all(&[tmpfs(&target, 0o755)], &mut disks()).unwrap();
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
        fill::fill(&image.path(), target.as_ref()).unwrap();
        let copy = fs::read(format!("{target}/sub/file")).unwrap();
        assert_eq!(copy, b"from the image");
    });
}

#[test]
fn failures_name_the_source_and_the_place() {
    apart(|dir| {
        let with = |source| Mount {
            target: format!("{dir}/data"),
            source,
            read_only: false,
        };
        let disk = MountSource::Disk {
            serial: "no such disk".into(),
            errors: guest_protocol::OnError::Panic,
            fill: true,
        };
        let error = mount_all(&[with(disk)], &mut disks())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no disk with serial no such disk"),
            "{error}"
        );
        let share = MountSource::Share {
            tag: "no such tag".into(),
            fill: false,
        };
        let error = mount_all(&[with(share)], &mut disks())
            .unwrap_err()
            .to_string();
        let expected = format!("mount share no such tag on {dir}/data:");
        assert!(error.starts_with(&expected), "{error}");
    });
}
