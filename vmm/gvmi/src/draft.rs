//! A file that appears under its name only when it is finished. Where the file
//! system allows it the file has no name before, so that nothing is left even
//! when this process is killed; else a hidden name in the same folder.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::unistd::linkat;

/// Hidden names to try before something else must be wrong.
const NAMES: u32 = 100;

pub(crate) struct Draft {
    file: File,
    /// The name until it is published, if it has one.
    name: Option<PathBuf>,
    to: PathBuf,
}

impl Draft {
    /// Creates the file that will be `to`, or fails early when `to` could not
    /// be replaced in the end.
    pub(crate) fn create(to: &Path) -> io::Result<Self> {
        if to.file_name().is_none() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a file name",
            ));
        }
        match fs::metadata(to) {
            Ok(old) if old.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(old) if !old.is_file() => {
                return Err(io::Error::other(
                    "not a regular file, and not replaced by one",
                ));
            }
            _ => {}
        }
        let unnamed = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_TMPFILE.bits())
            .open(folder(to));
        let (file, name) = match unnamed {
            Ok(file) => (file, None),
            // Where there is no such thing, kernels answer variously.
            Err(_) => {
                let (file, name) = with_hidden_name(to, |name| {
                    OpenOptions::new()
                        .read(true)
                        .write(true)
                        .create_new(true)
                        .open(name)
                })?;
                (file, Some(name))
            }
        };
        Ok(Self {
            file,
            name,
            to: to.to_path_buf(),
        })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Puts the file in its place.
    pub(crate) fn publish(mut self) -> io::Result<()> {
        if self.name.is_none() {
            // A link cannot replace a file, a rename can.
            let link = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            let ((), name) = with_hidden_name(&self.to, |name| {
                let follow = AtFlags::AT_SYMLINK_FOLLOW;
                linkat(AT_FDCWD, link.as_str(), AT_FDCWD, name, follow).map_err(io::Error::from)
            })?;
            self.name = Some(name);
        }
        if let Some(name) = &self.name {
            fs::rename(name, &self.to)?;
        }
        self.name = None;
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // An error has been reported already, or there is nobody to ask.
            let _ = fs::remove_file(name);
        }
    }
}

fn folder(to: &Path) -> &Path {
    match to.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Runs `create` with names beside `to` until one is free.
fn with_hidden_name<T>(
    to: &Path,
    create: impl Fn(&Path) -> io::Result<T>,
) -> io::Result<(T, PathBuf)> {
    let mut result = Err(io::ErrorKind::AlreadyExists.into());
    for number in 0..NAMES {
        let name = folder(to).join(format!(".gvmi-{}-{number}.part", std::process::id()));
        result = create(&name).map(|created| (created, name));
        match &result {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            _ => break,
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn dropped_draft_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let draft = Draft::create(&folder.path().join("a")).unwrap();
        draft.file().write_all(b"x").unwrap();
        drop(draft);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn published_draft_replaces_the_old_file_only() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("a");
        fs::write(&to, "old").unwrap();
        let draft = Draft::create(&to).unwrap();
        draft.file().write_all(b"new").unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "old");
        draft.publish().unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn folders_and_devices_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Draft::create(folder.path()).is_err());
        assert!(Draft::create(Path::new("/dev/null")).is_err());
    }
}
