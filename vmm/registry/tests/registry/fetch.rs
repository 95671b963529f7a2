//! Blobs into the cache: in pieces, at the same time, and from registries that
//! send something else.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::fake::{Answer, Asked, Fake, blob, options};
use gvmi::Digest;
use registry::{Cache, Error, Options, Progress, Registry, Usage};
use tempfile::TempDir;

const LEN: usize = 300_000;

fn cache() -> (TempDir, Cache) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), Cache::DEFAULT_LIMIT).unwrap();
    (folder, cache)
}

fn part(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join(format!("blobs/sha256/{}.part", digest.hex()))
}

fn fetch(fake: &Fake, blobs: &[(Digest, u64)], cache: &Cache) -> Result<(), Error> {
    let registry = Registry::new(options()).unwrap();
    registry.fetch(&fake.reference("a/b"), blobs, cache, &mut |_| {})
}

fn read(cache: &Cache, digest: &Digest) -> Vec<u8> {
    let mut bytes = Vec::new();
    let blob = cache.blob(digest).unwrap();
    blob.reader().read_to_end(&mut bytes).unwrap();
    bytes
}

/// A registry that has all of `blobs`, by parts too.
fn serve(blobs: &[Vec<u8>]) -> impl FnMut(&Asked) -> Answer + Send + use<> {
    let blobs = blobs.to_vec();
    move |asked| {
        let digest = asked.path.strip_prefix("/v2/a/b/blobs/").unwrap();
        let blob = blobs
            .iter()
            .find(|blob| Digest::of(blob).to_string() == digest);
        match (blob, asked.range()) {
            (None, _) => Answer::new(404),
            (Some(blob), None) => Answer::ok(blob),
            (Some(blob), Some(start)) => Answer::part(blob, start),
        }
    }
}

#[test]
fn blobs_come_once_and_progress_adds_up() {
    let blobs = [1, 10, LEN, 0].map(|len| blob(len).0);
    let fake = Fake::new(serve(&blobs));
    let mut wanted = blobs
        .clone()
        .map(|blob| (Digest::of(&blob), blob.len() as u64))
        .to_vec();
    wanted.push(wanted[0]);
    let (folder, cache) = cache();
    let registry = Registry::new(options()).unwrap();
    let mut last = None;
    let mut tell = |progress: Progress| last = Some(progress);
    registry
        .fetch(&fake.reference("a/b"), &wanted, &cache, &mut tell)
        .unwrap();
    let all = (LEN + 11) as u64;
    assert!(last.is_some_and(|last| (last.done, last.size) == (all, all)));
    for blob in &blobs {
        assert_eq!(read(&cache, &Digest::of(blob)), *blob);
    }
    // The empty blob is known without asking.
    assert_eq!(fake.asked().len(), 3);

    let other = Cache::open(folder.path(), 0).unwrap();
    // What the first cache has brought is in use as long as it lives.
    assert_eq!(other.prune(0).unwrap().files, 0);
    fetch(&fake, &wanted, &other).unwrap();
    assert_eq!(fake.asked().len(), 3);
    let usage = Usage {
        blobs: 4,
        parts: 0,
        bytes: all,
    };
    assert_eq!(other.usage().unwrap(), usage);
}

#[test]
fn broken_download_goes_on_where_it_was() {
    let (bytes, digest) = blob(LEN);
    let (body, mut first) = (bytes.clone(), true);
    let fake = Fake::new(move |asked| match std::mem::take(&mut first) {
        true => Answer::ok(&body).cut(LEN / 2),
        false => Answer::part(&body, asked.range().unwrap()),
    });
    let (_folder, cache) = cache();
    fetch(&fake, &[(digest, LEN as u64)], &cache).unwrap();
    assert_eq!(read(&cache, &digest), bytes);
    assert_eq!(fake.asked()[1].range(), Some(LEN / 2));
}

