//! One request at a time: each type, and each way to get it wrong.

use std::sync::atomic::Ordering;

use virtio_bindings::bindings::virtio_blk as spec;

use super::*;

const OK: u8 = spec::VIRTIO_BLK_S_OK as u8;
const IOERR: u8 = spec::VIRTIO_BLK_S_IOERR as u8;
const UNSUPP: u8 = spec::VIRTIO_BLK_S_UNSUPP as u8;

fn header() -> Buffer {
    sent(HEADER, 16)
}

fn status() -> Buffer {
    wanted(STATUS, 1)
}

/// A discard or write-zeroes range at `DATA + 16 * index`.
fn range(driver: &Driver, index: u64, sector: u64, sectors: u32, flags: u32) {
    driver.put(sector, DATA + 16 * index);
    driver.put(sectors, DATA + 16 * index + 8);
    driver.put(flags, DATA + 16 * index + 12);
}

fn ranges(bench: &mut Bench, kind: u32, list: &[(u64, u32, u32)]) -> u8 {
    for (index, (sector, sectors, flags)) in (0..).zip(list) {
        range(&bench.driver, index, *sector, *sectors, *flags);
    }
    let data = sent(DATA, 16 * list.len() as u32);
    let used = bench.request(kind, 0, &[header(), data, status()]);
    assert_eq!(used, 1);
    bench.driver.status()
}

#[test]
fn read_fills_the_buffers_from_the_sector_on() {
    let mut bench = Bench::writable();
    let used = bench.request(
        spec::VIRTIO_BLK_T_IN,
        3,
        &[
            header(),
            wanted(DATA, 512),
            wanted(DATA + 0x1000, 1024),
            status(),
        ],
    );
    assert_eq!((used, bench.driver.status()), (1537, OK));
    let expected = bench.store.bytes.lock().unwrap()[3 * 512..6 * 512].to_vec();
    assert_eq!(bench.driver.get_bytes(DATA, 512), expected[..512]);
    assert_eq!(bench.driver.get_bytes(DATA + 0x1000, 1024), expected[512..]);
}

#[test]
fn read_reaches_the_last_sector_and_not_beyond() {
    let mut bench = Bench::writable();
    let buffers = [header(), wanted(DATA, 512), status()];
    bench.request(spec::VIRTIO_BLK_T_IN, SECTORS - 1, &buffers);
    assert_eq!(bench.driver.status(), OK);
    for sector in [
        SECTORS,
        SECTORS + 1,
        u64::MAX / 512,
        u64::MAX / 512 + 1,
        u64::MAX,
    ] {
        let used = bench.request(spec::VIRTIO_BLK_T_IN, sector, &buffers);
        assert_eq!((used, bench.driver.status()), (1, IOERR), "{sector:#x}");
    }
}

#[test]
fn transfer_of_nothing_succeeds() {
    let mut bench = Bench::writable();
    for kind in [spec::VIRTIO_BLK_T_IN, spec::VIRTIO_BLK_T_OUT] {
        let used = bench.request(kind, SECTORS, &[header(), status()]);
        assert_eq!((used, bench.driver.status()), (1, OK));
    }
}

#[test]
fn transfer_of_part_of_a_sector_is_refused() {
    let mut bench = Bench::writable();
    let before = bench.store.bytes.lock().unwrap().clone();
    bench.request(
        spec::VIRTIO_BLK_T_IN,
        0,
        &[header(), wanted(DATA, 511), status()],
    );
    assert_eq!(bench.driver.status(), IOERR);
    bench.request(
        spec::VIRTIO_BLK_T_OUT,
        0,
        &[header(), sent(DATA, 513), status()],
    );
    assert_eq!(bench.driver.status(), IOERR);
    assert_eq!(*bench.store.bytes.lock().unwrap(), before);
}

#[test]
fn transfer_longer_than_the_limits_allow_is_refused() {
    let mut bench = Bench::writable();
    bench.resize(1 << 40);
    let piece = 3 << 20;
    let mut buffers = vec![header()];
    buffers.extend([wanted(DATA, piece); 42]);
    buffers.push(status());
    let used = bench.request(spec::VIRTIO_BLK_T_IN, 0, &buffers);
    assert_eq!((used, bench.driver.status()), (42 * piece + 1, OK));
    buffers.insert(1, wanted(DATA, 512));
    bench.request(spec::VIRTIO_BLK_T_IN, 0, &buffers);
    assert_eq!(bench.driver.status(), IOERR);
}

