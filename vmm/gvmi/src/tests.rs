//! What the reader promises of any bytes at all, and of damaged images.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;

use crate::superblock::{Compressor, LEN, MAGIC};
use crate::{ContainerConfig, Contents, Fault, Found, RootFs, trailer};

/// A squashfs of `len` bytes that is right in its superblock only.
fn squashfs(len: u64) -> Vec<u8> {
    let mut bytes = vec![0; len as usize];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(0, &MAGIC.to_le_bytes());
    put(4, &7u32.to_le_bytes());
    put(8, &123u32.to_le_bytes());
    put(12, &0x20000u32.to_le_bytes());
    put(20, &3u16.to_le_bytes());
    put(22, &17u16.to_le_bytes());
    put(26, &1u16.to_le_bytes());
    put(28, &4u16.to_le_bytes());
    put(40, &(len - 100).to_le_bytes());
    put(48, &300u64.to_le_bytes());
    put(56, &u64::MAX.to_le_bytes());
    put(64, &96u64.to_le_bytes());
    put(72, &200u64.to_le_bytes());
    put(80, &u64::MAX.to_le_bytes());
    put(88, &250u64.to_le_bytes());
    bytes
}

fn image(config: &ContainerConfig) -> Vec<u8> {
    let mut bytes = squashfs(4096);
    bytes.extend(trailer::encode(config).unwrap());
    bytes
}

fn demo() -> ContainerConfig {
    ContainerConfig {
        env: vec!["A=b".to_owned()],
        cmd: vec!["sh".to_owned()],
        ..Default::default()
    }
}

/// Whatever is accepted stays inside its file.
fn assert_in_bounds(contents: &Contents, len: usize) {
    assert_eq!(contents.file_len, len as u64);
    assert!(contents.device_len <= contents.file_len);
    assert!(contents.superblock.bytes_used <= contents.device_len);
    assert_eq!(contents.device_len % 512, 0);
    assert!(contents.superblock.id_table < contents.superblock.bytes_used);
}

#[test]
fn whole_image_is_read() {
    let bytes = image(&demo());
    let contents = Contents::from_bytes(&bytes).unwrap();
    assert_eq!(contents.config, demo());
    assert_eq!(contents.superblock.compressor, Compressor::Lzo);
    assert_eq!(contents.superblock.block_size, 128 << 10);
    assert_eq!(contents.superblock.inodes, 7);
    assert_eq!(contents.superblock.mkfs_time, 123);
    assert_eq!(contents.superblock.bytes_used, 3996);
    assert_eq!(contents.device_len, 4096);
    assert_in_bounds(&contents, bytes.len());
}

/// The faults, each by the bytes that make it.
#[test]
fn each_fault_has_its_own_answer() {
    let answer = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = image(&demo());
        change(&mut bytes);
        Contents::from_bytes(&bytes).unwrap_err()
    };
    let put = |at: usize, value: u16| {
        move |bytes: &mut Vec<u8>| bytes[at..at + 2].copy_from_slice(&value.to_le_bytes())
    };
    let found = |bytes: &[u8]| match Contents::from_bytes(bytes) {
        Err(Fault::TooShort { found, .. } | Fault::NoLength { found }) => found,
        other => panic!("{other:?}"),
    };

    assert_eq!(found(b""), Found::Empty);
    assert_eq!(found(&squashfs(4096)), Found::Squashfs);
    assert_eq!(
        found(&[b"QFI\xfb".as_slice(), &[0; 600]].concat()),
        Found::Other("a qcow2 disk")
    );
    assert_eq!(found(&[0; 600]), Found::Unknown);
    assert!(matches!(
        answer(&|bytes| {
            bytes.pop();
        }),
        Fault::NoLength { .. }
    ));
    assert!(matches!(
        answer(&|bytes| {
            let at = bytes.len() - 8;
            bytes[at..].copy_from_slice(b"00009999");
        }),
        Fault::LengthOutside { len: 9999, .. }
    ));
    assert!(matches!(
        answer(&|bytes| bytes[4101] ^= 1),
        Fault::Checksum { .. }
    ));
    assert!(matches!(
        answer(&|bytes| bytes[0] ^= 1),
        Fault::NoMagic { .. }
    ));
    assert!(matches!(
        answer(&put(28, 3)),
        Fault::Version { major: 3, minor: 0 }
    ));
    assert!(matches!(answer(&put(20, 2)), Fault::Lzma));
    assert!(matches!(answer(&put(20, 7)), Fault::Compressor { id: 7 }));
    assert!(matches!(
        answer(&put(22, 16)),
        Fault::BlockSize { log: 16, .. }
    ));
    assert!(matches!(
        answer(&put(40, 5000)),
        Fault::Truncated { needs: 5000, .. }
    ));
    assert!(matches!(answer(&put(26, 0)), Fault::NoInodes));
    assert!(matches!(
        answer(&put(64, 95)),
        Fault::Table { table: "inode", .. }
    ));
    assert!(matches!(
        answer(&put(88, 4000)),
        Fault::Table {
            table: "export",
            ..
        }
    ));
    assert!(matches!(
        answer(&put(48, 249)),
        Fault::Table { table: "id", .. }
    ));
    assert!(matches!(answer(&put(34, 200)), Fault::Root { .. }));
    assert!(matches!(answer(&put(32, 8192)), Fault::Root { .. }));
}