#[test]
fn part_of_an_earlier_process_is_gone_on_from() {
    let (bytes, digest) = blob(LEN);
    let fake = Fake::new(serve(std::slice::from_ref(&bytes)));
    let (folder, cache) = cache();
    for len in [1, LEN - 1, LEN] {
        std::fs::write(part(folder.path(), &digest), &bytes[..len]).unwrap();
        fetch(&fake, &[(digest, LEN as u64)], &cache).unwrap();
        assert_eq!(read(&cache, &digest), bytes);
        cache.remove(&digest).unwrap();
    }
    let ranges: Vec<_> = fake.asked().iter().map(Asked::range).collect();
    assert_eq!(ranges, [Some(1), Some(LEN - 1)]);
}

#[test]
fn damaged_part_is_fetched_anew() {
    let (bytes, digest) = blob(LEN);
    let fake = Fake::new(serve(std::slice::from_ref(&bytes)));
    let (folder, cache) = cache();
    let longer = [bytes.as_slice(), &[7]].concat();
    for damaged in [vec![7; 10], vec![7; LEN], longer] {
        std::fs::write(part(folder.path(), &digest), damaged).unwrap();
        fetch(&fake, &[(digest, LEN as u64)], &cache).unwrap();
        assert_eq!(read(&cache, &digest), bytes);
        cache.remove(&digest).unwrap();
    }
}

#[test]
fn registry_without_ranges_sends_all_again() {
    let (bytes, digest) = blob(LEN);
    let (body, mut first) = (bytes.clone(), true);
    let fake = Fake::new(
        move |asked| match (std::mem::take(&mut first), asked.range()) {
            (true, _) => Answer::ok(&body).cut(LEN / 2),
            (false, _) => Answer::ok(&body),
        },
    );
    let (_folder, cache) = cache();
    fetch(&fake, &[(digest, LEN as u64)], &cache).unwrap();
    assert_eq!(read(&cache, &digest), bytes);

    cache.remove(&digest).unwrap();
    let (body, mut first) = (bytes.clone(), true);
    let fake = Fake::new(
        move |asked| match (std::mem::take(&mut first), asked.range()) {
            (true, _) => Answer::ok(&body).cut(LEN / 2),
            (false, Some(_)) => Answer::new(416),
            (false, None) => Answer::ok(&body),
        },
    );
    fetch(&fake, &[(digest, LEN as u64)], &cache).unwrap();
    assert_eq!(read(&cache, &digest), bytes);
}

#[test]
fn blob_that_never_comes_whole_is_an_error_and_its_part_stays() {
    let (bytes, digest) = blob(LEN);
    let fake = Fake::new(move |asked| match asked.range() {
        None => Answer::ok(&bytes).cut(1000),
        Some(start) => Answer::part(&bytes, start).cut(0),
    });
    let (folder, cache) = cache();
    let error = fetch(&fake, &[(digest, LEN as u64)], &cache).unwrap_err();
    let Error::Truncated { got, size, .. } = error else {
        panic!("{error}");
    };
    assert_eq!((got, size), (1000, LEN as u64));
    assert_eq!(fake.asked().len(), 3);
    assert_eq!(part(folder.path(), &digest).metadata().unwrap().len(), 1000);
}

#[test]
fn wrong_bytes_are_thrown_away_and_blamed() {
    let (_, digest) = blob(LEN);
    let fake = Fake::new(|_| Answer::ok(&vec![7; LEN]));
    let (folder, cache) = cache();
    let error = fetch(&fake, &[(digest, LEN as u64)], &cache).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::WrongDigest { .. }), "{text}");
    assert!(text.contains(&digest.to_string()) && text.contains(&fake.address.to_string()));
    assert!(!part(folder.path(), &digest).exists());
    assert!(cache.blob(&digest).is_err());
}