#[test]
fn write_stores_the_buffers() {
    let mut bench = Bench::writable();
    bench.driver.put_bytes(&[7; 1024], DATA);
    let used = bench.request(
        spec::VIRTIO_BLK_T_OUT,
        2,
        &[header(), sent(DATA, 1024), status()],
    );
    assert_eq!((used, bench.driver.status()), (1, OK));
    let bytes = bench.store.bytes.lock().unwrap();
    assert_eq!(bytes[1024..2048], [7; 1024]);
    assert_ne!(bytes[1023], 7);
    assert_ne!(bytes[2048], 7);
    assert_eq!(bench.store.flushes.load(Ordering::Relaxed), 0);
}

#[test]
fn write_past_the_end_stores_nothing() {
    let mut bench = Bench::writable();
    let before = bench.store.bytes.lock().unwrap().clone();
    let buffers = [header(), sent(DATA, 1024), status()];
    bench.request(spec::VIRTIO_BLK_T_OUT, SECTORS - 1, &buffers);
    assert_eq!(bench.driver.status(), IOERR);
    assert_eq!(*bench.store.bytes.lock().unwrap(), before);
}

#[test]
fn write_through_ends_each_change_with_a_flush() {
    let mut bench = Bench::writable();
    bench.server.write_through = true;
    let buffers = [header(), sent(DATA, 512), status()];
    bench.request(spec::VIRTIO_BLK_T_OUT, 0, &buffers);
    assert_eq!(bench.store.flushes.load(Ordering::Relaxed), 1);
    ranges(&mut bench, spec::VIRTIO_BLK_T_WRITE_ZEROES, &[(0, 1, 0)]);
    assert_eq!(bench.store.flushes.load(Ordering::Relaxed), 2);
}

#[test]
fn flush_reaches_the_backend() {
    let mut bench = Bench::writable();
    let used = bench.request(spec::VIRTIO_BLK_T_FLUSH, 0, &[header(), status()]);
    assert_eq!((used, bench.driver.status()), (1, OK));
    assert_eq!(bench.store.flushes.load(Ordering::Relaxed), 1);
}

#[test]
fn get_id_gives_as_much_of_the_serial_as_fits() {
    let mut bench = Bench::writable();
    let buffers = [header(), wanted(DATA, 20), status()];
    let used = bench.request(spec::VIRTIO_BLK_T_GET_ID, 0, &buffers);
    assert_eq!((used, bench.driver.status()), (21, OK));
    assert_eq!(bench.driver.get_bytes(DATA, 20), SERIAL);

    let buffers = [header(), wanted(DATA + 100, 6), status()];
    let used = bench.request(spec::VIRTIO_BLK_T_GET_ID, 0, &buffers);
    assert_eq!((used, bench.driver.status()), (7, OK));
    assert_eq!(bench.driver.get_bytes(DATA + 100, 7), b"twenty\0");
}

#[test]
fn discard_and_write_zeroes_reach_the_backend_in_bytes() {
    let mut bench = Bench::writable();
    let list = [(1, 2, 0), (SECTORS - 1, 1, 0)];
    assert_eq!(ranges(&mut bench, spec::VIRTIO_BLK_T_DISCARD, &list), OK);
    assert_eq!(
        *bench.store.discards.lock().unwrap(),
        [(512, 1024), ((SECTORS - 1) * 512, 512)]
    );
    for unmap in [0, 1] {
        let list = [(4, 8, unmap)];
        assert_eq!(
            ranges(&mut bench, spec::VIRTIO_BLK_T_WRITE_ZEROES, &list),
            OK
        );
    }
    assert_eq!(
        *bench.store.zeroes.lock().unwrap(),
        [(2048, 4096, false), (2048, 4096, true)]
    );
}

