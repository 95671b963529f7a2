//! The compressed kernel inside a bzImage: where it lies, by the setup header
//! of Linux' x86 boot protocol (2.08 or later), and how it is unpacked.
//!
//! Decompressing is left to the programs of the host.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// Size of the sectors that the setup code is counted in.
const SECTOR: usize = 512;
/// Offsets of the header's fields in the file.
const SETUP_SECTS: usize = 0x1f1;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
/// The first protocol version that says where the payload is.
const FIRST_WITH_PAYLOAD: u16 = 0x0208;
/// What `SETUP_SECTS` stands for when it is 0.
const DEFAULT_SETUP_SECTS: usize = 4;

/// How a payload begins, and the program that unpacks it.
const FORMATS: &[(&[u8], &str)] = &[
    (&[0x1f, 0x8b], "gzip"),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    // The legacy frame, which has no end mark.
    (&[0x02, 0x21, 0x4c, 0x18], "lz4"),
];

/// Unpacks the ELF kernel in `image`. `scratch` is a folder for two files.
pub fn unpack(image: &[u8], scratch: &Path) -> Result<Vec<u8>> {
    let payload = payload(image)?;
    let (packed, plain) = (scratch.join("payload"), scratch.join("vmlinux"));
    fs::write(&packed, payload.data).with_context(|| format!("write {}", packed.display()))?;
    super::filter(payload.program, &["-dc"], &packed, &plain)?;
    let kernel = fs::read(&plain).with_context(|| format!("read {}", plain.display()))?;
    ensure!(
        kernel.len() == payload.unpacked_size,
        "{} unpacked {} bytes of the kernel, whose length is {}",
        payload.program,
        kernel.len(),
        payload.unpacked_size,
    );
    Ok(kernel)
}

#[derive(Debug)]
struct Payload<'a> {
    data: &'a [u8],
    program: &'static str,
    unpacked_size: usize,
}

fn payload(image: &[u8]) -> Result<Payload<'_>> {
    let field = |offset: usize, size: usize| {
        image
            .get(offset..offset + size)
            .context("a bzImage ends inside its header")
    };
    ensure!(
        field(MAGIC, 4)? == b"HdrS",
        "not a bzImage: no setup header"
    );
    let version = u16::from_le_bytes(field(VERSION, 2)?.try_into().expect("two bytes"));
    ensure!(
        version >= FIRST_WITH_PAYLOAD,
        "boot protocol {version:#x} does not name its payload"
    );
    let number = |offset| -> Result<usize> {
        let bytes = field(offset, 4)?.try_into().expect("four bytes");
        Ok(u32::from_le_bytes(bytes) as usize)
    };
    let setup_sectors = match field(SETUP_SECTS, 1)?[0] {
        0 => DEFAULT_SETUP_SECTS,
        count => usize::from(count),
    };
    // The setup code follows the boot sector. None of these sums comes near
    // the end of 64 bits.
    let start = (1 + setup_sectors) * SECTOR + number(PAYLOAD_OFFSET)?;
    let end = start + number(PAYLOAD_LENGTH)?;
    let whole = image
        .get(start..end)
        .context("the payload lies outside the bzImage")?;
    let (data, size) = whole.split_last_chunk().context("the payload is empty")?;
    let Some((_, program)) = FORMATS.iter().find(|(magic, _)| whole.starts_with(magic)) else {
        bail!(
            "unknown compression of the kernel: it begins {:02x?}",
            &whole[..whole.len().min(6)]
        );
    };
    Ok(Payload {
        // The build appends the unpacked size, but to gzip's stream, which
        // ends with it.
        data: if *program == "gzip" { whole } else { data },
        program,
        unpacked_size: u32::from_le_bytes(*size) as usize,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A bzImage of one setup sector around `payload`.
    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 2 * SECTOR + 16];
        image[SETUP_SECTS] = 1;
        image[MAGIC..MAGIC + 4].copy_from_slice(b"HdrS");
        image[VERSION..VERSION + 2].copy_from_slice(&0x20f_u16.to_le_bytes());
        image[PAYLOAD_OFFSET..PAYLOAD_OFFSET + 4].copy_from_slice(&16_u32.to_le_bytes());
        let length = u32::try_from(payload.len()).unwrap();
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].copy_from_slice(&length.to_le_bytes());
        image.extend(payload);
        image.extend(b"something after the payload");
        image
    }

    fn round_trip(program: &str, options: &[&str], appends_size: bool) {
        let scratch = tempfile::tempdir().unwrap();
        let kernel = b"a kernel, a kernel, my realm for a kernel".repeat(1000);
        let (plain, packed) = (scratch.path().join("in"), scratch.path().join("out"));
        fs::write(&plain, &kernel).unwrap();
        crate::kernel::filter(program, options, &plain, &packed).unwrap();
        let mut payload = fs::read(&packed).unwrap();
        if appends_size {
            payload.extend(u32::try_from(kernel.len()).unwrap().to_le_bytes());
        }
        assert!(unpack(&image(&payload), scratch.path()).unwrap() == kernel);
    }

    #[test]
    fn gzip_payload_unpacks() {
        round_trip("gzip", &["-c"], false);
    }

    #[test]
    fn xz_payload_unpacks() {
        round_trip(
            "xz",
            &["-c", "--check=crc32", "--x86", "--lzma2=dict=1MiB"],
            true,
        );
    }

    #[test]
    fn zstd_payload_unpacks() {
        round_trip("zstd", &["-c"], true);
    }

    #[test]
    fn lz4_legacy_payload_unpacks() {
        round_trip("lz4", &["-c", "-l"], true);
    }

    #[test]
    fn wrong_size_is_an_error() {
        let scratch = tempfile::tempdir().unwrap();
        let (plain, packed) = (scratch.path().join("in"), scratch.path().join("out"));
        fs::write(&plain, b"kernel").unwrap();
        crate::kernel::filter("zstd", &["-c"], &plain, &packed).unwrap();
        let mut payload = fs::read(&packed).unwrap();
        payload.extend(7_u32.to_le_bytes());
        let error = unpack(&image(&payload), scratch.path()).unwrap_err();
        assert!(error.to_string().contains("unpacked 6 bytes"), "{error:#}");
    }

    #[test]
    fn broken_headers_are_errors() {
        let good = image(b"\x1f\x8b payload");
        assert!(payload(&good).is_ok());
        assert!(payload(&good[..VERSION + 1]).is_err());
        assert!(payload(&good[..2 * SECTOR + 20]).is_err());
        assert!(payload(&image(b"")).is_err());
        let error = payload(&image(b"BZh91AY&SY")).unwrap_err();
        assert!(
            error.to_string().contains("unknown compression"),
            "{error:#}"
        );
        let mut old = good.clone();
        old[VERSION] = 7;
        assert!(payload(&old).is_err());
        let mut outside = good;
        outside[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4].fill(0xff);
        assert!(payload(&outside).is_err());
    }
}
