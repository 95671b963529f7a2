//! Installing packs: whole or not at all, and the link that names the current.

use std::fs;
use std::path::Path;

use anyhow::bail;

use super::*;

fn manifest(key: char) -> Manifest {
    Manifest {
        name: "test",
        version: "6.12.1".to_owned(),
        origin: "linux 6.12.1-1".to_owned(),
        features: &["pvh"],
        key: key.to_string().repeat(64),
        modules: vec!["virtio.ko".to_owned()],
        on_demand: BTreeMap::new(),
    }
}

fn with_kernel(folder: &Path, _: &mut Manifest) -> Result<()> {
    Ok(fs::write(folder.join("vmlinux"), "kernel")?)
}

fn names(store: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(store)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn pack_is_made_once_and_named_by_a_link() {
    let store = tempfile::tempdir().unwrap();
    let folder = install(store.path(), manifest('a'), with_kernel).unwrap();
    assert_eq!(names(store.path()), ["test", "test-aaaaaaaaaaaa"]);
    assert_eq!(
        fs::read(store.path().join("test/vmlinux")).unwrap(),
        b"kernel"
    );
    assert!(folder.join("modules").is_dir());
    let again = install(store.path(), manifest('a'), |_, _| bail!("made twice")).unwrap();
    assert_eq!(again, folder);
}

#[test]
fn manifest_says_what_readers_of_the_store_expect() {
    let store = tempfile::tempdir().unwrap();
    let folder = install(store.path(), manifest('a'), with_kernel).unwrap();
    let text = fs::read_to_string(folder.join("pack.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let expected = serde_json::json!({
        "name": "test", "version": "6.12.1", "origin": "linux 6.12.1-1",
        "features": ["pvh"], "key": "a".repeat(64), "modules": ["virtio.ko"],
    });
    assert_eq!(json, expected);
}

#[test]
fn other_sources_make_an_other_pack_and_move_the_link() {
    let store = tempfile::tempdir().unwrap();
    install(store.path(), manifest('a'), with_kernel).unwrap();
    install(store.path(), manifest('b'), with_kernel).unwrap();
    assert_eq!(
        names(store.path()),
        ["test", "test-aaaaaaaaaaaa", "test-bbbbbbbbbbbb"]
    );
    let target = |store: &Path| fs::read_link(store.join("test")).unwrap();
    assert_eq!(target(store.path()), Path::new("test-bbbbbbbbbbbb"));
    install(store.path(), manifest('a'), |_, _| bail!("made twice")).unwrap();
    assert_eq!(target(store.path()), Path::new("test-aaaaaaaaaaaa"));
}

#[test]
fn failed_pack_leaves_nothing_and_the_old_one_current() {
    let store = tempfile::tempdir().unwrap();
    install(store.path(), manifest('a'), with_kernel).unwrap();
    let fail = |folder: &Path, manifest: &mut Manifest| {
        with_kernel(folder, manifest)?;
        bail!("no space")
    };
    assert!(install(store.path(), manifest('b'), fail).is_err());
    assert_eq!(names(store.path()), ["test", "test-aaaaaaaaaaaa"]);
    assert!(store.path().join("test/vmlinux").exists());
}

#[test]
fn what_a_killed_run_left_is_not_taken_for_a_pack() {
    let store = tempfile::tempdir().unwrap();
    // One from the same sources and one from others.
    for key in ["aaaaaaaaaaaa", "bbbbbbbbbbbb"] {
        let half = store.path().join(format!(".test-{key}.new"));
        fs::create_dir(&half).unwrap();
        fs::write(half.join("rubbish"), "").unwrap();
    }
    let folder = install(store.path(), manifest('a'), with_kernel).unwrap();
    assert!(!folder.join("rubbish").exists());
    assert_eq!(names(store.path()), ["test", "test-aaaaaaaaaaaa"]);
}

#[test]
fn key_tells_parts_apart() {
    let whole = key(&["ab", "c"]).unwrap();
    assert_eq!(whole.len(), 64);
    assert_eq!(whole, key(&["ab", "c"]).unwrap());
    assert_ne!(whole, key(&["a", "bc"]).unwrap());
}
