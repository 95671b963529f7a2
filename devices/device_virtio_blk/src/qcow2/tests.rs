//! The qcow2 backend against real files.

use std::fs;
use std::mem;
use std::os::unix::fs::FileExt;
use std::thread;

use imago::FormatCreateBuilder;
use proptest::prelude::*;
use tempfile::NamedTempFile;
use vm_memory::VolatileSlice;

use super::*;

const CLUSTER: u64 = 64 << 10;
/// What one of the second tables leads to.
const TABLE_SPAN: u64 = 512 << 20;

fn image_of(size: u64) -> NamedTempFile {
    let image = NamedTempFile::new().unwrap();
    make_image(image.reopen().unwrap(), size);
    image
}

/// Makes `file`, which is empty, an image of a disk of `size` bytes.
pub(crate) fn make_image(file: File, size: u64) {
    let file = imago::file::File::try_from(file).unwrap();
    Qcow2::<imago::file::File>::create_builder(file)
        .size(size)
        .create()
        .unwrap();
}

fn open(image: &NamedTempFile) -> Qcow2Backend {
    Qcow2Backend::open(image.path(), false).unwrap()
}

fn refusal(image: &NamedTempFile) -> String {
    let error = Qcow2Backend::open(image.path(), false).err();
    let error = error.expect("it is refused");
    format!("{:#}", anyhow::Error::from(error))
}

fn write(backend: &Qcow2Backend, offset: u64, bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    let slice = VolatileSlice::from(&mut bytes[..]);
    backend.write_at(&[slice], offset).unwrap();
}

fn read(backend: &Qcow2Backend, offset: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0xee; length as usize];
    let slice = VolatileSlice::from(&mut bytes[..]);
    backend.read_at(&[slice], offset).unwrap();
    bytes
}

fn length(image: &NamedTempFile) -> u64 {
    fs::metadata(image.path()).unwrap().len()
}

#[test]
fn what_is_written_is_there_at_the_next_open() {
    let size = 200_000_001;
    let image = image_of(size);
    let backend = open(&image);
    assert_eq!(backend.size(), size);
    let mut bytes: Vec<u8> = (0..5000).map(|at| (at % 241) as u8).collect();
    let expected = bytes.clone();
    let memory = VolatileSlice::from(&mut bytes[..]);
    let (first, rest) = memory.split_at(1).unwrap();
    let empty = rest.subslice(0, 0).unwrap();
    backend
        .write_at(&[first, empty, rest], CLUSTER - 777)
        .unwrap();
    write(&backend, size - 3, b"end");
    drop(backend);

    let backend = open(&image);
    assert_eq!(read(&backend, CLUSTER - 777, 5000), expected);
    assert_eq!(read(&backend, CLUSTER - 778, 1), [0]);
    assert_eq!(read(&backend, CLUSTER + 4223, 100), [0; 100]);
    assert_eq!(read(&backend, size - 4, 4), b"\0end");
}

#[test]
fn what_was_flushed_is_there_after_a_kill() {
    let image = image_of(2 * TABLE_SPAN);
    let backend = open(&image);
    for at in 0..100 {
        write(&backend, at * 3 * CLUSTER, &[at as u8 + 1; 999]);
        write(&backend, TABLE_SPAN + at * 512, &[at as u8; 512]);
    }
    backend.flush().unwrap();
    // As a process that is killed leaves it: nothing is written any more.
    mem::forget(backend);

    let backend = open(&image);
    for at in 0..100 {
        assert_eq!(read(&backend, at * 3 * CLUSTER, 999), [at as u8 + 1; 999]);
        assert_eq!(read(&backend, TABLE_SPAN + at * 512, 512), [at as u8; 512]);
    }
}

#[test]
fn cluster_that_a_killed_process_took_is_not_taken_again() {
    let image = image_of(4 * TABLE_SPAN);
    let backend = open(&image);
    write(&backend, 0, b"first");
    backend.flush().unwrap();
    // New tables are written and led to at once, their counts are not.
    for table in 1..4 {
        write(&backend, table * TABLE_SPAN, b"lost");
    }
    mem::forget(backend);

    let backend = open(&image);
    write(&backend, 0, &vec![0xff; 20 * CLUSTER as usize]);
    backend.flush().unwrap();
    drop(backend);
    let backend = open(&image);
    assert_eq!(
        read(&backend, 0, 20 * CLUSTER),
        vec![0xff; 20 * CLUSTER as usize]
    );
    for table in 1..4 {
        let found = read(&backend, table * TABLE_SPAN, 4);
        assert!(found == b"lost" || found == [0; 4], "{found:?}");
    }
}

