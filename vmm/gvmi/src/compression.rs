//! How an image is compressed, as its maker asks for it.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::superblock::Compressor;

/// A compressor and how hard it tries.
///
/// The default is lzo: it is what Golem's own image builder writes unless told
/// otherwise, so every guest kernel that ever ran a Golem image reads it (zstd
/// some do not), and it unpacks several times faster than gzip and xz. Among
/// those two properties size and packing time come second.
///
/// As text: `zstd`, or with a level `zstd:19`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    compressor: Compressor,
    level: Option<u8>,
}

/// A compression that `mksquashfs` would not accept.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CompressionError {
    /// No such compressor.
    #[error("no compressor `{0}` (choose gzip, lzo, xz, lz4 or zstd)")]
    Unknown(String),
    /// The compressor has no levels.
    #[error("{0} has no levels (leave out what follows the colon)")]
    NoLevels(&'static str),
    /// Not a level of this compressor.
    #[error("`{level}` is not a level of {name} (choose 1 to {max})")]
    Level {
        /// What was asked for.
        level: String,
        /// The compressor.
        name: &'static str,
        /// Its highest level.
        max: u8,
    },
}

impl Default for Compression {
    fn default() -> Self {
        Self::from(Compressor::Lzo)
    }
}

impl From<Compressor> for Compression {
    fn from(compressor: Compressor) -> Self {
        Self {
            compressor,
            level: None,
        }
    }
}

impl Compression {
    /// The options of `mksquashfs` that ask for it.
    pub(crate) fn options(self) -> Vec<String> {
        let mut options = vec!["-comp".to_owned(), self.compressor.name().to_owned()];
        if let Some(level) = self.level {
            options.extend(["-Xcompression-level".to_owned(), level.to_string()]);
        }
        if self.compressor == Compressor::Lz4 {
            // Unpacks as fast as the plain form, and an image is packed once.
            options.push("-Xhc".to_owned());
        }
        options
    }
}

impl FromStr for Compression {
    type Err = CompressionError;

    fn from_str(text: &str) -> Result<Self, CompressionError> {
        let (name, level) = match text.split_once(':') {
            Some((name, level)) => (name, Some(level)),
            None => (text, None),
        };
        let (compressor, max) = match name {
            "gzip" => (Compressor::Gzip, Some(9)),
            "lzo" => (Compressor::Lzo, Some(9)),
            "xz" => (Compressor::Xz, None),
            "lz4" => (Compressor::Lz4, None),
            "zstd" => (Compressor::Zstd, Some(22)),
            _ => return Err(CompressionError::Unknown(name.to_owned())),
        };
        let name = compressor.name();
        let level = match (level, max) {
            (None, _) => None,
            (Some(_), None) => return Err(CompressionError::NoLevels(name)),
            (Some(level), Some(max)) => match level.parse() {
                Ok(number) if (1..=max).contains(&number) => Some(number),
                _ => {
                    return Err(CompressionError::Level {
                        level: level.to_owned(),
                        name,
                        max,
                    });
                }
            },
        };
        Ok(Self { compressor, level })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.compressor.name())?;
        self.level.map_or(Ok(()), |level| write!(f, ":{level}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_reads_back() {
        for text in ["gzip", "lzo:9", "xz", "lz4", "zstd:22"] {
            let compression: Compression = text.parse().unwrap();
            assert_eq!(compression.to_string(), text);
        }
    }

    #[test]
    fn levels_outside_the_compressor_are_refused() {
        for text in [
            "", "lzma", "gzip:0", "gzip:10", "zstd:23", "zstd:", "zstd:x", "xz:1", "lz4:1",
        ] {
            assert!(text.parse::<Compression>().is_err(), "{text}");
        }
    }
}
