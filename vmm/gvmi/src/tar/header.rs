//! One 512-byte header of a tar archive (POSIX.1-2017 pax, ustar interchange
//! format; GNU's base-256 numbers).

use std::ops::Range;

use super::entry::EntryError;
use super::sparse::{self, Extent};

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
const MAGIC: Range<usize> = 257..262;
const VERSION: Range<usize> = 263..265;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;
/// In the header of a sparse file of GNU's old format: its first extents,
/// whether a block of more follows, and its size with holes.
const SPARSE: Range<usize> = 386..482;
const SPARSE_MORE: usize = 482;
const SPARSE_SIZE: Range<usize> = 483..495;
/// In a block of more extents: them, and whether another follows.
const MORE_SPARSE: Range<usize> = 0..504;
const MORE_SPARSE_MORE: usize = 504;
/// Start and length of an extent.
const SPARSE_PAIR: usize = 24;
/// Highest number, plus one, of 7 octal digits.
const OCTAL_END: u64 = 1 << 21;
/// Marks a number of the base-256 form.
const BASE_256: u8 = 0x80;
/// Marks a negative one.
const NEGATIVE: u8 = 0xff;

#[derive(Clone, Debug)]
pub(crate) struct Header(pub(crate) [u8; BLOCK]);

impl Header {
    /// A header of this kind with all numbers zero.
    pub(crate) fn new(kind: u8) -> Self {
        let mut header = Self([0; BLOCK]);
        header.0[KIND] = kind;
        header.0[MAGIC].copy_from_slice(b"ustar");
        header.0[VERSION].copy_from_slice(b"00");
        for field in [MODE, UID, GID, SIZE, MTIME, MAJOR, MINOR] {
            header.set_number(field, 0);
        }
        header
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// Old programs summed signed bytes.
    pub(crate) fn checksum_is_right(&self) -> bool {
        let stored = self.number(CHECKSUM);
        let signed: i64 = self
            .summed()
            .map(|byte| i64::from(byte.cast_signed()))
            .sum();
        stored == Some(self.checksum()) || stored.is_some_and(|sum| sum.cast_signed() == signed)
    }

    fn checksum(&self) -> u64 {
        self.summed().map(u64::from).sum()
    }

    /// The field of the checksum counts as spaces.
    fn summed(&self) -> impl Iterator<Item = u8> {
        let bytes = self.0.iter().enumerate();
        bytes.map(|(at, byte)| if CHECKSUM.contains(&at) { b' ' } else { *byte })
    }

    /// Writes the checksum, after the last change.
    pub(crate) fn seal(&mut self) {
        let sum = format!("{:06o}\0 ", self.checksum());
        self.0[CHECKSUM].copy_from_slice(sum.as_bytes());
    }

    pub(crate) fn kind(&self) -> u8 {
        self.0[KIND]
    }

    pub(crate) fn mode(&self) -> Option<u64> {
        self.number(MODE)
    }

    pub(crate) fn set_mode(&mut self, mode: u16) {
        self.set_number(MODE, mode.into());
    }

    pub(crate) fn uid(&self) -> Option<u64> {
        self.number(UID)
    }

    pub(crate) fn gid(&self) -> Option<u64> {
        self.number(GID)
    }

    /// Sets the owner by number alone: a name would be looked up in this
    /// machine's list of users and win over the number.
    pub(crate) fn set_owner(&mut self, uid: u32, gid: u32) {
        self.set_number(UID, uid.into());
        self.set_number(GID, gid.into());
    }

    pub(crate) fn size(&self) -> Option<u64> {
        self.number(SIZE)
    }

    pub(crate) fn set_size(&mut self, size: u64) {
        self.set_number(SIZE, size);
    }

    /// Seconds since 1970, the nearest that squashfs can store.
    pub(crate) fn mtime(&self) -> Option<u32> {
        let field = &self.0[MTIME];
        if field[0] == NEGATIVE || until_nul(field).trim_ascii().starts_with(b"-") {
            return Some(0);
        }
        let seconds = self.number(MTIME)?;
        Some(seconds.try_into().unwrap_or(u32::MAX))
    }

    pub(crate) fn set_mtime(&mut self, seconds: u32) {
        self.set_number(MTIME, seconds.into());
    }

    /// Major and minor number.
    pub(crate) fn device(&self) -> Option<(u64, u64)> {
        Some((self.number(MAJOR)?, self.number(MINOR)?))
    }

    pub(crate) fn set_device(&mut self, major: u32, minor: u32) {
        self.set_number(MAJOR, major.into());
        self.set_number(MINOR, minor.into());
    }

    /// The name as the header alone gives it.
    pub(crate) fn path(&self) -> Vec<u8> {
        let name = until_nul(&self.0[NAME]);
        // GNU's old format has other things where POSIX's has the prefix.
        let prefix = match &self.0[MAGIC.start..MAGIC.end + 1] {
            b"ustar\0" => until_nul(&self.0[PREFIX]),
            _ => b"",
        };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    /// Sets the name, if it is short enough; else its start.
    pub(crate) fn set_path(&mut self, path: &[u8]) -> bool {
        self.set_text(NAME, path)
    }

    /// Where a link points to, as the header alone gives it.
    pub(crate) fn link(&self) -> Vec<u8> {
        until_nul(&self.0[LINK]).to_vec()
    }

    /// Sets it, if it is short enough; else its start.
    pub(crate) fn set_link(&mut self, target: &[u8]) -> bool {
        self.set_text(LINK, target)
    }

    fn set_text(&mut self, field: Range<usize>, text: &[u8]) -> bool {
        let field = &mut self.0[field];
        // A NUL ends it, which some readers want even in a full field.
        let len = text.len().min(field.len() - 1);
        field[..len].copy_from_slice(&text[..len]);
        len == text.len()
    }

    /// Of a sparse file of GNU's old format, its size with holes.
    pub(crate) fn sparse_size(&self) -> Option<u64> {
        self.number(SPARSE_SIZE)
    }

    /// Adds the extents in it to `extents`; returns whether a block of more
    /// follows.
    pub(crate) fn sparse(&self, extents: &mut Vec<Extent>) -> Result<bool, EntryError> {
        self.extents(SPARSE, extents)?;
        Ok(self.0[SPARSE_MORE] != 0)
    }

    /// The same of a block of more extents, which is no header.
    pub(crate) fn more_sparse(&self, extents: &mut Vec<Extent>) -> Result<bool, EntryError> {
        self.extents(MORE_SPARSE, extents)?;
        Ok(self.0[MORE_SPARSE_MORE] != 0)
    }

    fn extents(&self, field: Range<usize>, extents: &mut Vec<Extent>) -> Result<(), EntryError> {
        for at in field.step_by(SPARSE_PAIR) {
            let (start, len) = (
                at..at + SPARSE_PAIR / 2,
                at + SPARSE_PAIR / 2..at + SPARSE_PAIR,
            );
            if self.0[len.start] == 0 {
                break;
            }
            let number = |field| self.number(field).ok_or(EntryError::Sparse);
            sparse::push(extents, number(start)?, number(len)?)?;
        }
        Ok(())
    }

    fn number(&self, field: Range<usize>) -> Option<u64> {
        let field = &self.0[field];
        if field[0] == BASE_256 {
            let (high, low) = field[1..].split_at(field.len().saturating_sub(9));
            return high
                .iter()
                .all(|byte| *byte == 0)
                .then(|| low.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
        }
        let digits = until_nul(field).trim_ascii();
        let digits = std::str::from_utf8(digits).ok()?;
        match digits {
            "" => Some(0),
            digits => u64::from_str_radix(digits, 8).ok(),
        }
    }

    fn set_number(&mut self, field: Range<usize>, value: u64) {
        let field = &mut self.0[field];
        let (first, rest) = field.split_first_mut().expect("no field is empty");
        // The eight-byte fields hold 7 digits and the twelve-byte ones 11.
        let digits = rest.len();
        if value < OCTAL_END << ((digits - 7) * 3) {
            let text = format!("{value:0digits$o}\0");
            field.copy_from_slice(text.as_bytes());
            return;
        }
        *first = BASE_256;
        let bytes = value.to_be_bytes();
        let len = rest.len().min(bytes.len());
        rest.fill(0);
        let start = rest.len() - len;
        rest[start..].copy_from_slice(&bytes[bytes.len() - len..]);
    }
}

/// What of `field` is before its first NUL.
pub(crate) fn until_nul(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0);
    &field[..end.unwrap_or(field.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_any_size_are_read_as_written() {
        let mut header = Header([0; BLOCK]);
        for value in [0, 1, 0o777_7777, 0o1000_0000, u64::from(u32::MAX)] {
            header.set_number(UID, value);
            assert_eq!(header.uid(), Some(value));
        }
        for value in [0, 0o777_7777_7777, 0o1_0000_0000_0000, u64::MAX] {
            header.set_size(value);
            assert_eq!(header.size(), Some(value));
        }
    }

    #[test]
    fn times_are_read_as_the_nearest_that_can_be_stored() {
        let mut header = Header([0; BLOCK]);
        for (field, expected) in [
            (&b"00000000014\0"[..], 12),
            (b"-0000000001\0", 0),
            (b"77777777777\0", u32::MAX),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe", 0),
            (b"\x80\0\0\0\0\0\0\0\0\0\x01\0", 256),
        ] {
            header.0[MTIME].copy_from_slice(field);
            assert_eq!(header.mtime(), Some(expected));
        }
    }

    #[test]
    fn a_changed_byte_breaks_the_checksum() {
        let mut header = Header::new(b'x');
        header.seal();
        assert!(header.checksum_is_right());
        header.0[3] ^= 1;
        assert!(!header.checksum_is_right());
    }
}