#[test]
fn new_image_is_small_and_opening_it_again_takes_no_room() {
    let image = image_of(10 << 30);
    let before = length(&image);
    assert!(before <= 1 << 20, "{before}");
    for _ in 0..3 {
        let backend = open(&image);
        write(&backend, 0, b"a");
        mem::forget(backend);
    }
    assert!(length(&image) <= before + 6 * CLUSTER);
}

#[test]
fn discarded_clusters_are_used_again() {
    const LENGTH: u64 = 4 << 20;
    let image = image_of(10 << 30);
    let backend = open(&image);
    write(&backend, 0, &vec![1; LENGTH as usize]);
    let before = length(&image);
    for round in 1..10 {
        let offset = round * LENGTH;
        backend.discard(offset - LENGTH, LENGTH).unwrap();
        assert_eq!(
            read(&backend, offset - LENGTH, CLUSTER),
            [0; CLUSTER as usize]
        );
        write(&backend, offset, &vec![2; LENGTH as usize]);
        assert_eq!(read(&backend, offset, LENGTH), vec![2; LENGTH as usize]);
        backend.flush().unwrap();
    }
    assert!(length(&image) <= before + CLUSTER, "{}", length(&image));
}

#[test]
fn change_of_what_was_never_written_takes_no_room() {
    let image = image_of(10 << 30);
    let backend = open(&image);
    write(&backend, 0, b"a");
    backend.flush().unwrap();
    let before = length(&image);
    backend.discard(CLUSTER, (10 << 30) - CLUSTER).unwrap();
    for unmap in [false, true] {
        backend.write_zeroes(1 << 30, 9 << 30, unmap).unwrap();
    }
    backend.flush().unwrap();
    assert_eq!(length(&image), before);
    assert_eq!(read(&backend, 0, 1), b"a");
}

#[test]
fn zeroes_end_where_they_are_told_to() {
    for unmap in [false, true] {
        let image = image_of(1 << 20);
        let backend = open(&image);
        write(&backend, 0, &[7; 1 << 20]);
        let (start, end) = (CLUSTER - 512, 3 * CLUSTER + 512);
        backend.write_zeroes(start, end - start, unmap).unwrap();
        let mut expected = vec![7; 1 << 20];
        expected[start as usize..end as usize].fill(0);
        assert!(read(&backend, 0, 1 << 20) == expected, "unmap {unmap}");
        drop(backend);
        assert!(read(&open(&image), 0, 1 << 20) == expected, "unmap {unmap}");
    }
}

#[test]
fn queues_that_write_and_discard_at_the_same_time_keep_apart() {
    let image = image_of(64 << 20);
    let backend = open(&image);
    thread::scope(|scope| {
        for queue in 0..4u64 {
            let backend = &backend;
            scope.spawn(move || {
                // Clusters of all queues lie between each other.
                let place = |at: u64| (at * 4 + queue) * CLUSTER;
                for round in 0..20 {
                    let mark = [(queue * 20 + round + 1) as u8; 4096];
                    for at in 0..16 {
                        write(backend, place(at), &mark);
                    }
                    for at in 0..16 {
                        assert!(read(backend, place(at), 4096) == mark);
                        backend.discard(place(at), CLUSTER).unwrap();
                        assert!(read(backend, place(at), 4096) == [0; 4096]);
                    }
                    backend.flush().unwrap();
                }
            });
        }
    });
    drop(backend);
    open(&image);
}

#[test]
fn read_only_image_is_not_changed() {
    let image = image_of(1 << 20);
    write(&open(&image), 0, b"kept");
    let before = fs::read(image.path()).unwrap();
    let backend = Qcow2Backend::open(image.path(), true).unwrap();
    assert!(backend.read_only());
    assert_eq!(read(&backend, 0, 4), b"kept");
    let mut bytes = [1; 512];
    let slice = VolatileSlice::from(&mut bytes[..]);
    assert!(backend.write_at(&[slice], 0).is_err());
    assert!(backend.discard(0, CLUSTER).is_err());
    assert!(backend.write_zeroes(0, CLUSTER, false).is_err());
    drop(backend);
    assert!(fs::read(image.path()).unwrap() == before);
}

