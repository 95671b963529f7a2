//! Archives of `docker save`.

use serde_json::{Value, json};

use crate::digest::Digest;
use crate::oci::fixture::{self, Files, Image, file, layers, tar};
use crate::oci::{ImageName, OciError, OciFault, OciImage, OpenOptions};

fn open(archive: &[u8], image: Option<&ImageName>) -> Result<OciImage, OciError> {
    let (_dir, input) = file(archive);
    OciImage::open_docker_archive(&input, image, &OpenOptions::default())
}

fn fault(archive: &[u8]) -> OciFault {
    open(archive, None).unwrap_err().fault
}

fn named(name: &str) -> Option<ImageName> {
    Some(ImageName::Named(name.to_owned()))
}

/// The text of a `manifest.json`, and an archive with it.
fn with_manifest(mut files: Files, manifest: &Value) -> Vec<u8> {
    files.retain(|(name, _)| name != "manifest.json");
    files.push(("manifest.json".into(), manifest.to_string().into_bytes()));
    tar(&files)
}

#[test]
fn old_archive_gives_layers_and_configuration() {
    let made = Image::new(&["a", "b"]);
    let image = open(&tar(&made.docker(&["demo:1"])), None).unwrap();
    assert_eq!(layers(&image), made.layers);
    assert_eq!(image.config.cmd, ["a", "b"]);
    assert_eq!(image.created, Some(86400));
    assert_eq!((image.name.as_str(), image.digest), ("demo:1", None));
    assert_eq!(image.platform, Some("linux/amd64".parse().unwrap()));
    for (layer, bytes) in image.layers.iter().zip(&made.layers) {
        assert_eq!(layer.diff_id, Some(Digest::of(bytes)));
        assert_eq!(layer.digest, None);
        assert!(layer.name.ends_with("/layer.tar"));
    }
}

#[test]
fn new_archive_says_the_digests_of_its_layers() {
    let made = Image::new(&["a", "b"]);
    let names = made.layers.iter().map(|layer| fixture::blob_name(layer));
    let manifest = json!([{
        "Config": fixture::blob_name(&made.config_bytes()),
        "RepoTags": ["demo:1"],
        "Layers": names.collect::<Vec<_>>(),
    }]);
    let archive = with_manifest(made.layout("1"), &manifest);
    let image = open(&archive, named("demo:1").as_ref()).unwrap();
    assert_eq!(layers(&image), made.layers);
    for (layer, bytes) in image.layers.iter().zip(&made.layers) {
        assert_eq!(layer.digest, Some(Digest::of(bytes)));
        assert_eq!(layer.diff_id, Some(Digest::of(bytes)));
    }
}

#[test]
fn layers_that_are_links_to_others_are_found() {
    let made = Image::new(&["a", "a", "a", "a"]);
    let mut files = made.docker(&[]);
    files.retain(|(name, _)| !name.contains("1/layer") && !name.contains("2/layer"));
    let name = |at: usize| format!("{at:064}/layer.tar");
    let symlink = fixture::links(
        tar::EntryType::Symlink,
        &[(&name(1), &format!("../{}", name(0)))],
    );
    let link = fixture::links(tar::EntryType::Link, &[(&name(2), &name(1))]);
    let links = fixture::joined(&symlink, &link);
    let image = open(&fixture::joined(&links, &tar(&files)), None).unwrap();
    assert_eq!(layers(&image), made.layers);
}

#[test]
fn one_layer_may_be_there_twice_and_the_last_entry_of_a_name_counts() {
    let made = Image::new(&["a", "a"]);
    let mut files = made.docker(&[]);
    let name = files[0].0.clone();
    files[0].1 = b"of before".to_vec();
    files[1].0.clone_from(&name);
    let config = files[2].0.clone();
    let manifest =
        json!([{"Config": config, "RepoTags": null, "Layers": [name, format!("./{name}")]}]);
    let image = open(&with_manifest(files, &manifest), None).unwrap();
    assert_eq!(layers(&image), made.layers);
    assert_eq!(image.name, "");
}

