//! Reads an archive entry by entry: ustar, pax and GNU's old format, with long
//! names and sparse files of every kind. File data is passed in pieces or
//! skipped; nothing is held but one entry and one buffer.

use std::io::{self, Read};

use super::TarError;
use super::entry::{self, Attributes, CleanPath, Entry, EntryError, Kind};
use super::extended::Extended;
use super::header::{BLOCK, Header, until_nul};
use super::sparse::{Map, MapReader};
use crate::decode::PIECE;
use crate::display::shown;
use crate::fault::Found;
use crate::limits::Budget;
use crate::squashfs::Piece;
use crate::warnings::Warnings;

/// Most bytes of all extended headers and long names of one entry. Its extended
/// attributes are the largest part; more of them than fit could not be stored.
pub(super) const MAX_EXTENDED: u64 = 4 << 20;
/// Largest file (Linux's offsets are signed).
const MAX_FILE: u64 = i64::MAX as u64;
/// Permissions, with those of set-user-id and the like.
const MODE_MASK: u64 = 0o7777;

/// Whether an archive has to have its end mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndMark {
    Required,
    /// Some programs leave it out; of bytes with the right digest nothing is
    /// missing.
    Optional,
}

pub(crate) struct Reader<R> {
    source: R,
    buf: Box<[u8]>,
    /// What of `buf` has been read and not consumed.
    start: usize,
    end: usize,
    /// Bytes consumed.
    offset: u64,
    budget: Budget,
    end_mark: EndMark,
    /// What global headers say for all entries after them.
    global: Extended,
    data: Data,
    warnings: Warnings,
}

/// What is to come of the present entry's data.
#[derive(Default)]
struct Data {
    map: Map,
    /// Which of the map's extents is next or under way.
    extent: usize,
    /// Where in the file, and its end.
    at: u64,
    size: u64,
    /// Bytes in the archive, with the padding.
    stored: u64,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(source: R, budget: Budget, end_mark: EndMark) -> Self {
        Self {
            source,
            buf: vec![0; PIECE].into(),
            start: 0,
            end: 0,
            offset: 0,
            budget,
            end_mark,
            global: Extended::default(),
            data: Data::default(),
            warnings: Warnings::default(),
        }
    }

    pub(crate) fn get_ref(&self) -> &R {
        &self.source
    }

    /// What was read from, and what was left out of what was read.
    pub(crate) fn into_parts(self) -> (R, Warnings) {
        (self.source, self.warnings)
    }

