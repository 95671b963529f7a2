//! Registries with TLS: whom we trust, and that nobody leads us out of it.

use registry::{Credentials, Error, Manifest, Options, Registry};

use crate::fake::{Answer, Fake, chain, fixture, options};

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

/// The manifest that `fake` has, when the CA in this file is trusted.
fn manifest(fake: &Fake, ca: &str) -> Result<Manifest, Error> {
    let registry = Registry::new(Options {
        ca_file: Some(fixture(ca)),
        credentials: Credentials::Password {
            user: "me".into(),
            password: "pw".into(),
        },
        ..options()
    });
    registry.unwrap().manifest(&fake.reference("a/b"))
}

#[test]
fn registry_is_trusted_by_the_ca_in_the_file() {
    let fake = Fake::with_tls(|_| Answer::ok(b"{}").media_type(OCI));
    manifest(&fake, "ca.pem").unwrap();
    let error = manifest(&fake, "other-ca.pem").unwrap_err();
    assert!(matches!(error, Error::Tls { .. }));
    let text = chain(&error);
    assert!(
        text.ends_with(": invalid peer certificate: UnknownIssuer"),
        "{text}"
    );
    assert_eq!(fake.asked().len(), 1);
}

#[test]
fn registry_without_tls_is_told_apart() {
    let fake = Fake::new(|_| Answer::new(500));
    let error = manifest(&fake, "ca.pem").unwrap_err();
    assert!(matches!(error, Error::NotTls { .. }), "{error}");
    assert!(error.to_string().contains("--insecure"));
}

#[test]
fn redirect_out_of_tls_is_not_followed() {
    let plain = Fake::new(|_| Answer::ok(b"{}").media_type(OCI));
    let location = format!("http://{}/", plain.address);
    let fake = Fake::with_tls(move |_| Answer::new(307).header("location", &location));
    let error = manifest(&fake, "ca.pem").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("redirects from TLS to plain HTTP"),
        "{error}"
    );
    assert_eq!(plain.asked().len(), 0);
}

#[test]
fn password_is_not_sent_out_of_tls() {
    let plain = Fake::new(|_| Answer::ok(br#"{"token":"t"}"#));
    let challenge = format!("Bearer realm=\"http://{}/\"", plain.address);
    let fake = Fake::with_tls(move |_| Answer::new(401).header("www-authenticate", &challenge));
    let error = manifest(&fake, "ca.pem").unwrap_err();
    assert!(matches!(error, Error::Protocol { .. }), "{error}");
    assert_eq!(plain.asked().len(), 0);
}

#[test]
fn registry_with_tls_that_is_spoken_to_without_is_told_apart() {
    for body in [
        "Client sent an HTTP request to an HTTPS server.\n",
        "<html><h1>400 Bad Request</h1>The plain HTTP request was sent to HTTPS port</html>",
    ] {
        let fake = Fake::new(move |_| Answer::ok(body.as_bytes()).status(400));
        let registry = Registry::new(options()).unwrap();
        let error = registry.manifest(&fake.reference("a/b")).unwrap_err();
        assert!(matches!(error, Error::NotPlain { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&fake.address.to_string()) && text.contains("--ca-file"));
    }
    let fake = Fake::with_tls(|_| {
        Answer::ok(b"Client sent an HTTP request to an HTTPS server").status(400)
    });
    let error = manifest(&fake, "ca.pem").unwrap_err();
    assert!(
        matches!(error, Error::Status { status: 400, .. }),
        "{error}"
    );
}