#[test]
fn images_that_cannot_be_used_say_why() {
    // Offsets as the specification has them.
    for (offset, bytes, word) in [
        (0, &b"QFI\0"[..], "not a qcow2 image"),
        (4, &2u32.to_be_bytes(), "version 2"),
        (4, &9u32.to_be_bytes(), "version 9"),
        (8, &112u64.to_be_bytes(), "backing file"),
        (20, &12u32.to_be_bytes(), "64 KiB"),
        (20, &u32::MAX.to_be_bytes(), "64 KiB"),
        (24, &u64::MAX.to_be_bytes(), "more than"),
        (24, &(5u64 << 40).to_be_bytes(), "10240 are needed"),
        (32, &2u32.to_be_bytes(), "encryption"),
        (36, &u32::MAX.to_be_bytes(), "4294967295 entries"),
        (40, &513u64.to_be_bytes(), "damaged"),
        (40, &u64::MAX.to_be_bytes(), "damaged"),
        (40, &(1u64 << 30).to_be_bytes(), "cut off"),
        (60, &1u32.to_be_bytes(), "snapshots"),
        // Dirty, corrupt, with its data in another file.
        (72, &1u64.to_be_bytes(), "features 0x1"),
        (72, &2u64.to_be_bytes(), "features 0x2"),
        (72, &4u64.to_be_bytes(), "features 0x4"),
        (96, &6u32.to_be_bytes(), "16 bits"),
        (100, &u32::MAX.to_be_bytes(), "header"),
        // The first table: an entry for its own cluster, far off, between two.
        (3 * CLUSTER, &(3 * CLUSTER).to_be_bytes(), "in use twice"),
        (3 * CLUSTER, &(1u64 << 55).to_be_bytes(), "nothing can be"),
        (3 * CLUSTER, &512u64.to_be_bytes(), "nothing can be"),
        (3 * CLUSTER, &1u64.to_be_bytes(), "entry 0x1"),
    ] {
        let image = image_of(1 << 30);
        image.as_file().write_all_at(bytes, offset).unwrap();
        println!("{offset}: {word}");
        let error = refusal(&image);
        assert!(error.contains(word), "{error}");
        assert!(error.contains(image.path().to_str().unwrap()), "{error}");
    }
    for length in [0, 3, 103, 3 * CLUSTER + 7] {
        let image = image_of(1 << 30);
        image.as_file().set_len(length).unwrap();
        refusal(&image);
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(Qcow2Backend::open(folder.path(), true).is_err());
}

#[test]
fn compressed_clusters_are_refused() {
    let image = image_of(1 << 20);
    write(&open(&image), 0, b"a");
    let mut entry = [0; 8];
    image
        .as_file()
        .read_exact_at(&mut entry, 3 * CLUSTER)
        .unwrap();
    let table = u64::from_be_bytes(entry) & !(1 << 63);
    let compressed = 1u64 << 62 | CLUSTER;
    image
        .as_file()
        .write_all_at(&compressed.to_be_bytes(), table)
        .unwrap();
    assert!(refusal(&image).contains("compressed"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn wild_tables_give_errors_and_no_panics(
        changes in prop::collection::vec((0..8u64, 0..160u64, any::<u8>()), 1..4)
    ) {
        let image = image_of(1 << 30);
        let backend = open(&image);
        write(&backend, 0, &[1; 3 * CLUSTER as usize]);
        write(&backend, TABLE_SPAN, b"b");
        drop(backend);
        // Bytes at the start of a cluster: headers and tables are there.
        for (cluster, byte, value) in changes {
            image
                .as_file()
                .write_all_at(&[value], cluster * CLUSTER + byte)
                .unwrap();
        }
        if let Ok(backend) = Qcow2Backend::open(image.path(), false) {
            let mut bytes = vec![2; 4 * CLUSTER as usize];
            let slice = VolatileSlice::from(&mut bytes[..]);
            let end = backend.size().min(1 << 30);
            for offset in [0, 2 * CLUSTER, TABLE_SPAN - CLUSTER, end.saturating_sub(CLUSTER)] {
                let length = (4 * CLUSTER).min(end.saturating_sub(offset));
                let slice = slice.subslice(0, length as usize).unwrap();
                let _ = backend.read_at(&[slice], offset);
                let _ = backend.write_at(&[slice], offset);
                let _ = backend.write_zeroes(offset, length, true);
                let _ = backend.discard(offset, length);
                let _ = backend.write_at(&[slice], offset);
                let _ = backend.flush();
            }
        }
    }
}
