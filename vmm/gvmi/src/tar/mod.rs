//! Tar archives: read by one reader, whoever made them, and written by one
//! writer as `mksquashfs` reads them right. Nothing is unpacked.

mod entry;
mod extended;
mod header;
mod pax;
mod reader;
mod sparse;
mod writer;

use std::io;

use thiserror::Error;

use crate::display::shown;
use crate::fault::Found;

pub use entry::EntryError;
pub(crate) use entry::{Attributes, CleanPath, Entry, Kind, MAX_PATH};
pub(crate) use extended::Extended;
pub(crate) use header::{BLOCK, Header, until_nul};
pub(crate) use reader::{EndMark, Reader};
pub(crate) use writer::Writer;

/// Why an archive cannot be packed.
#[derive(Debug, Error)]
pub enum TarError {
    /// The source of the archive fails, or its compression is damaged.
    #[error("read the archive at byte {offset}")]
    Read {
        /// Bytes read before, unpacked.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ends before its end mark.
    #[error(
        "the archive is cut short: it ends at byte {offset} without an end mark (fetch or make it again)"
    )]
    Truncated {
        /// Bytes in it.
        offset: u64,
    },
    /// It is something else.
    #[error("not a tar archive: {}", describe(*.found))]
    NotTar {
        /// What it looks like.
        found: Found,
    },
    /// A header has the wrong checksum or a number that is none.
    #[error("the archive is damaged: no valid header at byte {offset} (fetch or make it again)")]
    Header {
        /// Where it starts.
        offset: u64,
    },
    /// The extended headers of an entry are above 4 MiB together.
    #[error(
        "the extended headers of an entry take more than {} bytes, up to the one at byte {offset} (make the archive again, with fewer extended attributes)",
        reader::MAX_EXTENDED
    )]
    ExtendedTooLong {
        /// Where the header starts that is too much.
        offset: u64,
    },
    /// An extended header is not made of records.
    #[error(
        "the archive is damaged: no valid extended header at byte {offset} (fetch or make it again)"
    )]
    Extended {
        /// Where its header starts.
        offset: u64,
    },
    /// It unpacks to more than is allowed.
    #[error("it unpacks to more than {max} bytes in all (allow more with --max-size)")]
    TooLarge {
        /// Most bytes.
        max: u64,
    },
    /// One of its entries cannot be in an image.
    #[error("entry {entry}")]
    Entry {
        /// Its name.
        entry: String,
        /// Why.
        #[source]
        source: EntryError,
    },
    /// The receiver of the archive stopped reading it.
    #[error("pass the archive on")]
    Write(#[source] io::Error),
}

impl EntryError {
    /// The error of the entry called `name`.
    pub(crate) fn of(self, name: &[u8]) -> TarError {
        TarError::Entry {
            entry: if name.is_empty() {
                "without a name".to_owned()
            } else {
                shown(name)
            },
            source: self,
        }
    }
}

fn describe(found: Found) -> String {
    match found {
        Found::Compressed(by) => {
            format!("a file compressed with {by} (unpack it first: `{by} -dc FILE | …`)")
        }
        found => format!("{found} ({})", found.instead_of_tar()),
    }
}

#[cfg(test)]
mod tests;
