//! Images pushed to a registry and pulled from it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::fake::{Answer, Asked, Fake, blob, gvmi, options};
use gvmi::Digest;
use registry::{Error, GVMI_MEDIA_TYPE, Options, Progress, Registry};

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const LEN: usize = 500_000;

/// A registry that takes and gives back.
fn storage() -> impl FnMut(&Asked) -> Answer + Send {
    let mut stored: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut upload = Vec::new();
    move |asked| {
        let path = asked.path.strip_prefix("/v2/a/b/").unwrap();
        let session = "/v2/a/b/session?id=1";
        match asked.method.as_str() {
            "POST" => {
                assert_eq!(path, "blobs/uploads/");
                Answer::new(202).header("location", session)
            }
            "PATCH" => {
                upload.clone_from(&asked.body);
                Answer::new(202).header("location", session)
            }
            "PUT" if path.starts_with("session") => {
                let digest = Digest::of(&upload).to_string();
                let wanted = format!("session?id=1&digest={}", digest.replace(':', "%3A"));
                assert_eq!(path, wanted);
                stored.insert(format!("blobs/{digest}"), std::mem::take(&mut upload));
                Answer::new(201).header("docker-content-digest", &digest)
            }
            "PUT" => {
                assert_eq!(asked.header("content-type"), Some(OCI));
                stored.insert(path.to_owned(), asked.body.clone());
                Answer::new(201)
            }
            _ => match stored.get(path) {
                Some(bytes) => Answer::ok(bytes).media_type(OCI),
                None => Answer::new(404),
            },
        }
    }
}

fn image(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("my.gvmi");
    fs::write(&path, gvmi(LEN).0).unwrap();
    path
}

#[test]
fn pushed_image_comes_back_the_same() {
    let fake = Fake::new(storage());
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path());
    let registry = Registry::new(options()).unwrap();
    let reference = fake.reference("a/b:c");
    let mut last = None;
    let mut tell = |progress: Progress| last = Some(progress);
    let digest = registry.push_image(&reference, &path, &mut tell).unwrap();
    assert!(last.is_some_and(|last| last.done == LEN as u64));
    assert_eq!(registry.manifest(&reference).unwrap().digest, digest);

    let to = folder.path().join("back.gvmi");
    let pulled = registry.pull_image(&reference, &to, &mut |_| {}).unwrap();
    assert_eq!(pulled, digest);
    assert!(fs::read(&to).unwrap() == gvmi(LEN).0);

    // What the registry has is not sent again.
    let before = fake.count("session");
    registry.push_image(&reference, &path, &mut |_| {}).unwrap();
    assert_eq!(fake.count("session"), before);
}

#[test]
fn manifest_is_that_of_an_oci_artifact() {
    let fake = Fake::new(storage());
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::new(options()).unwrap();
    let reference = fake.reference("a/b:c");
    registry
        .push_image(&reference, &image(folder.path()), &mut |_| {})
        .unwrap();
    let bytes = registry.manifest(&reference).unwrap().bytes;
    let manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let expected = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI,
        "artifactType": GVMI_MEDIA_TYPE,
        "config": {
            "mediaType": "application/vnd.oci.empty.v1+json",
            "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
            "size": 2,
        },
        "layers": [{
            "mediaType": GVMI_MEDIA_TYPE,
            "digest": gvmi(LEN).1.to_string(),
            "size": LEN,
            "annotations": { "org.opencontainers.image.title": "my.gvmi" },
        }],
    });
    assert_eq!(manifest, expected);
}

#[test]
fn broken_upload_is_begun_again() {
    let mut storage = storage();
    let mut broken = 0;
    let fake = Fake::new(move |asked| {
        if asked.method == "PATCH" && broken < 2 {
            broken += 1;
            return Answer::new(503);
        }
        storage(asked)
    });
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::new(options()).unwrap();
    let path = image(folder.path());
    registry
        .push_image(&fake.reference("a/b:c"), &path, &mut |_| {})
        .unwrap();
    assert_eq!(fake.count("/v2/a/b/blobs/uploads/"), 4);
}