#[test]
fn archive_without_diff_ids_is_read_without_them() {
    let mut made = Image::new(&["a"]);
    made.config["rootfs"] = Value::Null;
    let image = open(&tar(&made.docker(&[])), None).unwrap();
    assert_eq!(layers(&image), made.layers);
    assert_eq!(image.layers[0].diff_id, None);
}

#[test]
fn compressed_archives_are_read_as_plain_ones() {
    let made = Image::new(&["a", "b"]);
    let plain = tar(&made.docker(&[]));
    let (first, second) = plain.split_at(700);
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    let members = [fixture::gzip(first), fixture::gzip(second)].concat();
    for packed in [fixture::gzip(&plain), members, zstd] {
        assert_eq!(layers(&open(&packed, None).unwrap()), made.layers);
        let cut = fault(&packed[..packed.len() - 4]);
        let OciFault::Read { source, .. } = &cut else {
            panic!("{cut:?}");
        };
        let text = source.to_string();
        assert!(text.contains("compression is damaged"), "{text}");
    }
    let xz = fault(b"\xfd7zXZ\0...");
    assert!(matches!(xz, OciFault::Compression { by: "xz" }), "{xz:?}");
}

#[test]
fn compressed_archive_over_the_limit_is_refused() {
    let archive = tar(&Image::new(&["a"]).docker(&[]));
    let (_dir, input) = file(&fixture::gzip(&archive));
    let with = |unpacked_limit| {
        let options = OpenOptions {
            unpacked_limit,
            ..Default::default()
        };
        OciImage::open_docker_archive(&input, None, &options)
    };
    let len = archive.len() as u64;
    assert!(with(len).is_ok());
    let answer = with(len - 1).unwrap_err().fault;
    assert!(matches!(answer, OciFault::TooLarge { limit } if limit == len - 1));
}

#[test]
fn image_of_several_is_chosen_by_name_or_number() {
    let [first, second] = [Image::new(&["a"]), Image::new(&["b"])];
    let entry = |image: &Image, layer: &str, tags: Value| {
        let config = format!("{}.json", Digest::of(&image.config_bytes()).hex());
        json!({"Config": config, "RepoTags": tags, "Layers": [layer]})
    };
    let mut files = vec![
        ("a.tar".to_owned(), first.layers[0].clone()),
        ("b.tar".to_owned(), second.layers[0].clone()),
    ];
    for image in [&first, &second] {
        let config = image.config_bytes();
        files.push((format!("{}.json", Digest::of(&config).hex()), config));
    }
    let manifest = json!([
        entry(&first, "a.tar", json!(["demo:1", "demo:latest"])),
        entry(&second, "b.tar", json!(["docker.io/library/demo:2"])),
        entry(&second, "b.tar", Value::Null),
    ]);
    let archive = with_manifest(files, &manifest);
    let cmd = |image| open(&archive, Some(&image)).unwrap().config.cmd;
    assert_eq!(cmd(ImageName::Named("demo:1".into())), ["a"]);
    assert_eq!(cmd(ImageName::Named("demo".into())), ["a"]);
    assert_eq!(
        cmd(ImageName::Named("docker.io/library/demo:1".into())),
        ["a"]
    );
    assert_eq!(cmd(ImageName::Named("demo:2".into())), ["b"]);
    assert_eq!(cmd(ImageName::At(2)), ["b"]);

    let there = "demo:1 or demo:latest, docker.io/library/demo:2, @2";
    let several = open(&archive, None).unwrap_err();
    assert!(
        matches!(several.fault, OciFault::Several { .. }),
        "{several}"
    );
    assert!(several.to_string().contains(there), "{several}");
    for image in [named("demo:3").unwrap(), ImageName::At(3)] {
        let none = open(&archive, Some(&image)).unwrap_err();
        assert!(matches!(none.fault, OciFault::NoSuchImage { .. }), "{none}");
        assert!(none.to_string().contains(there), "{none}");
    }
}

