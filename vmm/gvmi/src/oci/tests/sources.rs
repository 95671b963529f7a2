//! What a source is taken for, by what is on the file system.

use std::fs;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::oci::fixture::{self, Image, file, folder, path, tar};
use crate::{RecogniseError, Source, SourceArg};

fn recognise(text: &str) -> Result<Source, RecogniseError> {
    text.parse::<SourceArg>().unwrap().recognise(1 << 20)
}

#[test]
fn files_and_folders_are_recognised() {
    let made = Image::new(&["a"]);
    let tree = vec![("bin/sh".to_owned(), Vec::new())];
    for (bytes, kind) in [
        (tar(&made.docker(&[])), "docker-archive"),
        (fixture::gzip(&tar(&made.docker(&[]))), "docker-archive"),
        (tar(&made.layout("t")), "oci-archive"),
        (tar(&tree), "tar"),
        (fixture::gzip(&tar(&tree)), "tar"),
    ] {
        let (_dir, input) = file(&bytes);
        let source = recognise(path(&input).to_str().unwrap()).unwrap();
        assert_eq!(source.to_string(), format!("{kind}:{input}"));
    }
    for (files, kind) in [(made.layout("t"), "oci"), (tree, "dir")] {
        let dir = folder(&files);
        let text = dir.path().to_str().unwrap();
        assert_eq!(
            recognise(text).unwrap().to_string(),
            format!("{kind}:{text}")
        );
    }
}

#[test]
fn what_does_not_exist_is_a_name_in_a_registry_or_a_missing_path() {
    let digest = format!("ghcr.io/a/b@sha256:{}", "0".repeat(64));
    for name in ["alpine", "debian:12", "localhost:5000/a/b:c", &digest] {
        let source = recognise(name).unwrap();
        assert_eq!(source.to_string(), format!("docker://{name}"));
    }
    for path in [
        "./x",
        "../x",
        "/missing/x",
        "x.tar",
        "x.tar.gz",
        "a/b/",
        "~/x",
    ] {
        let error = recognise(path).unwrap_err();
        assert!(matches!(&error, RecogniseError::Missing(text) if text == path));
        assert!(error.to_string().starts_with(path), "{error}");
    }
    for text in [
        "Alpine",
        "a b",
        "http://a/b",
        "a:b:c",
        "a\0b",
        &"a".repeat(5000),
    ] {
        let error = recognise(text).unwrap_err();
        assert!(matches!(error, RecogniseError::Neither(_)), "{error}");
    }
}

#[test]
fn what_can_be_no_archive_is_an_error_that_names_it() {
    let (dir, input) = file(b"hsqs, and more");
    let text = path(&input).to_str().unwrap();
    let error = recognise(text).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{text}: not a tar archive: a squashfs (a gvmi image is one already, and need not be built)"
        )
    );
    let pipe = dir.path().join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    let error = recognise(pipe.to_str().unwrap()).unwrap_err();
    assert!(matches!(error, RecogniseError::NotAFile(_)), "{error}");
    let below = path(&input).join("below");
    let error = recognise(below.to_str().unwrap()).unwrap_err();
    assert!(matches!(error, RecogniseError::Missing(_)), "{error}");
    fs::remove_file(path(&input)).unwrap();
    assert!(matches!(recognise(text), Err(RecogniseError::Missing(_))));
}

#[test]
fn kind_that_was_given_is_not_looked_at() {
    let source = recognise("docker-archive:/missing").unwrap();
    assert_eq!(source.to_string(), "docker-archive:/missing");
}
