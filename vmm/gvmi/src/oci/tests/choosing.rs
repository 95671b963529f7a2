//! Manifests and indexes by themselves, as a registry sends them.

use std::collections::BTreeMap;
use std::io::{self, Write};

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::blob::Blob;
use crate::digest::Digest;
use crate::oci::fixture::{
    CONFIG, INDEX, Image, LAYER, MANIFEST, annotated, descriptor, for_platform, index, layers,
};
use crate::oci::{Choice, Manifest, OciFault, OciImage, Platform, choose};

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

fn read(document: &Value, media_type: Option<&str>) -> Result<Choice, OciFault> {
    let bytes = document.to_string().into_bytes();
    choose(&bytes, media_type, &Platform::default())
}

fn parsed(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn manifest() -> Value {
    parsed(&Image::new(&["a", "b"]).manifest())
}

fn image(document: &Value, media_type: Option<&str>) -> Manifest {
    match read(document, media_type).unwrap() {
        Choice::Image(manifest) => manifest,
        Choice::Next(next) => panic!("{next:?}"),
    }
}

fn next(manifests: &[Value]) -> Result<Digest, OciFault> {
    let document = parsed(&index(manifests));
    match read(&document, Some(INDEX))? {
        Choice::Next(next) => Ok(next.digest),
        Choice::Image(manifest) => panic!("{manifest:?}"),
    }
}

#[test]
fn manifest_says_which_blobs_are_needed() {
    let made = Image::new(&["a", "b"]);
    let bytes = made.manifest();
    let choice = choose(&bytes, Some(MANIFEST), &Platform::default());
    let Ok(Choice::Image(manifest)) = choice else {
        panic!("{choice:?}");
    };
    assert_eq!(manifest.digest, Digest::of(&bytes));
    let needed: Vec<_> = manifest
        .blobs()
        .map(|blob| (blob.digest, blob.size))
        .collect();
    let config = made.config_bytes();
    let there = [&config, &made.layers[0], &made.layers[1]];
    assert_eq!(
        needed,
        there.map(|bytes| (Digest::of(bytes), bytes.len() as u64))
    );

    let blobs: BTreeMap<_, _> = there.map(|bytes| (Digest::of(bytes), bytes)).into();
    let open = |digest: &Digest| {
        let bytes = blobs.get(digest).ok_or(io::ErrorKind::NotFound)?;
        let mut file = tempfile::tempfile()?;
        file.write_all(bytes)?;
        Blob::whole(file)
    };
    let opened = OciImage::from_blobs("demo", &manifest, &Platform::default(), open).unwrap();
    assert_eq!(layers(&opened), made.layers);
    assert_eq!(opened.name, "demo");
    let none = |_: &Digest| Err(io::ErrorKind::NotFound.into());
    let answer = OciImage::from_blobs("demo", &manifest, &Platform::default(), none);
    assert!(matches!(answer, Err(OciFault::MissingBlob { .. })));
    let broken = |_: &Digest| Err(io::ErrorKind::TimedOut.into());
    let answer = OciImage::from_blobs("demo", &manifest, &Platform::default(), broken);
    assert!(matches!(answer, Err(OciFault::Read { .. })));
}

#[test]
fn manifests_of_all_kinds_are_images() {
    let oci = manifest();
    let with = |config: &str, layer: &str| {
        let mut document = manifest();
        document["mediaType"] = DOCKER_MANIFEST.into();
        document["config"]["mediaType"] = config.into();
        document["layers"][0]["mediaType"] = layer.into();
        document
    };
    let config = "application/vnd.docker.container.image.v1+json";
    let layer = "application/vnd.docker.image.rootfs.diff.tar";
    for document in [
        with(config, &format!("{layer}.gzip")),
        with("application/octet-stream", layer),
        with(config, &format!("{LAYER}+zstd")),
        with(CONFIG, &format!("{LAYER}+gzip")),
    ] {
        let sent_as = format!("{DOCKER_MANIFEST}; charset=utf-8");
        assert_eq!(image(&document, Some(&sent_as)).layers.len(), 2);
        assert_eq!(image(&document, None).layers.len(), 2);
    }
    assert_eq!(image(&oci, Some("application/json")).layers.len(), 2);
    let mut silent = oci;
    silent.as_object_mut().unwrap().remove("mediaType");
    assert_eq!(image(&silent, None).layers.len(), 2);
    assert_eq!(image(&silent, Some(MANIFEST)).layers.len(), 2);
}

#[test]
fn platform_of_an_index_is_chosen() {
    let on = |text: &str, os: &str, architecture: &str| {
        for_platform(descriptor(MANIFEST, text.as_bytes()), os, architecture)
    };
    let mut old = on("old", "linux", "amd64");
    old["platform"]["variant"] = "v3".into();
    let exact = on("exact", "linux", "amd64");
    let attestation = annotated(
        exact.clone(),
        "vnd.docker.reference.type",
        "attestation-manifest",
    );
    let manifests = [
        on("windows", "windows", "amd64"),
        attestation,
        old.clone(),
        exact,
        on("unknown", "unknown", "unknown"),
    ];
    assert_eq!(next(&manifests).unwrap(), Digest::of(b"exact"));
    // One that needs more is better than none.
    assert_eq!(next(&manifests[..3]).unwrap(), Digest::of(b"old"));
    let silent = descriptor(MANIFEST, b"silent");
    let mut empty = silent.clone();
    empty["platform"] = json!({"os": "", "architecture": ""});
    for only in [silent.clone(), empty] {
        let manifests = [on("other", "linux", "arm64"), only];
        assert_eq!(next(&manifests).unwrap(), Digest::of(b"silent"));
    }
    let answer = next(&[silent, descriptor(MANIFEST, b"other")]);
    assert!(matches!(answer, Err(OciFault::Unnamed { count: 2 })));
    let list = json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [old]});
    assert!(matches!(
        read(&list, Some(DOCKER_LIST)),
        Ok(Choice::Next(_))
    ));
}

