//! Passes a tar archive on to `mksquashfs`, with what that program reads
//! wrongly put right on the way: owners are given by number alone (it prefers
//! names, looked up on this machine), the root folder's entry is taken out (it
//! drops it), an archive that stops early is an error (newer versions take it
//! as the end). File data is copied, never looked at; nothing is unpacked.

mod header;
mod pax;

use std::io::{self, Read, Write};

use thiserror::Error;

use crate::fault::Found;
use crate::owners::Owners;
use header::{BLOCK, Header};
use pax::Record;

/// Longest extended header or long name. An entry's extended attributes are
/// the largest part; Linux allows 64 KiB for each.
const MAX_EXTENDED: u64 = 4 << 20;
/// File data is copied in pieces of this many bytes.
const COPY: usize = 128 << 10;

/// Why an archive cannot be packed.
#[derive(Debug, Error)]
pub enum TarError {
    /// The source of the archive fails.
    #[error("read the archive at byte {offset}")]
    Read {
        /// Bytes read before.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ends before its end mark.
    #[error(
        "the archive is cut short: it ends at byte {offset} without an end mark (make it again)"
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
    #[error("the archive is damaged: no valid header at byte {offset} (make it again)")]
    Header {
        /// Where it starts.
        offset: u64,
    },
    /// An extended header is not made of records, or above 4 MiB.
    #[error("the archive is damaged: no valid extended header at byte {offset} (make it again)")]
    Extended {
        /// Where its header starts.
        offset: u64,
    },
    /// A number beyond what a file system can hold.
    #[error("{path} in the archive belongs to {id}, which no file system can store")]
    Owner {
        /// The entry's name.
        path: String,
        /// Its user or group.
        id: u64,
    },
    /// The receiver of the archive stopped reading it.
    #[error("pass the archive on")]
    Write(#[source] io::Error),
}

fn describe(found: Found) -> String {
    match found {
        Found::Compressed(by) => {
            format!("a file compressed with {by} (unpack it first: `{by} -dc FILE | …`)")
        }
        found => found.to_string(),
    }
}

/// The root folder's own attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Default for Root {
    /// What an archive means that does not mention its root.
    fn default() -> Self {
        Self {
            mode: 0o755,
            uid: 0,
            gid: 0,
        }
    }
}

/// An archive whose first entry has been read, because the root folder's
/// attributes are needed before the rest is passed on.
pub(crate) struct Archive<R> {
    source: R,
    offset: u64,
    /// What global headers say for all entries after them.
    global: Overrides,
    root: Option<Root>,
    first: Option<Entry>,
}

/// What an extended header says in place of the header.
#[derive(Clone, Default)]
struct Overrides {
    path: Option<Vec<u8>>,
    uid: Option<u64>,
    gid: Option<u64>,
    size: Option<u64>,
}

/// One entry, without its file data.
struct Entry {
    /// Blocks that go before its header.
    before: Vec<u8>,
    header: Header,
    path: Vec<u8>,
    uid: u64,
    gid: u64,
    /// Bytes of file data, with the padding.
    data: u64,
}

impl Entry {
    /// Whether it describes the root folder itself, however that is spelled.
    fn is_root(&self) -> bool {
        self.path
            .split(|byte| *byte == b'/')
            .all(|part| part.is_empty() || part == b".")
    }

    fn owner(&self, id: u64) -> Result<u32, TarError> {
        u32::try_from(id)
            .ok()
            .filter(|id| Owners::can_store(*id))
            .ok_or_else(|| TarError::Owner {
                path: String::from_utf8_lossy(&self.path).into_owned(),
                id,
            })
    }
}

impl<R: Read> Archive<R> {
    pub(crate) fn open(source: R) -> Result<Self, TarError> {
        let mut archive = Self {
            source,
            offset: 0,
            global: Overrides::default(),
            root: None,
            first: None,
        };
        let first = archive.next()?;
        match first {
            Some(entry) if entry.is_root() => {
                archive.root = Some(Root {
                    // Only the low 12 bits are a mode.
                    mode: (entry.header.mode().unwrap_or_default() & 0o7777) as u32,
                    uid: entry.owner(entry.uid)?,
                    gid: entry.owner(entry.gid)?,
                });
                archive.first = archive.next()?;
            }
            first => archive.first = first,
        }
        Ok(archive)
    }

    pub(crate) fn root(&self) -> Root {
        self.root.unwrap_or_default()
    }

    /// Writes the archive to `sink`; returns whether an entry for the root
    /// folder came too late to be used.
    pub(crate) fn forward(
        mut self,
        sink: &mut dyn Write,
        owners: &Owners,
    ) -> Result<bool, TarError> {
        let mut late_root = false;
        let mut next = self.first.take();
        while let Some(mut entry) = next {
            let uid = owners.to_archive(entry.owner(entry.uid)?);
            let gid = owners.to_archive(entry.owner(entry.gid)?);
            if entry.is_root() {
                late_root = true;
                self.copy(entry.data, &mut io::sink())?;
            } else {
                entry.header.set_owner(uid, gid);
                entry.header.seal();
                sink.write_all(&entry.before).map_err(TarError::Write)?;
                sink.write_all(&entry.header.0).map_err(TarError::Write)?;
                self.copy_extents(&entry.header, sink)?;
                self.copy(entry.data, sink)?;
            }
            next = self.next()?;
        }
        sink.write_all(&[0; 2 * BLOCK]).map_err(TarError::Write)?;
        Ok(late_root)
    }

