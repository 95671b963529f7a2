//! Folders for volumes, on a file system that can do what a disk's can.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::geteuid;
use tempfile::TempDir;

/// A folder of the host on an ext4 of its own, which has user extended
/// attributes and fills up; on the usual file system where we are not root.
pub struct Folder {
    path: PathBuf,
    mounted: bool,
    _dir: TempDir,
}

impl Folder {
    /// With room for this many bytes.
    pub fn of(bytes: u64) -> Self {
        // Reached by every user, as folders of temporary files are not.
        let dir = tempfile::Builder::new()
            .permissions(Permissions::from_mode(0o755))
            .tempdir()
            .expect("there is a folder for temporary files");
        let path = dir.path().join("folder");
        std::fs::create_dir(&path).unwrap();
        let mounted = geteuid().is_root();
        if mounted {
            let disk = dir.path().join("disk");
            File::create(&disk).unwrap().set_len(bytes).unwrap();
            run(Command::new("mkfs.ext4").args(["-q", "-m0"]).arg(&disk));
            run(Command::new("mount")
                .args(["-o", "loop"])
                .arg(&disk)
                .arg(&path));
            let _ = std::fs::remove_dir(path.join("lost+found"));
        }
        Folder {
            path,
            mounted,
            _dir: dir,
        }
    }

    /// On a file system that keeps no extended attributes. Takes root.
    pub fn without_attributes() -> Self {
        let dir = TempDir::new().expect("there is a folder for temporary files");
        let path = dir.path().to_path_buf();
        run(Command::new("mount")
            .args(["-t", "ramfs", "ramfs"])
            .arg(&path));
        Folder {
            path,
            mounted: true,
            _dir: dir,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// `-v`'s text that mounts it at `rest`.
    pub fn at(&self, rest: &str) -> String {
        format!("{}:{rest}", self.path.display())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: a test that fails may leave something open in it.
            let _ = Command::new("umount").arg("-l").arg(&self.path).status();
        }
    }
}

fn run(command: &mut Command) {
    let status = command.status().expect("the program is there");
    assert!(status.success(), "{command:?}");
}
