//! Inodes: everything of an entry but its name (squashfs 4.0; little-endian).

use super::directory::Directory;
use super::error::{Damage, TreeFault};
use super::file::FileData;
use super::metadata::Cursor;
use super::tree::Tree;

/// Longest target of a symbolic link, as in Linux.
const MAX_TARGET: u32 = 4096;
/// In place of a number of a list of extended attributes: there are none.
const NO_XATTRS: u32 = u32::MAX;
/// Only these bits are a mode.
const MODE: u16 = 0o7777;
/// From this type on, types are the extended forms of the ones before.
const EXTENDED: u16 = 7;

/// An inode of an image.
#[derive(Clone, Debug)]
pub struct Inode {
    /// Its number, from 1; names with the same number are hard links.
    pub number: u32,
    /// Permissions, with setuid, setgid and sticky: 12 bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last change of its content, in seconds since 1970.
    pub mtime: u32,
    /// How many names it says it has.
    pub links: u32,
    /// What it is.
    pub kind: Kind,
    /// Its list of extended attributes.
    pub(crate) xattrs: Option<u32>,
}

/// What an inode is.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A folder.
    Directory(Directory),
    /// A regular file.
    File(FileData),
    /// A symbolic link, with its target.
    Symlink(Vec<u8>),
    /// A block device.
    Block(Device),
    /// A character device.
    Char(Device),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// A device's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Of the driver; 12 bits.
    pub major: u32,
    /// Of the device; 20 bits.
    pub minor: u32,
}

impl From<u32> for Device {
    /// From Linux's own form of both in 32 bits.
    fn from(number: u32) -> Self {
        Self {
            major: number >> 8 & 0xfff,
            minor: number & 0xff | number >> 12 & 0xf_ff00,
        }
    }
}

impl Inode {
    /// Bytes of a regular file or of a symbolic link's target; of others 0.
    pub fn size(&self) -> u64 {
        match &self.kind {
            Kind::File(data) => data.size(),
            Kind::Symlink(target) => target.len() as u64,
            _ => 0,
        }
    }

    /// Whether it is a folder.
    pub fn is_dir(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }
}

impl Kind {
    /// As `ls -l` marks it: `d`, `-`, `l`, `b`, `c`, `p` or `s`.
    pub fn letter(&self) -> char {
        match self {
            Self::Directory(_) => 'd',
            Self::File(_) => '-',
            Self::Symlink(_) => 'l',
            Self::Block(_) => 'b',
            Self::Char(_) => 'c',
            Self::Fifo => 'p',
            Self::Socket => 's',
        }
    }

    /// The number by which a folder's list names the type.
    pub(crate) fn basic_type(&self) -> u16 {
        match self {
            Self::Directory(_) => 1,
            Self::File(_) => 2,
            Self::Symlink(_) => 3,
            Self::Block(_) => 4,
            Self::Char(_) => 5,
            Self::Fifo => 6,
            Self::Socket => 7,
        }
    }
}

impl Tree<'_> {
    /// Reads the inode that `reference` names.
    pub(crate) fn inode(&self, reference: u64) -> Result<Inode, TreeFault> {
        let mut cursor = self.inode_cursor(reference);
        let kind = cursor.u16(self)?;
        let mode = cursor.u16(self)? & MODE;
        let uid = cursor.u16(self)?;
        let gid = cursor.u16(self)?;
        let mtime = cursor.u32(self)?;
        let number = cursor.u32(self)?;
        let count = self.superblock.inodes;
        if !(1..=count).contains(&number) {
            return Err(Damage::Number { number, count }.into());
        }
        let (links, kind, xattrs) = self.rest(&mut cursor, kind)?;
        Ok(Inode {
            number,
            mode,
            uid: self.id(uid)?,
            gid: self.id(gid)?,
            mtime,
            links,
            kind,
            xattrs: (xattrs != NO_XATTRS).then_some(xattrs),
        })
    }

    /// What follows the part that all types have.
    fn rest(&self, cursor: &mut Cursor, kind: u16) -> Result<(u32, Kind, u32), TreeFault> {
        let is_extended = kind > EXTENDED;
        let xattrs = |cursor: &mut Cursor| match is_extended {
            true => cursor.u32(self),
            false => Ok(NO_XATTRS),
        };
        Ok(match kind {
            1 => {
                let block = cursor.u32(self)?;
                let links = cursor.u32(self)?;
                let size = cursor.u16(self)?.into();
                let at = cursor.u16(self)?;
                (
                    links,
                    Kind::Directory(Directory { block, at, size }),
                    NO_XATTRS,
                )
            }
            8 => {
                let links = cursor.u32(self)?;
                let size = cursor.u32(self)?;
                let block = cursor.u32(self)?;
                let _parent = cursor.u32(self)?;
                let _index_len = cursor.u16(self)?;
                let at = cursor.u16(self)?;
                let xattrs = xattrs(cursor)?;
                (
                    links,
                    Kind::Directory(Directory { block, at, size }),
                    xattrs,
                )
            }
            2 => {
                let start = cursor.u32(self)?.into();
                let fragment = cursor.u32(self)?;
                let offset = cursor.u32(self)?;
                let size = cursor.u32(self)?.into();
                let data = FileData::new(size, start, (fragment, offset), cursor);
                (1, Kind::File(data), NO_XATTRS)
            }
            9 => {
                let start = cursor.u64(self)?;
                let size = cursor.u64(self)?;
                let _sparse = cursor.u64(self)?;
                let links = cursor.u32(self)?;
                let fragment = cursor.u32(self)?;
                let offset = cursor.u32(self)?;
                let xattrs = xattrs(cursor)?;
                let data = FileData::new(size, start, (fragment, offset), cursor);
                (links, Kind::File(data), xattrs)
            }
            3 | 10 => {
                let links = cursor.u32(self)?;
                let len = cursor.u32(self)?;
                if !(1..=MAX_TARGET).contains(&len) {
                    return Err(Damage::Target(len).into());
                }
                let target = cursor.bytes(self, len as usize)?;
                (links, Kind::Symlink(target), xattrs(cursor)?)
            }
            4 | 5 | 11 | 12 => {
                let links = cursor.u32(self)?;
                let device = Device::from(cursor.u32(self)?);
                let kind = match kind {
                    4 | 11 => Kind::Block(device),
                    _ => Kind::Char(device),
                };
                (links, kind, xattrs(cursor)?)
            }
            6 | 7 | 13 | 14 => {
                let links = cursor.u32(self)?;
                let kind = match kind {
                    6 | 13 => Kind::Fifo,
                    _ => Kind::Socket,
                };
                (links, kind, xattrs(cursor)?)
            }
            kind => return Err(Damage::Type(kind).into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_split_as_linux_joins_them() {
        let device = |major, minor| Device { major, minor };
        assert_eq!(Device::from(0x0103), device(1, 3));
        assert_eq!(Device::from(0xabc4_5678), device(0x456, 0xabc78));
        assert_eq!(Device::from(u32::MAX), device(0xfff, 0xf_ffff));
    }
}
