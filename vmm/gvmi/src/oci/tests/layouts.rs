//! OCI layouts, as folders and as archives.

use std::fs;
use std::os::unix::fs::symlink;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::Value;

use crate::digest::Digest;
use crate::oci::fixture::{
    Files, INDEX, Image, MANIFEST, annotated, blob, blob_name, descriptor, file, folder,
    for_platform, gzip, index, layers, layout, tagged, tar,
};
use crate::oci::{OciError, OciFault, OciImage, OpenOptions};

/// Opens the layout as a folder, as an archive and as a compressed archive,
/// which must not differ.
fn open(files: &Files, tag: Option<&str>) -> Result<OciImage, OciFault> {
    let options = OpenOptions::default();
    let dir = folder(files);
    let first = OciImage::open_oci_dir(dir.path(), tag, &options);
    for bytes in [tar(files), gzip(&tar(files))] {
        let (_dir, input) = file(&bytes);
        let other = OciImage::open_oci_archive(&input, tag, &options);
        assert_eq!(outcome(&first), outcome(&other));
    }
    first.map_err(|error| error.fault)
}

fn outcome(answer: &Result<OciImage, OciError>) -> Result<Vec<Vec<u8>>, String> {
    match answer {
        Ok(image) => Ok(layers(image)),
        // The remedy for what is no layout is not the same for both.
        Err(error) => Err(error
            .fault
            .to_string()
            .split(" (")
            .next()
            .unwrap()
            .to_owned()),
    }
}

fn manifest(image: &Image) -> Value {
    descriptor(MANIFEST, &image.manifest())
}

#[test]
fn only_image_needs_no_tag() {
    let made = Image::new(&["a", "b"]);
    let image = open(&made.layout("demo"), None).unwrap();
    assert_eq!(layers(&image), made.layers);
    assert_eq!(image.digest, Some(Digest::of(&made.manifest())));
    assert_eq!((image.name.as_str(), image.created), ("demo", Some(86400)));
    assert_eq!(image.config.cmd, ["a", "b"]);
    for (layer, bytes) in image.layers.iter().zip(&made.layers) {
        assert_eq!(layer.digest, Some(Digest::of(bytes)));
        assert_eq!(layer.diff_id, Some(Digest::of(bytes)));
        assert_eq!(layer.name, Digest::of(bytes).to_string());
    }
    // The same image by two names.
    let twice = [tagged(manifest(&made), "a"), tagged(manifest(&made), "b")];
    assert!(open(&layout(&twice, made.blobs()), None).is_ok());
}

#[test]
fn image_of_several_is_chosen_by_tag() {
    let [first, second] = [Image::new(&["a"]), Image::new(&["b"])];
    let whole = "docker.io/library/b:2";
    let manifests = [
        tagged(manifest(&first), "1"),
        annotated(manifest(&second), "io.containerd.image.name", whole),
    ];
    let files = layout(&manifests, [first.blobs(), second.blobs()].concat());
    assert_eq!(open(&files, Some("1")).unwrap().config.cmd, ["a"]);
    assert_eq!(open(&files, Some(whole)).unwrap().config.cmd, ["b"]);
    let several = open(&files, None).unwrap_err();
    assert!(matches!(several, OciFault::Several { .. }), "{several}");
    let none = open(&files, Some("3")).unwrap_err();
    assert!(matches!(none, OciFault::NoSuchImage { .. }), "{none}");
    for text in [several.to_string(), none.to_string()] {
        assert!(text.contains(&format!("1, {whole}")), "{text}");
    }
    let none = open(&layout(&[], Vec::new()), None).unwrap_err();
    assert!(matches!(none, OciFault::NoImage), "{none}");
}

#[test]
fn image_for_the_platform_is_found_through_indexes() {
    let [amd64, mut arm64] = [Image::new(&["a"]), Image::new(&["b"])];
    arm64.config["architecture"] = "arm64".into();
    let inner = index(&[
        for_platform(manifest(&arm64), "linux", "arm64"),
        for_platform(manifest(&amd64), "unknown", "unknown"),
        for_platform(manifest(&amd64), "linux", "amd64"),
    ]);
    let outer = index(&[descriptor(INDEX, &inner)]);
    let manifests = [tagged(descriptor(INDEX, &outer), "demo")];
    let mut blobs = [amd64.blobs(), arm64.blobs()].concat();
    blobs.extend([blob(inner), blob(outer)]);
    let files = layout(&manifests, blobs);
    assert_eq!(open(&files, None).unwrap().config.cmd, ["a"]);

    let dir = folder(&files);
    let with = |platform: &str| {
        let options = OpenOptions {
            platform: platform.parse().unwrap(),
            ..Default::default()
        };
        OciImage::open_oci_dir(dir.path(), Some("demo"), &options)
    };
    assert_eq!(with("linux/arm64/v8").unwrap().config.cmd, ["b"]);
    let text = with("linux/s390x").unwrap_err().to_string();
    assert!(
        text.contains("(there are linux/arm64, linux/amd64;"),
        "{text}"
    );
}

