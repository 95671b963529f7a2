//! What an archive says about one file.

/// An extended attribute: name, with its prefix, and value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// One entry, without its file data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name, relative to the top of the archive; any bytes but NUL.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of file data; 0 for all but files.
    pub size: u64,
    /// Last change of the content.
    pub modified: Time,
    /// Target of a link: of a hard link the name of another entry.
    pub link: Vec<u8>,
    /// Major and minor number of a device node.
    pub device: (u32, u32),
    /// Extended attributes; of files and folders only.
    pub xattrs: Vec<Xattr>,
}

/// Type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// Another name of an entry that came before.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device node.
    CharDevice,
    /// A block device node.
    BlockDevice,
    /// A folder.
    Folder,
    /// A FIFO.
    Fifo,
}

/// A moment: seconds since the epoch, rounded down, and nanoseconds after that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Seconds, negative before 1970.
    pub seconds: i64,
    /// Nanoseconds, below 1000000000.
    pub nanos: u32,
}

impl Entry {
    /// An entry of which only name and kind are given.
    pub fn new(path: &[u8], kind: Kind) -> Self {
        Self {
            path: path.to_vec(),
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            modified: Time::default(),
            link: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }
}

impl Kind {
    /// The type byte of a header.
    pub(crate) fn to_byte(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::HardLink => b'1',
            Self::Symlink => b'2',
            Self::CharDevice => b'3',
            Self::BlockDevice => b'4',
            Self::Folder => b'5',
            Self::Fifo => b'6',
        }
    }

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            // The oldest form, and contiguous files.
            b'0' | 0 | b'7' => Self::File,
            b'1' => Self::HardLink,
            b'2' => Self::Symlink,
            b'3' => Self::CharDevice,
            b'4' => Self::BlockDevice,
            b'5' => Self::Folder,
            b'6' => Self::Fifo,
            _ => return None,
        })
    }
}