#[test]
fn discard_past_end_returns_ioerr() {
    let mut bench = Bench::writable();
    for bad in [
        (SECTORS, 1, 0),
        (SECTORS - 1, 2, 0),
        (u64::MAX, 1, 0),
        (u64::MAX / 512 + 1, 1, 0),
        (0, u32::MAX, 0),
    ] {
        for kind in [spec::VIRTIO_BLK_T_DISCARD, spec::VIRTIO_BLK_T_WRITE_ZEROES] {
            assert_eq!(ranges(&mut bench, kind, &[bad]), IOERR);
        }
        let list = [(0, 1, 0), bad];
        assert_eq!(ranges(&mut bench, spec::VIRTIO_BLK_T_DISCARD, &list), IOERR);
    }
    assert!(
        bench.store.discards.lock().unwrap().is_empty(),
        "some, not all"
    );
    assert!(bench.store.zeroes.lock().unwrap().is_empty());
}

#[test]
fn ranges_longer_than_the_limits_allow_are_refused() {
    let mut bench = Bench::writable();
    bench.resize(1 << 40);
    for (kind, most) in [
        (spec::VIRTIO_BLK_T_DISCARD, 1 << 21),
        (spec::VIRTIO_BLK_T_WRITE_ZEROES, 1 << 15),
    ] {
        assert_eq!(ranges(&mut bench, kind, &[(0, most, 0)]), OK);
        assert_eq!(ranges(&mut bench, kind, &[(0, most + 1, 0)]), IOERR);
    }
}

#[test]
fn unknown_range_flags_are_unsupported() {
    let mut bench = Bench::writable();
    for (kind, flags) in [
        (spec::VIRTIO_BLK_T_DISCARD, 1),
        (spec::VIRTIO_BLK_T_DISCARD, 2),
        (spec::VIRTIO_BLK_T_WRITE_ZEROES, 2),
        (spec::VIRTIO_BLK_T_WRITE_ZEROES, 0x8000_0001),
    ] {
        assert_eq!(ranges(&mut bench, kind, &[(0, 1, flags)]), UNSUPP);
    }
    assert!(bench.store.discards.lock().unwrap().is_empty());
    assert!(bench.store.zeroes.lock().unwrap().is_empty());
}

#[test]
fn too_many_ranges_and_cut_ranges_are_refused() {
    let mut bench = Bench::writable();
    let many = vec![(0, 1, 0); 32];
    assert_eq!(ranges(&mut bench, spec::VIRTIO_BLK_T_DISCARD, &many), OK);
    let many = vec![(0, 1, 0); 33];
    assert_eq!(ranges(&mut bench, spec::VIRTIO_BLK_T_DISCARD, &many), IOERR);
    let two = [(0, 1, 0); 2];
    assert_eq!(
        ranges(&mut bench, spec::VIRTIO_BLK_T_WRITE_ZEROES, &two),
        IOERR
    );
    let cut = [header(), sent(DATA, 24), status()];
    bench.request(spec::VIRTIO_BLK_T_DISCARD, 0, &cut);
    assert_eq!(bench.driver.status(), IOERR);
}

#[test]
fn unknown_request_type_is_unsupported() {
    let mut bench = Bench::writable();
    for kind in [2, 10, 14, 15, 0x8000_0000, u32::MAX] {
        let used = bench.request(kind, 0, &[header(), wanted(DATA, 512), status()]);
        assert_eq!((used, bench.driver.status()), (1, UNSUPP));
    }
}

#[test]
fn read_only_disk_refuses_every_change() {
    let mut bench = Bench::new(Store::new(true));
    let before = bench.store.bytes.lock().unwrap().clone();
    let buffers = [header(), sent(DATA, 512), status()];
    bench.request(spec::VIRTIO_BLK_T_OUT, 0, &buffers);
    assert_eq!(bench.driver.status(), IOERR);
    for kind in [spec::VIRTIO_BLK_T_DISCARD, spec::VIRTIO_BLK_T_WRITE_ZEROES] {
        assert_eq!(ranges(&mut bench, kind, &[(0, 1, 0)]), IOERR);
    }
    assert_eq!(*bench.store.bytes.lock().unwrap(), before);
    assert!(bench.store.discards.lock().unwrap().is_empty());
    assert!(bench.store.zeroes.lock().unwrap().is_empty());
}