    /// Reads up to the next entry's data; `None` at the end mark.
    fn next(&mut self) -> Result<Option<Entry>, TarError> {
        let mut before = Vec::new();
        let mut own = self.global.clone();
        loop {
            let start = self.offset;
            let mut header = self.header()?;
            if header.is_zero() {
                return Ok(None);
            }
            let invalid = TarError::Header { offset: start };
            let Some(size) = header.size() else {
                return Err(invalid);
            };
            match header.kind() {
                b'x' | b'X' => {
                    let data = self.extended(size, start)?;
                    let kept = own.take_from(&data, start)?;
                    if !kept.is_empty() {
                        before.extend_from_slice(&Header::pax(kept.len() as u64).0);
                        append_padded(&mut before, &kept);
                    }
                }
                b'g' => {
                    let data = self.extended(size, start)?;
                    // Git and others leave a comment here; what it could say
                    // of all files but their owners no program writes.
                    let mut global = self.global.clone();
                    global.take_from(&data, start)?;
                    own = global.clone();
                    self.global = global;
                }
                kind @ (b'L' | b'K') => {
                    let data = self.extended(size, start)?;
                    before.extend_from_slice(&header.0);
                    append_padded(&mut before, &data);
                    if kind == b'L' {
                        let end = data.iter().position(|byte| *byte == 0);
                        own.path = Some(data[..end.unwrap_or(data.len())].to_vec());
                    }
                }
                kind => {
                    let (Some(uid), Some(gid)) = (header.uid(), header.gid()) else {
                        return Err(invalid);
                    };
                    // Links, devices, folders and pipes have no data, whatever
                    // their size; mksquashfs must not think otherwise.
                    let data = if matches!(kind, b'1'..=b'6') {
                        header.set_size(0);
                        0
                    } else {
                        own.size.unwrap_or(size)
                    };
                    return Ok(Some(Entry {
                        before,
                        path: own.path.unwrap_or_else(|| header.path()),
                        uid: own.uid.unwrap_or(uid),
                        gid: own.gid.unwrap_or(gid),
                        data: padded(data).ok_or(invalid)?,
                        header,
                    }));
                }
            }
        }
    }

    fn header(&mut self) -> Result<Header, TarError> {
        let start = self.offset;
        let mut header = Header([0; BLOCK]);
        let read = self.read_up_to(&mut header.0)?;
        if read == BLOCK && (header.is_zero() || header.checksum_is_right()) {
            return Ok(header);
        }
        if start == 0 && read > 0 {
            return Err(TarError::NotTar {
                found: Found::sniff(&header.0[..read]),
            });
        }
        if read < BLOCK {
            return Err(TarError::Truncated {
                offset: self.offset,
            });
        }
        Err(TarError::Header { offset: start })
    }

    fn extended(&mut self, size: u64, start: u64) -> Result<Vec<u8>, TarError> {
        if size > MAX_EXTENDED {
            return Err(TarError::Extended { offset: start });
        }
        let mut data = Vec::new();
        self.copy(size.next_multiple_of(BLOCK as u64), &mut data)?;
        data.truncate(size as usize);
        Ok(data)
    }

    /// A sparse file of GNU's old format keeps further extents in blocks of
    /// their own, between header and data.
    fn copy_extents(&mut self, header: &Header, sink: &mut dyn Write) -> Result<(), TarError> {
        /// In such a block: whether there is another.
        const MORE: usize = 504;
        let mut more = header.kind() == b'S' && header.has_more_extents();
        while more {
            let mut block = Vec::with_capacity(BLOCK);
            self.copy(BLOCK as u64, &mut block)?;
            sink.write_all(&block).map_err(TarError::Write)?;
            more = block[MORE] != 0;
        }
        Ok(())
    }

    /// Copies exactly `len` bytes.
    fn copy(&mut self, mut len: u64, sink: &mut dyn Write) -> Result<(), TarError> {
        let mut buf = vec![0; len.min(COPY as u64) as usize];
        while len > 0 {
            let want = len.min(COPY as u64) as usize;
            let piece = &mut buf[..want];
            if self.read_up_to(piece)? < want {
                return Err(TarError::Truncated {
                    offset: self.offset,
                });
            }
            sink.write_all(piece).map_err(TarError::Write)?;
            len -= want as u64;
        }
        Ok(())
    }

    /// Fills `buf` unless the source ends before.
    fn read_up_to(&mut self, buf: &mut [u8]) -> Result<usize, TarError> {
        let mut read = 0;
        while read < buf.len() {
            match self.source.read(&mut buf[read..]) {
                Ok(0) => break,
                Ok(len) => {
                    read += len;
                    self.offset += len as u64;
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
        Ok(read)
    }
}

impl Overrides {
    /// Takes what is for us from the records in `data` and returns the others.
    fn take_from(&mut self, data: &[u8], offset: u64) -> Result<Vec<u8>, TarError> {
        let damaged = || TarError::Extended { offset };
        let mut kept = Vec::new();
        for record in pax::records(data).ok_or_else(damaged)? {
            let number = || record.number().ok_or_else(damaged);
            match record.key {
                b"uid" => self.uid = Some(number()?),
                b"gid" => self.gid = Some(number()?),
                b"uname" | b"gname" => {}
                // mksquashfs takes no whole seconds.
                b"mtime" if !record.value.contains(&b'.') => {
                    let value = [record.value, b".0"].concat();
                    Record {
                        value: &value,
                        ..record
                    }
                    .write_to(&mut kept);
                }
                key => {
                    match key {
                        b"size" => self.size = Some(number()?),
                        b"path" => self.path = Some(record.value.to_vec()),
                        _ => {}
                    }
                    record.write_to(&mut kept);
                }
            }
        }
        Ok(kept)
    }
}

fn append_padded(out: &mut Vec<u8>, data: &[u8]) {
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

fn padded(size: u64) -> Option<u64> {
    size.checked_next_multiple_of(BLOCK as u64)
}

#[cfg(test)]
mod tests;
