//! Writes an archive the one way that `mksquashfs` reads right, as others do:
//! owners by number alone (it prefers names, looked up on this machine), whole
//! seconds, holes as zeros (it finds them again; of the sparse formats it reads
//! some wrongly), extended headers only for what a header has no room for.

use std::io::{self, BufWriter, Write};

use super::entry::{Attributes, Kind};
use super::header::{BLOCK, Header};
use super::pax::Record;
use crate::decode::PIECE;
use crate::owners::Owners;
use crate::squashfs::{Device, Piece, Xattr};

/// Zeros written at a time.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

pub(crate) struct Writer<'a> {
    sink: BufWriter<&'a mut dyn Write>,
    /// Whose numbers are not written as they are.
    owners: Option<&'a Owners>,
    /// Bytes of data that the present entry lacks.
    left: u64,
    /// And behind them.
    padding: usize,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(sink: &'a mut dyn Write, owners: Option<&'a Owners>) -> Self {
        Self {
            sink: BufWriter::with_capacity(PIECE / 2, sink),
            owners,
            left: 0,
            padding: 0,
        }
    }

    /// Writes an entry at `path`; the data of a file follows in pieces.
    pub(crate) fn entry(
        &mut self,
        path: &[u8],
        kind: &Kind,
        attributes: &Attributes,
        xattrs: &[Xattr],
    ) -> io::Result<()> {
        debug_assert_eq!(self.left, 0);
        let (letter, size, link): (_, _, &[u8]) = match kind {
            Kind::File(size) => (b'0', *size, b""),
            Kind::HardLink(target) => (b'1', 0, target.as_bytes()),
            Kind::Symlink(target) => (b'2', 0, target),
            Kind::Char(_) => (b'3', 0, b""),
            Kind::Block(_) => (b'4', 0, b""),
            Kind::Folder => (b'5', 0, b""),
            Kind::Fifo => (b'6', 0, b""),
        };
        let mut header = Header::new(letter);
        let mut records = Vec::new();
        if !header.set_path(path) {
            record(&mut records, b"path", path);
        }
        if !header.set_link(link) {
            record(&mut records, b"linkpath", link);
        }
        for xattr in xattrs {
            let key = [b"SCHILY.xattr.", &xattr.name[..]].concat();
            record(&mut records, &key, &xattr.value);
        }
        header.set_mode(attributes.mode);
        let owner = |id| self.owners.map_or(id, |owners| owners.to_archive(id));
        header.set_owner(owner(attributes.uid), owner(attributes.gid));
        header.set_mtime(attributes.mtime);
        header.set_size(size);
        if let Kind::Char(Device { major, minor }) | Kind::Block(Device { major, minor }) = kind {
            header.set_device(*major, *minor);
        }
        self.extended(records)?;
        self.header(header)?;
        self.left = size;
        self.padding = (size.next_multiple_of(BLOCK as u64) - size) as usize;
        Ok(())
    }

    /// Writes the next piece of the last entry's data.
    pub(crate) fn piece(&mut self, piece: &Piece<'_>) -> io::Result<()> {
        match piece {
            Piece::Data(data) => {
                self.left -= data.len() as u64;
                self.bytes(data)?;
            }
            Piece::Hole(len) => {
                self.left -= len;
                let mut len = *len;
                while len > 0 {
                    let part = len.min(ZEROS.len() as u64);
                    self.bytes(&ZEROS[..part as usize])?;
                    len -= part;
                }
            }
        }
        if self.left == 0 {
            let padding = std::mem::take(&mut self.padding);
            self.bytes(&ZEROS[..padding])?;
        }
        Ok(())
    }

    /// Writes the end mark.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.bytes(&ZEROS[..2 * BLOCK])?;
        self.sink.flush()
    }

    fn extended(&mut self, mut records: Vec<u8>) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut header = Header::new(b'x');
        header.set_path(b"pax");
        header.set_size(records.len() as u64);
        self.header(header)?;
        records.resize(records.len().next_multiple_of(BLOCK), 0);
        self.bytes(&records)
    }

    fn header(&mut self, mut header: Header) -> io::Result<()> {
        header.seal();
        self.bytes(&header.0)
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sink.write_all(bytes)
    }
}

fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    Record { key, value }.write_to(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(path: &[u8], kind: &Kind, attributes: &Attributes) -> Vec<u8> {
        let mut archive = Vec::new();
        let mut writer = Writer::new(&mut archive, None);
        writer.entry(path, kind, attributes, &[]).unwrap();
        writer.sink.flush().unwrap();
        drop(writer);
        archive
    }

    #[test]
    fn entries_of_any_size_are_read_by_another_reader() {
        let attributes = Attributes {
            mode: 0o4755,
            uid: 0o777_7777,
            gid: u32::MAX,
            mtime: u32::MAX,
        };
        for len in [1, 99, 100, 101, 300, 988, 1200] {
            let path = vec![b'p'; len];
            let archive = written(&path, &Kind::Symlink(path.clone()), &attributes);
            assert_eq!(archive.len() % BLOCK, 0);
            let mut archive = tar::Archive::new(&archive[..]);
            let entry = archive.entries().unwrap().next().unwrap().unwrap();
            assert_eq!(*entry.path_bytes(), path);
            assert_eq!(*entry.link_name_bytes().unwrap(), path);
            let header = entry.header();
            assert_eq!(header.uid().unwrap(), 0o777_7777);
            assert_eq!(header.gid().unwrap(), u64::from(u32::MAX));
            assert_eq!(header.mode().unwrap(), 0o4755);
            assert_eq!(header.mtime().unwrap(), u64::from(u32::MAX));
            assert_eq!(header.entry_type(), tar::EntryType::Symlink);
        }
    }

    #[test]
    fn sizes_beyond_the_digits_of_the_field_are_read_by_another_reader() {
        let archive = written(b"p", &Kind::File(1 << 33), &Attributes::default());
        let mut archive = tar::Archive::new(&archive[..]);
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.size(), 1 << 33);
    }
}
