//! Fills an empty volume with what the image has at its place, as Docker does
//! for a `VOLUME`: contents, owners, modes, times, links, extended attributes,
//! device nodes.
//!
//! The copy is made in a folder of the volume that gets another name when all
//! of it is on stable storage; only then its entries move to where they belong.
//! So a copy that failed or was cut short leaves the volume as empty as it was,
//! and one cut short later is gone on with at the next start.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown, symlink,
};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, mknod, utimensat};
use nix::sys::time::TimeSpec;
use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lsetxattr};
use rustix::io::Errno;

use crate::error::{Attempt, Result};

/// A copy under way, of no worth.
const COPYING: &str = ".shem-fill";
/// A whole copy, part of which may be in place.
const COPIED: &str = ".shem-filled";
/// What a file system itself puts into its root.
const LOST_FOUND: &str = "lost+found";

/// The kernel's `XATTR_LIST_MAX` and `XATTR_SIZE_MAX`.
const XATTR_MAX: usize = 64 * 1024;

/// Copies what is in the folder `image` to the root of `volume`, and gives that
/// root the attributes of the folder, unless the volume has something.
pub fn fill(image: &Path, volume: &Path) -> Result<()> {
    let (copying, copied) = (volume.join(COPYING), volume.join(COPIED));
    if !copied.exists() {
        if copying.exists() {
            fs::remove_dir_all(&copying).attempt(copying.display())?;
        }
        if !is_empty(volume).attempt(volume.display())? {
            return Ok(());
        }
        let mut copy = Copy {
            root: copying.clone(),
            links: HashMap::new(),
        };
        let whole = copy.folder(image, &copying).and_then(|()| {
            nix::unistd::sync();
            fs::rename(&copying, &copied).attempt(copied.display())
        });
        if whole.is_err() {
            // The next start would do it as well.
            let _ = fs::remove_dir_all(&copying);
        }
        whole?;
    }
    for entry in fs::read_dir(&copied).attempt(copied.display())? {
        let entry = entry.attempt(copied.display())?;
        fs::rename(entry.path(), volume.join(entry.file_name())).attempt(entry.path().display())?;
    }
    let attributes = fs::symlink_metadata(image).attempt(volume.display())?;
    copy_attributes(image, &attributes, volume).attempt(volume.display())?;
    fs::remove_dir(&copied).attempt(copied.display())?;
    copy_times(&attributes, volume).attempt(volume.display())
}

fn is_empty(volume: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(volume)? {
        if entry?.file_name() != LOST_FOUND {
            return Ok(false);
        }
    }
    Ok(true)
}

struct Copy {
    root: PathBuf,
    /// Where the first of several names of a file went, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Copy {
    fn folder(&mut self, from: &Path, to: &Path) -> Result<()> {
        let name = self.name(to);
        // Closed to everyone until its owner is the right one.
        DirBuilder::new().mode(0o700).create(to).attempt(&name)?;
        for entry in fs::read_dir(from).attempt(&name)? {
            let entry = entry.attempt(&name)?;
            self.entry(&entry.path(), &to.join(entry.file_name()))?;
        }
        let attributes = fs::symlink_metadata(from).attempt(&name)?;
        copy_attributes(from, &attributes, to).attempt(&name)
    }

    fn entry(&mut self, from: &Path, to: &Path) -> Result<()> {
        let name = self.name(to);
        let attributes = fs::symlink_metadata(from).attempt(&name)?;
        if attributes.is_dir() {
            return self.folder(from, to);
        }
        if attributes.nlink() > 1 {
            match self.links.entry((attributes.dev(), attributes.ino())) {
                Entry::Occupied(first) => {
                    return fs::hard_link(first.get(), to).attempt(&name);
                }
                Entry::Vacant(place) => {
                    place.insert(to.to_owned());
                }
            }
        }
        copy_content(from, &attributes, to)
            .and_then(|()| copy_attributes(from, &attributes, to))
            .attempt(&name)
    }

    /// What messages call the thing that becomes `to`.
    fn name(&self, to: &Path) -> String {
        let below = to.strip_prefix(&self.root).unwrap_or(to);
        Path::new(".").join(below).display().to_string()
    }
}

/// Makes at `to` what is at `from`, which is no folder, without its attributes.
fn copy_content(from: &Path, attributes: &Metadata, to: &Path) -> io::Result<()> {
    let kind = attributes.file_type();
    if kind.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if kind.is_file() {
        let mut source = File::options()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(from)?;
        let mut copy = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(to)?;
        return io::copy(&mut source, &mut copy).map(drop);
    }
    let kind = if kind.is_char_device() {
        SFlag::S_IFCHR
    } else if kind.is_block_device() {
        SFlag::S_IFBLK
    } else if kind.is_fifo() {
        SFlag::S_IFIFO
    } else {
        SFlag::S_IFSOCK
    };
    Ok(mknod(
        to,
        kind,
        Mode::S_IRUSR | Mode::S_IWUSR,
        attributes.rdev(),
    )?)
}

fn copy_attributes(from: &Path, attributes: &Metadata, to: &Path) -> io::Result<()> {
    // Owner first: a change of it takes set-id bits and capabilities away.
    lchown(to, Some(attributes.uid()), Some(attributes.gid()))?;
    copy_extended(from, to)?;
    if !attributes.is_symlink() {
        fs::set_permissions(to, Permissions::from_mode(attributes.mode() & 0o7777))?;
    }
    copy_times(attributes, to)
}

fn copy_times(attributes: &Metadata, to: &Path) -> io::Result<()> {
    let accessed = TimeSpec::new(attributes.atime(), attributes.atime_nsec());
    let modified = TimeSpec::new(attributes.mtime(), attributes.mtime_nsec());
    let flags = UtimensatFlags::NoFollowSymlink;
    Ok(utimensat(AT_FDCWD, to, &accessed, &modified, flags)?)
}

/// Extended attributes, as far as both sides have such things at all.
fn copy_extended(from: &Path, to: &Path) -> io::Result<()> {
    let mut names = Vec::with_capacity(XATTR_MAX);
    match llistxattr(from, rustix::buffer::spare_capacity(&mut names)) {
        Ok(_) => {}
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    let mut value = Vec::new();
    for name in names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        value.clear();
        value.reserve(XATTR_MAX);
        lgetxattr(from, name, rustix::buffer::spare_capacity(&mut value))?;
        match lsetxattr(to, name, &value, XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
