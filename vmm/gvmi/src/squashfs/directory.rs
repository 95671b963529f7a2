//! A folder's list of names: runs of up to 256 names whose inodes are in one
//! metadata block, in ascending order of the names' bytes.

use super::error::{Damage, TreeFault, What};
use super::inode::Inode;
use super::metadata::Cursor;
use super::tree::Tree;

/// What a list's length counts and nothing takes: "." and "..".
const DOTS: u32 = 3;
/// Most names in a run.
const MAX_RUN: u32 = 256;
/// Longest name, as in Linux.
const MAX_NAME: u16 = 255;
/// Bytes of a run's header and of an entry before its name.
const RUN: u32 = 12;
const ENTRY: u32 = 8;

/// Where a folder's list is.
#[derive(Clone, Copy, Debug)]
pub struct Directory {
    /// Offset of the block in the directory table.
    pub(crate) block: u32,
    /// Place in the block.
    pub(crate) at: u16,
    /// Length, and [`DOTS`].
    pub(crate) size: u32,
}

/// A name and where its inode is.
#[derive(Debug)]
pub(crate) struct Name {
    pub(crate) name: Vec<u8>,
    reference: u64,
    number: u32,
    kind: u16,
}

/// Reads a folder's list in order.
#[derive(Debug)]
pub(crate) struct Names {
    cursor: Cursor,
    /// Bytes of the list that were not read.
    left: u32,
    /// Names of the run that were not read.
    run: u32,
    /// Offset of the run's inodes in the inode table.
    inodes: u32,
    /// What the run's numbers are relative to.
    number: u32,
    last: Vec<u8>,
}

impl Names {
    pub(crate) fn new(tree: &Tree<'_>, directory: Directory) -> Self {
        let superblock = &tree.superblock;
        let reference = u64::from(directory.block) << 16 | u64::from(directory.at);
        let start = superblock.directory_table;
        Self {
            cursor: Cursor::new(What::Directories, start, reference, superblock.bytes_used),
            left: directory.size.saturating_sub(DOTS),
            run: 0,
            inodes: 0,
            number: 0,
            last: Vec::new(),
        }
    }

    /// The next name; `None` at the end. Nothing is to be read after an error.
    pub(crate) fn next(&mut self, tree: &Tree<'_>) -> Result<Option<Name>, TreeFault> {
        if self.run == 0 {
            if self.left == 0 {
                return Ok(None);
            }
            self.start_run(tree)?;
        }
        self.run -= 1;
        tree.charge_item()?;
        self.take(ENTRY)?;
        let at = self.cursor.u16(tree)?;
        let delta = self.cursor.u16(tree)?.cast_signed();
        let kind = self.cursor.u16(tree)?;
        // One less than it is.
        let len = self.cursor.u16(tree)?;
        if len >= MAX_NAME {
            return Err(Damage::List.into());
        }
        let len = len + 1;
        self.take(len.into())?;
        let name = self.cursor.bytes(tree, len.into())?;
        self.check(&name)?;
        self.last.clone_from(&name);
        Ok(Some(Name {
            name,
            reference: u64::from(self.inodes) << 16 | u64::from(at),
            number: self.number.wrapping_add_signed(delta.into()),
            kind,
        }))
    }

    fn start_run(&mut self, tree: &Tree<'_>) -> Result<(), TreeFault> {
        self.take(RUN)?;
        // One less than it is.
        let count = self.cursor.u32(tree)?;
        if count >= MAX_RUN {
            return Err(Damage::List.into());
        }
        self.run = count + 1;
        self.inodes = self.cursor.u32(tree)?;
        self.number = self.cursor.u32(tree)?;
        Ok(())
    }

    fn take(&mut self, len: u32) -> Result<(), Damage> {
        self.left = self.left.checked_sub(len).ok_or(Damage::List)?;
        Ok(())
    }

    /// A name must be one of a single entry in this folder, and not be there
    /// twice: what is packed or unpacked under it would land elsewhere.
    fn check(&self, name: &[u8]) -> Result<(), Damage> {
        if name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(Damage::Name(name.to_vec()));
        }
        if *name <= *self.last {
            return Err(Damage::Order(name.to_vec()));
        }
        Ok(())
    }
}

impl Tree<'_> {
    /// The inode of `name`.
    pub(crate) fn named(&self, name: &Name) -> Result<Inode, TreeFault> {
        let inode = self.inode(name.reference)?;
        let kind = inode.kind.basic_type();
        if (inode.number, kind) != (name.number, name.kind) {
            return Err(Damage::Mismatch {
                expected: name.number,
                expected_type: name.kind,
                number: inode.number,
                kind,
            }
            .into());
        }
        Ok(inode)
    }

    /// The entry `name` of `directory`.
    pub(crate) fn child(
        &self,
        directory: Directory,
        name: &[u8],
    ) -> Result<Option<Inode>, TreeFault> {
        let mut names = Names::new(self, directory);
        while let Some(found) = names.next(self)? {
            if found.name == name {
                return self.named(&found).map(Some);
            }
            if *found.name > *name {
                break;
            }
        }
        Ok(None)
    }
}
