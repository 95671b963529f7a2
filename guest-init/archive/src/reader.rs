//! Reads an archive entry by entry, in bounded memory.

use std::io::{self, ErrorKind, Read};

use crate::entry::{Entry, Kind};
use crate::error::ArchiveError;
use crate::header::{self, BLOCK, Header, until_nul};
use crate::pax::Overrides;
use crate::{MAX_EXTENDED, MAX_TRAILER, PIECE};

/// An archive that is being read.
pub struct Reader<R> {
    source: R,
    offset: u64,
    /// File data of the current entry that was not read yet.
    left: u64,
    /// What fills the last block of it.
    padding: u64,
}

impl<R: Read> Reader<R> {
    /// Begins with the archive in `source`.
    pub fn new(source: R) -> Self {
        Self {
            source,
            offset: 0,
            left: 0,
            padding: 0,
        }
    }

    /// The next entry; what was not read of the current one's data is passed
    /// over. `None` after the end mark, when the source is at its end too.
    ///
    /// # Errors
    /// What the source says, and [`ArchiveError::Truncated`],
    /// [`ArchiveError::Damaged`] and [`ArchiveError::Refused`].
    pub fn next_entry(&mut self) -> Result<Option<Entry>, ArchiveError> {
        let rest = self.left.saturating_add(self.padding);
        self.skip(rest)?;
        (self.left, self.padding) = (0, 0);
        let mut overrides = Overrides::default();
        loop {
            let start = self.offset;
            let damaged = || ArchiveError::Damaged { offset: start };
            let header = self.header()?;
            if header.is_zero() {
                self.trailer()?;
                return Ok(None);
            }
            let size = header.number(header::SIZE).ok_or_else(damaged)?;
            match header.kind() {
                b'x' => {
                    let data = self.extended(size, start)?;
                    overrides.take(&data).ok_or_else(damaged)?;
                }
                // A comment, as git's: of owners and names it says nothing.
                b'g' => drop(self.extended(size, start)?),
                b'L' => overrides.path = Some(self.long_name(size, start)?),
                b'K' => overrides.link = Some(self.long_name(size, start)?),
                _ => return self.entry(&header, overrides, start).map(Some),
            }
        }
    }