#[test]
fn no_more_is_written_than_the_manifest_says() {
    let (bytes, _) = blob(LEN);
    let digest = Digest::of(&bytes[..10]);
    let (folder, cache) = cache();
    let promised = [u64::MAX / 2, LEN as u64, 10];
    for promise in promised {
        let body = bytes.clone();
        let fake = Fake::new(move |_| Answer::ok(&body).promising(promise));
        let result = fetch(&fake, &[(digest, 10)], &cache);
        match promise {
            // What follows is none of the answer.
            10 => result.unwrap(),
            _ => assert!(matches!(result, Err(Error::WrongSize { size: 10, .. }))),
        }
        assert!(!part(folder.path(), &digest).exists());
    }
    // A shorter one is no reason to ask again.
    let fake = Fake::new(|_| Answer::ok(b"short"));
    cache.remove(&digest).unwrap();
    let result = fetch(&fake, &[(digest, 10)], &cache);
    assert!(matches!(result, Err(Error::WrongSize { size: 10, .. })));
    assert_eq!(fake.asked().len(), 1);
    // Without a length, it is seen when it comes.
    let fake = Fake::new(move |_| Answer::ok(&bytes).chunked());
    let result = fetch(&fake, &[(digest, 10)], &cache);
    assert!(matches!(result, Err(Error::WrongSize { size: 10, .. })));
    assert!(!part(folder.path(), &digest).exists());
}

#[test]
fn part_of_another_place_or_blob_is_refused() {
    let (bytes, digest) = blob(LEN);
    let (folder, cache) = cache();
    for range in [
        "bytes 0-9/300000",
        "bytes 5-9/7",
        "bytes x",
        "items 5-9/300000",
    ] {
        std::fs::write(part(folder.path(), &digest), &bytes[..5]).unwrap();
        let fake = Fake::new(move |_| {
            Answer::ok(b"56789")
                .status(206)
                .header("content-range", range)
        });
        let error = fetch(&fake, &[(digest, LEN as u64)], &cache).unwrap_err();
        assert!(
            matches!(error, Error::Protocol { .. } | Error::WrongSize { .. }),
            "{error}"
        );
    }
}

#[test]
fn silence_within_a_blob_ends_the_wait() {
    let (bytes, digest) = blob(LEN);
    let fake = Fake::new(move |asked| {
        let answer = match asked.range() {
            None => Answer::ok(&bytes),
            Some(start) => Answer::part(&bytes, start),
        };
        answer.cut(1).hanging()
    });
    let registry = Registry::new(Options {
        idle_timeout: Duration::from_millis(100),
        ..options()
    });
    let (_folder, cache) = cache();
    let blobs = [(digest, LEN as u64)];
    let result = registry
        .unwrap()
        .fetch(&fake.reference("a"), &blobs, &cache, &mut |_| {});
    assert!(matches!(result, Err(Error::Silent { .. })));
}

#[test]
fn blob_of_another_process_is_waited_for() {
    let (bytes, digest) = blob(LEN);
    let fake = Fake::new(|_| Answer::new(500));
    let (folder, cache) = cache();
    let whole = folder.path().join(format!("blobs/sha256/{}", digest.hex()));
    let part = part(folder.path(), &digest);
    // As the other one: it has the lock before we start.
    let file = std::fs::File::create(&part).unwrap();
    file.lock().unwrap();
    let other = std::thread::spawn(move || {
        std::fs::write(&part, bytes).unwrap();
        std::fs::rename(&part, &whole).unwrap();
        drop(file);
    });
    fetch(&fake, &[(digest, LEN as u64)], &cache).unwrap();
    other.join().unwrap();
    assert_eq!(fake.asked().len(), 0);
    assert_eq!(read(&cache, &digest).len(), LEN);
}

#[test]
fn same_blob_is_fetched_once_by_many() {
    let (bytes, digest) = blob(LEN);
    let fake = Fake::new(serve(std::slice::from_ref(&bytes)));
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let cache = Cache::open(folder.path(), Cache::DEFAULT_LIMIT).unwrap();
                fetch(&fake, &[(digest, LEN as u64)], &cache).unwrap();
                assert_eq!(read(&cache, &digest), bytes);
            });
        }
    });
    assert_eq!(fake.asked().len(), 1);
}

#[test]
fn room_is_made_for_what_comes() {
    let blobs = [blob(1000).0, blob(1001).0];
    let fake = Fake::new(serve(&blobs));
    let digests = blobs.clone().map(|blob| Digest::of(&blob));
    let folder = tempfile::tempdir().unwrap();
    for (digest, blob) in digests.iter().zip(&blobs) {
        let cache = Cache::open(folder.path(), 1500).unwrap();
        fetch(&fake, &[(*digest, blob.len() as u64)], &cache).unwrap();
    }
    let cache = Cache::open(folder.path(), 1500).unwrap();
    assert!(cache.blob(&digests[0]).is_err());
    assert!(cache.blob(&digests[1]).is_ok());
}

