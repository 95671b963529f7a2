//! The file backend against real files.

use std::error::Error;
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

/// A backend past the page cache, or `None`, loudly, where that is not possible.
fn direct(file: &NamedTempFile) -> Option<FileBackend> {
    let mut backend = writable(file);
    match backend.use_direct(file.path()) {
        Ok(()) => Some(backend),
        Err(error) => {
            eprintln!("NOT TESTED: {error}: {}", error.source().unwrap());
            assert!(!backend.is_direct());
            None
        }
    }
}

#[test]
fn memory_that_is_not_aligned_is_transferred_past_the_page_cache() {
    let file = file_of(0);
    let Some(backend) = direct(&file) else { return };
    // Longer than one buffer, and cut anywhere.
    let length = 2 * BOUNCE + 3 * 512;
    let mut from: Vec<u8> = (0..length).map(|at| (at % 241) as u8).collect();
    let expected = from.clone();
    let from = VolatileSlice::from(&mut from[..]);
    let lengths = [1, 511, 0, 4000, BOUNCE, length - BOUNCE - 4512];
    let pieces = slices(&from, &lengths);
    assert!(backend.file_for(&pieces).is_none());
    backend.write_at(&pieces, 1024).unwrap();
    assert_eq!(contents(&file)[1024..1024 + length], expected);
    assert_eq!(contents(&file)[1024 + length], 0);

    let mut to = vec![0; length];
    let memory = VolatileSlice::from(&mut to[..]);
    backend
        .read_at(&slices(&memory, &[length - 3, 3]), 1024)
        .unwrap();
    assert_eq!(to, expected);
}

#[test]
fn aligned_memory_goes_to_the_file_as_it_is() {
    let file = file_of(7);
    let Some(backend) = direct(&file) else { return };
    let mut memory = vec![0; 5 * 512];
    let memory = VolatileSlice::from(aligned(&mut memory));
    let pieces = slices(&memory, &[512, 0, 1536]);
    assert!(backend.file_for(&pieces).is_some());
    backend.read_at(&pieces, 512).unwrap();
    let mut read = [0_u8; 2048];
    memory.copy_to(&mut read);
    assert_eq!(read, [7; 2048]);
    assert!(backend.file_for(&slices(&memory, &[512, 500])).is_none());
    assert!(backend.file_for(&[memory.offset(8).unwrap()]).is_none());
}

#[test]
fn zeroes_are_written_past_the_page_cache() {
    let file = file_of(1);
    let Some(backend) = direct(&file) else { return };
    backend.store_zeroes(512, ZEROES as u64 + 1024).unwrap();
    let bytes = contents(&file);
    let end = 512 + ZEROES + 1024;
    assert!(bytes[512..end].iter().all(|byte| *byte == 0));
    assert!(
        bytes[..512]
            .iter()
            .chain(&bytes[end..])
            .all(|byte| *byte == 1)
    );
}

#[test]
fn file_that_cannot_go_past_the_page_cache_is_used_through_it() {
    let path = Path::new("/proc/self/exe");
    let file = File::open("/proc/self/cmdline").unwrap();
    // Not possible in procfs; what the file is called does not matter here.
    let mut backend = FileBackend::from_file(file, path, true, Some(0)).unwrap();
    let error = backend.use_direct(path).unwrap_err();
    assert!(matches!(error, OpenError::NotDirect { .. }), "{error}");
    let mut byte = [0];
    let memory = VolatileSlice::from(&mut byte[..]);
    backend.read_at(&[memory], 0).unwrap();
    assert_ne!(byte, [0]);
}
