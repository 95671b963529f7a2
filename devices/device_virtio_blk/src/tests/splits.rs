//! Bytes in are bytes out, however a driver cuts them into descriptors.

use proptest::prelude::*;
use virtio_bindings::bindings::virtio_blk::{VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT};

use super::*;

/// Descriptors that carry `length` bytes in all, from `base` on with gaps.
/// `cuts` are the lengths to try, in turn; the last one takes the rest.
fn cut(base: u64, length: u32, cuts: &[u32], make: fn(u64, u32) -> Buffer) -> Vec<Buffer> {
    let mut buffers = Vec::new();
    let (mut at, mut left) = (base, length);
    for cut in cuts {
        let step = left.min(*cut);
        buffers.push(make(at, step));
        at += u64::from(step) + 3;
        left -= step;
    }
    buffers.push(make(at, left));
    buffers
}

fn cuts() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(prop_oneof![0_u32..20, 500_u32..530, 0_u32..5000], 0..20)
}

fn fill(driver: &Driver, buffers: &[Buffer], mut bytes: &[u8]) {
    for buffer in buffers {
        let (now, later) = bytes.split_at(buffer.len as usize);
        driver.put_bytes(now, buffer.at);
        bytes = later;
    }
}

fn drain(driver: &Driver, buffers: &[Buffer]) -> Vec<u8> {
    buffers
        .iter()
        .flat_map(|buffer| driver.get_bytes(buffer.at, buffer.len as usize))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_written_is_read_back(
        sector in 0..SECTORS,
        count in 0..SECTORS,
        write_cuts in cuts(),
        read_cuts in cuts(),
        seed in any::<u8>(),
    ) {
        let count = count.min(SECTORS - sector);
        let bytes: Vec<u8> = (0..count * 512).map(|at| (at as u8).wrapping_mul(31) ^ seed).collect();
        let mut bench = Bench::writable();
        let mut expected = bench.store.bytes.lock().unwrap().clone();
        expected[sector as usize * 512..][..bytes.len()].copy_from_slice(&bytes);

        let mut message = VIRTIO_BLK_T_OUT.to_le_bytes().to_vec();
        message.extend([0; 4]);
        message.extend(sector.to_le_bytes());
        message.extend(&bytes);
        // Across the border of two memory regions.
        let mut buffers = cut(SEAM - 700, message.len() as u32, &write_cuts, sent);
        fill(&bench.driver, &buffers, &message);
        buffers.push(wanted(STATUS, 1));
        bench.driver.put(UNTOUCHED, STATUS);
        bench.driver.send(&buffers);
        bench.serve().unwrap();
        prop_assert_eq!(bench.driver.used().map(|used| used.1), Some(1));
        prop_assert_eq!(bench.driver.status(), 0);
        prop_assert!(*bench.store.bytes.lock().unwrap() == expected);

        bench.driver.header(VIRTIO_BLK_T_IN, sector);
        let answer = cut(SEAM - 700, bytes.len() as u32 + 1, &read_cuts, wanted);
        let mut buffers = vec![sent(HEADER, 16)];
        buffers.extend(&answer);
        bench.driver.send(&buffers);
        bench.serve().unwrap();
        let used = bench.driver.used().map(|used| used.1);
        prop_assert_eq!(used, Some(bytes.len() as u32 + 1));
        let read = drain(&bench.driver, &answer);
        prop_assert!(read[..bytes.len()] == bytes && read[bytes.len()] == 0);
    }

    #[test]
    fn no_chain_breaks_the_device(
        kind in prop_oneof![0_u32..20, any::<u32>()],
        sector in prop_oneof![0..SECTORS * 2, any::<u64>()],
        table in prop::collection::vec(
            (
                prop_oneof![HEADER..HEADER + 32, DATA..DATA + 0x1_0000, any::<u64>()],
                prop_oneof![0_u32..2048, any::<u32>()],
                0_u16..8,
                0_u16..10,
            ),
            1..10,
        ),
        heads in prop::collection::vec(0_u16..10, 1..10),
    ) {
        let mut bench = Bench::writable();
        bench.driver.header(kind, sector);
        for (index, (at, len, flags, next)) in (0..).zip(&table) {
            let buffer = Buffer { at: *at, len: *len, flags: *flags };
            bench.driver.describe(index, buffer, 0, *next);
        }
        for head in &heads {
            bench.driver.offer(*head);
        }
        bench.serve().unwrap();
        let returned: Vec<u32> = std::iter::from_fn(|| bench.driver.used()).map(|used| used.0).collect();
        let offered: Vec<u32> = heads.iter().map(|head| u32::from(*head)).collect();
        prop_assert_eq!(returned, offered);
    }
}