#[test]
fn one_blob_of_two_sizes_is_refused() {
    let (_, digest) = blob(10);
    let fake = Fake::new(|_| Answer::new(500));
    let (_folder, cache) = cache();
    let result = fetch(&fake, &[(digest, 10), (digest, 11)], &cache);
    assert!(matches!(result, Err(Error::Protocol { .. })));
}

#[test]
fn missing_blob_is_named() {
    let (_, digest) = blob(10);
    let fake = Fake::new(serve(&[]));
    let (folder, cache) = cache();
    let error = fetch(&fake, &[(digest, 10)], &cache).unwrap_err();
    assert!(matches!(&error, Error::NotFound { .. }));
    assert!(error.to_string().starts_with(&format!("blob {digest} of ")));
    assert!(!part(folder.path(), &digest).exists());
}

#[test]
fn image_above_the_limit_is_refused_before_anything_is_asked() {
    let fake = Fake::new(|_| Answer::new(500));
    let reference = fake.reference("a/b");
    let (_folder, cache) = cache();
    let max_size = 1000;
    let registry = Registry::new(Options {
        max_size,
        ..options()
    });
    let registry = registry.unwrap();
    let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
    for (blobs, needed) in [
        ([(one, 500), (two, 501)], 1001),
        ([(one, u64::MAX), (two, 2)], u64::MAX),
    ] {
        let error = registry
            .fetch(&reference, &blobs, &cache, &mut |_| {})
            .unwrap_err();
        assert!(
            matches!(&error, Error::TooLarge { size, max: 1000, .. } if *size == needed),
            "{error}"
        );
        let text = error.to_string();
        assert!(text.starts_with(&reference.whole()), "{text}");
        assert!(text.contains("--max-size"), "{text}");
    }
    assert_eq!(fake.asked().len(), 0);
    // The same one twice takes its room once.
    let result = registry.fetch(&reference, &[(one, 1000); 2], &cache, &mut |_| {});
    assert!(matches!(result, Err(Error::Status { .. })));
}

#[test]
fn damaged_blob_of_the_cache_is_fetched_anew() {
    let (bytes, digest) = blob(LEN);
    let fake = Fake::new(serve(std::slice::from_ref(&bytes)));
    let (folder, cache) = cache();
    let path = folder.path().join(format!("blobs/sha256/{}", digest.hex()));
    std::fs::write(path, vec![7; LEN]).unwrap();
    fetch(&fake, &[(digest, LEN as u64)], &cache).unwrap();
    assert_eq!(read(&cache, &digest), bytes);
    assert_eq!(fake.asked().len(), 1);
}

#[test]
fn manifest_with_a_wrong_size_costs_no_good_blob() {
    let (bytes, digest) = blob(LEN);
    let fake = Fake::new(serve(std::slice::from_ref(&bytes)));
    let (folder, first) = cache();
    fetch(&fake, &[(digest, LEN as u64)], &first).unwrap();
    // Whether this process holds it or not.
    let other = Cache::open(folder.path(), Cache::DEFAULT_LIMIT).unwrap();
    for cache in [&first, &other] {
        let error = fetch(&fake, &[(digest, 7)], cache).unwrap_err();
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
        let fault = format!("gives blob {digest} 7 bytes in the manifest, and it has {LEN}");
        assert!(error.to_string().ends_with(&fault), "{error}");
    }
    assert_eq!(read(&other, &digest), bytes);
    assert_eq!(fake.asked().len(), 1);
}

#[test]
fn cache_without_room_is_empty_afterwards() {
    let (bytes, digest) = blob(LEN);
    let fake = Fake::new(serve(std::slice::from_ref(&bytes)));
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), 0).unwrap();
    fetch(&fake, &[(digest, LEN as u64)], &cache).unwrap();
    assert_eq!(read(&cache, &digest), bytes);
    drop(cache);
    let cache = Cache::open(folder.path(), 0).unwrap();
    assert_eq!(cache.usage().unwrap(), Usage::default());
}
