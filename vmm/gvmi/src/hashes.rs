//! The hashes by which an image is known elsewhere: to registries of
//! containers by SHA-256, to Golem by SHA3-224. Golem's hashes are links:
//! `hash:sha3:HEX:URL` tells a provider where an image is and what it must
//! hash to; the number of digits tells it which SHA-3.

use std::io::{self, Read};

use sha2::Sha256;
use sha3::Sha3_224;
use sha3::digest::Digest as _;

use crate::digest::Digest;

/// The file is read in pieces of this many bytes.
const PIECE: usize = 128 << 10;

/// Hashes of a whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashes {
    /// Bytes in the file.
    pub len: u64,
    /// Its SHA-256.
    pub sha256: Digest,
    sha3_224: [u8; 28],
}

impl Hashes {
    /// Of all that `from` gives, read once.
    pub fn of(mut from: impl Read) -> io::Result<Self> {
        let mut sha256 = Sha256::new();
        let mut sha3_224 = Sha3_224::new();
        let mut len = 0;
        let mut piece = vec![0; PIECE];
        loop {
            match from.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => {
                    sha256.update(&piece[..read]);
                    sha3_224.update(&piece[..read]);
                    len += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self {
            len,
            sha256: sha256.into(),
            sha3_224: sha3_224.finalize().into(),
        })
    }

    /// The SHA3-224, as 56 lower-case hexadecimal digits.
    pub fn sha3_224(&self) -> String {
        self.sha3_224
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// What a requestor gives Golem to run the image that is at `url`.
    pub fn golem_link(&self, url: &str) -> String {
        format!("hash:sha3:{}:{url}", self.sha3_224())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_the_standards() {
        // FIPS 180-4 and FIPS 202, examples of one block.
        let hashes = Hashes::of(&b"abc"[..]).unwrap();
        assert_eq!(hashes.len, 3);
        assert_eq!(hashes.sha256, Digest::of(b"abc"));
        assert_eq!(
            hashes.golem_link("http://host/a.gvmi"),
            "hash:sha3:e642824c3f8cf24ad09234ee7d3c766fc9a3a5168d0c94ad73b46fdf:http://host/a.gvmi"
        );
    }

    #[test]
    fn pieces_make_no_difference() {
        let bytes = vec![7; 3 * PIECE + 1];
        let halves = (&bytes[..5]).chain(&bytes[5..]);
        assert_eq!(Hashes::of(halves).unwrap(), Hashes::of(&bytes[..]).unwrap());
    }
}
