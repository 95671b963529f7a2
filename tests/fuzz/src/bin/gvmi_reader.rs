//! The image reader on any bytes, and on images whose checksum is right but
//! whose superblock and configuration are the input's.
//!
//! Holds: what is accepted stays inside its file, and its configuration reads
//! the same after it was written; what is refused is refused in one line.

#![cfg_attr(fuzzing, no_main)]

use fuzz::Choices;
use gvmi::Contents;

fuzz::target!(check);

/// Length of a superblock.
const SUPERBLOCK: u64 = 96;
/// Where the superblock has the offsets of its tables, in the tables' order.
const TABLES: [usize; 6] = [64, 72, 80, 88, 48, 56];
/// The decision that leaves a table out.
const NO_TABLE: u8 = 255;
/// Most changes to a superblock that is in order.
const CHANGES: u8 = 4;

fn check(data: &[u8]) {
    let mut choices = Choices::new(data);
    if choices.byte() == 0 {
        check_image(choices.rest());
    } else {
        let squashfs = squashfs(&mut choices);
        check_image(&image(&squashfs, choices.rest()));
    }
}

/// A squashfs with a superblock that is nearly always in order: a fuzzer
/// would not find six ascending offsets by chance.
fn squashfs(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut bytes = vec![0; SUPERBLOCK as usize];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let log = 12 + choices.byte() % 9;
    put(0, b"hsqs");
    put(4, &[choices.byte()]);
    put(12, &(1u32 << log).to_le_bytes());
    put(20, &[choices.byte() % 8]);
    put(22, &[log]);
    put(26, &[choices.byte()]);
    put(28, &[4]);
    put(32, &[0, choices.byte(), choices.byte()]);
    let mut offset = SUPERBLOCK;
    for at in TABLES {
        match choices.byte() {
            NO_TABLE => put(at, &u64::MAX.to_le_bytes()),
            gap => {
                offset += u64::from(gap);
                put(at, &offset.to_le_bytes());
            }
        }
    }
    offset += u64::from(choices.byte());
    put(40, &offset.to_le_bytes());
    for _ in 0..choices.byte() % (CHANGES + 1) {
        let at = usize::from(choices.byte()) % SUPERBLOCK as usize;
        bytes[at] ^= choices.byte();
    }
    let padding = usize::from(choices.byte()) * 32;
    bytes.resize(offset as usize + padding, 0);
    bytes
}

fn image(squashfs: &[u8], json: &[u8]) -> Vec<u8> {
    let mut image = squashfs.to_vec();
    image.extend(crc32fast::hash(json).to_le_bytes());
    image.extend(json);
    image.extend(format!("{:08}", json.len()).bytes());
    image
}

fn check_image(bytes: &[u8]) {
    let contents = match Contents::from_bytes(bytes) {
        Ok(contents) => contents,
        Err(fault) => {
            let text = fault.to_string();
            assert!(!text.is_empty() && !text.contains('\n'), "{text:?}");
            return;
        }
    };
    assert_eq!(contents.file_len, bytes.len() as u64);
    assert_eq!(contents.device_len % 512, 0);
    assert!(contents.device_len <= contents.file_len);
    assert!(contents.superblock.bytes_used <= contents.device_len);
    assert!(contents.superblock.block_size.is_power_of_two());

    let json = serde_json::to_vec(&contents.config).expect("a configuration is plain data");
    let again = Contents::from_bytes(&image(&bytes[..contents.device_len as usize], &json));
    let again = again.expect("a written configuration is read");
    assert_eq!(again.config, contents.config);
    assert_eq!(again.superblock, contents.superblock);
}