#[test]
fn json_that_is_no_configuration_is_refused() {
    for json in ["[]", "1", "{\"Cmd\":5}", "{\"Env\":[1]}", "{", ""] {
        let mut bytes = squashfs(4096);
        bytes.extend(crc32fast::hash(json.as_bytes()).to_le_bytes());
        bytes.extend(format!("{json}{:08}", json.len()).bytes());
        let answer = Contents::from_bytes(&bytes);
        assert!(
            matches!(answer, Err(Fault::Config(_))),
            "{json}: {answer:?}"
        );
    }
}

#[test]
fn a_configuration_over_the_limit_is_neither_written_nor_read() {
    let config = ContainerConfig {
        labels: BTreeMap::from([("a".to_owned(), "b".repeat(5 << 20))]),
        ..Default::default()
    };
    assert!(trailer::encode(&config).is_err());
    let mut bytes = squashfs(4096);
    bytes.resize(6 << 20, 0);
    bytes.extend(b"05000000");
    let answer = Contents::from_bytes(&bytes);
    assert!(
        matches!(answer, Err(Fault::ConfigTooLong { .. })),
        "{answer:?}"
    );
}

#[test]
fn unpadded_squashfs_is_refused_when_its_last_sector_is_not_whole() {
    let mut bytes = squashfs(4096);
    bytes[40..48].copy_from_slice(&3996u64.to_le_bytes());
    bytes.truncate(3996);
    bytes.extend(trailer::encode(&ContainerConfig::default()).unwrap());
    let answer = Contents::from_bytes(&bytes);
    assert!(matches!(answer, Err(Fault::Truncated { .. })), "{answer:?}");
    bytes.truncate(3996);
    bytes.extend(
        trailer::encode(&ContainerConfig {
            cmd: vec!["x".repeat(100)],
            ..demo()
        })
        .unwrap(),
    );
    assert_eq!(Contents::from_bytes(&bytes).unwrap().device_len, 4096);
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map_into(),
        any::<i64>().prop_map_into(),
        any::<String>().prop_map_into(),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map_into(),
            btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

prop_compose! {
    fn config()(
        (hostname, user, working_dir, image, stop_signal) in (
            option::of(".+"), option::of(".+"), option::of(".+"), option::of(".+"), option::of(".+")),
        (env, cmd, entrypoint, shell) in (
            vec(".*", 0..4), vec(".*", 0..4), vec(".*", 0..4), vec(".*", 0..4)),
        volumes in btree_set(".*", 0..4),
        exposed_ports in btree_set(".*", 0..4),
        labels in btree_map(".*", ".*", 0..4),
        layers in option::of(vec(".*", 0..4)),
        other in btree_map("x.*", json(), 0..4),
    ) -> ContainerConfig {
        ContainerConfig {
            hostname, user, env, cmd, entrypoint, working_dir, image, volumes, exposed_ports,
            labels, stop_signal, shell, other,
            root_fs: layers.map(|layers| RootFs { layers }),
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused_or_in_bounds(bytes in vec(any::<u8>(), 0..2000)) {
        if let Ok(contents) = Contents::from_bytes(&bytes) {
            assert_in_bounds(&contents, bytes.len());
        }
    }

    #[test]
    fn any_configuration_survives_an_image(config in config()) {
        let contents = Contents::from_bytes(&image(&config)).unwrap();
        prop_assert_eq!(contents.config, config);
    }

    #[test]
    fn cut_short_anywhere_is_refused(len in 0usize..4166) {
        let mut bytes = image(&demo());
        prop_assume!(len < bytes.len());
        bytes.truncate(len);
        prop_assert!(Contents::from_bytes(&bytes).is_err());
    }

    #[test]
    fn flipped_bit_in_the_superblock_is_refused_or_in_bounds(at in 0..LEN, bit in 0..8) {
        let mut bytes = image(&demo());
        bytes[at] ^= 1u8 << bit;
        if let Ok(contents) = Contents::from_bytes(&bytes) {
            assert_in_bounds(&contents, bytes.len());
        }
    }

    #[test]
    fn flipped_bit_in_the_trailer_is_refused(at: prop::sample::Index, bit in 0..8) {
        let mut bytes = image(&demo());
        let trailer = bytes.len() - 4096;
        bytes[4096 + at.index(trailer)] ^= 1u8 << bit;
        prop_assert!(Contents::from_bytes(&bytes).is_err());
    }
}
