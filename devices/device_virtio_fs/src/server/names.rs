//! Names: looked up, made, moved, removed; and the lives of nodes.

use zerocopy::{FromZeros, IntoBytes};

use super::{Call, Done, attributes};
use crate::cache::Cache;
use crate::fs::{Entry, Errno, Node};
use crate::wire::{
    BatchForgetIn, EntryOut, ForgetIn, ForgetOne, LinkIn, MkdirIn, MknodIn, Rename2In, RenameIn,
};

impl Call<'_> {
    pub(super) fn lookup(mut self) -> Result<usize, Errno> {
        let name = self.arguments.name()?;
        match self.fs().lookup(self.node(), name) {
            // The guest may remember that there is no such name.
            Err(Errno::NOENT) if !self.server.cache.of_names().is_zero() => {
                let mut reply = EntryOut::new_zeroed();
                reply.entry_valid = self.server.cache.of_names().as_secs();
                self.put(reply.as_bytes())
            }
            found => self.put_entry(&found?),
        }
    }

    pub(super) fn forget(mut self) -> Result<Done, Errno> {
        let asked: ForgetIn = self.arguments.take()?;
        self.fs().forget(self.node(), asked.nlookup);
        Ok(Done::Silent)
    }

    /// As many as are there, whatever their number says.
    pub(super) fn batch_forget(mut self) -> Result<Done, Errno> {
        let asked: BatchForgetIn = self.arguments.take()?;
        for _ in 0..asked.count {
            let one: ForgetOne = self.arguments.take()?;
            self.fs().forget(Node(one.nodeid), one.nlookup);
        }
        Ok(Done::Silent)
    }

    pub(super) fn readlink(self) -> Result<usize, Errno> {
        let target = self.fs().readlink(self.node())?;
        self.put(&target)
    }

    pub(super) fn symlink(mut self) -> Result<usize, Errno> {
        let name = self.arguments.name()?;
        let target = self.arguments.target()?;
        let by = self.caller()?;
        let entry = self.fs().symlink(by, self.node(), name, target)?;
        self.put_entry(&entry)
    }

    pub(super) fn mknod(mut self) -> Result<usize, Errno> {
        let asked: MknodIn = self.arguments.take()?;
        let name = self.arguments.name()?;
        let by = self.caller()?;
        let entry = self
            .fs()
            .mknod(by, self.node(), name, asked.mode, asked.rdev)?;
        self.put_entry(&entry)
    }

    pub(super) fn mkdir(mut self) -> Result<usize, Errno> {
        let asked: MkdirIn = self.arguments.take()?;
        let name = self.arguments.name()?;
        let by = self.caller()?;
        let entry = self.fs().mkdir(by, self.node(), name, asked.mode)?;
        self.put_entry(&entry)
    }

    pub(super) fn unlink(mut self) -> Result<usize, Errno> {
        let name = self.arguments.name()?;
        self.fs().unlink(self.node(), name)?;
        Ok(0)
    }

    pub(super) fn rmdir(mut self) -> Result<usize, Errno> {
        let name = self.arguments.name()?;
        self.fs().rmdir(self.node(), name)?;
        Ok(0)
    }

    pub(super) fn rename(mut self) -> Result<usize, Errno> {
        let asked: RenameIn = self.arguments.take()?;
        self.move_to(asked.newdir, 0)
    }

    pub(super) fn rename2(mut self) -> Result<usize, Errno> {
        let asked: Rename2In = self.arguments.take()?;
        self.move_to(asked.newdir, asked.flags)
    }

    fn move_to(mut self, folder: u64, flags: u32) -> Result<usize, Errno> {
        let from = self.arguments.name()?;
        let to = self.arguments.name()?;
        self.fs()
            .rename((self.node(), from), (Node(folder), to), flags)?;
        Ok(0)
    }

    pub(super) fn link(mut self) -> Result<usize, Errno> {
        let asked: LinkIn = self.arguments.take()?;
        let name = self.arguments.name()?;
        let entry = self.fs().link(Node(asked.oldnodeid), self.node(), name)?;
        self.put_entry(&entry)
    }

    fn put_entry(&self, entry: &Entry) -> Result<usize, Errno> {
        self.put(self.entry(entry).as_bytes())
    }

    pub(super) fn entry(&self, entry: &Entry) -> EntryOut {
        entry_out(entry, self.server.cache)
    }
}

/// With what `cache` says about how long name and attributes are valid.
pub(super) fn entry_out(entry: &Entry, cache: Cache) -> EntryOut {
    let name = cache.of_names();
    let attributes = cache.of_attributes(entry.attr.mode);
    EntryOut {
        nodeid: entry.node.0,
        generation: entry.generation,
        entry_valid: name.as_secs(),
        attr_valid: attributes.as_secs(),
        entry_valid_nsec: name.subsec_nanos(),
        attr_valid_nsec: attributes.subsec_nanos(),
        attr: attributes::fields(&entry.attr),
    }
}