#[test]
fn absent_platform_is_an_error_that_lists_what_there_is() {
    let on = |os, architecture| for_platform(descriptor(MANIFEST, b""), os, architecture);
    let answer = next(&[on("linux", "arm64"), on("unknown", "unknown")]).unwrap_err();
    let text = answer.to_string();
    assert!(matches!(answer, OciFault::NoPlatform { .. }), "{text}");
    assert!(
        text.contains("linux/amd64 (there are linux/arm64; `--platform`"),
        "{text}"
    );
    assert!(matches!(next(&[]), Err(OciFault::NoPlatform { .. })));
}

#[test]
fn what_contradicts_itself_is_refused() {
    let ambiguous = |document: &Value, sent_as| {
        let answer = read(document, sent_as);
        assert!(
            matches!(answer, Err(OciFault::Ambiguous { .. })),
            "{answer:?}"
        );
    };
    let mut both = manifest();
    both["manifests"] = json!([]);
    both.as_object_mut().unwrap().remove("mediaType");
    ambiguous(&both, None);
    ambiguous(&manifest(), Some(INDEX));
    ambiguous(&parsed(&index(&[])), Some(MANIFEST));
    let mut wrong = manifest();
    wrong["mediaType"] = INDEX.into();
    ambiguous(&wrong, None);
}

