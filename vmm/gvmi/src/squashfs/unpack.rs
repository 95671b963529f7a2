//! Unpacks one block, with a bound on what comes out of it. A decompressor is
//! given a buffer of the longest length and never more memory than that and
//! its own state.
//!
//! The implementations: zlib-rs by flate2, lzallright (safe Rust; the LZO of
//! the format's own author is GPL), lzma-rust2 (Rust, without its unsafe
//! optimisations; its memory can be limited before it is taken), lz4_flex
//! (safe Rust) and the C library of zstd, which has no other as fast.

use std::io::{ErrorKind, Read};

use flate2::{Decompress, FlushDecompress, Status};
use lzma_rust2::XzReader;

use crate::superblock::Compressor;

/// What an xz decoder may take besides its dictionary, in KiB.
const XZ_STATE: u32 = 128;

/// Dictionary that a packer takes even for smaller blocks.
const XZ_DICTIONARY: u32 = 8192;

/// Unpacks the blocks of one image.
pub(crate) struct Unpacker {
    codec: Codec,
    /// Longest that a block can be, which is also the largest dictionary that
    /// a packer takes.
    block_size: u32,
}

enum Codec {
    Gzip(Box<Decompress>),
    Lzo,
    Xz,
    Lz4,
    Zstd(zstd::bulk::Decompressor<'static>),
}

impl Unpacker {
    pub(crate) fn new(compressor: Compressor, block_size: u32) -> std::io::Result<Self> {
        let codec = match compressor {
            Compressor::Gzip => Codec::Gzip(Box::new(Decompress::new(true))),
            Compressor::Lzo => Codec::Lzo,
            Compressor::Xz => Codec::Xz,
            Compressor::Lz4 => Codec::Lz4,
            Compressor::Zstd => Codec::Zstd(zstd::bulk::Decompressor::new()?),
        };
        Ok(Self { codec, block_size })
    }

    /// Unpacks `packed` into the start of `out`; returns how much of `out` is
    /// filled. What would not fit into `out` is an error, in words.
    pub(crate) fn unpack(&mut self, packed: &[u8], out: &mut [u8]) -> Result<usize, String> {
        match &mut self.codec {
            Codec::Gzip(state) => inflate(state, packed, out),
            Codec::Lzo => lzallright::decompress(packed, out).map_err(|error| error.to_string()),
            Codec::Xz => unxz(packed, out, self.block_size),
            Codec::Lz4 => {
                lz4_flex::block::decompress_into(packed, out).map_err(|error| error.to_string())
            }
            Codec::Zstd(state) => state
                .decompress_to_buffer(packed, out)
                .map_err(|error| error.to_string()),
        }
    }
}

fn inflate(state: &mut Decompress, packed: &[u8], out: &mut [u8]) -> Result<usize, String> {
    state.reset(true);
    match state.decompress(packed, out, FlushDecompress::Finish) {
        // At most the length of `out`.
        Ok(Status::StreamEnd) => Ok(state.total_out() as usize),
        Ok(_) => Err("its stream is cut or too long".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn unxz(packed: &[u8], out: &mut [u8], block_size: u32) -> Result<usize, String> {
    let memory = XZ_STATE + block_size.max(XZ_DICTIONARY) / 1024;
    let mut reader = XzReader::new_mem_limit(packed, false, memory);
    let mut filled = 0;
    loop {
        // One byte more than fits shows a block that is too long.
        let mut more = [0];
        let rest = match &mut out[filled..] {
            [] => &mut more[..],
            rest => rest,
        };
        match reader.read(rest) {
            Ok(0) => return Ok(filled),
            Ok(_) if filled == out.len() => return Err("its stream is too long".to_owned()),
            Ok(len) => filled += len,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// 100 bytes of "a", packed by each compressor's own tool.
    fn samples() -> [(Compressor, Vec<u8>); 5] {
        let zlib = {
            use std::io::Write;
            let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), Default::default());
            writer.write_all(&[b'a'; 100]).unwrap();
            writer.finish().unwrap()
        };
        // One literal "a", then a match of 99 bytes at distance 1, and the end.
        let lzo = vec![18, b'a', 32, 99 - 33, 0, 0, 17, 0, 0];
        let lz4 = vec![0x1f, b'a', 1, 0, 75, 0x50, b'a', b'a', b'a', b'a', b'a'];
        [
            (Compressor::Gzip, zlib),
            (Compressor::Lzo, lzo),
            (Compressor::Xz, XZ.to_vec()),
            (Compressor::Lz4, lz4),
            (
                Compressor::Zstd,
                zstd::bulk::compress(&[b'a'; 100], 3).unwrap(),
            ),
        ]
    }

    /// With a dictionary of 8 KiB.
    const XZ: [u8; 64] = [
        0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x01, 0x69, 0x22, 0xde, 0x36, 0x02, 0x00, 0x21,
        0x01, 0x02, 0x00, 0x00, 0x00, 0xbc, 0xef, 0x9e, 0x7c, 0xe0, 0x00, 0x63, 0x00, 0x06, 0x5d,
        0x00, 0x30, 0xee, 0x9e, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x64, 0x7a, 0x70, 0xaf, 0x00,
        0x01, 0x1e, 0x64, 0xb5, 0x2f, 0x18, 0xbe, 0x90, 0x42, 0x99, 0x0d, 0x01, 0x00, 0x00, 0x00,
        0x00, 0x01, 0x59, 0x5a,
    ];

    #[test]
    fn each_compressor_fills_what_fits_and_no_more() {
        for (compressor, packed) in samples() {
            let mut unpacker = Unpacker::new(compressor, 4096).unwrap();
            let mut out = [0; 120];
            assert_eq!(
                unpacker.unpack(&packed, &mut out),
                Ok(100),
                "{compressor:?}"
            );
            assert_eq!(out[..100], [b'a'; 100]);
            assert_eq!(out[100..], [0; 20]);
            assert_eq!(
                unpacker.unpack(&packed, &mut out[..100]),
                Ok(100),
                "{compressor:?}"
            );
            assert!(
                unpacker.unpack(&packed, &mut out[..99]).is_err(),
                "{compressor:?}"
            );
            for len in 0..packed.len() {
                let answer = unpacker.unpack(&packed[..len], &mut out);
                assert!(!matches!(answer, Ok(100)) || compressor == Compressor::Lz4);
            }
        }
    }

    #[test]
    fn an_xz_dictionary_above_the_block_size_is_refused() {
        // The same with a dictionary of 64 MiB, and its header's checksum.
        let mut big = XZ;
        big[16] = 0x1c;
        big[20] = 0x10;
        big[21] = 0xcf;
        big[22] = 0x58;
        big[23] = 0xcc;
        let mut out = [0; 100];
        assert_eq!(unxz(&big, &mut out, 64 << 20), Ok(100));
        assert!(unxz(&big, &mut out, 1 << 20).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_unpacked_or_refused(bytes in vec(any::<u8>(), 0..300), len in 0usize..300) {
            for (compressor, packed) in samples() {
                let mut unpacker = Unpacker::new(compressor, 4096).unwrap();
                let mut out = vec![0; len];
                if let Ok(filled) = unpacker.unpack(&bytes, &mut out) {
                    prop_assert!(filled <= len);
                }
                // Whatever came before leaves no trace.
                let mut out = [0; 100];
                prop_assert_eq!(unpacker.unpack(&packed, &mut out), Ok(100));
            }
        }
    }
}