#[test]
fn failing_storage_returns_ioerr() {
    let mut bench = Bench::writable();
    bench.store.failing.store(true, Ordering::Relaxed);
    for (kind, data) in [
        (spec::VIRTIO_BLK_T_IN, wanted(DATA, 512)),
        (spec::VIRTIO_BLK_T_OUT, sent(DATA, 512)),
        (spec::VIRTIO_BLK_T_FLUSH, sent(DATA, 0)),
    ] {
        let used = bench.request(kind, 0, &[header(), data, status()]);
        assert_eq!((used, bench.driver.status()), (1, IOERR));
    }
    let list = [(0, 1, 0)];
    assert_eq!(ranges(&mut bench, spec::VIRTIO_BLK_T_DISCARD, &list), IOERR);
}

#[test]
fn header_and_status_may_share_descriptors_with_data() {
    let mut bench = Bench::writable();
    bench.driver.header(spec::VIRTIO_BLK_T_OUT, 1);
    bench.driver.put_bytes(&[9; 512], HEADER + 16);
    let head = bench
        .driver
        .send(&[sent(HEADER, 16 + 512), wanted(STATUS, 1)]);
    bench.serve().unwrap();
    assert_eq!(bench.driver.used(), Some((head.into(), 1)));
    assert_eq!(bench.driver.status(), OK);
    assert_eq!(bench.store.bytes.lock().unwrap()[512..1024], [9; 512]);

    let used = bench.request(
        spec::VIRTIO_BLK_T_IN,
        1,
        &[header(), wanted(STATUS - 512, 513)],
    );
    assert_eq!((used, bench.driver.status()), (513, OK));
    assert_eq!(bench.driver.get_bytes(STATUS - 512, 512), [9; 512]);
}

#[test]
fn buffer_across_two_memory_regions_is_filled_whole() {
    let mut bench = Bench::writable();
    let used = bench.request(
        spec::VIRTIO_BLK_T_IN,
        0,
        &[header(), wanted(SEAM - 100, 1024), status()],
    );
    assert_eq!((used, bench.driver.status()), (1025, OK));
    let expected = bench.store.bytes.lock().unwrap()[..1024].to_vec();
    assert_eq!(bench.driver.get_bytes(SEAM - 100, 1024), expected);
}

#[test]
fn short_header_returns_ioerr() {
    let mut bench = Bench::writable();
    let used = bench.request(spec::VIRTIO_BLK_T_FLUSH, 0, &[sent(HEADER, 15), status()]);
    assert_eq!((used, bench.driver.status()), (1, IOERR));
    let used = bench.request(spec::VIRTIO_BLK_T_FLUSH, 0, &[status()]);
    assert_eq!((used, bench.driver.status()), (1, IOERR));
}

#[test]
fn sent_buffer_after_a_wanted_one_returns_ioerr() {
    let mut bench = Bench::writable();
    let buffers = [header(), wanted(DATA, 512), sent(DATA, 512), status()];
    let used = bench.request(spec::VIRTIO_BLK_T_IN, 0, &buffers);
    assert_eq!((used, bench.driver.status()), (1, IOERR));
}

#[test]
fn data_outside_memory_returns_ioerr() {
    let mut bench = Bench::writable();
    for at in [RAM, RAM - 511, u64::MAX - 511, u64::MAX] {
        for data in [wanted(at, 512), sent(at, 512)] {
            let used = bench.request(spec::VIRTIO_BLK_T_IN, 0, &[header(), data, status()]);
            assert_eq!((used, bench.driver.status()), (1, IOERR), "{at:#x}");
        }
    }
}

#[test]
fn chain_without_a_place_for_the_status_comes_back_empty() {
    let mut bench = Bench::writable();
    for buffers in [
        vec![header()],
        vec![header(), sent(DATA, 512)],
        vec![header(), wanted(STATUS, 0)],
        vec![header(), wanted(DATA, 512), wanted(RAM, 1)],
        vec![header(), wanted(DATA, 512), wanted(RAM - 1, 2)],
    ] {
        let used = bench.request(spec::VIRTIO_BLK_T_IN, 0, &buffers);
        assert_eq!((used, bench.driver.status()), (0, UNTOUCHED));
    }
    assert_eq!(bench.driver.get_bytes(DATA, 512), [0; 512]);
}
