//! Folders and their listings.

use std::mem::size_of;

use zerocopy::{FromZeros, IntoBytes};

use super::{Call, names};
use crate::cache::Cache;
use crate::fs::{Dirent, DirentSink, Entry, Errno, Handle};
use crate::wire::{
    DIRENT_ALIGN, DirentHead, EntryOut, FSYNC_DATA_ONLY, FsyncIn, OpenIn, OpenOut, ReadIn,
    ReleaseIn,
};

/// Most bytes of a listing's part. Fewer than asked for is no end of the
/// listing: the guest asks for the next part.
const MAX_LISTING: usize = 128 << 10;

impl Call<'_> {
    /// The flags of the request are for files: a folder is only read.
    pub(super) fn opendir(mut self) -> Result<usize, Errno> {
        let _: OpenIn = self.arguments.take()?;
        let opened = self.fs().opendir(self.node())?;
        let reply = OpenOut {
            fh: opened.handle.0,
            open_flags: self.server.cache.folder_flags(opened.listed),
            padding: 0,
        };
        self.put(reply.as_bytes())
    }

    pub(super) fn readdir(self) -> Result<usize, Errno> {
        self.list(false)
    }

    pub(super) fn readdirplus(self) -> Result<usize, Errno> {
        self.list(true)
    }

    fn list(mut self, plus: bool) -> Result<usize, Errno> {
        let asked: ReadIn = self.arguments.take()?;
        let mut listing = Listing {
            bytes: Vec::new(),
            limit: (asked.size as usize).min(self.room.len()).min(MAX_LISTING),
            plus: plus.then_some(self.server.cache),
            full: false,
        };
        let (fs, node, handle) = (self.fs(), self.node(), Handle(asked.fh));
        let outcome = if plus {
            fs.readdirplus(node, handle, asked.offset, &mut listing)
        } else {
            fs.readdir(node, handle, asked.offset, &mut listing)
        };
        match outcome {
            // An error after some entries comes again with the next part. If it
            // came now, the guest would not forget the nodes of these entries.
            _ if !listing.bytes.is_empty() => self.put(&listing.bytes),
            // Nothing at all would mean the end of the listing.
            Ok(()) if listing.full => Err(Errno::INVAL),
            Ok(()) => Ok(0),
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn releasedir(mut self) -> Result<usize, Errno> {
        let asked: ReleaseIn = self.arguments.take()?;
        self.fs().releasedir(self.node(), Handle(asked.fh))?;
        Ok(0)
    }

    pub(super) fn fsyncdir(mut self) -> Result<usize, Errno> {
        let asked: FsyncIn = self.arguments.take()?;
        let data_only = asked.fsync_flags & FSYNC_DATA_ONLY != 0;
        self.fs()
            .fsyncdir(self.node(), Handle(asked.fh), data_only)?;
        Ok(0)
    }
}

/// A part of a listing, as it will lie in the reply.
struct Listing {
    bytes: Vec<u8>,
    limit: usize,
    /// With attributes, valid for as long as this says.
    plus: Option<Cache>,
    /// An entry had no room.
    full: bool,
}

impl DirentSink for Listing {
    fn add(&mut self, dirent: Dirent<'_>, entry: Option<&Entry>) -> bool {
        let head = size_of::<DirentHead>() + self.plus.map_or(0, |_| size_of::<EntryOut>());
        let end = (self.bytes.len() + head + dirent.name.len()).next_multiple_of(DIRENT_ALIGN);
        if self.full || end > self.limit {
            self.full = true;
            return false;
        }
        if let Some(cache) = self.plus {
            let entry =
                entry.map_or_else(EntryOut::new_zeroed, |entry| names::entry_out(entry, cache));
            self.bytes.extend(entry.as_bytes());
        }
        let head = DirentHead {
            ino: dirent.ino,
            off: dirent.next,
            // It fits into the limit, which has 32 bits.
            namelen: dirent.name.len() as u32,
            kind: u32::from(dirent.kind),
        };
        self.bytes.extend(head.as_bytes());
        self.bytes.extend(dirent.name);
        self.bytes.resize(end, 0);
        true
    }
}
