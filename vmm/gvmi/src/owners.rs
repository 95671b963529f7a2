//! Gives the root folder its owner. In tar mode `mksquashfs` gives the root,
//! and folders that the archive implies without an entry, to the user that
//! runs it (version 4.5 has no working option against it). So the archive is
//! passed on with stand-ins for that user, and the finished file system's id
//! table, written uncompressed, tells the two apart again. It is the one place
//! where anything of a squashfs behind its superblock is touched.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use nix::unistd::{getgid, getuid};

use crate::superblock::Superblock;
use crate::tar::Attributes;

/// Stand-ins in the archive for the numbers of who runs us. They are taken
/// from the end of the numbers, where Linux has the invalid one.
const STAND_IN_UID: u32 = 0xffff_fff0;
const STAND_IN_GID: u32 = 0xffff_fff1;
/// Ids in one metadata block of 8 KiB.
const IDS_PER_BLOCK: usize = 2048;
/// In a metadata block's length: it is not compressed.
const UNCOMPRESSED: u16 = 0x8000;

/// Who runs `mksquashfs`, and who shall own what it gives to its user.
pub(crate) struct Owners {
    uid: u32,
    gid: u32,
    root: Attributes,
}

impl Owners {
    pub(crate) fn new(root: Attributes) -> Self {
        Self::run_by(getuid().as_raw(), getgid().as_raw(), root)
    }

    /// As [`Owners::new`] for another user than ours.
    pub(crate) fn run_by(uid: u32, gid: u32, root: Attributes) -> Self {
        Self { uid, gid, root }
    }

    /// Whether `id` can stand in an archive.
    pub(crate) fn can_store(id: u32) -> bool {
        id < STAND_IN_UID
    }

    /// The number to pass on for owner or group `id`.
    pub(crate) fn to_archive(&self, id: u32) -> u32 {
        match id {
            id if id == self.uid => STAND_IN_UID,
            id if id == self.gid => STAND_IN_GID,
            id => id,
        }
    }

    /// The number that the id table should have in the place of `id`. Users
    /// and groups share it, so one number can become one other only.
    fn replacement(&self, id: u32) -> u32 {
        match id {
            STAND_IN_UID => self.uid,
            STAND_IN_GID => self.gid,
            id if id == self.uid => self.root.uid,
            id if id == self.gid => self.root.gid,
            id => id,
        }
    }

    /// Whether the root's group can be told from its owner.
    pub(crate) fn keeps_group(&self) -> bool {
        self.uid != self.gid || self.root.uid == self.root.gid
    }

    /// Puts the final numbers into the id table of `file`.
    pub(crate) fn restore(&self, file: &File, superblock: &Superblock) -> io::Result<()> {
        let ids = usize::from(superblock.ids);
        for block in 0..ids.div_ceil(IDS_PER_BLOCK) {
            let mut pointer = [0; 8];
            file.read_exact_at(&mut pointer, superblock.id_table + block as u64 * 8)?;
            let at = u64::from_le_bytes(pointer);
            let mut header = [0; 2];
            file.read_exact_at(&mut header, at)?;
            let len = (ids - block * IDS_PER_BLOCK).min(IDS_PER_BLOCK) * 4;
            // Always true of -noId; anything else must not be overwritten.
            if usize::from(u16::from_le_bytes(header)) != len | usize::from(UNCOMPRESSED) {
                return Err(io::Error::other("the id table is not as asked for"));
            }
            let mut table = vec![0; len];
            file.read_exact_at(&mut table, at + 2)?;
            for id in table.as_chunks_mut().0 {
                *id = self.replacement(u32::from_le_bytes(*id)).to_le_bytes();
            }
            file.write_all_at(&table, at + 2)?;
        }
        Ok(())
    }
}
