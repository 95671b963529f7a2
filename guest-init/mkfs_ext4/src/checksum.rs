//! CRC-32C as ext4 uses it: the running value, without the final inversion.

/// Generator polynomial, lowest power first.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            value = (value >> 1) ^ if value & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};

/// A checksum under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksum(pub u32);

impl Checksum {
    /// Of nothing yet.
    pub const NEW: Self = Checksum(!0);

    /// Goes on with `bytes`.
    pub fn add(self, bytes: &[u8]) -> Self {
        Checksum(bytes.iter().fold(self.0, |value, byte| {
            TABLE[usize::from(value as u8 ^ byte)] ^ (value >> 8)
        }))
    }

    /// The lower half, which old fields have room for.
    pub fn low(self) -> u16 {
        self.0 as u16
    }

    /// The upper half, in a field of later age.
    pub fn high(self) -> u16 {
        (self.0 >> 16) as u16
    }
}
