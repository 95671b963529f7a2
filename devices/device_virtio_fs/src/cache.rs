//! What the guest may keep of the files in its memory, and for how long.
//!
//! What each choice makes of Linux' `fs/fuse`:
//!
//! **Coherent.** Names and attributes are valid for no time, so every walk over
//! a name asks again (`fuse_dentry_revalidate`) and every `stat` asks for
//! attributes (`fuse_update_attributes`). Attributes of folders are the
//! exception: they are valid for a moment, because a walk checks permissions of
//! each folder that it has just looked up, and the root's, by one more request
//! each otherwise (`fuse_perm_getattr`). They tell nothing about a folder's
//! names. Listings are without attributes, as none would be valid.
//!
//! Reads and writes go straight between the program's memory and the host's
//! file (`DIRECT_IO`), and so show the file as it is now. In pages of the guest
//! they would cost more, and its memory too: before it reads a page that it
//! has, the guest asks for attributes, to see whether the page is still right.
//! Before Linux 6.6 a file opened so cannot be mapped as shared, so that older
//! guests do read pages that way. There, and in the pages of memory maps,
//! `AUTO_INVAL_DATA` drops what is of another size or modification time, as does
//! an open. Writes go to the host as they are made. So what the host or another
//! VM writes is seen by the next call. Memory maps are the exception: a mapped
//! page stays as it is until a call asks.
//!
//! **Exclusive.** Nobody else changes the folder while the guest has it, so
//! that names (also those that do not exist), attributes, pages, listings and
//! the targets of symbolic links stay valid: for a day, as no time is for ever
//! in the protocol and a day costs nothing. Of those who have a folder open at
//! the same time only one keeps what it reads. `AUTO_INVAL_DATA` is not offered: it
//! would compare with times that the guest itself is about to change. Writes
//! wait in the guest (`WRITEBACK_CACHE`) until it writes them back, syncs or
//! closes the file, and times and size are the guest's until then. Two things
//! follow for opening: the guest fills up partly written pages through any
//! handle, so one that only writes must be able to read; and the guest knows
//! where a file ends, so that its offsets count and not the host's `O_APPEND`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rustix::fs::FileType;

use crate::wire::{FOPEN_CACHE_DIR, FOPEN_DIRECT_IO, FOPEN_KEEP_CACHE, Flags};

/// How long the guest keeps what only it can change.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Longer than most walks, shorter than anybody notices.
const A_MOMENT: Duration = Duration::from_millis(50);

/// Who else may change the files while the guest uses them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cache {
    /// Anybody: the guest sees their changes with its next call.
    #[default]
    Coherent,
    /// Nobody: the guest may keep what it read and delay what it writes.
    Exclusive,
}

impl Cache {
    /// How long names are valid.
    pub(crate) fn of_names(self) -> Duration {
        match self {
            Cache::Coherent => Duration::ZERO,
            Cache::Exclusive => A_DAY,
        }
    }

    /// How long the attributes of a file with this `st_mode` are valid.
    pub(crate) fn of_attributes(self, mode: u32) -> Duration {
        match self {
            Cache::Coherent if FileType::from_raw_mode(mode) == FileType::Directory => A_MOMENT,
            Cache::Coherent => Duration::ZERO,
            Cache::Exclusive => A_DAY,
        }
    }

    /// `FOPEN_*` for a file in a session with the features `agreed`.
    pub(crate) fn file_flags(self, agreed: Flags) -> u32 {
        match self {
            Cache::Coherent if agreed.has(Flags::DIRECT_IO_ALLOW_MMAP) => FOPEN_DIRECT_IO,
            Cache::Coherent => 0,
            Cache::Exclusive => FOPEN_KEEP_CACHE,
        }
    }

    /// `FOPEN_*` for a folder; `listed`: see [`OpenedFolder`](crate::OpenedFolder).
    pub(crate) fn folder_flags(self, listed: bool) -> u32 {
        match (self, listed) {
            (Cache::Coherent, _) => 0,
            (Cache::Exclusive, false) => FOPEN_KEEP_CACHE,
            (Cache::Exclusive, true) => FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR,
        }
    }

    /// Features of the handshake that only this choice offers.
    pub(crate) fn features(self) -> Flags {
        match self {
            Cache::Coherent => Flags::of(&[Flags::AUTO_INVAL_DATA, Flags::DIRECT_IO_ALLOW_MMAP]),
            Cache::Exclusive => Flags::of(&[
                Flags::CACHE_SYMLINKS,
                Flags::WRITEBACK_CACHE,
                Flags::DO_READDIRPLUS,
                Flags::READDIRPLUS_AUTO,
            ]),
        }
    }
}

/// The text is no [`Cache`].
#[derive(Debug, thiserror::Error)]
#[error("unknown cache {0:?}: use coherent or exclusive")]
pub struct UnknownCache(String);

impl FromStr for Cache {
    type Err = UnknownCache;

    fn from_str(text: &str) -> Result<Self, UnknownCache> {
        match text {
            "coherent" => Ok(Cache::Coherent),
            "exclusive" => Ok(Cache::Exclusive),
            _ => Err(UnknownCache(text.to_owned())),
        }
    }
}

impl fmt::Display for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cache::Coherent => "coherent",
            Cache::Exclusive => "exclusive",
        })
    }
}
