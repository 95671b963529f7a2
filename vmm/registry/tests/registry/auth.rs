//! Who we are to a registry, and who is told.

use std::fs;

use crate::fake::{Answer, Asked, Fake, options};
use registry::{Cache, Credentials, DockerConfig, Error, Options, Registry, StoredIn};

const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
/// `me:pw`.
const BASIC: &str = "Basic bWU6cHc=";

fn me() -> Options {
    Options {
        credentials: Credentials::Password {
            user: "me".into(),
            password: "pw".into(),
        },
        ..options()
    }
}

/// A registry with tokens, which are `token-N`; each is good for `uses` requests.
/// `token` makes its answer for a request of one.
fn with_tokens(
    uses: usize,
    token: impl Fn(&Asked, usize) -> Answer + Send + 'static,
) -> impl FnMut(&Asked) -> Answer + Send {
    let (mut tokens, mut used) = (0, 0);
    move |asked| {
        if asked.path.starts_with("/token") {
            tokens += 1;
            used = 0;
            return token(asked, tokens);
        }
        let bearer = format!("Bearer token-{tokens}");
        if asked.header("authorization") == Some(&bearer) && used < uses {
            used += 1;
            return Answer::ok(b"{}").media_type(OCI);
        }
        let realm = format!("http://{}/token", asked.header("host").unwrap());
        let challenge = format!("Bearer realm=\"{realm}\",service=\"the service\"");
        Answer::new(401).header("www-authenticate", &challenge)
    }
}

