//! The name of some bytes by their hash, as OCI writes it
//! (image specification 1.1, "Digests").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// The SHA-256 of some bytes. As text: `sha256:` and 64 lower-case hexadecimal
/// digits. Registries and `docker save` write no other algorithm.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A text that is no digest, or one of an algorithm that is not read.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("`{0}` is not a digest of the form sha256:HEX")]
pub struct DigestError(String);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The 64 hexadecimal digits alone, as a file is named by.
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl From<Sha256> for Digest {
    /// Of all that the hasher was given.
    fn from(hasher: Sha256) -> Self {
        Self(hasher.finalize().into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let bytes = text.strip_prefix("sha256:").and_then(|hex| {
            let mut bytes = [0; 32];
            let pairs = hex.as_bytes().as_chunks::<2>();
            if pairs.0.len() != bytes.len() || !pairs.1.is_empty() {
                return None;
            }
            for (byte, [high, low]) in bytes.iter_mut().zip(pairs.0) {
                *byte = nibble(*high)? << 4 | nibble(*low)?;
            }
            Some(bytes)
        });
        bytes.map(Self).ok_or_else(|| DigestError(text.to_owned()))
    }
}

/// OCI allows no upper-case digits: two texts would name one thing.
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4's example of one block.
    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn digest_is_written_as_it_is_read() {
        assert_eq!(Digest::of(b"abc").to_string(), ABC);
        assert_eq!(ABC.parse(), Ok(Digest::of(b"abc")));
        let json = format!("\"{ABC}\"");
        let read: Digest = serde_json::from_str(&json).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), json);
    }

    #[test]
    fn other_texts_are_no_digests() {
        let upper = ABC.to_uppercase().replace("SHA", "sha");
        for text in ["", "sha256:", "sha512:ba", &ABC[7..], &ABC[..70], &upper] {
            assert_eq!(text.parse::<Digest>(), Err(DigestError(text.to_owned())));
        }
        assert!(format!("{ABC}0").parse::<Digest>().is_err());
    }
}
