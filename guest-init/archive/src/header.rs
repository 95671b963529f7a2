//! One 512-byte header (POSIX.1-2017 pax, ustar interchange format; GNU's
//! base-256 numbers are read). What a header has no room for, [`crate::pax`]
//! says before it.

use std::ops::Range;

/// Everything in an archive comes in blocks of this many bytes.
pub(crate) const BLOCK: usize = 512;
/// Bytes of a name or a link's target.
pub(crate) const NAME_LEN: usize = 100;

pub(crate) const NAME: Range<usize> = 0..100;
pub(crate) const MODE: Range<usize> = 100..108;
pub(crate) const UID: Range<usize> = 108..116;
pub(crate) const GID: Range<usize> = 116..124;
pub(crate) const SIZE: Range<usize> = 124..136;
pub(crate) const MODIFIED: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const KIND: usize = 156;
pub(crate) const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
pub(crate) const MAJOR: Range<usize> = 329..337;
pub(crate) const MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;

/// Marks a positive number of the base-256 form, and a negative one.
const BASE_256: u8 = 0x80;
const BASE_256_NEGATIVE: u8 = 0xff;

pub(crate) struct Header(pub(crate) [u8; BLOCK]);

impl Header {
    /// An empty one of this type.
    pub(crate) fn new(kind: u8) -> Self {
        let mut header = Self([0; BLOCK]);
        header.0[KIND] = kind;
        header.0[MAGIC].copy_from_slice(b"ustar\x0000");
        for field in [MODE, UID, GID, SIZE, MODIFIED, MAJOR, MINOR] {
            header.set_number(field, 0);
        }
        header
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    pub(crate) fn kind(&self) -> u8 {
        self.0[KIND]
    }

    pub(crate) fn checksum_is_right(&self) -> bool {
        self.number(CHECKSUM) == Some(self.checksum().into())
    }

    /// The field of the checksum itself counts as spaces.
    fn checksum(&self) -> u32 {
        let bytes = self.0.iter().enumerate();
        bytes
            .map(|(at, byte)| match CHECKSUM.contains(&at) {
                true => u32::from(b' '),
                false => u32::from(*byte),
            })
            .sum()
    }

    /// Writes the checksum, after the last change.
    pub(crate) fn seal(&mut self) {
        let sum = format!("{:06o}\0 ", self.checksum());
        self.0[CHECKSUM].copy_from_slice(sum.as_bytes());
    }

    /// The name, which in POSIX's form may be in two parts.
    pub(crate) fn path(&self) -> Vec<u8> {
        let name = until_nul(&self.0[NAME]);
        let prefix = match &self.0[MAGIC.start..MAGIC.start + 6] {
            b"ustar\0" => until_nul(&self.0[PREFIX]),
            // GNU's old format has other things in this place.
            _ => b"",
        };
        match prefix {
            b"" => name.to_vec(),
            prefix => [prefix, b"/", name].concat(),
        }
    }

    pub(crate) fn link(&self) -> Vec<u8> {
        until_nul(&self.0[LINK]).to_vec()
    }

    /// A number; `None` when it is none or negative.
    pub(crate) fn number(&self, field: Range<usize>) -> Option<u64> {
        self.signed(field)
            .and_then(|number| u64::try_from(number).ok())
    }

    /// A number that may be negative, as a time can.
    pub(crate) fn signed(&self, field: Range<usize>) -> Option<i64> {
        let field = &self.0[field];
        match field[0] {
            BASE_256 => base_256(&field[1..], 0),
            BASE_256_NEGATIVE => base_256(&field[1..], -1),
            _ => octal(field),
        }
    }

    /// Whether the octal form has room for `value` in `field`.
    pub(crate) fn fits(field: &Range<usize>, value: u64) -> bool {
        let digits = field.len() - 1;
        value >> (3 * digits) == 0
    }

    /// Writes a number that [`fits`](Self::fits).
    pub(crate) fn set_number(&mut self, field: Range<usize>, value: u64) {
        let digits = field.len() - 1;
        let text = format!("{value:0digits$o}\0");
        self.0[field].copy_from_slice(text.as_bytes());
    }

    /// Writes as much of `bytes` as there is room for.
    pub(crate) fn set_bytes(&mut self, field: Range<usize>, bytes: &[u8]) {
        let len = bytes.len().min(field.len());
        self.0[field.start..field.start + len].copy_from_slice(&bytes[..len]);
    }
}

fn octal(field: &[u8]) -> Option<i64> {
    let digits = std::str::from_utf8(until_nul(field)).ok()?.trim();
    match digits {
        "" => Some(0),
        digits => i64::from_str_radix(digits, 8).ok(),
    }
}

/// The low eight of `bytes`; those above have to be the `sign`'s.
fn base_256(bytes: &[u8], sign: i64) -> Option<i64> {
    let (high, low) = bytes.split_at(bytes.len().saturating_sub(8));
    let filler = sign.to_be_bytes()[0];
    let number = low
        .iter()
        .fold(sign, |number, byte| number << 8 | i64::from(*byte));
    (high.iter().all(|byte| *byte == filler) && (number < 0) == (sign < 0)).then_some(number)
}

pub(crate) fn until_nul(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0);
    &field[..end.unwrap_or(field.len())]
}