fn granted(number: usize) -> Answer {
    Answer::ok(format!(r#"{{"token":"token-{number}","expires_in":300}}"#).as_bytes())
}

#[test]
fn token_is_asked_for_once_and_again_when_it_is_refused() {
    let fake = Fake::new(with_tokens(3, |_, number| granted(number)));
    let registry = Registry::new(options()).unwrap();
    for _ in 0..3 {
        registry.manifest(&fake.reference("a/b")).unwrap();
    }
    assert_eq!(fake.count("/token"), 1);
    registry.manifest(&fake.reference("a/b")).unwrap();
    assert_eq!(fake.count("/token"), 2);
    let asked = &fake.asked()[1];
    let query = "/token?service=the+service&scope=repository%3Aa%2Fb%3Apull";
    assert_eq!(asked.path, query);
    assert_eq!(asked.header("authorization"), None);
    // Another repository needs another one.
    registry.manifest(&fake.reference("a/c")).unwrap();
    assert_eq!(fake.count("/token"), 3);
}

#[test]
fn old_token_is_not_used() {
    let fake = Fake::new(with_tokens(9, |_, number| {
        Answer::ok(format!(r#"{{"access_token":"token-{number}","expires_in":5}}"#).as_bytes())
    }));
    let registry = Registry::new(options()).unwrap();
    registry.manifest(&fake.reference("a/b")).unwrap();
    let before = fake.asked().len();
    registry.manifest(&fake.reference("a/b")).unwrap();
    let asked = &fake.asked()[before];
    assert_eq!(asked.header("authorization"), None);
}

#[test]
fn password_goes_to_the_service_of_tokens_alone() {
    let fake = Fake::new(with_tokens(9, |asked, number| {
        match asked.header("authorization") {
            Some(BASIC) => granted(number),
            _ => Answer::new(401),
        }
    }));
    let registry = Registry::new(me()).unwrap();
    registry.manifest(&fake.reference("a/b")).unwrap();
    for asked in fake.asked() {
        let told = asked.header("authorization") == Some(BASIC);
        assert_eq!(told, asked.path.starts_with("/token"));
    }
    let registry = Registry::new(options()).unwrap();
    let result = registry.manifest(&fake.reference("a/b"));
    assert!(matches!(result, Err(Error::Denied { status: 401, .. })));
}

#[test]
fn password_is_told_where_it_is_asked_for() {
    let fake = Fake::new(|asked| match asked.header("authorization") {
        Some(BASIC) => Answer::ok(b"{}").media_type(OCI),
        _ => Answer::new(401).header("www-authenticate", "Basic realm=\"x\""),
    });
    let registry = Registry::new(me()).unwrap();
    registry.manifest(&fake.reference("a/b")).unwrap();
    assert_eq!(fake.asked()[0].header("authorization"), None);
    let registry = Registry::new(options()).unwrap();
    let result = registry.manifest(&fake.reference("a/b"));
    assert!(matches!(result, Err(Error::Denied { .. })));
}

#[test]
fn refresh_token_goes_in_a_form() {
    let fake = Fake::new(with_tokens(9, |asked, number| {
        assert_eq!(
            (asked.method.as_str(), asked.path.as_str()),
            ("POST", "/token")
        );
        let form = String::from_utf8(asked.body.clone()).unwrap();
        assert!(form.contains("grant_type=refresh_token&"), "{form}");
        assert!(form.ends_with("&refresh_token=s%2Fecret"), "{form}");
        granted(number)
    }));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let auths = format!(
        r#"{{"auths":{{"{}":{{"identitytoken":"s/ecret"}}}}}}"#,
        fake.address
    );
    fs::write(&file, auths).unwrap();
    let registry = Registry::new(Options {
        credentials: Credentials::Docker(DockerConfig::at(file)),
        ..options()
    });
    registry.unwrap().manifest(&fake.reference("a/b")).unwrap();
}

#[test]
fn hostile_tokens_are_errors() {
    for body in [r#"{"token":"a\r\nb: c"}"#, "{}", "x", &"[".repeat(2 << 20)] {
        let body = body.to_owned();
        let fake = Fake::new(with_tokens(9, move |_, _| Answer::ok(body.as_bytes())));
        let registry = Registry::new(options()).unwrap();
        let result = registry.manifest(&fake.reference("a/b"));
        assert!(matches!(result, Err(Error::Protocol { .. })));
    }
    for realm in ["ftp://a/b", "", "file:///etc/passwd"] {
        let challenge = format!("Bearer realm=\"{realm}\"");
        let fake = Fake::new(move |_| Answer::new(401).header("www-authenticate", &challenge));
        let registry = Registry::new(me()).unwrap();
        let result = registry.manifest(&fake.reference("a/b"));
        assert!(matches!(result, Err(Error::Protocol { .. })), "{realm}");
    }
}

#[test]
fn other_hosts_are_not_told_who_we_are() {
    let (bytes, digest) = crate::fake::blob(100);
    let body = bytes.clone();
    let storage = Fake::new(move |_| Answer::ok(&body));
    let location = format!("http://{}/elsewhere", storage.address);
    let fake = Fake::new(move |asked| match asked.header("authorization") {
        Some(BASIC) => Answer::new(307).header("location", &location),
        _ => Answer::new(401).header("www-authenticate", "Basic realm=\"x\""),
    });
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), 0).unwrap();
    let registry = Registry::new(me()).unwrap();
    let blobs = [(digest, 100)];
    registry
        .fetch(&fake.reference("a"), &blobs, &cache, &mut |_| {})
        .unwrap();
    let asked = storage.asked();
    assert_eq!(asked[0].path, "/elsewhere");
    assert_eq!(asked[0].header("authorization"), None);
}

#[test]
fn login_is_checked_before_it_is_kept_and_logout_forgets() {
    let fake = Fake::new(with_tokens(9, |asked, number| {
        assert!(!asked.path.contains("scope"));
        match asked.header("authorization") {
            Some(BASIC) => granted(number),
            _ => Answer::new(401),
        }
    }));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    let config = DockerConfig::at(file.clone());
    let registry = fake.address.to_string();
    let result = Registry::login(options(), &registry, "me", "wrong", &config);
    assert!(matches!(result, Err(Error::Login { .. })));
    assert!(!file.exists());

    let stored = Registry::login(options(), &registry, "me", "pw", &config).unwrap();
    assert_eq!(stored, StoredIn::File(file.clone()));
    assert!(fs::read_to_string(&file).unwrap().contains("bWU6cHc="));
    assert!(Registry::logout(&registry, &config).unwrap());
    assert!(!Registry::logout(&registry, &config).unwrap());
}

#[test]
fn user_with_a_colon_is_refused_before_anything_is_asked() {
    let fake = Fake::new(|_| Answer::ok(b"{}"));
    let folder = tempfile::tempdir().unwrap();
    let config = DockerConfig::at(folder.path().join("config.json"));
    let registry = fake.address.to_string();
    let result = Registry::login(options(), &registry, "m:e", "pw", &config);
    assert!(matches!(result, Err(Error::User { user }) if user == "m:e"));
    assert_eq!(fake.asked().len(), 0);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn login_and_logout_take_the_same_names_of_a_registry() {
    let fake = Fake::new(|_| Answer::ok(b"{}"));
    let folder = tempfile::tempdir().unwrap();
    let config = DockerConfig::at(folder.path().join("config.json"));
    let url = format!("https://{}/a/b", fake.address);
    for name in [&url, &fake.address.to_string()] {
        Registry::login(options(), &url, "me", "pw", &config).unwrap();
        assert!(Registry::logout(name, &config).unwrap(), "{name}");
    }
    let login = Registry::login(options(), "x/y", "me", "pw", &config).unwrap_err();
    let logout = Registry::logout("x/y", &config).unwrap_err();
    assert_eq!(login.to_string(), logout.to_string());
    assert!(matches!(logout, Error::Address { registry } if registry == "x/y"));
}
