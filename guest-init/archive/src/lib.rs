//! File trees to tar streams and back, between two parties that do not trust each other.
//!
//! [`pack()`] writes a tree as it is: modes, owners, times, links, extended
//! attributes, device nodes, names of any bytes. [`unpack()`] takes an archive
//! for hostile: nothing is made outside of the destination, no link is gone
//! through, and what the [`Rules`] do not grant is left out. It works in a
//! hidden folder in the destination and moves things into place when the
//! archive is complete; before that, nothing is there to see.
//!
//! The form is that of POSIX.1-2017 pax with `SCHILY.xattr` records, as GNU tar
//! and Docker write and read it; GNU's long names are read too. The whole
//! archive is never in memory, and what is kept of it has named limits. It
//! knows nothing of virtual machines: both the guest's agent and the host use
//! it. The crate `tar` would read an extended header of any length into memory.
#![forbid(unsafe_code)]

mod entry;
mod error;
mod header;
mod pack;
mod pax;
mod place;
mod reader;
mod staging;
mod unpack;

pub use entry::{Entry, Kind, Time, Xattr};
pub use error::ArchiveError;
pub use pack::{Owners, Packed, Start, pack};
pub use reader::Reader;
pub use unpack::{Rules, Unpacked, unpack};

/// Folders in one another, counted from the top of an archive. The kernel's
/// `PATH_MAX` allows about four times as many, of one letter each.
pub const MAX_DEPTH: usize = 512;

/// Bytes of one extended header or long name. The largest part is extended
/// attributes, of which Linux allows 64 KiB each.
pub const MAX_EXTENDED: u64 = 4 << 20;

/// Bytes that are kept for what concerns more than one entry: attributes of
/// folders, first names of hard links.
pub const MAX_REMEMBERED: usize = 64 << 20;

/// Bytes of a file whose size the system does not tell, as those of `/proc`.
pub const MAX_UNSIZED: usize = 16 << 20;

/// Bytes that may follow the end mark; programs fill their last record.
pub const MAX_TRAILER: u64 = 1 << 20;

/// File data moves in pieces of this many bytes.
const PIECE: usize = 128 << 10;
