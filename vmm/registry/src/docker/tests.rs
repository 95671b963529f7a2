//! Docker's configuration as Docker and others write it, and as we do.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn config(text: &str) -> (tempfile::TempDir, DockerConfig) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    fs::write(&file, text).unwrap();
    (folder, DockerConfig::at(file))
}

fn me() -> Identity {
    Identity::Password {
        user: "me".into(),
        password: "p:w".into(),
    }
}

#[test]
fn login_is_found_as_whatever_it_was_written() {
    // "me:p:w"
    let auth = r#"{"auth":"bWU6cDp3"}"#;
    let plain = r#"{"username":"me","password":"p:w"}"#;
    for (key, entry, registry) in [
        ("https://index.docker.io/v1/", auth, "docker.io"),
        ("docker.io", auth, "docker.io"),
        ("a.example.org", plain, "a.example.org"),
        ("https://a.example.org/v2/", auth, "a.example.org"),
        (
            "localhost:5000",
            r#"{"auth":"bWU6cDp3AA=="}"#,
            "localhost:5000",
        ),
    ] {
        let (_folder, config) = config(&format!("{{\"auths\":{{\"{key}\":{entry}}}}}"));
        assert!(config.identity(registry).unwrap() == me(), "{key}");
        assert!(config.identity("b.example.org").unwrap() == Identity::Nobody);
    }
    let (_folder, config) = config(r#"{"auths":{"a.b":{"auth":"bWU6","identitytoken":"t"}}}"#);
    assert!(config.identity("a.b").unwrap() == Identity::Refresh("t".into()));
}

#[test]
fn no_configuration_means_nobody() {
    let missing = DockerConfig::at("/nonexistent/config.json".into());
    assert!(missing.identity("a.b").unwrap() == Identity::Nobody);
    let (_folder, empty) = config("");
    assert!(empty.identity("a.b").unwrap() == Identity::Nobody);
}

#[test]
fn damaged_configuration_is_named() {
    for text in [
        "{",
        "[]",
        r#"{"auths":{"a.b":{"auth":"!"}}}"#,
        r#"{"auths":{"a.b":{"auth":"bWU="}}}"#,
        r#"{"auths":{"a.b":{"auth":7}}}"#,
        r#"{"auths":{"a.b":7}}"#,
    ] {
        let (_folder, config) = config(text);
        let Err(DockerConfigError::Format { path, .. }) = config.identity("a.b") else {
            panic!("{text}");
        };
        assert_eq!(path, config.file);
    }
}

#[test]
fn helper_of_the_registry_goes_before_that_of_all() {
    let text = r#"{"credsStore":"missing-all","credHelpers":{"a.b":"missing-one"}}"#;
    let (_folder, config) = config(text);
    for (registry, program) in [
        ("a.b", "docker-credential-missing-one"),
        ("c.d", "docker-credential-missing-all"),
    ] {
        let Err(DockerConfigError::Helper { source, .. }) = config.identity(registry) else {
            panic!("{registry}");
        };
        assert_eq!(source.to_string(), format!("cannot run {program}"));
    }
}

#[test]
fn password_is_kept_for_its_owner_and_the_rest_stays() {
    let (folder, config) = config(r#"{"proxies":{"x":1},"auths":{"https://a.b":{"auth":"eA=="}}}"#);
    let stored = config.store("a.b", "me", "p:w").unwrap();
    assert_eq!(stored, StoredIn::File(config.file.clone()));
    let mode = fs::metadata(&config.file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let text = fs::read(&config.file).unwrap();
    let value: Value = serde_json::from_slice(&text).unwrap();
    let auths = json!({"a.b": {"auth": "bWU6cDp3"}});
    assert_eq!(value, json!({"proxies": {"x": 1}, "auths": auths}));

    assert!(config.erase("a.b").unwrap());
    assert!(!config.erase("a.b").unwrap());
    assert!(config.identity("a.b").unwrap() == Identity::Nobody);
}

#[test]
fn docker_hub_is_kept_where_docker_looks() {
    let folder = tempfile::tempdir().unwrap();
    let config = DockerConfig::at(folder.path().join(".docker/config.json"));
    config.store("docker.io", "me", "p:w").unwrap();
    assert!(config.read().unwrap()["auths"].get(DOCKER_HUB).is_some());
    assert!(config.identity("docker.io").unwrap() == me());
    let mode = fs::metadata(folder.path().join(".docker")).unwrap();
    assert_eq!(mode.permissions().mode() & 0o777, 0o700);
}

#[test]
fn link_to_the_configuration_stays_a_link() {
    let (folder, target) = config("{}");
    let link = folder.path().join("link.json");
    std::os::unix::fs::symlink(&target.file, &link).unwrap();
    let config = DockerConfig::at(link.clone());
    config.store("a.b", "me", "p:w").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(target.identity("a.b").unwrap() == me());
}

#[test]
fn old_password_goes_when_a_helper_keeps_the_new_one() {
    let text = r#"{"auths":{"https://example.org/v1/":{"auth":"bWU6b2xk"},"a.b":{}}}"#;
    let (_folder, config) = config(text);
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
    let helper = Helper {
        program: format!("{folder}/docker-credential-good"),
        max_time: std::time::Duration::from_secs(20),
    };
    let read = config.read().unwrap();
    config
        .store_with(Some(helper), read, "example.org", "me", "p\"w")
        .unwrap();
    let auths = json!({"a.b": {}, "example.org": {}});
    assert_eq!(config.read().unwrap()["auths"], auths);
}