#[test]
fn each_fault_of_an_archive_has_its_own_answer() {
    let made = Image::new(&["a"]);
    let files = made.docker(&["demo:1"]);
    let [layer, config, _] = [&files[0].0, &files[1].0, &files[2].0];
    let changed = |change: &dyn Fn(&mut Files)| {
        let mut files = files.clone();
        change(&mut files);
        fault(&tar(&files))
    };
    let answer = changed(&|files| drop(files.remove(0)));
    assert!(matches!(answer, OciFault::MissingEntry { name } if name == *layer));
    let answer = changed(&|files| drop(files.remove(1)));
    assert!(matches!(answer, OciFault::MissingEntry { name } if name == *config));
    let answer = changed(&|files| files[1].1.push(b' '));
    assert!(matches!(answer, OciFault::Digest { .. }), "{answer:?}");
    let answer = changed(&|files| files[2].1.truncate(9));
    assert!(matches!(answer, OciFault::Json { .. }), "{answer:?}");
    let answer = changed(&|files| files[2].1 = b"[]".to_vec());
    assert!(matches!(answer, OciFault::NoImage), "{answer:?}");
    let answer = changed(&|files| files[2].1.resize(5 << 20, b' '));
    assert!(matches!(answer, OciFault::JsonTooLong { .. }), "{answer:?}");
    let answer = fault(&with_manifest(
        files.clone(),
        &json!([{"Config": config, "Layers": [layer, layer]}]),
    ));
    assert!(matches!(
        answer,
        OciFault::LayerCount {
            layers: 2,
            diff_ids: 1
        }
    ));
    let answer = fault(&with_manifest(
        files.clone(),
        &json!([{"Config": config, "Layers": vec![layer; 1001]}]),
    ));
    assert!(
        matches!(answer, OciFault::TooManyLayers { .. }),
        "{answer:?}"
    );
}

#[test]
fn archive_that_docker_did_not_save_is_told_what_it_is() {
    let remedy = |files: &Files| match fault(&tar(files)) {
        OciFault::NoManifestJson { remedy } => remedy,
        other => panic!("{other:?}"),
    };
    let tree = vec![("bin/sh".to_owned(), Vec::new())];
    assert!(remedy(&tree).starts_with("tar:"));
    assert!(remedy(&Image::new(&["a"]).layout("t")).starts_with("oci-archive:"));
    let old = vec![("repositories".to_owned(), b"{}".to_vec())];
    assert!(remedy(&old).contains("Docker 1.10"));
}

#[test]
fn links_that_lead_nowhere_or_in_circles_are_refused() {
    let mut files = Image::new(&["a"]).docker(&[]);
    let (name, _) = files.remove(0);
    // What a path that is not read rightly would lead to.
    files.push((name.replace("layer.tar", "near"), Vec::new()));
    let files = tar(&files);
    for to in ["../../manifest.json", "/near", "layer.tar", "missing"] {
        let links = fixture::links(tar::EntryType::Symlink, &[(&name, to)]);
        let answer = fault(&fixture::joined(&links, &files));
        assert!(matches!(answer, OciFault::Link { .. }), "{to}: {answer:?}");
    }
    let folder = fixture::links(tar::EntryType::Directory, &[(&name, "x")]);
    let answer = fault(&fixture::joined(&folder, &files));
    assert!(matches!(answer, OciFault::NotAFile { .. }), "{answer:?}");
}

#[test]
fn image_for_another_platform_is_refused() {
    let mut made = Image::new(&["a"]);
    made.config["architecture"] = "arm64".into();
    let answer = fault(&tar(&made.docker(&[])));
    let text = answer.to_string();
    assert!(matches!(answer, OciFault::OtherPlatform { .. }), "{text}");
    assert!(text.contains("linux/arm64") && text.contains("linux/amd64"));
}

#[test]
fn fault_names_the_file() {
    let (_dir, input) = file(b"");
    let error = OciImage::open_docker_archive(&input, None, &OpenOptions::default());
    let text = error.unwrap_err().to_string();
    assert!(
        text.starts_with(&format!("{input}: not a tar archive: an empty file")),
        "{text}"
    );
}
