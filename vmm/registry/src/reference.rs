//! Names of images in registries as people type them. Other places that an image
//! may be in are `gvmi`'s, and are told apart here.

use gvmi::{Source, SourceArg, SourceError};
use oci_client::Reference;

use crate::Error;

/// The name of an image in a registry, with `docker://` in front or without.
///
/// What names an image elsewhere, as `oci:DIR`, is refused: it could be read as
/// `docker.io/library/oci:DIR`, which nobody means.
pub fn parse_reference(text: &str) -> Result<Reference, Error> {
    if is_elsewhere(text) {
        return Err(Error::Elsewhere {
            text: text.to_owned(),
        });
    }
    let name = text.strip_prefix("docker://").unwrap_or(text);
    name.parse().map_err(|source| Error::Name {
        text: text.to_owned(),
        source,
    })
}

fn is_elsewhere(text: &str) -> bool {
    match text.parse() {
        Ok(SourceArg::Bare(_) | SourceArg::Named(Source::Registry(_))) => false,
        // Nothing, or a bad name.
        Err(SourceError::Reference(..)) => false,
        _ => !text.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_read_with_its_kind_or_without() {
        for (text, whole) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("docker://alpine:3", "docker.io/library/alpine:3"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            ("oci", "docker.io/library/oci:latest"),
            // Whoever does mean it.
            ("docker://oci:x", "docker.io/library/oci:x"),
        ] {
            assert_eq!(parse_reference(text).unwrap().whole(), whole);
        }
    }

    #[test]
    fn images_in_other_places_are_told_apart() {
        for text in [
            "oci:x",
            "oci:",
            "oci-archive:x:y",
            "docker-archive:x",
            "docker-daemon:x",
            "containers-storage:x",
            "dir:x",
            "tar:x",
            "-",
        ] {
            let error = parse_reference(text).unwrap_err();
            assert!(matches!(error, Error::Elsewhere { .. }), "{error}");
            let hint = format!("`docker://{text}`");
            assert!(error.to_string().contains(&hint), "{error}");
        }
    }

    #[test]
    fn what_is_no_name_is_quoted() {
        for text in ["", "A", "docker://", "docker://a b", "https://a/b"] {
            let error = parse_reference(text).unwrap_err();
            assert!(matches!(error, Error::Name { .. }), "{error}");
            assert!(error.to_string().starts_with(&format!("`{text}` ")));
        }
    }
}
