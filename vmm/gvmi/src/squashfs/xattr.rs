//! Extended attributes: inodes with the same ones share a list, and long or
//! common values are stored once, elsewhere.

use super::error::{Damage, TreeFault, What};
use super::inode::Inode;
use super::metadata::Cursor;
use super::table::Table;
use super::tree::Tree;

/// In an attribute's type: its value is elsewhere.
const ELSEWHERE: u16 = 0x100;
/// Longest name, with its prefix, and longest value, as in Linux.
pub(crate) const MAX_XATTR_NAME: usize = 255;
pub(crate) const MAX_XATTR_VALUE: usize = 64 << 10;
/// Most bytes of names and values of one inode.
pub(crate) const MAX_XATTR_TOTAL: usize = 1 << 20;

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// Name with its prefix: `user.`, `trusted.` or `security.`.
    pub name: Vec<u8>,
    /// Value.
    pub value: Vec<u8>,
}

/// Where extended attributes are.
#[derive(Clone, Copy)]
pub(crate) struct Xattrs {
    /// The lists that inodes name by number.
    pub(crate) lists: Table,
    /// What the lists refer into: from this byte on,
    pub(crate) start: u64,
    /// and before this one.
    pub(crate) end: u64,
}

impl Tree<'_> {
    /// The header: where the attributes start (u64), how many lists there are
    /// (u32), nothing (u32), and then the index of the lists.
    pub(crate) fn xattr_table(&self, header: u64, end: u64) -> Result<Xattrs, TreeFault> {
        let index = header + 16;
        if index > end {
            return Err(Damage::Outside {
                what: What::Xattrs,
                at: header,
                end,
            }
            .into());
        }
        let mut start = [0; 8];
        self.read_at(&mut start, header)?;
        let mut count = [0; 4];
        self.read_at(&mut count, header + 8)?;
        let count = u32::from_le_bytes(count).into();
        Ok(Xattrs {
            lists: Table::new(What::Xattrs, index, count, 16, end)?,
            start: u64::from_le_bytes(start),
            end: header,
        })
    }

    /// The extended attributes of `inode`, in the order of their names.
    pub fn xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>, TreeFault> {
        match inode.xattrs {
            None => Ok(Vec::new()),
            Some(list) => self.xattr_list(list),
        }
    }

    pub(crate) fn xattr_list(&self, list: u32) -> Result<Vec<Xattr>, TreeFault> {
        let what = What::Xattrs;
        let number = list.into();
        let table = self.xattrs.ok_or(Damage::NoSuch {
            what,
            number,
            count: 0,
        })?;
        let mut entry = table.lists.entry(self, number)?;
        let mut cursor = table.cursor(entry.u64(self)?);
        let count = entry.u32(self)?;
        let mut found = Vec::new();
        let mut total = 0;
        for _ in 0..count {
            let xattr = self.xattr(&table, &mut cursor)?;
            total += xattr.name.len() + xattr.value.len();
            if total > MAX_XATTR_TOTAL {
                return Err(TreeFault::Limit {
                    what: "bytes of extended attributes of an entry",
                    max: MAX_XATTR_TOTAL as u64,
                });
            }
            found.push(xattr);
        }
        self.charge(total as u64)?;
        found.sort();
        Ok(found)
    }

    fn xattr(&self, table: &Xattrs, cursor: &mut Cursor) -> Result<Xattr, TreeFault> {
        let kind = cursor.u16(self)?;
        let name_len = cursor.u16(self)?;
        let prefix: &[u8] = match kind & !ELSEWHERE {
            0 => b"user.",
            1 => b"trusted.",
            2 => b"security.",
            _ => b"",
        };
        let impossible = |value_len| Damage::Xattr {
            kind,
            name_len,
            value_len,
        };
        let len = usize::from(name_len);
        if prefix.is_empty() || len == 0 || prefix.len() + len > MAX_XATTR_NAME {
            return Err(impossible(0).into());
        }
        let name = [prefix, &cursor.bytes(self, len)?].concat();
        if name.contains(&0) {
            return Err(impossible(0).into());
        }
        let value_len = cursor.u32(self)?;
        let mut elsewhere = None;
        if kind & ELSEWHERE != 0 {
            if value_len != 8 {
                return Err(impossible(value_len).into());
            }
            elsewhere = Some(table.cursor(cursor.u64(self)?));
        }
        let value = match &mut elsewhere {
            Some(cursor) => {
                let value_len = cursor.u32(self)?;
                self.value(cursor, value_len, impossible)?
            }
            None => self.value(cursor, value_len, impossible)?,
        };
        Ok(Xattr { name, value })
    }

    fn value(
        &self,
        cursor: &mut Cursor,
        len: u32,
        impossible: impl FnOnce(u32) -> Damage,
    ) -> Result<Vec<u8>, TreeFault> {
        if len as usize > MAX_XATTR_VALUE {
            return Err(impossible(len).into());
        }
        cursor.bytes(self, len as usize)
    }
}

impl Xattrs {
    fn cursor(&self, reference: u64) -> Cursor {
        Cursor::new(What::Xattrs, self.start, reference, self.end)
    }
}
