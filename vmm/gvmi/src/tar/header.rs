//! One 512-byte header of a tar archive (POSIX.1-2017 pax, ustar interchange
//! format; GNU's base-256 numbers).

use std::ops::Range;

/// Everything in an archive comes in blocks of this many bytes.
pub(crate) const BLOCK: usize = 512;

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const CHECKSUM: Range<usize> = 148..156;
const KIND: usize = 156;
const MAGIC: Range<usize> = 257..262;
/// The owner's and the group's names, next to each other.
const OWNER_NAMES: Range<usize> = 265..329;
const PREFIX: Range<usize> = 345..500;
/// In a sparse file's header: whether a block of extents follows.
const SPARSE_MORE: usize = 482;
/// Highest number, plus one, of 7 octal digits.
const OCTAL_END: u64 = 1 << 21;
/// Marks a number of the base-256 form.
const BASE_256: u8 = 0x80;

#[derive(Clone, Debug)]
pub(crate) struct Header(pub(crate) [u8; BLOCK]);

impl Header {
    /// A header for `len` bytes of extended attributes of the next entry.
    pub(crate) fn pax(len: u64) -> Self {
        let mut header = Self([0; BLOCK]);
        header.0[NAME][..3].copy_from_slice(b"pax");
        header.0[MAGIC].copy_from_slice(b"ustar");
        header.0[263..265].copy_from_slice(b"00");
        header.set_kind(b'x');
        for field in [MODE, UID, GID, SIZE, 136..148] {
            header.set_number(field, 0);
        }
        header.set_size(len);
        header.seal();
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

    pub(crate) fn set_kind(&mut self, kind: u8) {
        self.0[KIND] = kind;
    }

    pub(crate) fn mode(&self) -> Option<u64> {
        self.number(MODE)
    }

    pub(crate) fn uid(&self) -> Option<u64> {
        self.number(UID)
    }

    pub(crate) fn gid(&self) -> Option<u64> {
        self.number(GID)
    }

    pub(crate) fn size(&self) -> Option<u64> {
        self.number(SIZE)
    }

    pub(crate) fn set_size(&mut self, size: u64) {
        self.set_number(SIZE, size);
    }

    pub(crate) fn has_more_extents(&self) -> bool {
        self.0[SPARSE_MORE] != 0
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

    /// Sets the owner by number alone: a name would be looked up in this
    /// machine's list of users and win over the number.
    pub(crate) fn set_owner(&mut self, uid: u32, gid: u32) {
        self.set_number(UID, uid.into());
        self.set_number(GID, gid.into());
        self.0[OWNER_NAMES].fill(0);
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

fn until_nul(field: &[u8]) -> &[u8] {
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
    fn a_changed_byte_breaks_the_checksum() {
        let mut header = Header::pax(512);
        assert!(header.checksum_is_right());
        header.0[3] ^= 1;
        assert!(!header.checksum_is_right());
    }
}