#[test]
fn what_is_no_container_image_is_told_what_it_is() {
    let answer = |config: &str, artifact: Value| {
        let mut document = manifest();
        document["config"]["mediaType"] = config.into();
        document["artifactType"] = artifact;
        read(&document, Some(MANIFEST)).unwrap_err()
    };
    let empty = "application/vnd.oci.empty.v1+json";
    let gvmi = answer(empty, "application/vnd.golem.gvmi.v1".into());
    assert!(matches!(gvmi, OciFault::Gvmi), "{gvmi:?}");
    assert!(gvmi.to_string().contains("`shem image pull`"));
    let helm = answer("application/vnd.cncf.helm.config.v1+json", Value::Null);
    assert!(matches!(helm, OciFault::Helm), "{helm:?}");
    let other = answer(empty, "application/x-thing".into());
    assert!(matches!(other, OciFault::Artifact { kind } if kind == "application/x-thing"));
    let other = answer(empty, Value::Null);
    assert!(matches!(other, OciFault::Artifact { kind } if kind == empty));

    let old = json!({"schemaVersion": 1, "fsLayers": [], "history": []});
    assert!(matches!(read(&old, None), Err(OciFault::Schema1)));
    let signed = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    assert!(matches!(read(&old, Some(signed)), Err(OciFault::Schema1)));
    for sent_as in ["text/html", "application/vnd.oci.image.config.v1+json"] {
        let answer = read(&manifest(), Some(sent_as));
        assert!(
            matches!(answer, Err(OciFault::MediaType { .. })),
            "{answer:?}"
        );
    }
    assert!(matches!(
        read(&json!({}), None),
        Err(OciFault::MediaType { .. })
    ));
    let draft = "application/vnd.oci.artifact.manifest.v1+json";
    assert!(matches!(
        read(&json!({}), Some(draft)),
        Err(OciFault::Artifact { .. })
    ));
}

#[test]
fn layers_that_cannot_be_read_are_refused_by_name() {
    let layer = |media_type: &str| {
        let mut document = manifest();
        document["layers"][1]["mediaType"] = media_type.into();
        let digest = document["layers"][1]["digest"].as_str().unwrap().to_owned();
        let fault = read(&document, None).unwrap_err();
        assert!(fault.to_string().contains(&digest), "{fault}");
        fault
    };
    let encrypted = layer(&format!("{LAYER}+gzip+encrypted"));
    assert!(
        matches!(encrypted, OciFault::Encrypted { .. }),
        "{encrypted}"
    );
    for media_type in [
        "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    ] {
        let foreign = layer(media_type);
        assert!(matches!(foreign, OciFault::Foreign { .. }), "{foreign}");
    }
    for media_type in ["", "application/vnd.in-toto+json", &format!("{LAYER}+xz")] {
        let other = layer(media_type);
        assert!(matches!(other, OciFault::LayerType { .. }), "{other}");
    }
}

#[test]
fn json_that_is_no_manifest_is_refused() {
    for text in [
        "",
        "{",
        "[]",
        "1",
        r#"{"layers":1}"#,
        r#"{"config":{"size":-1}}"#,
    ] {
        let answer = choose(text.as_bytes(), None, &Platform::default());
        assert!(
            matches!(answer, Err(OciFault::Json { .. })),
            "{text}: {answer:?}"
        );
    }
    let long = vec![b' '; 5 << 20];
    let answer = choose(&long, None, &Platform::default());
    assert!(
        matches!(answer, Err(OciFault::JsonTooLong { .. })),
        "{answer:?}"
    );
}

#[test]
fn document_is_verified_by_its_descriptor() {
    let made = Image::new(&["a"]).manifest();
    let listed = for_platform(descriptor(MANIFEST, &made), "linux", "amd64");
    let Ok(Choice::Next(next)) = read(&parsed(&index(&[listed])), None) else {
        panic!();
    };
    assert!(next.verify("it", &made).is_ok());
    let mut other = made.clone();
    other[0] ^= 1;
    assert!(matches!(
        next.verify("it", &other),
        Err(OciFault::Digest { .. })
    ));
    other.pop();
    assert!(matches!(
        next.verify("it", &other),
        Err(OciFault::Size { .. })
    ));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..500)) {
        let _ = choose(&bytes, None, &Platform::default());
    }

    #[test]
    fn changed_manifests_never_panic(at: prop::sample::Index, to: u8, which: bool) {
        let mut bytes = match which {
            true => manifest().to_string().into_bytes(),
            false => index(&[for_platform(manifest()["config"].clone(), "linux", "amd64")]),
        };
        let at = at.index(bytes.len());
        bytes[at] = to;
        let _ = choose(&bytes, None, &Platform::default());
    }
}
