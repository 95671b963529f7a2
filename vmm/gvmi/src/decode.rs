//! Unpacks a stream that may be compressed with gzip (RFC 1952, any number of
//! members) or zstd (RFC 8878, any number of frames), told by its first bytes.
//! What is in it is not looked at.

use std::io::{self, BufReader, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use thiserror::Error;
use zstd::stream::read::Decoder as ZstdDecoder;

/// Bytes read at a time.
pub(crate) const PIECE: usize = 128 << 10;
const GZIP: &[u8] = b"\x1f\x8b";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";
/// A zstd frame to be skipped, as indexes of archives are stored, is told by
/// four bytes of which these are the last three.
const ZSTD_SKIPPABLE: &[u8] = b"\x2a\x4d\x18";
/// Largest window of zstd, as a power of two: what its own program accepts
/// unless told otherwise. A frame that asks for it takes 128 MiB of memory;
/// the levels that registries are fed with ask for 8 MiB at most.
const MAX_WINDOW_LOG: u32 = 27;

type Source<R> = BufReader<io::Chain<Cursor<Vec<u8>>, R>>;

/// The bytes of `R`, unpacked.
pub(crate) enum Decoder<R: Read> {
    Plain(Source<R>),
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    Zstd(Box<ZstdDecoder<'static, Source<R>>>),
}

/// Compressed bytes that make no sense.
#[derive(Debug, Error)]
#[error("its {by} compression is damaged or cut short (fetch or make it again)")]
struct DecodeError {
    by: &'static str,
    source: io::Error,
}

impl<R: Read> Decoder<R> {
    /// Reads the first bytes of `source` to choose.
    pub(crate) fn new(mut source: R) -> io::Result<Self> {
        let mut head = Vec::with_capacity(ZSTD.len());
        source
            .by_ref()
            .take(ZSTD.len() as u64)
            .read_to_end(&mut head)?;
        let gzip = head.starts_with(GZIP);
        let zstd = head == ZSTD
            || (head.get(1..) == Some(ZSTD_SKIPPABLE) && matches!(head[0], 0x50..=0x5f));
        let source = BufReader::with_capacity(PIECE, Cursor::new(head).chain(source));
        if gzip {
            Ok(Self::Gzip(Box::new(MultiGzDecoder::new(source))))
        } else if zstd {
            let mut decoder = ZstdDecoder::with_buffer(source)?;
            decoder.window_log_max(MAX_WINDOW_LOG)?;
            Ok(Self::Zstd(Box::new(decoder)))
        } else {
            Ok(Self::Plain(source))
        }
    }

    /// What is read from.
    pub(crate) fn get_ref(&self) -> &R {
        let source = match self {
            Self::Plain(source) => source,
            Self::Gzip(decoder) => decoder.get_ref(),
            Self::Zstd(decoder) => decoder.get_ref(),
        };
        source.get_ref().get_ref().1
    }

    /// What was read from; bytes that were not asked for may be lost.
    pub(crate) fn into_inner(self) -> R {
        let source = match self {
            Self::Plain(source) => source,
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Zstd(decoder) => decoder.finish(),
        };
        source.into_inner().into_inner().1
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let (answer, by) = match self {
            Self::Plain(source) => return source.read(buf),
            Self::Gzip(decoder) => (decoder.read(buf), "gzip"),
            Self::Zstd(decoder) => (decoder.read(buf), "zstd"),
        };
        answer.map_err(|source| {
            // What the system says is not about the compression.
            if source.raw_os_error().is_some() || source.kind() == io::ErrorKind::Interrupted {
                return source;
            }
            io::Error::new(source.kind(), DecodeError { by, source })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(data: &[u8]) -> Vec<u8> {
        zstd::encode_all(data, 1).unwrap()
    }

    fn unpack(data: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        Decoder::new(data)?.read_to_end(&mut out)?;
        Ok(out)
    }

    #[test]
    fn streams_of_one_and_of_several_parts_are_unpacked_by_their_first_bytes() {
        let skippable = [&b"\x5a\x2a\x4d\x18\x03\0\0\0abc"[..], &zstd(b"one")].concat();
        for (packed, expected) in [
            (b"".to_vec(), ""),
            (b"one".to_vec(), "one"),
            (gzip(b"one"), "one"),
            ([gzip(b"one"), gzip(b"two")].concat(), "onetwo"),
            (zstd(b"one"), "one"),
            ([zstd(b"one"), zstd(b"two")].concat(), "onetwo"),
            (skippable, "one"),
        ] {
            assert_eq!(unpack(&packed).unwrap(), expected.as_bytes());
        }
    }

    #[test]
    fn damaged_or_cut_streams_are_errors_that_name_the_compression() {
        let data: Vec<u8> = (0..9999u32).flat_map(u32::to_le_bytes).collect();
        for (packed, by) in [(gzip(&data), "gzip"), (zstd(&data), "zstd")] {
            for len in [6, packed.len() / 2, packed.len() - 1] {
                let error = unpack(&packed[..len]).unwrap_err().to_string();
                assert!(error.contains(by), "{error}");
            }
        }
        let mut changed = gzip(&data);
        let middle = changed.len() / 2;
        changed[middle] ^= 0x55;
        assert!(unpack(&changed).is_err());
    }
}
