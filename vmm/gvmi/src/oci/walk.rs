//! The entries of a tar archive, one after the other, without their data: names,
//! kinds and where the data is (POSIX.1-2017 pax; GNU's long names). It is for
//! archives of images; the tar archives of layers are read elsewhere.

use std::io;

use super::error::OciFault;
use super::forward::Forward;
use crate::fault::Found;
use crate::tar::{BLOCK, Extended, Header, until_nul};

/// Longest extended header or long name that is read.
const MAX_EXTENDED: u64 = 1 << 20;

/// One entry.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: Kind,
    /// Where its data starts in the archive.
    pub(crate) start: u64,
    /// Bytes of data, without padding.
    pub(crate) len: u64,
}

/// What an entry is, as far as archives of images have it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A file that lies in the archive as it is.
    File,
    /// A hard link to an entry of this name.
    HardLink(Vec<u8>),
    /// A link to this path, seen from its own folder.
    Symlink(Vec<u8>),
    /// A folder, or anything else.
    Other,
}

/// Reads an archive's entries.
pub(crate) struct Walker<F> {
    source: F,
    at: u64,
    /// Where the next header is.
    next: u64,
    limit: u64,
}

impl<F: Forward> Walker<F> {
    /// Of an archive of which at most `limit` bytes may be read.
    pub(crate) fn new(source: F, limit: u64) -> Self {
        Self {
            source,
            at: 0,
            next: 0,
            limit,
        }
    }

    /// The next entry; `None` at the end mark.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, OciFault> {
        let mut extended = Extended::default();
        loop {
            self.skip_to(self.next)?;
            let start = self.at;
            let header = self.header()?;
            if header.is_zero() {
                return Ok(None);
            }
            let damaged = OciFault::Damaged { offset: start };
            let Some(size) = header.size() else {
                return Err(damaged);
            };
            match header.kind() {
                b'L' => {
                    let name = self.extended(size, start)?;
                    extended.path = Some(until_nul(&name).to_vec());
                }
                b'K' => {
                    let target = self.extended(size, start)?;
                    extended.link = Some(until_nul(&target).to_vec());
                }
                b'x' | b'X' => {
                    let data = self.extended(size, start)?;
                    extended.read(&data).ok_or(damaged)?;
                }
                b'g' => self.next = self.end(size, start)?,
                _ => return self.entry(&header, extended, size, start).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        header: &Header,
        extended: Extended,
        size: u64,
        start: u64,
    ) -> Result<Entry, OciFault> {
        let link = extended.link.unwrap_or_else(|| header.link());
        let kind = match header.kind() {
            0 | b'0' | b'7' => Kind::File,
            b'1' => Kind::HardLink(link),
            b'2' => Kind::Symlink(link),
            b'S' => {
                self.skip_extents(header, start)?;
                Kind::Other
            }
            _ => Kind::Other,
        };
        // Links, devices, folders and pipes have no data, whatever their size.
        let len = match header.kind() {
            b'1'..=b'6' => 0,
            _ => extended.size.unwrap_or(size),
        };
        let data = self.at;
        self.next = self.end(len, start)?;
        Ok(Entry {
            name: extended.path.unwrap_or_else(|| header.path()),
            kind,
            start: data,
            len,
        })
    }

    /// Where `len` bytes from here end, with their padding. The header that
    /// says so is at `start`.
    fn end(&self, len: u64, start: u64) -> Result<u64, OciFault> {
        let end = len
            .checked_next_multiple_of(BLOCK as u64)
            .and_then(|len| self.at.checked_add(len))
            .ok_or(OciFault::Damaged { offset: start })?;
        match end <= self.limit {
            true => Ok(end),
            false => Err(OciFault::TooLarge { limit: self.limit }),
        }
    }

    fn header(&mut self) -> Result<Header, OciFault> {
        let start = self.at;
        let mut header = Header([0; BLOCK]);
        let read = self.read(&mut header.0)?;
        if read == BLOCK && (header.is_zero() || header.checksum_is_right()) {
            return Ok(header);
        }
        if start == 0 {
            return Err(match Found::sniff(&header.0[..read]) {
                Found::Compressed(by) => OciFault::Compression { by },
                found => OciFault::NotTar { found },
            });
        }
        if read < BLOCK {
            return Err(OciFault::Truncated { offset: self.at });
        }
        Err(OciFault::Damaged { offset: start })
    }

    /// The data of an extended header, whose own header is at `start`.
    fn extended(&mut self, size: u64, start: u64) -> Result<Vec<u8>, OciFault> {
        if size > MAX_EXTENDED {
            return Err(OciFault::Damaged { offset: start });
        }
        self.next = self.end(size, start)?;
        let mut data = vec![0; size as usize];
        match self.read(&mut data)? == data.len() {
            true => Ok(data),
            false => Err(OciFault::Truncated { offset: self.at }),
        }
    }

    /// The blocks of extents behind the header, at `start`, of a sparse file.
    fn skip_extents(&mut self, header: &Header, start: u64) -> Result<(), OciFault> {
        let damaged = |_| OciFault::Damaged { offset: start };
        let mut extents = Vec::new();
        let mut more = header.sparse(&mut extents).map_err(damaged)?;
        while more {
            let mut block = Header([0; BLOCK]);
            if self.read(&mut block.0)? < BLOCK {
                return Err(OciFault::Truncated { offset: self.at });
            }
            more = block.more_sparse(&mut extents).map_err(damaged)?;
        }
        Ok(())
    }

    /// Passes over what is before `next`, or as much as there is of it.
    fn skip_to(&mut self, next: u64) -> Result<(), OciFault> {
        let skipped = self.source.skip(next - self.at);
        self.at += skipped.map_err(|source| read_error(self.at, source))?;
        Ok(())
    }

    /// Fills `buf` unless the source ends before.
    fn read(&mut self, buf: &mut [u8]) -> Result<usize, OciFault> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.source.read(&mut buf[filled..]) {
                Ok(0) => break,
                Ok(len) => filled += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(read_error(self.at, source)),
            }
        }
        self.at += filled as u64;
        Ok(filled)
    }
}

fn read_error(at: u64, source: io::Error) -> OciFault {
    OciFault::Read {
        what: format!("the archive at byte {at}"),
        source,
    }
}