    /// The next entry; `None` at the end mark.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, TarError> {
        self.skip(self.data.stored)?;
        self.data = Data::default();
        let mut extended = self.global.clone();
        let mut room = MAX_EXTENDED;
        loop {
            let start = self.offset;
            let Some(header) = self.header()? else {
                return Ok(None);
            };
            let size = header.size().ok_or(TarError::Header { offset: start })?;
            let damaged = TarError::Extended { offset: start };
            match header.kind() {
                b'x' | b'X' => {
                    let data = self.extended(size, start, &mut room)?;
                    extended.read(&data).ok_or(damaged)?;
                }
                b'g' => {
                    let data = self.extended(size, start, &mut room)?;
                    self.global.read_global(&data).ok_or(damaged)?;
                    extended = self.global.clone();
                }
                b'L' => extended.path = Some(self.long_name(size, start, &mut room)?),
                b'K' => extended.link = Some(self.long_name(size, start, &mut room)?),
                _ => {
                    let name = name(&header, &mut extended);
                    let entry = self.entry(&header, extended, &name);
                    if let Some(entry) = entry.map_err(|fault| fault.of(&name, start))? {
                        return Ok(Some(entry));
                    }
                    extended = self.global.clone();
                    room = MAX_EXTENDED;
                }
            }
        }
    }

    /// The next piece of the present entry's file; `None` at its end.
    pub(crate) fn piece(&mut self) -> Result<Option<Piece<'_>>, TarError> {
        let data = &mut self.data;
        if data.at == data.size {
            return Ok(None);
        }
        let extent = data.map.get(data.extent);
        let start = extent.map_or(data.size, |extent| extent.start);
        if data.at < start {
            let hole = start - data.at;
            data.at = start;
            return Ok(Some(Piece::Hole(hole)));
        }
        let end = extent.map_or(data.size, |extent| extent.start + extent.len);
        let left = end - data.at;
        if self.start == self.end && !self.fill()? {
            return Err(self.truncated());
        }
        let len = (self.end - self.start).min(usize::try_from(left).unwrap_or(usize::MAX));
        let data = &mut self.data;
        data.at += len as u64;
        data.stored -= len as u64;
        if data.at == end {
            data.extent += 1;
        }
        Ok(Some(Piece::Data(self.consume(len))))
    }

    /// Reads what is behind the end mark.
    pub(crate) fn drain(&mut self) -> Result<(), TarError> {
        self.start = self.end;
        while self.fill()? {
            self.start = self.end;
        }
        Ok(())
    }

    /// Makes an entry of its headers, and gets ready to read its data; `None`
    /// when it is of a kind that is left out.
    fn entry(
        &mut self,
        header: &Header,
        mut extended: Extended,
        name: &[u8],
    ) -> Result<Option<Entry>, Fault> {
        let size = extended.size.or(header.size()).ok_or(Fault::Header)?;
        // V7 had no kind for folders.
        let kind = match header.kind() {
            0 if name.ends_with(b"/") => b'5',
            kind => kind,
        };
        // Links, devices, folders and pipes have no data, whatever their size.
        if !matches!(kind, b'1'..=b'6') {
            let padded = size.checked_next_multiple_of(BLOCK as u64);
            self.data.stored = padded.ok_or(Fault::Header)?;
        }
        let link = |extended: &mut Extended| extended.link.take().unwrap_or_else(|| header.link());
        let device = || {
            let (major, minor) = header.device().ok_or(Fault::Header)?;
            Ok::<_, Fault>(entry::device(major, minor)?)
        };
        let kind = match kind {
            0 | b'0' | b'7' | b'S' => Kind::File(self.map(header, &mut extended, size)?),
            b'1' => Kind::HardLink(CleanPath::new(&link(&mut extended))?),
            b'2' => Kind::Symlink(entry::symlink_target(link(&mut extended))?),
            b'3' => Kind::Char(device()?),
            b'4' => Kind::Block(device()?),
            b'5' => Kind::Folder,
            b'6' => Kind::Fifo,
            kind => {
                let name = shown(name);
                let kind = shown([kind]);
                self.warnings
                    .add(format!("{name} is of kind `{kind}` and left out"));
                self.skip(self.data.stored)?;
                self.data = Data::default();
                return Ok(None);
            }
        };
        let (xattrs, left) = extended.take_xattrs()?;
        for name in left {
            let name = shown(&name);
            self.warnings.add(format!(
                "extended attributes {name} are left out, squashfs cannot store them"
            ));
        }
        let number = |own: Option<u64>, header: Option<u64>| own.or(header).ok_or(Fault::Header);
        Ok(Some(Entry {
            path: CleanPath::new(name)?,
            kind,
            attributes: Attributes {
                mode: (header.mode().ok_or(Fault::Header)? & MODE_MASK) as u16,
                uid: entry::owner(number(extended.uid, header.uid())?)?,
                gid: entry::owner(number(extended.gid, header.gid())?)?,
                mtime: extended.mtime.or(header.mtime()).ok_or(Fault::Header)?,
            },
            xattrs,
        }))
    }

    /// Gets ready to read the data of a file that takes `stored` bytes in the
    /// archive; returns its size.
    fn map(
        &mut self,
        header: &Header,
        extended: &mut Extended,
        mut stored: u64,
    ) -> Result<u64, Fault> {
        let sparse = &mut extended.sparse;
        let size;
        self.data.map = if header.kind() == b'S' {
            let mut extents = Vec::new();
            let mut more = header.sparse(&mut extents)?;
            while more {
                let block = self.block()?.ok_or_else(|| self.truncated())?;
                more = block.more_sparse(&mut extents)?;
            }
            size = header.sparse_size().ok_or(Fault::Header)?;
            Map::new(extents, size, stored)?
        } else if sparse.map_is_in_data() {
            let mut reader = MapReader::default();
            loop {
                let block = self.block()?.ok_or_else(|| self.truncated())?;
                stored = stored.checked_sub(BLOCK as u64).ok_or(EntryError::Sparse)?;
                self.data.stored -= BLOCK as u64;
                if reader.block(&block.0)? {
                    break;
                }
            }
            size = sparse.size.ok_or(EntryError::Sparse)?;
            Map::new(reader.into_extents(), size, stored)?
        } else if let Some(with_holes) = sparse.size {
            size = with_holes;
            Map::new(std::mem::take(&mut sparse.extents), size, stored)?
        } else {
            size = stored;
            Map::whole(size)
        };
        if size > MAX_FILE {
            return Err(Fault::Header);
        }
        self.budget.take(size - self.data.map.data())?;
        self.data.size = size;
        Ok(size)
    }

    fn header(&mut self) -> Result<Option<Header>, TarError> {
        let start = self.offset;
        let Some(header) = self.block()? else {
            let ends_here = self.offset == start && start > 0;
            if ends_here && self.end_mark == EndMark::Optional {
                return Ok(None);
            }
            if self.offset == 0 {
                let found = Found::Empty;
                return Err(TarError::NotTar { found });
            }
            return Err(self.truncated());
        };
        if header.is_zero() {
            return Ok(None);
        }
        if header.checksum_is_right() {
            return Ok(Some(header));
        }
        if start == 0 {
            return Err(TarError::NotTar {
                found: Found::sniff(&header.0),
            });
        }
        Err(TarError::Header { offset: start })
    }

    fn long_name(&mut self, size: u64, start: u64, room: &mut u64) -> Result<Vec<u8>, TarError> {
        let name = self.extended(size, start, room)?;
        Ok(until_nul(&name).to_vec())
    }

    /// What the extended header at `start` holds, of which `room` is left for
    /// the entry.
    fn extended(&mut self, size: u64, start: u64, room: &mut u64) -> Result<Vec<u8>, TarError> {
        let left = room.checked_sub(size);
        *room = left.ok_or(TarError::ExtendedTooLong { offset: start })?;
        let padded = size.next_multiple_of(BLOCK as u64) as usize;
        let mut data = Vec::new();
        while data.len() < padded {
            if self.start == self.end && !self.fill()? {
                return Err(self.truncated());
            }
            let len = (self.end - self.start).min(padded - data.len());
            data.extend_from_slice(self.consume(len));
        }
        data.truncate(size as usize);
        Ok(data)
    }

    /// The next block; `None` when the archive ends before it does.
    fn block(&mut self) -> Result<Option<Header>, TarError> {
        let mut block = Header([0; BLOCK]);
        let mut filled = 0;
        while filled < BLOCK {
            if self.start == self.end && !self.fill()? {
                // What is too short for a block may tell what it is.
                if self.offset == filled as u64 && filled > 0 {
                    return Err(TarError::NotTar {
                        found: Found::sniff(&block.0[..filled]),
                    });
                }
                return Ok(None);
            }
            let len = (self.end - self.start).min(BLOCK - filled);
            block.0[filled..filled + len].copy_from_slice(self.consume(len));
            filled += len;
        }
        Ok(Some(block))
    }

    fn skip(&mut self, mut len: u64) -> Result<(), TarError> {
        while len > 0 {
            if self.start == self.end && !self.fill()? {
                return Err(self.truncated());
            }
            let buffered = (self.end - self.start) as u64;
            let skipped = buffered.min(len);
            self.consume(skipped as usize);
            len -= skipped;
        }
        Ok(())
    }

    fn consume(&mut self, len: usize) -> &[u8] {
        let from = self.start;
        self.start += len;
        self.offset += len as u64;
        &self.buf[from..self.start]
    }

    /// Reads into the buffer, which is empty; returns whether there was more.
    fn fill(&mut self) -> Result<bool, TarError> {
        loop {
            match self.source.read(&mut self.buf) {
                Ok(len) => {
                    self.budget.take(len as u64)?;
                    (self.start, self.end) = (0, len);
                    return Ok(len > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(TarError::Read {
                        offset: self.offset,
                        source,
                    });
                }
            }
        }
    }

    fn truncated(&self) -> TarError {
        TarError::Truncated {
            offset: self.offset,
        }
    }
}

/// What an entry is called, as the archive spells it.
fn name(header: &Header, extended: &mut Extended) -> Vec<u8> {
    let name = extended.sparse.name.take().or(extended.path.take());
    name.unwrap_or_else(|| header.path())
}

/// Why an entry could not be made.
enum Fault {
    /// A number in its header is none.
    Header,
    Entry(EntryError),
    Tar(TarError),
}

impl Fault {
    fn of(self, name: &[u8], offset: u64) -> TarError {
        match self {
            Self::Header => TarError::Header { offset },
            Self::Entry(source) => source.of(name),
            Self::Tar(error) => error,
        }
    }
}

impl From<EntryError> for Fault {
    fn from(error: EntryError) -> Self {
        Self::Entry(error)
    }
}

impl From<TarError> for Fault {
    fn from(error: TarError) -> Self {
        Self::Tar(error)
    }
}
