//! One entry of an archive, as everything after the reader sees it: its name
//! clean, its numbers in range, its file data apart.

use thiserror::Error;

use crate::display::shown;
use crate::owners::Owners;
use crate::squashfs::{Device, MAX_XATTR_NAME, MAX_XATTR_TOTAL, MAX_XATTR_VALUE, Xattr};

/// Longest name of one file (Linux NAME_MAX).
const MAX_NAME: usize = 255;
/// Longest path, and longest target of a symbolic link (Linux PATH_MAX,
/// without its NUL).
pub(crate) const MAX_PATH: usize = 4095;
/// Highest device numbers of Linux, plus one.
const MAJOR_END: u64 = 1 << 12;
const MINOR_END: u64 = 1 << 20;

/// An entry without its file data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: CleanPath,
    pub(crate) kind: Kind,
    pub(crate) attributes: Attributes,
    pub(crate) xattrs: Vec<Xattr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of so many bytes.
    File(u64),
    Folder,
    /// Where it points to.
    Symlink(Vec<u8>),
    /// Another name of the file that has this one.
    HardLink(CleanPath),
    Char(Device),
    Block(Device),
    Fifo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// The low 12 bits.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds since 1970. What squashfs cannot store is moved to its nearest
    /// second that it can.
    pub(crate) mtime: u32,
}

impl Default for Attributes {
    /// Those of a folder that is there only because something is in it.
    fn default() -> Self {
        Self {
            mode: 0o755,
            uid: 0,
            gid: 0,
            mtime: 0,
        }
    }
}

/// A path below the root: names joined by one `/`, none of them empty, `.` or
/// `..`. Empty: the root itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CleanPath(Vec<u8>);

impl CleanPath {
    /// Cleans what an archive has: `/a/./b/` is `a/b`.
    pub(crate) fn new(raw: &[u8]) -> Result<Self, EntryError> {
        if raw.is_empty() {
            return Err(EntryError::NoName);
        }
        if raw.contains(&0) {
            return Err(EntryError::Nul);
        }
        let mut clean = Vec::with_capacity(raw.len());
        for name in raw.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => continue,
                b".." => return Err(EntryError::Parent),
                name if name.len() > MAX_NAME => return Err(EntryError::LongName),
                _ => {}
            }
            if !clean.is_empty() {
                clean.push(b'/');
            }
            clean.extend_from_slice(name);
        }
        if clean.len() > MAX_PATH {
            return Err(EntryError::LongPath);
        }
        Ok(Self(clean))
    }

    /// Of names that have been checked, with one `/` between them; it may be
    /// longer than one that an archive may have.
    pub(crate) fn of_checked(path: Vec<u8>) -> Self {
        Self(path)
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The names of the folders on the way, and its own; `None` for the root.
    pub(crate) fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|byte| *byte == b'/') {
            Some(at) => (&self.0[..at], &self.0[at + 1..]),
            None => (b"", &self.0),
        })
    }
}

/// Checks where a symbolic link points to.
pub(crate) fn symlink_target(raw: Vec<u8>) -> Result<Vec<u8>, EntryError> {
    match raw.len() {
        0 => Err(EntryError::NoTarget),
        _ if raw.contains(&0) => Err(EntryError::Nul),
        len if len > MAX_PATH => Err(EntryError::LongPath),
        _ => Ok(raw),
    }
}

/// Checks a device's numbers.
pub(crate) fn device(major: u64, minor: u64) -> Result<Device, EntryError> {
    if major >= MAJOR_END || minor >= MINOR_END {
        return Err(EntryError::Device { major, minor });
    }
    Ok(Device {
        major: major as u32,
        minor: minor as u32,
    })
}

/// Checks an owner or a group.
pub(crate) fn owner(id: u64) -> Result<u32, EntryError> {
    u32::try_from(id)
        .ok()
        .filter(|id| Owners::can_store(*id))
        .ok_or(EntryError::Owner { id })
}

