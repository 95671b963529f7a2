//! Each keyword refuses what it should, with path, expected and found.

use serde_json::json;

use super::*;

fn schema(value: Value) -> Schema {
    Schema::parse(&value.to_string()).unwrap()
}

fn net() -> Schema {
    schema(json!({
        "type": "object",
        "properties": {
            "mtu": { "type": "integer", "minimum": 68, "maximum": 65535 },
            "tap": { "type": "string", "minLength": 1, "description": "its name" },
            "mode": { "enum": ["fast", "slow"] },
            "ports": { "type": "array", "maxItems": 2, "items": {
                "type": "object", "properties": { "host": { "type": "integer" } }
            } }
        },
        "required": ["tap"],
        "additionalProperties": false
    }))
}

fn error(config: Value) -> (String, String, String) {
    let error = net().check(&config).unwrap_err();
    (error.path, error.expected, error.found)
}

fn parts(path: &str, expected: &str, found: &str) -> (String, String, String) {
    (path.into(), expected.into(), found.into())
}

#[test]
fn what_fits_passes() {
    let config = json!({ "tap": "t", "mtu": 1500, "mode": "slow", "ports": [{ "host": 1 }] });
    assert_eq!(net().check(&config), Ok(()));
    assert_eq!(schema(json!({})).check(&json!([1, null])), Ok(()));
}

#[test]
fn what_does_not_fit_is_told_by_path_expected_and_found() {
    assert_eq!(error(json!("x")), parts("", "object", "string \"x\""));
    assert_eq!(
        error(json!({})),
        parts("/tap", "string (its name)", "nothing")
    );
    assert_eq!(
        error(json!({ "tap": 3 })),
        parts("/tap", "string", "integer 3")
    );
    assert_eq!(
        error(json!({ "tap": "" })),
        parts("/tap", "at least 1 characters", "string \"\"")
    );
    assert_eq!(
        error(json!({ "tap": "t", "mtu": 67 })),
        parts("/mtu", "at least 68", "integer 67")
    );
    assert_eq!(
        error(json!({ "tap": "t", "mtu": 1.5 })),
        parts("/mtu", "integer", "number 1.5")
    );
    assert_eq!(
        error(json!({ "tap": "t", "mode": "quick" })),
        parts("/mode", "one of \"fast\", \"slow\"", "string \"quick\"")
    );
    assert_eq!(
        error(json!({ "tap": "t", "ports": [{}, { "host": "a" }] })),
        parts("/ports/1/host", "integer", "string \"a\"")
    );
    assert_eq!(
        error(json!({ "tap": "t", "ports": [{}, {}, {}] })),
        parts("/ports", "at most 2 items", "array [{},{},{}]")
    );
}

#[test]
fn an_unknown_property_is_answered_with_the_nearest() {
    let (path, expected, found) = error(json!({ "tap": "t", "mut": 1 }));
    assert_eq!(
        (path.as_str(), found.as_str()),
        ("/mut", "the unknown property \"mut\"")
    );
    assert!(
        expected.contains("mtu, ports, tap") || expected.contains("mtu"),
        "{expected}"
    );
    let (_, expected, _) = error(json!({ "tap": "t", "mtuu": 1 }));
    assert!(expected.ends_with("(did you mean mtu?)"), "{expected}");
}

#[test]
fn a_long_value_is_shortened() {
    let (_, _, found) = error(json!("é".repeat(1000)));
    assert!(found.len() < 100 && found.ends_with('…'), "{found}");
}

#[test]
fn keywords_that_nobody_checks_are_refused() {
    for (text, path) in [
        (r#"{"pattern":"a"}"#, "/pattern"),
        (
            r#"{"properties":{"a/b":{"oneOf":[]}}}"#,
            "/properties/a~1b/oneOf",
        ),
        (r#"{"items":{"$ref":"x"}}"#, "/items/$ref"),
        (r#"{"type":"float"}"#, "/type"),
        (r#"{"minimum":"1"}"#, "/minimum"),
        (r#"[]"#, ""),
        (r#"{"#, ""),
    ] {
        assert_eq!(Schema::parse(text).unwrap_err().path, path, "{text}");
    }
}

#[test]
fn a_schema_without_end_is_refused() {
    let text = format!("{}{{}}{}", r#"{"items":"#.repeat(100), "}".repeat(100));
    assert!(Schema::parse(&text).unwrap_err().problem.contains("deeply"));
}

#[test]
fn text_becomes_the_type_that_the_schema_wants() {
    let net = net();
    let value = |key, texts: &[&str]| {
        let texts: Vec<String> = texts.iter().map(|text| (*text).into()).collect();
        net.value(key, &texts)
    };
    assert_eq!(value("mtu", &["1400"]), json!(1400));
    assert_eq!(value("mtu", &["big"]), json!("big"));
    assert_eq!(value("mtu", &["1", "2"]), json!(["1", "2"]));
    assert_eq!(value("tap", &["12"]), json!("12"));
    assert_eq!(value("other", &["12"]), json!("12"));
    let lists =
        json!({ "properties": { "n": { "type": "array", "items": { "type": "integer" } } } });
    let lists = Schema::parse(&lists.to_string()).unwrap();
    let texts = ["1".to_owned(), "2".to_owned()];
    assert_eq!(lists.value("n", &texts[..1]), json!([1]));
    assert_eq!(lists.value("n", &texts), json!([1, 2]));
}
