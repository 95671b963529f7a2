//! The smallest configuration that a schema allows, to have one at all.

use plugin_host::Schema;
use serde_json::{Map, Value, json};

/// A configuration that `schema` allows; an empty one where there is none.
pub(crate) fn config(schema: Option<&Schema>) -> Value {
    match schema.map(|schema| value(schema.as_json())) {
        Some(config) if config.is_object() => config,
        _ => json!({}),
    }
}

/// A value that `schema` allows: its own example, or the smallest of its type.
fn value(schema: &Value) -> Value {
    let first = |keyword: &str| schema.get(keyword).and_then(|list| list.get(0));
    let said = schema.get("const").or_else(|| schema.get("default"));
    let said = said.or_else(|| first("examples")).or_else(|| first("enum"));
    if let Some(said) = said {
        return said.clone();
    }
    let kind = match schema.get("type") {
        Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str),
        kind => kind.and_then(Value::as_str),
    };
    let count = |keyword: &str| schema.get(keyword).and_then(Value::as_u64).unwrap_or(0) as usize;
    match kind {
        Some("null") => Value::Null,
        Some("boolean") => json!(false),
        Some("integer" | "number") => number(schema),
        Some("string") => json!("x".repeat(count("minLength"))),
        Some("array") => {
            let item = schema.get("items").map_or(Value::Null, value);
            Value::Array(vec![item; count("minItems")])
        }
        // Without a type it is what has properties.
        _ => object(schema),
    }
}

/// 0, or the bound that is next to it.
fn number(schema: &Value) -> Value {
    let bound = |keyword: &str| schema.get(keyword).filter(|bound| bound.is_number());
    let beyond = |bound: &&Value, wrong: fn(f64) -> bool| bound.as_f64().is_some_and(wrong);
    let least = bound("minimum").filter(|least| beyond(least, |least| least > 0.0));
    let most = bound("maximum").filter(|most| beyond(most, |most| most < 0.0));
    least.or(most).cloned().unwrap_or(json!(0))
}

fn object(schema: &Value) -> Value {
    let required = schema.get("required").and_then(Value::as_array);
    let names = required.into_iter().flatten().filter_map(Value::as_str);
    let properties = names.map(|name| {
        let known = &schema["properties"][name];
        let value = if known.is_null() {
            json!("")
        } else {
            value(known)
        };
        (name.to_owned(), value)
    });
    Value::Object(properties.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_fits_its_schema() {
        for text in [
            r#"{}"#,
            r#"{"type":"object","additionalProperties":false}"#,
            r#"{"required":["a"],"properties":{"a":{"type":"string","minLength":3}}}"#,
            r#"{"required":["a"],"properties":{"a":{"type":"integer","minimum":7}}}"#,
            r#"{"required":["a"],"properties":{"a":{"type":"number","maximum":-2.5}}}"#,
            r#"{"required":["a"],"properties":{"a":{"enum":["x","y"]}}}"#,
            r#"{"required":["a"],"properties":{"a":{"const":[1]}}}"#,
            r#"{"required":["a"],"properties":{"a":{"type":"string","examples":["10.0.0.1"]}}}"#,
            r#"{"required":["a"],"properties":{"a":{"type":["array","null"],"minItems":2,
                "items":{"type":"object","required":["b"]}}}}"#,
        ] {
            let schema = Schema::parse(text).unwrap();
            let made = config(Some(&schema));
            schema
                .check(&made)
                .unwrap_or_else(|error| panic!("{made} for {text}: {error}"));
        }
        assert_eq!(config(None), json!({}));
    }
}
