//! A file that appears under its name only when it is finished. Where the file
//! system allows it the file has no name before, so that nothing is left even
//! when this process is killed; else a hidden name in the same folder.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::unistd::linkat;

/// Hidden names to try before something else must be wrong.
const NAMES: u32 = 100;
/// What of a replaced file's mode stays.
const PERMISSIONS: u32 = 0o777;

/// A file on its way. Dropped before it is published, it leaves nothing.
#[derive(Debug)]
pub struct Draft {
    file: File,
    /// The name until it is published, if it has one.
    name: Option<PathBuf>,
    to: PathBuf,
}

impl Draft {
    /// Creates the file that will be `to`, or fails early when `to` could not
    /// be replaced in the end.
    pub fn create(to: &Path) -> io::Result<Self> {
        if !ends_in_a_name(to) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it does not end in a file name",
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
        match unnamed {
            Ok(file) => Ok(Self {
                file,
                name: None,
                to: to.to_path_buf(),
            }),
            // Where there is no such thing, kernels answer variously.
            Err(_) => Self::create_hidden(to),
        }
    }

    pub(crate) fn create_hidden(to: &Path) -> io::Result<Self> {
        let (file, name) = with_hidden_name(to, |name| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(name)
        })?;
        Ok(Self {
            file,
            name: Some(name),
            to: to.to_path_buf(),
        })
    }

    /// What to write to, and to read again. Empty at first.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The hidden name that it has until it is published, if it has one.
    pub(crate) fn hidden_name(&self) -> Option<&Path> {
        self.name.as_deref()
    }

    /// Puts the file in its place, and replaces a file that is there, whose
    /// permissions it takes over.
    pub fn publish(mut self) -> io::Result<()> {
        if let Ok(old) = fs::metadata(&self.to) {
            let mode = old.permissions().mode() & PERMISSIONS;
            self.file.set_permissions(Permissions::from_mode(mode))?;
        }
        if self.name.is_none() {
            match self.link(&self.to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => return result,
            }
            // A link cannot replace a file, a rename can.
            let ((), name) = with_hidden_name(&self.to, |name| self.link(name))?;
            self.name = Some(name);
        }
        if let Some(name) = &self.name {
            fs::rename(name, &self.to)?;
        }
        self.name = None;
        Ok(())
    }

    fn link(&self, name: &Path) -> io::Result<()> {
        let file = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let follow = AtFlags::AT_SYMLINK_FOLLOW;
        Ok(linkat(AT_FDCWD, file.as_str(), AT_FDCWD, name, follow)?)
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

/// Whether the last thing in `to` is a file's name; not so `a/` and `a/.`.
fn ends_in_a_name(to: &Path) -> bool {
    let whole = to.as_os_str().as_bytes();
    to.file_name()
        .is_some_and(|name| whole.ends_with(name.as_bytes()))
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

    type Create = fn(&Path) -> io::Result<Draft>;
    const BOTH_WAYS: [Create; 2] = [Draft::create, Draft::create_hidden];

    #[test]
    fn dropped_draft_leaves_nothing() {
        for create in BOTH_WAYS {
            let folder = tempfile::tempdir().unwrap();
            let draft = create(&folder.path().join("a")).unwrap();
            draft.file().write_all(b"x").unwrap();
            drop(draft);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn published_draft_is_there_or_replaces_the_old_file() {
        for create in BOTH_WAYS {
            let folder = tempfile::tempdir().unwrap();
            let to = folder.path().join("a");
            for text in ["first", "second"] {
                let before = fs::read_to_string(&to).ok();
                let draft = create(&to).unwrap();
                draft.file().write_all(text.as_bytes()).unwrap();
                assert_eq!(fs::read_to_string(&to).ok(), before);
                draft.publish().unwrap();
                assert_eq!(fs::read_to_string(&to).unwrap(), text);
                assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
            }
        }
    }

    #[test]
    fn replaced_file_keeps_its_permissions() {
        for create in BOTH_WAYS {
            let folder = tempfile::tempdir().unwrap();
            let to = folder.path().join("a");
            fs::write(&to, "old").unwrap();
            fs::set_permissions(&to, Permissions::from_mode(0o600)).unwrap();
            create(&to).unwrap().publish().unwrap();
            let new = fs::metadata(&to).unwrap();
            assert_eq!((new.len(), new.permissions().mode() & 0o7777), (0, 0o600));
        }
    }

    #[test]
    fn path_that_ends_in_no_name_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        for end in ["a/", "a/.", "..", "a//"] {
            let to = folder.path().join(end);
            assert!(Draft::create(&to).is_err(), "{end}");
        }
    }

    #[test]
    fn folders_and_devices_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Draft::create(folder.path()).is_err());
        assert!(Draft::create(Path::new("/dev/null")).is_err());
    }
}
