//! The entries of a tar archive, one after the other, without their data: names,
//! kinds and where the data is (POSIX.1-2017 pax; GNU's long names). It is for
//! archives of images; the tar archives of layers are read elsewhere.

use std::io;

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::error::OciFault;
use super::forward::Forward;
use crate::fault::Found;

/// Everything in an archive comes in blocks of this many bytes.
const BLOCK: u64 = 512;
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

/// What comes before an entry's header and says more than fits into it.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
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
            if header.as_bytes().iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            let damaged = OciFault::Damaged { offset: start };
            let Ok(size) = header.entry_size() else {
                return Err(damaged);
            };
            match header.entry_type() {
                EntryType::GNULongName => {
                    extended.path = Some(until_nul(self.extended(size, start)?));
                }
                EntryType::GNULongLink => {
                    extended.link = Some(until_nul(self.extended(size, start)?));
                }
                EntryType::XHeader => {
                    let data = self.extended(size, start)?;
                    extended.take(&data).ok_or(damaged)?;
                }
                EntryType::XGlobalHeader => self.next = self.end(size, start)?,
                _ => return self.entry(&header, extended, start).map(Some),
            }
        }
    }

    fn entry(
        &mut self,
        header: &Header,
        extended: Extended,
        start: u64,
    ) -> Result<Entry, OciFault> {
        let size = header.entry_size().unwrap_or_default();
        let link = || {
            let own = || header.link_name_bytes().unwrap_or_default().into_owned();
            extended.link.clone().unwrap_or_else(own)
        };
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Link => Kind::HardLink(link()),
            EntryType::Symlink => Kind::Symlink(link()),
            EntryType::GNUSparse => {
                self.skip_extents(header)?;
                Kind::Other
            }
            _ => Kind::Other,
        };
        // Links, devices, folders and pipes have no data, whatever their size.
        let len = match header.as_bytes()[156] {
            b'1'..=b'6' => 0,
            _ => extended.size.unwrap_or(size),
        };
        let data = self.at;
        self.next = self.end(len, start)?;
        let own = || header.path_bytes().into_owned();
        Ok(Entry {
            name: extended.path.clone().unwrap_or_else(own),
            kind,
            start: data,
            len,
        })
    }

    /// Where `len` bytes from here end, with their padding. The header that
    /// says so is at `start`.
    fn end(&self, len: u64, start: u64) -> Result<u64, OciFault> {
        let end = len
            .checked_next_multiple_of(BLOCK)
            .and_then(|len| self.at.checked_add(len))
            .ok_or(OciFault::Damaged { offset: start })?;
        match end <= self.limit {
            true => Ok(end),
            false => Err(OciFault::TooLarge { limit: self.limit }),
        }
    }

    fn header(&mut self) -> Result<Header, OciFault> {
        let start = self.at;
        let mut header = Header::new_old();
        let read = self.read(header.as_mut_bytes())?;
        let blank = header.as_bytes().iter().all(|byte| *byte == 0);
        if read as u64 == BLOCK && (blank || checksum_is_right(&header)) {
            return Ok(header);
        }
        if start == 0 {
            return Err(match Found::sniff(&header.as_bytes()[..read]) {
                Found::Compressed(by) => OciFault::Compression { by },
                found => OciFault::NotTar { found },
            });
        }
        if (read as u64) < BLOCK {
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

    /// The blocks of extents behind the header of a sparse file.
    fn skip_extents(&mut self, header: &Header) -> Result<(), OciFault> {
        let mut more = header.as_gnu().is_some_and(|gnu| gnu.is_extended());
        while more {
            let mut block = GnuExtSparseHeader::new();
            if (self.read(block.as_mut_bytes())? as u64) < BLOCK {
                return Err(OciFault::Truncated { offset: self.at });
            }
            more = block.is_extended();
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

impl Extended {
    /// Takes what is of use from pax records, `LENGTH KEY=VALUE\n` each; `None`
    /// when they are none. A value may hold any bytes.
    fn take(&mut self, mut data: &[u8]) -> Option<()> {
        while !data.is_empty() {
            let space = data.iter().position(|byte| *byte == b' ')?;
            let len: usize = str::from_utf8(&data[..space]).ok()?.parse().ok()?;
            let record = data.get(space + 1..len)?.strip_suffix(b"\n")?;
            let equals = record.iter().position(|byte| *byte == b'=')?;
            let value = &record[equals + 1..];
            match &record[..equals] {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(str::from_utf8(value).ok()?.parse().ok()?),
                _ => {}
            }
            data = &data[len..];
        }
        Some(())
    }
}

fn read_error(at: u64, source: io::Error) -> OciFault {
    OciFault::Read {
        what: format!("the archive at byte {at}"),
        source,
    }
}

fn until_nul(mut text: Vec<u8>) -> Vec<u8> {
    let end = text.iter().position(|byte| *byte == 0);
    text.truncate(end.unwrap_or(text.len()));
    text
}

/// The field of the checksum counts as spaces.
fn checksum_is_right(header: &Header) -> bool {
    let bytes = header.as_bytes();
    let others = bytes[..148].iter().chain(&bytes[156..]);
    let sum = others.fold(8 * 32, |sum, byte| sum + u32::from(*byte));
    header.cksum().is_ok_and(|stored| stored == sum)
}