#[test]
fn platforms_may_stand_beside_each_other_under_one_tag() {
    let [amd64, mut arm64] = [Image::new(&["a"]), Image::new(&["b"])];
    arm64.config["architecture"] = "arm64".into();
    let manifests = [
        tagged(for_platform(manifest(&arm64), "linux", "arm64"), "demo"),
        tagged(for_platform(manifest(&amd64), "linux", "amd64"), "demo"),
    ];
    let files = layout(&manifests, [amd64.blobs(), arm64.blobs()].concat());
    assert_eq!(open(&files, None).unwrap().config.cmd, ["a"]);
    assert_eq!(open(&files, Some("demo")).unwrap().config.cmd, ["a"]);
}

#[test]
fn indexes_without_end_are_refused() {
    let made = Image::new(&["a"]);
    let with_indexes = |count: usize| {
        let mut blobs = made.blobs();
        let mut top = manifest(&made);
        for _ in 0..count {
            let bytes = index(&[top]);
            top = descriptor(INDEX, &bytes);
            blobs.push(blob(bytes));
        }
        open(&layout(&[top], blobs), None)
    };
    assert!(with_indexes(3).is_ok());
    let answer = with_indexes(4);
    assert!(
        matches!(answer, Err(OciFault::TooDeep { max: 4 })),
        "{answer:?}"
    );
}

#[test]
fn each_fault_of_a_layout_has_its_own_answer() {
    let made = Image::new(&["a"]);
    let files = made.layout("demo");
    let changed = |change: &dyn Fn(&mut Files)| {
        let mut files = files.clone();
        change(&mut files);
        open(&files, None).unwrap_err()
    };
    // Its configuration, manifest and layer.
    for at in [2, 3, 4] {
        let answer = changed(&|files| drop(files.remove(at)));
        assert!(matches!(answer, OciFault::MissingBlob { .. }), "{answer:?}");
        let answer = changed(&|files| files[at].1.push(0));
        assert!(matches!(answer, OciFault::Size { .. }), "{answer:?}");
    }
    for at in [2, 3] {
        let answer = changed(&|files| files[at].1[0] ^= 1);
        assert!(matches!(answer, OciFault::Digest { .. }), "{answer:?}");
    }
    let answer = changed(&|files| drop(files.remove(0)));
    assert!(matches!(answer, OciFault::NoIndexJson { .. }), "{answer:?}");
    let answer = changed(&|files| files[0].1 = b"[1]".to_vec());
    assert!(matches!(answer, OciFault::Json { .. }), "{answer:?}");
    let answer = changed(&|files| files[0].1 = made.manifest());
    assert!(matches!(answer, OciFault::MediaType { .. }), "{answer:?}");
    let answer = changed(&|files| files[0].1.resize(5 << 20, b' '));
    assert!(matches!(answer, OciFault::JsonTooLong { .. }), "{answer:?}");
}

#[test]
fn digest_is_no_path() {
    for digest in ["sha256:../../../etc/passwd", "sha512:00", "../x", ""] {
        let mut descriptor = manifest(&Image::new(&["a"]));
        descriptor["digest"] = digest.into();
        let answer = open(&layout(&[descriptor], Vec::new()), None);
        assert!(matches!(answer, Err(OciFault::DigestText(_))), "{answer:?}");
    }
}

#[test]
fn nothing_outside_of_the_folder_is_opened() {
    let made = Image::new(&["a"]);
    let dir = folder(&made.layout("demo"));
    let outside = folder(&vec![("layer".to_owned(), made.layers[0].clone())]);
    let layer = dir.path().join(blob_name(&made.layers[0]));
    let open = || OciImage::open_oci_dir(dir.path(), None, &OpenOptions::default());
    let fault = || open().unwrap_err().fault;

    fs::rename(&layer, dir.path().join("layer")).unwrap();
    symlink("../../layer", &layer).unwrap();
    assert_eq!(layers(&open().unwrap()), made.layers);
    for to in [outside.path().join("layer"), layer.clone()] {
        fs::remove_file(&layer).unwrap();
        symlink(to, &layer).unwrap();
        let answer = fault();
        assert!(matches!(answer, OciFault::Link { .. }), "{answer:?}");
    }
    fs::remove_file(&layer).unwrap();
    // Opening it would wait for a writer.
    mkfifo(&layer, Mode::S_IRWXU).unwrap();
    let answer = fault();
    assert!(matches!(answer, OciFault::NotAFile { .. }), "{answer:?}");
}

#[test]
fn folder_that_is_none_is_an_error() {
    let dir = folder(&Vec::new());
    let options = OpenOptions::default();
    let missing = dir.path().join("missing");
    let error = OciImage::open_oci_dir(&missing, None, &options).unwrap_err();
    assert!(matches!(error.fault, OciFault::Open(_)), "{error}");
    assert!(error.to_string().starts_with(missing.to_str().unwrap()));
    let error = OciImage::open_oci_dir(dir.path(), None, &options).unwrap_err();
    assert!(error.to_string().contains("dir:PATH"), "{error}");
}