#[test]
fn registry_that_stores_something_else_is_found_out() {
    let mut storage = storage();
    let other = Digest::of(b"other").to_string();
    let fake = Fake::new(move |asked| match asked.path.contains("digest=") {
        true => Answer::new(201).header("docker-content-digest", &other),
        false => storage(asked),
    });
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::new(options()).unwrap();
    let path = image(folder.path());
    let result = registry.push_image(&fake.reference("a/b:c"), &path, &mut |_| {});
    assert!(matches!(result, Err(Error::Protocol { .. })));
}

#[test]
fn upload_that_nobody_takes_is_given_up() {
    let mut storage = storage();
    let fake = Fake::new(move |asked| match asked.method.as_str() {
        "PATCH" => Answer::new(202).without_head().hanging(),
        _ => storage(asked),
    });
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::new(Options {
        idle_timeout: Duration::from_millis(200),
        retries: 0,
        ..options()
    });
    let path = image(folder.path());
    let reference = fake.reference("a/b:c");
    let result = registry.unwrap().push_image(&reference, &path, &mut |_| {});
    assert!(matches!(result, Err(Error::Silent { .. })));
}

#[test]
fn push_needs_a_tag() {
    let registry = Registry::new(options()).unwrap();
    let reference = format!("127.0.0.1:1/a:b@{}", Digest::of(b"x"));
    let result = registry.push_image(&reference.parse().unwrap(), Path::new("x"), &mut |_| {});
    assert!(matches!(result, Err(Error::PushToDigest { .. })));
}

#[test]
fn container_image_is_not_pulled_as_gvmi() {
    let digest = Digest::of(b"x");
    let layer = format!(
        r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":1}}"#
    );
    let manifest = format!(r#"{{"schemaVersion":2,"config":{layer},"layers":[{layer}]}}"#);
    let index = "application/vnd.oci.image.index.v1+json";
    let folder = tempfile::tempdir().unwrap();
    for (media_type, body) in [(OCI, manifest.as_str()), (index, "{}"), (OCI, "{")] {
        let body = body.to_owned();
        let fake = Fake::new(move |_| Answer::ok(body.as_bytes()).media_type(media_type));
        let registry = Registry::new(options()).unwrap();
        let reference = fake.reference("a/b:c");
        let to = folder.path().join("to");
        let error = registry
            .pull_image(&reference, &to, &mut |_| {})
            .unwrap_err();
        let remedy = format!("shem image build docker://{reference}");
        assert!(error.to_string().contains(&remedy), "{error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn failed_pull_leaves_the_old_file() {
    let mut storage = storage();
    let fake =
        Fake::new(
            move |asked| match asked.method == "GET" && asked.path.contains("/blobs/") {
                true => Answer::ok(&vec![7; LEN]),
                false => storage(asked),
            },
        );
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path());
    let registry = Registry::new(options()).unwrap();
    let reference = fake.reference("a/b:c");
    registry.push_image(&reference, &path, &mut |_| {}).unwrap();
    fs::write(&path, "old").unwrap();
    let result = registry.pull_image(&reference, &path, &mut |_| {});
    assert!(matches!(result, Err(Error::WrongDigest { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_is_no_image_does_not_take_the_old_ones_place() {
    let fake = Fake::new(storage());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("my.gvmi");
    fs::write(&path, blob(LEN).0).unwrap();
    let registry = Registry::new(options()).unwrap();
    let reference = fake.reference("a/b:c");
    registry.push_image(&reference, &path, &mut |_| {}).unwrap();
    fs::write(&path, "old").unwrap();
    let result = registry.pull_image(&reference, &path, &mut |_| {});
    assert!(matches!(result, Err(Error::Damaged { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn image_above_the_limit_is_not_pulled() {
    let fake = Fake::new(storage());
    let folder = tempfile::tempdir().unwrap();
    let path = image(folder.path());
    let reference = fake.reference("a/b:c");
    let pull = |max_size| {
        let options = Options {
            max_size,
            ..options()
        };
        let registry = Registry::new(options).unwrap();
        registry.push_image(&reference, &path, &mut |_| {}).unwrap();
        registry.pull_image(&reference, &folder.path().join("to"), &mut |_| {})
    };
    let result = pull(LEN as u64 - 1);
    assert!(matches!(result, Err(Error::TooLarge { size, .. }) if size == LEN as u64));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    pull(LEN as u64).unwrap();
}
