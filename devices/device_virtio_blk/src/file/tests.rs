//! The file backend against real files.

use std::os::unix::fs::MetadataExt;

use tempfile::NamedTempFile;
use vm_memory::VolatileSlice;

use super::*;

const SIZE: u64 = 1 << 20;

fn file_of(byte: u8) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file()
        .write_all_at(&vec![byte; SIZE as usize], 0)
        .unwrap();
    file
}

fn writable(file: &NamedTempFile) -> FileBackend {
    FileBackend::open(file.path(), false, None).unwrap()
}

fn contents(file: &NamedTempFile) -> Vec<u8> {
    std::fs::read(file.path()).unwrap()
}

fn slices<'m>(memory: &VolatileSlice<'m>, lengths: &[usize]) -> Vec<Slice<'m>> {
    let mut at = 0;
    lengths
        .iter()
        .map(|length| {
            at += length;
            memory.subslice(at - length, *length).unwrap()
        })
        .collect()
}

#[test]
fn what_is_written_is_read_back() {
    let file = file_of(0);
    let backend = writable(&file);
    let mut bytes: Vec<u8> = (0..5000).map(|at| (at % 241) as u8).collect();
    let expected = bytes.clone();
    let memory = VolatileSlice::from(&mut bytes[..]);
    backend
        .write_at(&slices(&memory, &[0, 1, 4999]), 777)
        .unwrap();
    assert_eq!(contents(&file)[777..5777], expected);
    assert_eq!(contents(&file)[5777], 0);

    let mut to = vec![0; 5000];
    let memory = VolatileSlice::from(&mut to[..]);
    backend
        .read_at(&slices(&memory, &[4999, 0, 1]), 777)
        .unwrap();
    assert_eq!(to, expected);
}

#[test]
fn file_that_shrank_fails_instead_of_going_on_for_ever() {
    let file = file_of(1);
    let backend = writable(&file);
    file.as_file().set_len(100).unwrap();
    let mut to = vec![0; 512];
    let memory = VolatileSlice::from(&mut to[..]);
    let error = backend.read_at(&slices(&memory, &[512]), 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn read_only_backend_cannot_write_even_when_asked() {
    let file = file_of(1);
    let backend = FileBackend::open(file.path(), true, None).unwrap();
    let mut from = vec![2; 512];
    let memory = VolatileSlice::from(&mut from[..]);
    assert!(backend.write_at(&slices(&memory, &[512]), 0).is_err());
    assert!(backend.discard(0, SIZE).is_err());
    assert!(backend.write_zeroes(0, SIZE, false).is_err());
    assert_eq!(contents(&file), vec![1; SIZE as usize]);
}

#[test]
fn discard_gives_storage_back_and_keeps_the_size() {
    let file = file_of(1);
    let before = file.as_file().metadata().unwrap().blocks();
    writable(&file).discard(0, SIZE).unwrap();
    let after = file.as_file().metadata().unwrap();
    assert!(after.blocks() < before);
    assert_eq!(after.len(), SIZE);
}

#[test]
fn write_zeroes_zeroes_exactly_the_range() {
    for unmap in [false, true] {
        let file = file_of(1);
        writable(&file).write_zeroes(512, 70_000, unmap).unwrap();
        let bytes = contents(&file);
        assert!(bytes[512..70_512].iter().all(|byte| *byte == 0));
        assert!(bytes[..512].iter().all(|byte| *byte == 1));
        assert!(bytes[70_512..].iter().all(|byte| *byte == 1));
        assert_eq!(bytes.len() as u64, SIZE);
    }
}

#[test]
fn written_zeroes_zero_exactly_the_range() {
    let file = file_of(1);
    writable(&file).store_zeroes(512, 150_000).unwrap();
    let bytes = contents(&file);
    assert!(bytes[512..150_512].iter().all(|byte| *byte == 0));
    assert!(bytes[..512].iter().all(|byte| *byte == 1));
    assert!(bytes[150_512..].iter().all(|byte| *byte == 1));
}

#[test]
fn empty_ranges_are_no_error() {
    let backend = writable(&file_of(1));
    backend.discard(0, 0).unwrap();
    backend.write_zeroes(SIZE, 0, true).unwrap();
    backend.flush().unwrap();
}
