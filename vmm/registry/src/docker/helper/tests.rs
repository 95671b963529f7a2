//! Helpers that are well and that are not: the scripts of `fixtures`.

use super::*;

fn helper(name: &str) -> Helper {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
    Helper {
        program: format!("{folder}/docker-credential-{name}"),
        max_time: Duration::from_secs(20),
    }
}

#[test]
fn helper_tells_what_it_knows() {
    let good = helper("good");
    let me = Identity::Password {
        user: "me".into(),
        password: "pw".into(),
    };
    let hub = "https://index.docker.io/v1/";
    assert!(good.get(hub).unwrap() == Some(me));
    let token = Some(Identity::Refresh("refresh".into()));
    assert!(good.get("token.example.org").unwrap() == token);
    assert!(good.get("unknown.example.org").unwrap().is_none());
}

#[test]
fn helper_stores_and_forgets() {
    let good = helper("good");
    good.store("example.org", "me", "p\"w").unwrap();
    assert!(good.erase("example.org").unwrap());
    assert!(!good.erase("unknown.example.org").unwrap());
}

#[test]
fn failing_helper_is_quoted() {
    let error = helper("good").get("broken.example.org").err().unwrap();
    assert!(error.to_string().ends_with("says: the keychain is locked"));
    assert!(matches!(
        helper("good").get("bad.example.org"),
        Err(HelperError::Answer { .. })
    ));
    assert!(matches!(
        helper("missing").get("x"),
        Err(HelperError::Run { .. })
    ));
}

#[test]
fn helper_without_an_end_is_killed() {
    for name in ["silent", "lingering"] {
        let mut endless = helper(name);
        endless.max_time = Duration::from_millis(50);
        assert!(matches!(endless.get("x"), Err(HelperError::Time { .. })));
    }
    assert!(matches!(
        helper("endless").get("x"),
        Err(HelperError::Answer { .. })
    ));
}

#[test]
fn helper_is_a_plain_name_of_a_program() {
    for name in ["../x", "a/b", "a b", "a\n", "ä"] {
        assert!(matches!(Helper::new(name), Err(HelperError::Name { .. })));
    }
    let program = Helper::new("secret-service").unwrap().program();
    assert_eq!(program, "docker-credential-secret-service");
    assert!(matches!(
        helper("good").store("x", "me", &"p".repeat(MAX_INPUT)),
        Err(HelperError::Input { .. })
    ));
}
