//! What stays in the cache and what goes.

use std::collections::BTreeSet;
use std::io::Read;
use std::time::Duration;

use super::*;

fn put(cache: &Cache, text: &str, used: u64) -> Digest {
    let digest = Digest::of(text.as_bytes());
    fs::write(cache.path(&digest), text).unwrap();
    let file = File::open(cache.path(&digest)).unwrap();
    let used = SystemTime::UNIX_EPOCH + Duration::from_secs(used);
    file.set_modified(used).unwrap();
    digest
}

fn cache(limit: u64) -> (tempfile::TempDir, Cache) {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), limit).unwrap();
    (folder, cache)
}

#[test]
fn least_recently_used_goes_first_and_strangers_stay() {
    let (_folder, cache) = cache(9);
    let old = put(&cache, "old", 1);
    let new = put(&cache, "new", 3);
    let part = cache.part_path(&Digest::of(b"part"));
    fs::write(&part, "pa").unwrap();
    let stranger = cache.blobs.join("README");
    fs::write(&stranger, "not a blob").unwrap();
    let usage = Usage {
        blobs: 2,
        parts: 1,
        bytes: 8,
    };
    assert_eq!(cache.usage().unwrap(), usage);

    cache.make_room(2, &BTreeSet::new()).unwrap();
    assert!(!cache.path(&old).exists());
    assert!(cache.path(&new).exists() && part.exists());

    let freed = Freed {
        files: 2,
        bytes: 5,
        kept: 0,
    };
    assert_eq!(cache.prune(0).unwrap(), freed);
    assert_eq!(cache.usage().unwrap(), Usage::default());
    assert!(stranger.exists());
}

#[test]
fn blob_in_use_stays_whoever_prunes() {
    let (folder, cache) = cache(u64::MAX);
    let held = put(&cache, "held", 1);
    let read = put(&cache, "read", 1);
    assert_eq!(cache.hold(&held, 4).unwrap(), Found::Whole);
    let blob = cache.blob(&read).unwrap();
    let other = Cache::open(folder.path(), 0).unwrap();
    let freed = Freed {
        kept: 8,
        ..Freed::default()
    };
    assert_eq!(other.prune(0).unwrap(), freed);
    assert_eq!(cache.prune(0).unwrap(), freed);
    drop((cache, blob));
    assert_eq!(other.prune(0).unwrap().files, 2);
}

#[test]
fn part_that_is_fetched_stays() {
    let (folder, cache) = cache(0);
    let digest = Digest::of(b"x");
    let part = cache.open_part(&digest).unwrap();
    part.lock().unwrap();
    part.set_len(5).unwrap();
    let other = Cache::open(folder.path(), 0).unwrap();
    assert_eq!(other.prune(0).unwrap().kept, 5);
    // One that nobody fetches now, but we shall.
    drop(part);
    other.make_room(5, &BTreeSet::from([digest])).unwrap();
    assert!(cache.part_path(&digest).exists());
    assert_eq!(other.prune(0).unwrap().files, 1);
}

#[test]
fn holding_a_blob_makes_it_the_last_to_go() {
    let (_folder, cache) = cache(0);
    let first = put(&cache, "a", 1);
    put(&cache, "b", 2);
    assert_eq!(cache.hold(&first, 1).unwrap(), Found::Whole);
    cache.held().clear();
    assert_eq!(cache.prune(1).unwrap().files, 1);
    assert!(cache.path(&first).exists());
}

#[test]
fn damaged_blob_is_not_there() {
    let (_folder, cache) = cache(u64::MAX);
    let digest = Digest::of(b"whole");
    // Cut, and of the same length.
    for text in ["who", "whale"] {
        fs::write(cache.path(&digest), text).unwrap();
        assert_eq!(cache.hold(&digest, 5).unwrap(), Found::Nothing);
        assert!(!cache.path(&digest).exists());
    }
    // Too long to be read each time, so only its length is looked at.
    let file = File::create(cache.path(&digest)).unwrap();
    file.set_len(SMALL + 1).unwrap();
    assert_eq!(cache.hold(&digest, SMALL).unwrap(), Found::Nothing);
    let file = File::create(cache.path(&digest)).unwrap();
    file.set_len(SMALL + 1).unwrap();
    assert_eq!(cache.hold(&digest, SMALL + 1).unwrap(), Found::Whole);
}

#[test]
fn good_blob_stays_when_another_size_is_asked_for() {
    let (_folder, cache) = cache(u64::MAX);
    let digest = put(&cache, "good", 1);
    assert_eq!(cache.hold(&digest, 3).unwrap(), Found::OtherSize(4));
    assert_eq!(cache.hold(&digest, 4).unwrap(), Found::Whole);
    assert_eq!(cache.hold(&digest, 5).unwrap(), Found::OtherSize(4));
    assert!(cache.path(&digest).exists());
}

#[test]
fn cache_ends_within_its_limit() {
    for (limit, left) in [(0, 0), (3, 1), (4, 2)] {
        let (folder, cache) = cache(limit);
        let old = put(&cache, "ol", 1);
        let new = put(&cache, "ne", 1);
        assert_eq!(cache.hold(&old, 2).unwrap(), Found::Whole);
        assert_eq!(cache.hold(&new, 2).unwrap(), Found::Whole);
        drop(cache);
        let other = Cache::open(folder.path(), u64::MAX).unwrap();
        assert_eq!(other.usage().unwrap().blobs, left);
    }
}

#[test]
fn cache_leaves_what_others_use_when_it_ends() {
    let (folder, cache) = cache(0);
    let [held, read, ours] = ["held", "read", "ours"].map(|text| put(&cache, text, 1));
    let other = Cache::open(folder.path(), u64::MAX).unwrap();
    for (cache, digest) in [
        (&other, &held),
        (&cache, &held),
        (&cache, &read),
        (&cache, &ours),
    ] {
        assert_eq!(cache.hold(digest, 4).unwrap(), Found::Whole);
    }
    let blob = cache.blob(&read).unwrap();
    drop(cache);
    assert!(other.path(&held).exists() && other.path(&read).exists());
    assert!(!other.path(&ours).exists());
    drop(blob);
}

#[test]
fn removed_blob_is_read_on_by_who_has_it() {
    let (_folder, cache) = cache(0);
    let digest = put(&cache, "text", 1);
    assert_eq!(cache.hold(&digest, 4).unwrap(), Found::Whole);
    let blob = cache.blob(&digest).unwrap();
    cache.remove(&digest).unwrap();
    cache.remove(&digest).unwrap();
    let missing = cache.blob(&digest).unwrap_err();
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    let mut text = String::new();
    blob.reader().read_to_string(&mut text).unwrap();
    assert_eq!(text, "text");
}

#[test]
fn links_are_no_blobs() {
    let (folder, cache) = cache(0);
    let secret = folder.path().join("secret");
    fs::write(&secret, "x").unwrap();
    let digest = Digest::of(b"x");
    std::os::unix::fs::symlink(&secret, cache.path(&digest)).unwrap();
    std::os::unix::fs::symlink(&secret, cache.part_path(&digest)).unwrap();
    assert!(cache.hold(&digest, 1).is_err());
    assert!(cache.open_part(&digest).is_err());
    assert_eq!(cache.prune(0).unwrap(), Freed::default());
    assert!(secret.exists());
}
