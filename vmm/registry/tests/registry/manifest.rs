//! Manifests, and all that may go wrong on the way to one.

use std::net::TcpListener;
use std::time::Duration;

use crate::fake::{Answer, Fake, chain, options};
use gvmi::Digest;
use registry::{Error, MAX_MANIFEST_LEN, Manifest, Options, Registry};

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

fn manifest(fake: &Fake) -> Result<Manifest, Error> {
    let registry = Registry::new(options()).unwrap();
    registry.manifest(&fake.reference("a/b:c"))
}

/// The error of a registry that answers all with `answer`.
fn error(answer: impl Fn() -> Answer + Send + 'static) -> (Error, usize) {
    let fake = Fake::new(move |_| answer());
    let error = manifest(&fake).unwrap_err();
    (error, fake.asked().len())
}

#[test]
fn manifest_comes_as_it_is_with_type_and_digest() {
    for media_type in [
        OCI,
        "application/vnd.oci.image.index.v1+json; charset=utf-8",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    ] {
        let fake = Fake::new(|_| Answer::ok(b"{ }").media_type(media_type));
        let found = manifest(&fake).unwrap();
        assert_eq!(found.bytes, b"{ }");
        assert_eq!(found.digest, Digest::of(b"{ }"));
        assert!(media_type.starts_with(&found.media_type));
        let asked = &fake.asked()[0];
        assert_eq!(asked.path, "/v2/a/b/manifests/c");
        assert!(asked.header("user-agent").unwrap().starts_with("shem/"));
    }
}

#[test]
fn manifest_by_digest_is_checked() {
    let fake = Fake::new(|_| Answer::ok(b"{ }").media_type(OCI));
    let registry = Registry::new(options()).unwrap();
    let right = fake.reference(&format!("a/b:c@{}", Digest::of(b"{ }")));
    assert!(registry.manifest(&right).is_ok());
    let wrong = fake.reference(&format!("a/b@{}", Digest::of(b"{}")));
    let Err(Error::WrongDigest { what, found, .. }) = registry.manifest(&wrong) else {
        panic!();
    };
    assert_eq!((what, found), (wrong.whole(), Digest::of(b"{ }")));
    let sha512 = fake.reference(&format!("a/b@sha512:{}", "0".repeat(128)));
    assert!(matches!(
        registry.manifest(&sha512),
        Err(Error::Digest { .. })
    ));
}

#[test]
fn registry_that_contradicts_itself_is_not_believed() {
    let other = Digest::of(b"other").to_string();
    let (error, _) = error(move || {
        let answer = Answer::ok(b"{ }").media_type(OCI);
        answer.header("docker-content-digest", &other)
    });
    assert!(matches!(error, Error::WrongDigest { .. }));
}

#[test]
fn other_media_types_are_named() {
    let (error, _) = error(|| {
        Answer::ok(b"{}").media_type("application/vnd.docker.distribution.manifest.v1+prettyjws")
    });
    assert!(
        error.to_string().contains("manifest.v1+prettyjws"),
        "{error}"
    );
}

#[test]
fn long_manifest_is_not_read() {
    let (error, _) = error(|| {
        let answer = Answer::ok(&vec![b' '; MAX_MANIFEST_LEN + 1]);
        answer.media_type(OCI).promising(u64::MAX / 2)
    });
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
    assert!(error.to_string().contains(&MAX_MANIFEST_LEN.to_string()));
}

#[test]
fn lasting_errors_are_told_at_once_with_their_remedy() {
    let (error, asked) = error(|| Answer::new(404));
    assert!(matches!(&error, Error::NotFound { what, .. } if what.ends_with("/a/b:c")));
    assert_eq!(asked, 1);
    for status in [401, 403] {
        let (error, _) = self::error(move || Answer::new(status));
        let Error::Denied { registry, .. } = &error else {
            panic!("{error}");
        };
        let remedy = format!("shem image login {registry}");
        assert!(error.to_string().contains(&remedy), "{error}");
    }
    let (error, asked) = self::error(|| Answer::new(400).cut(0));
    assert!(matches!(error, Error::Status { status: 400, .. }));
    assert_eq!(asked, 1);
}

#[test]
fn passing_errors_are_tried_again_a_few_times() {
    let explained = r#"{"errors":[{"code":"UNKNOWN","message":"disk on fire"}]}"#;
    let (error, asked) = error(move || Answer::ok(explained.as_bytes()).status(503));
    assert!(error.to_string().ends_with("answers 503: disk on fire"));
    assert_eq!(asked, 3);

    let mut left = 2;
    let fake = Fake::new(move |_| {
        if left == 0 {
            return Answer::ok(b"{}").media_type(OCI);
        }
        left -= 1;
        match left {
            0 => Answer::ok(b"{}").media_type(OCI).cut(1),
            _ => Answer::new(429).header("retry-after", "0"),
        }
    });
    assert!(manifest(&fake).is_ok());
}

#[test]
fn rate_limit_is_waited_for_within_reason() {
    let (error, asked) = error(|| Answer::new(429).header("retry-after", "3600"));
    assert!(
        error.to_string().contains("come again in 3600 s"),
        "{error}"
    );
    assert_eq!(asked, 1);
    let (error, asked) = self::error(|| Answer::new(429));
    assert!(matches!(error, Error::RateLimit { after: None, .. }));
    assert_eq!(asked, 3);
}

#[test]
fn silent_registry_is_given_up() {
    // Its end waits for that of the connections, so it lives longer.
    let endless = Fake::new(|_| Answer::ok(b"{").media_type(OCI).promising(2).hanging());
    let options = Options {
        idle_timeout: Duration::from_millis(100),
        retries: 1,
        ..options()
    };
    let registry = Registry::new(options).unwrap();
    let headless = TcpListener::bind("127.0.0.1:0").unwrap();
    let reference = format!("{}/a", headless.local_addr().unwrap());
    let error = registry.manifest(&reference.parse().unwrap()).unwrap_err();
    assert!(matches!(error, Error::Silent { .. }), "{error}");

    let error = registry.manifest(&endless.reference("a")).unwrap_err();
    assert!(matches!(error, Error::Silent { .. }), "{error}");
    assert_eq!(endless.asked().len(), 2);
}

#[test]
fn registry_that_is_down_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let registry = Registry::new(options()).unwrap();
    let reference = format!("{address}/a").parse().unwrap();
    let error = registry.manifest(&reference).unwrap_err();
    assert!(matches!(&error, Error::Connect { registry, .. } if *registry == address.to_string()));
    let text = chain(&error);
    assert!(
        text.ends_with(": Connection refused (os error 111)"),
        "{text}"
    );
}

#[test]
fn name_that_nobody_has_is_an_error_of_the_connection() {
    let registry = Registry::new(Options {
        insecure: true,
        ..options()
    });
    // Longer than a name may be, so that no name server is asked.
    let reference = format!("{}.invalid/a", "a".repeat(64)).parse().unwrap();
    let error = registry.unwrap().manifest(&reference).unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
}

#[test]
fn redirects_end() {
    let (error, asked) = error(|| Answer::new(307).header("location", "/v2/round"));
    assert!(
        error.to_string().contains("redirects without an end"),
        "{error}"
    );
    assert_eq!(asked, 11);
}
