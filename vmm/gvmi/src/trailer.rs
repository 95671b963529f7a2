//! The end of an image: checksum, configuration, and the length of the latter
//! in eight decimal digits. The trailer is found from the end of the file; it
//! has no magic number and no version.

use crate::config::ContainerConfig;
use crate::fault::{Fault, Found};
use crate::image::Source;
use crate::superblock;

/// Decimal digits at the end of the file.
const DIGITS: usize = 8;
/// Bytes of a trailer around its configuration.
const FRAME: u64 = 4 + DIGITS as u64;
/// Longest configuration that is read or written. The digits allow 100 MB; a
/// kernel passes at most 6 MiB of arguments and environment to a process, and
/// parsing takes several times the text's length in memory.
pub const MAX_CONFIG_LEN: u64 = 4 << 20;

/// Shortest file that may be an image.
pub(crate) const MIN_FILE_LEN: u64 = superblock::LEN as u64 + FRAME;

/// Reads the configuration from a file of `len` bytes, at least
/// [`MIN_FILE_LEN`]; returns it with the length of what precedes the trailer.
pub(crate) fn read<S: Source + ?Sized>(
    source: &S,
    len: u64,
) -> Result<(ContainerConfig, u64), Fault> {
    let mut digits = [0; DIGITS];
    source
        .read_exact_at(&mut digits, len - DIGITS as u64)
        .map_err(Fault::Read)?;
    let config_len = parse_digits(&digits).ok_or_else(|| Fault::NoLength {
        found: found(source, len),
    })?;
    let area = (len - FRAME)
        .checked_sub(config_len)
        .filter(|area| *area >= superblock::LEN as u64)
        .ok_or(Fault::LengthOutside {
            len: config_len,
            file_len: len,
        })?;
    if config_len > MAX_CONFIG_LEN {
        return Err(Fault::ConfigTooLong {
            len: config_len,
            max: MAX_CONFIG_LEN,
        });
    }

    let mut stored = [0; 4];
    source
        .read_exact_at(&mut stored, area)
        .map_err(Fault::Read)?;
    let stored = u32::from_le_bytes(stored);
    // At most MAX_CONFIG_LEN, so it fits.
    let mut json = vec![0; config_len as usize];
    source
        .read_exact_at(&mut json, area + 4)
        .map_err(Fault::Read)?;
    let computed = crc32fast::hash(&json);
    if stored != computed {
        return Err(Fault::Checksum { stored, computed });
    }
    let config = serde_json::from_slice(&json).map_err(Fault::Config)?;
    Ok((config, area))
}

/// What the start of a file that is no image looks like; a file that cannot
/// be read there is unknown.
pub(crate) fn found<S: Source + ?Sized>(source: &S, len: u64) -> Found {
    let mut head = vec![0; len.min(crate::fault::SNIFF_LEN as u64) as usize];
    match source.read_exact_at(&mut head, 0) {
        Ok(()) => Found::sniff(&head),
        Err(_) => Found::Unknown,
    }
}

fn parse_digits(digits: &[u8; DIGITS]) -> Option<u64> {
    digits.iter().try_fold(0, |value, digit| {
        digit
            .is_ascii_digit()
            .then(|| value * 10 + u64::from(digit - b'0'))
    })
}

/// The trailer that carries `config`, or its configuration's length when that
/// is above [`MAX_CONFIG_LEN`].
pub(crate) fn encode(config: &ContainerConfig) -> Result<Vec<u8>, u64> {
    let json = serde_json::to_vec(config).expect("its keys are strings and its writer is memory");
    let len = json.len() as u64;
    if len > MAX_CONFIG_LEN {
        return Err(len);
    }
    let mut trailer = crc32fast::hash(&json).to_le_bytes().to_vec();
    trailer.extend_from_slice(&json);
    trailer.extend_from_slice(format!("{len:08}").as_bytes());
    Ok(trailer)
}