/// What is wrong with one entry. The text follows the entry's name.
#[derive(Debug, Error)]
pub enum EntryError {
    /// `..` would lead out of the image.
    #[error("there is `..` in its name or its target (make the archive again with clean names)")]
    Parent,
    /// An empty name.
    #[error("it has no name (make the archive again)")]
    NoName,
    /// A symbolic link to nothing.
    #[error("it is a symbolic link without a target (make the archive again)")]
    NoTarget,
    /// No file system has such names.
    #[error("there is a NUL byte in its name or its target (make the archive again)")]
    Nul,
    /// A name above 255 bytes.
    #[error(
        "a name in it is longer than {MAX_NAME} bytes, which no file system can store (make the archive again with shorter names)"
    )]
    LongName,
    /// A path above 4095 bytes, as it is or behind symbolic links.
    #[error(
        "it or its target is longer than {MAX_PATH} bytes, which no program can open (make the archive again with shorter paths)"
    )]
    LongPath,
    /// A number beyond what a file system can hold.
    #[error(
        "it belongs to {id}, which no file system can store (make the archive again with other owners)"
    )]
    Owner {
        /// Its user or group.
        id: u64,
    },
    /// A device that Linux cannot have.
    #[error(
        "it is device {major}:{minor}, which Linux cannot have (make the archive again without it)"
    )]
    Device {
        /// Major number.
        major: u64,
        /// Minor number.
        minor: u64,
    },
    /// A map of a sparse file that contradicts itself or is too long.
    #[error("the map of its holes is damaged (make the archive again)")]
    Sparse,
    /// An extended attribute's name above 255 bytes.
    #[error(
        "the name of its extended attribute {} is longer than {MAX_XATTR_NAME} bytes, which no file system can store (make the archive again without it)",
        shown(name)
    )]
    XattrName {
        /// The name.
        name: Vec<u8>,
    },
    /// An extended attribute's value above 64 KiB.
    #[error(
        "its extended attribute {} is longer than {MAX_XATTR_VALUE} bytes, which Linux cannot read (make the archive again without it)",
        shown(name)
    )]
    XattrValue {
        /// The attribute's name.
        name: Vec<u8>,
    },
    /// More extended attributes than are read from an image.
    #[error(
        "its extended attributes take more than {MAX_XATTR_TOTAL} bytes together (make the archive again with fewer)"
    )]
    XattrTotal,
    /// More extended attributes of folders than are indexed.
    #[error(
        "the extended attributes of the image's folders take more than {max} bytes (allow more with --max-entries)"
    )]
    FolderXattrs {
        /// Most bytes.
        max: u64,
    },
    /// A name list that Linux could not return.
    #[error(
        "the names of its extended attributes take more than {max} bytes, which Linux cannot list (make the archive again with fewer)"
    )]
    Xattrs {
        /// Most bytes.
        max: usize,
    },
    /// More folders in each other than are read from an image.
    #[error("it is more than {max} folders deep (make the archive again with fewer)")]
    Deep {
        /// Most of them.
        max: usize,
    },
    /// The root folder is something else.
    #[error(
        "it would replace the root folder by something else (make the archive again without it)"
    )]
    Root,
    /// A whiteout that names nothing.
    #[error("it is a whiteout of no name (make the layer again)")]
    Whiteout,
    /// A hard link to a name that is not there.
    #[error(
        "it is a hard link to {}, which is not there (fetch or make the archive again)",
        shown(target)
    )]
    Nowhere {
        /// The name.
        target: Vec<u8>,
    },
    /// A hard link to a folder.
    #[error(
        "it is a hard link to {}, which is a folder (make the archive again)",
        shown(target)
    )]
    LinkToFolder {
        /// The folder.
        target: Vec<u8>,
    },
    /// Something in a file.
    #[error(
        "it is inside of {}, which is not a folder (make the archive again)",
        shown(path)
    )]
    NotAFolder {
        /// What should be a folder.
        path: Vec<u8>,
    },
    /// More symbolic links on the way than Linux follows.
    #[error("too many symbolic links lead to it (make the archive again with a plain path)")]
    Loop,
    /// More entries than are indexed.
    #[error("the image has more than {max} entries (allow more with --max-entries)")]
    TooMany {
        /// Most entries.
        max: u32,
    },
    /// Longer names than are indexed.
    #[error(
        "the names of the image's entries take more than {max} bytes (allow more with --max-entries)"
    )]
    Names {
        /// Most bytes.
        max: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_or_refused() {
        for (raw, clean) in [
            ("a", "a"),
            ("/a//b/", "a/b"),
            ("./a/./b", "a/b"),
            ("./", ""),
            ("/", ""),
            ("...", "..."),
        ] {
            assert_eq!(
                CleanPath::new(raw.as_bytes()).unwrap().as_bytes(),
                clean.as_bytes()
            );
        }
        let long = "n".repeat(MAX_NAME + 1);
        let deep = "d/".repeat(MAX_PATH);
        for raw in ["", "..", "a/../b", "/..", "a\0b", &long, &deep] {
            assert!(CleanPath::new(raw.as_bytes()).is_err(), "{raw}");
        }
    }

    #[test]
    fn path_is_split_at_its_last_name() {
        let split = |raw: &str| {
            let path = CleanPath::new(raw.as_bytes()).unwrap();
            path.split()
                .map(|(folders, name)| [folders, name].join(&b'|'))
        };
        assert_eq!(split("/"), None);
        assert_eq!(split("a").unwrap(), b"|a");
        assert_eq!(split("a/b/c").unwrap(), b"a/b|c");
    }
}