    /// Reads file data of the current entry; 0 at its end.
    ///
    /// # Errors
    /// As for [`next_entry`](Self::next_entry).
    pub fn read_data(&mut self, into: &mut [u8]) -> Result<usize, ArchiveError> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let len = into.len().min(most);
        if len == 0 {
            return Ok(0);
        }
        let read = self.read_some(&mut into[..len])?;
        if read == 0 {
            return Err(self.truncated());
        }
        self.left -= read as u64;
        Ok(read)
    }

    fn entry(
        &mut self,
        header: &Header,
        overrides: Overrides,
        start: u64,
    ) -> Result<Entry, ArchiveError> {
        let damaged = || ArchiveError::Damaged { offset: start };
        let mut path = overrides.path.unwrap_or_else(|| header.path());
        let refused = |why| ArchiveError::refused(&path, why);
        if overrides.sparse || header.kind() == b'S' {
            return Err(refused(
                "a file with holes; make the archive without --sparse",
            ));
        }
        let mut kind = Kind::from_byte(header.kind()).ok_or_else(|| refused("unknown type"))?;
        let link = overrides.link.unwrap_or_else(|| header.link());
        if path.contains(&0) || link.contains(&0) {
            return Err(refused("a NUL in a name"));
        }
        let number = |field| header.number(field).ok_or_else(damaged);
        // The last number means "leave it" to chown.
        let id = |id: u64| u32::try_from(id).ok().filter(|id| *id != u32::MAX);
        let uid = overrides.uid.map_or_else(|| number(header::UID), Ok)?;
        let gid = overrides.gid.map_or_else(|| number(header::GID), Ok)?;
        let (Some(uid), Some(gid)) = (id(uid), id(gid)) else {
            return Err(refused("an owner that no file can have"));
        };
        let size = overrides.size.map_or_else(|| number(header::SIZE), Ok)?;
        let modified = match overrides.modified {
            Some(time) => time,
            None => crate::Time {
                seconds: header.signed(header::MODIFIED).ok_or_else(damaged)?,
                nanos: 0,
            },
        };
        let device = |field| Ok(u32::try_from(number(field)?).unwrap_or(u32::MAX));
        let device = match kind {
            Kind::CharDevice | Kind::BlockDevice => {
                (device(header::MAJOR)?, device(header::MINOR)?)
            }
            _ => (0, 0),
        };
        let mode = (number(header::MODE)? & 0o7777) as u32;
        if kind == Kind::File && path.ends_with(b"/") {
            // Archives older than the type of folders.
            kind = Kind::Folder;
        }
        while path.ends_with(b"/") && path.len() > 1 {
            path.pop();
        }
        // The others have no data, whatever their size.
        let size = if kind == Kind::File { size } else { 0 };
        self.left = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        Ok(Entry {
            path,
            kind,
            mode,
            uid,
            gid,
            size,
            modified,
            link,
            device,
            xattrs: overrides.xattrs,
        })
    }

    fn header(&mut self) -> Result<Header, ArchiveError> {
        let offset = self.offset;
        let mut header = Header([0; BLOCK]);
        self.read_exact(&mut header.0)?;
        match header.is_zero() || header.checksum_is_right() {
            true => Ok(header),
            false => Err(ArchiveError::Damaged { offset }),
        }
    }

    fn extended(&mut self, size: u64, start: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > MAX_EXTENDED {
            return Err(ArchiveError::Damaged { offset: start });
        }
        let size = size as usize;
        let mut data = Vec::new();
        // What was announced may not come, so it is not made room for at once.
        while data.len() < size.next_multiple_of(BLOCK) {
            let from = data.len();
            data.resize((from + PIECE).min(size.next_multiple_of(BLOCK)), 0);
            self.read_exact(&mut data[from..])?;
        }
        data.truncate(size);
        Ok(data)
    }

    fn long_name(&mut self, size: u64, start: u64) -> Result<Vec<u8>, ArchiveError> {
        let data = self.extended(size, start)?;
        Ok(until_nul(&data).to_vec())
    }

    fn skip(&mut self, mut len: u64) -> Result<(), ArchiveError> {
        let mut buffer = vec![0; len.min(PIECE as u64) as usize];
        while len > 0 {
            let piece = len.min(PIECE as u64) as usize;
            self.read_exact(&mut buffer[..piece])?;
            len -= piece as u64;
        }
        Ok(())
    }

    /// Reads to the source's end, so that who writes it can end well.
    fn trailer(&mut self) -> Result<(), ArchiveError> {
        let mut buffer = vec![0; BLOCK];
        let limit = self.offset.saturating_add(MAX_TRAILER);
        while self.read_some(&mut buffer)? > 0 {
            if self.offset > limit {
                return Err(ArchiveError::Damaged {
                    offset: self.offset,
                });
            }
        }
        Ok(())
    }

    fn read_exact(&mut self, mut into: &mut [u8]) -> Result<(), ArchiveError> {
        while !into.is_empty() {
            let read = self.read_some(into)?;
            if read == 0 {
                return Err(self.truncated());
            }
            into = &mut into[read..];
        }
        Ok(())
    }

    fn read_some(&mut self, into: &mut [u8]) -> Result<usize, ArchiveError> {
        let read = retry(|| self.source.read(into)).map_err(ArchiveError::Read)?;
        self.offset += read as u64;
        Ok(read)
    }

    fn truncated(&self) -> ArchiveError {
        ArchiveError::Truncated {
            offset: self.offset,
        }
    }
}

/// Calls again what a signal interrupted.
pub(crate) fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
