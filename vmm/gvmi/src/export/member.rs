//! The header of one member of a tar archive as it is written here (POSIX.1-2017
//! pax): what does not fit into its fields goes before it, in records.

use std::ops::Range;

use crate::squashfs::{Device, Xattr};

/// Everything in an archive comes in blocks of this many bytes.
pub(crate) const BLOCK: usize = 512;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const KIND: usize = 156;
const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;

/// One member, without its data.
#[derive(Clone, Debug, Default)]
pub(crate) struct Member<'a> {
    pub(crate) path: &'a [u8],
    /// Type, a digit.
    pub(crate) kind: u8,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: u32,
    pub(crate) size: u64,
    /// Target of a link.
    pub(crate) link: &'a [u8],
    pub(crate) device: Option<Device>,
    /// Extended attributes whose names have no "=".
    pub(crate) xattrs: &'a [Xattr],
}

impl Member<'_> {
    /// The blocks that precede the data.
    pub(crate) fn blocks(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let mut header = [0; BLOCK];
        text(&mut header[NAME], self.path, b"path", &mut records);
        text(&mut header[LINK], self.link, b"linkpath", &mut records);
        number(&mut header[UID], self.uid.into(), b"uid", &mut records);
        number(&mut header[GID], self.gid.into(), b"gid", &mut records);
        number(&mut header[SIZE], self.size, b"size", &mut records);
        for xattr in self.xattrs {
            let key = [b"SCHILY.xattr.", xattr.name.as_slice()].concat();
            record(&key, &xattr.value, &mut records);
        }
        // These fit: 12 bits, 32, 12 and 20 of at least 21.
        octal(&mut header[MODE], self.mode.into());
        octal(&mut header[MTIME], self.mtime.into());
        let device = self.device.unwrap_or_default();
        octal(&mut header[MAJOR], device.major.into());
        octal(&mut header[MINOR], device.minor.into());
        seal(&mut header, self.kind);

        let mut blocks = Vec::new();
        if !records.is_empty() {
            blocks.extend(extended(records.len() as u64));
            blocks.extend(&records);
            blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
        }
        blocks.extend(header);
        blocks
    }
}

/// The header of `len` bytes of records about the next member.
fn extended(len: u64) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    header[NAME][..3].copy_from_slice(b"pax");
    // An entry's path, target and attributes are below 2 MiB.
    octal(&mut header[SIZE], len);
    for field in [MODE, UID, GID, MTIME, MAJOR, MINOR] {
        octal(&mut header[field], 0);
    }
    seal(&mut header, b'x');
    header
}

/// Writes what comes last, the sum of all other bytes.
fn seal(header: &mut [u8; BLOCK], kind: u8) {
    header[KIND] = kind;
    header[MAGIC].copy_from_slice(b"ustar\x0000");
    header[CHECKSUM].fill(b' ');
    let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut header[CHECKSUM][..7], sum);
}

fn text(field: &mut [u8], value: &[u8], key: &[u8], records: &mut Vec<u8>) {
    // A NUL ends it, which some readers want even in a full field.
    let len = value.len().min(field.len() - 1);
    field[..len].copy_from_slice(&value[..len]);
    if len < value.len() {
        record(key, value, records);
    }
}

fn number(field: &mut [u8], value: u64, key: &[u8], records: &mut Vec<u8>) {
    if !octal(field, value) {
        octal(field, 0);
        record(key, value.to_string().as_bytes(), records);
    }
}

/// Writes `value` if it fits, with a NUL behind it.
fn octal(field: &mut [u8], value: u64) -> bool {
    let digits = field.len() - 1;
    let text = format!("{value:0digits$o}\0");
    let fits = text.len() == field.len();
    if fits {
        field.copy_from_slice(text.as_bytes());
    }
    fits
}

fn record(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
    // A space, "=" and a newline; and the digits of the length itself, which
    // can make the length one digit longer.
    let body = key.len() + value.len() + 3;
    let digits = |len: usize| len.to_string().len();
    let len = body + digits(body + digits(body));
    out.extend_from_slice(format!("{len} ").as_bytes());
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_any_size_are_read_back_by_another_reader() {
        for len in [1, 99, 100, 101, 300, 988, 1200] {
            let path = vec![b'p'; len];
            let member = Member {
                path: &path,
                kind: b'2',
                mode: 0o4755,
                uid: 0o777_7777,
                gid: u32::MAX,
                mtime: u32::MAX,
                link: &path,
                ..Default::default()
            };
            let blocks = member.blocks();
            assert_eq!(blocks.len() % BLOCK, 0);
            let mut archive = tar::Archive::new(&blocks[..]);
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
    fn sizes_beyond_the_field_are_records() {
        let member = Member {
            path: b"p",
            kind: b'0',
            size: 1 << 33,
            ..Default::default()
        };
        let blocks = member.blocks();
        let mut archive = tar::Archive::new(&blocks[..]);
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.size(), 1 << 33);
    }
}
