//! What the guest may keep of the files in its memory, and for how long.
//!
//! What each choice makes of Linux' `fs/fuse`:
//!
//! **Coherent.** Names and attributes are valid for no time, so every walk over
//! a name asks again (`fuse_dentry_revalidate`) and every `stat` and cached read
//! asks for attributes (`fuse_update_attributes`). With `AUTO_INVAL_DATA` pages
//! are dropped when the answer has another size or modification time; an open
//! without `KEEP_CACHE` drops them too. Writes go to the host as they are made.
//! So what the host or another VM writes is seen by the next call. Memory maps
//! are the exception: a mapped page stays as it is until a call asks.
//!
//! **Exclusive.** Nobody else changes the folder while the guest has it, so
//! that names (also those that do not exist), attributes, pages, listings and
//! the targets of symbolic links stay valid: for a day, as no time is for ever
//! in the protocol and a day costs nothing. `AUTO_INVAL_DATA` is not offered: it
//! would compare with times that the guest itself is about to change. Writes
//! wait in the guest (`WRITEBACK_CACHE`) until it writes them back, syncs or
//! closes the file, and times and size are the guest's until then. Two things
//! follow for opening: the guest fills up partly written pages through any
//! handle, so one that only writes must be able to read; and the guest knows
//! where a file ends, so that its offsets count and not the host's `O_APPEND`.

use std::fmt;
use std::str::FromStr;

use crate::wire::{FOPEN_CACHE_DIR, FOPEN_KEEP_CACHE, Flags};

/// Seconds that the guest keeps what only it can change.
const A_DAY: u64 = 24 * 60 * 60;

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
    /// Seconds that names and attributes are valid.
    pub(crate) fn validity(self) -> u64 {
        match self {
            Cache::Coherent => 0,
            Cache::Exclusive => A_DAY,
        }
    }

    /// `FOPEN_*` for a file.
    pub(crate) fn file_flags(self) -> u32 {
        match self {
            Cache::Coherent => 0,
            Cache::Exclusive => FOPEN_KEEP_CACHE,
        }
    }

    /// `FOPEN_*` for a folder.
    pub(crate) fn folder_flags(self) -> u32 {
        match self {
            Cache::Coherent => 0,
            Cache::Exclusive => FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR,
        }
    }

    /// Features of the handshake that only this choice offers.
    pub(crate) fn features(self) -> Flags {
        match self {
            Cache::Coherent => Flags::AUTO_INVAL_DATA,
            Cache::Exclusive => Flags::of(&[Flags::CACHE_SYMLINKS, Flags::WRITEBACK_CACHE]),
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
