//! Texts and what they name.

use super::*;

fn parse(text: &str) -> Source {
    match text.parse() {
        Ok(SourceArg::Named(source)) => source,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn sources_are_written_as_they_are_read() {
    let digest = format!("docker://ghcr.io/a/b@sha256:{}", "0".repeat(64));
    for text in [
        "docker-archive:/a/b.tar",
        "docker-archive:-",
        "docker-archive:b.tar:demo",
        "docker-archive:b.tar:localhost:5000/demo:1",
        "docker-archive:b.tar:@3",
        "oci:dir",
        "oci:dir:tag",
        "oci:dir:docker.io/library/demo:1",
        "oci-archive:-:tag",
        "docker://alpine",
        "docker://localhost:5000/a/b:c",
        &digest,
        "dir:/a:b",
        "tar:-",
        "tar:a:b.tar",
    ] {
        assert_eq!(parse(text).to_string(), text);
    }
}

#[test]
fn path_ends_at_the_first_colon_as_skopeo_has_it() {
    assert_eq!(
        parse("docker-archive:a/b.tar:reg:5000/x:1"),
        Source::DockerArchive {
            input: Input::File("a/b.tar".into()),
            image: Some(ImageName::Named("reg:5000/x:1".into())),
        }
    );
    assert_eq!(
        parse("oci:dir:"),
        Source::OciDir {
            dir: "dir".into(),
            tag: None
        }
    );
    assert_eq!(parse("tar:a:b"), Source::Tar(Input::File("a:b".into())));
    assert_eq!(parse("-"), Source::Tar(Input::Stdin));
}

#[test]
fn texts_without_a_kind_are_left_to_be_recognised() {
    for text in [
        "alpine",
        "docker:dind",
        "./x",
        "a.tar",
        "ghcr.io/a/b:c",
        "oci",
    ] {
        assert_eq!(text.parse(), Ok(SourceArg::Bare(text.to_owned())));
    }
}

#[test]
fn texts_that_name_nothing_are_refused() {
    for text in [
        "",
        "oci:",
        "docker-archive::x:1",
        "dir:",
        "tar:",
        "oci-archive:",
    ] {
        let answer = text.parse::<SourceArg>();
        assert_eq!(answer, Err(SourceError::Empty(text.to_owned())));
    }
    for text in [
        "docker://",
        "docker://A",
        "docker://a b",
        "docker-archive:x:A",
    ] {
        let answer = text.parse::<SourceArg>();
        assert!(matches!(answer, Err(SourceError::Reference(..))), "{text}");
    }
    let answer = "docker-archive:x:@one".parse::<SourceArg>();
    assert_eq!(answer, Err(SourceError::Index("one".to_owned())));
    for text in ["docker-daemon:alpine", "containers-storage:alpine"] {
        let answer = text.parse::<SourceArg>();
        assert!(matches!(answer, Err(SourceError::Foreign { .. })), "{text}");
    }
}
