//! The part of JSON Schema that drivers declare their configuration in.
//!
//! It is the part that the ABI's header names and no more: a keyword that would be
//! ignored here would promise a check that nobody makes, so that a schema which
//! has one is refused. JSON Schema 2020-12, sections 6 and 10 of its validation
//! and core documents.

use serde_json::{Map, Value};

use crate::nearest::nearest;

/// Keywords with an effect.
const CHECKED: [&str; 15] = [
    "type",
    "enum",
    "const",
    "properties",
    "required",
    "additionalProperties",
    "minProperties",
    "maxProperties",
    "items",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
];
/// Keywords without one.
const IGNORED: [&str; 6] = [
    "title",
    "description",
    "default",
    "examples",
    "$schema",
    "$comment",
];
/// Types by name.
const TYPES: [&str; 7] = [
    "null", "boolean", "integer", "number", "string", "array", "object",
];
/// Schemas in schemas: more is nobody's configuration.
const MAX_DEPTH: usize = 32;
/// Most bytes of a found value that an error shows.
const MAX_SHOWN: usize = 80;

/// A configuration that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: expected {expected}, found {found}", shown(path))]
pub struct ConfigError {
    /// JSON Pointer (RFC 6901) to the value at fault; empty for all of it.
    pub path: String,
    /// What the schema allows.
    pub expected: String,
    /// What is there.
    pub found: String,
}

fn shown(path: &str) -> &str {
    if path.is_empty() {
        "the configuration"
    } else {
        path
    }
}

/// A schema that this host cannot check.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at {}: {problem}", if path.is_empty() { "its root" } else { path })]
pub struct SchemaError {
    /// JSON Pointer into the schema.
    pub path: String,
    /// What is wrong there.
    pub problem: String,
}

/// A schema of which every keyword is understood.
#[derive(Clone, Debug)]
pub struct Schema(Value);

impl Schema {
    /// Reads a schema.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        let value = serde_json::from_str(text).map_err(|error| SchemaError {
            path: String::new(),
            problem: format!("it is no JSON: {error}"),
        })?;
        understood(&value, "", 0)?;
        Ok(Schema(value))
    }

    /// As it was declared.
    pub fn as_json(&self) -> &Value {
        &self.0
    }

    /// Whether `config` fits; the first thing that does not.
    pub fn check(&self, config: &Value) -> Result<(), ConfigError> {
        fits(&self.0, config, "")
    }

    /// The `texts` given for property `key` as its value: JSON where the schema does
    /// not want a string, and a list where it wants one or more than one was given.
    pub fn value(&self, key: &str, texts: &[String]) -> Value {
        let schema = &self.0["properties"][key];
        match texts {
            [text] if !wants(schema, "array") => typed(schema, text),
            texts => texts
                .iter()
                .map(|text| typed(&schema["items"], text))
                .collect(),
        }
    }
}

fn wants(schema: &Value, name: &str) -> bool {
    match &schema["type"] {
        Value::Array(names) => names.iter().any(|known| known == name),
        known => known == name,
    }
}

/// `text` as a value of `schema`.
fn typed(schema: &Value, text: &str) -> Value {
    if schema["type"].is_null() || wants(schema, "string") {
        return Value::from(text);
    }
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

/// Walks a schema, so that `fits` need not doubt it.
fn understood(schema: &Value, path: &str, depth: usize) -> Result<(), SchemaError> {
    let wrong = |keyword: &str, problem: &str| SchemaError {
        path: if keyword.is_empty() {
            path.to_owned()
        } else {
            format!("{path}/{keyword}")
        },
        problem: problem.to_owned(),
    };
    let Some(schema) = schema.as_object() else {
        return Err(wrong("", "it must be an object"));
    };
    if depth > MAX_DEPTH {
        return Err(wrong("", "it is nested too deeply"));
    }
    for (keyword, value) in schema {
        let sound = match keyword.as_str() {
            "type" => match value {
                Value::Array(names) => !names.is_empty() && names.iter().all(is_type),
                name => is_type(name),
            },
            "enum" => value.as_array().is_some_and(|values| !values.is_empty()),
            "properties" => value.is_object(),
            "required" => value
                .as_array()
                .is_some_and(|names| names.iter().all(Value::is_string)),
            "additionalProperties" => value.is_boolean(),
            "items" => value.is_object(),
            "minimum" | "maximum" => value.is_number(),
            "minProperties" | "maxProperties" | "minItems" | "maxItems" | "minLength"
            | "maxLength" => value.is_u64(),
            "const" => true,
            other if IGNORED.contains(&other) => true,
            _ => {
                let known = CHECKED.join(", ");
                let problem = format!("this host does not check it; it checks {known}");
                return Err(wrong(keyword, &problem));
            }
        };
        if !sound {
            return Err(wrong(
                keyword,
                "its value is not of the kind that the keyword takes",
            ));
        }
    }
    if let Some(Value::Object(properties)) = schema.get("properties") {
        for (name, inner) in properties {
            understood(
                inner,
                &format!("{path}/properties/{}", escaped(name)),
                depth + 1,
            )?;
        }
    }
    if let Some(items) = schema.get("items") {
        understood(items, &format!("{path}/items"), depth + 1)?;
    }
    Ok(())
}

fn is_type(name: &Value) -> bool {
    name.as_str().is_some_and(|name| TYPES.contains(&name))
}

fn fits(schema: &Value, value: &Value, path: &str) -> Result<(), ConfigError> {
    let unfit = |expected: String| ConfigError {
        path: path.to_owned(),
        expected,
        found: brief(value),
    };
    let keyword = |name: &str| schema.get(name);
    if let Some(types) = keyword("type") {
        let names: Vec<&str> = match types {
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            name => name.as_str().into_iter().collect(),
        };
        if !names.iter().any(|name| has_type(value, name)) {
            return Err(unfit(names.join(" or ")));
        }
    }
    if let Some(Value::Array(allowed)) = keyword("enum")
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        return Err(unfit(format!("one of {}", allowed.join(", "))));
    }
    if let Some(constant) = keyword("const")
        && constant != value
    {
        return Err(unfit(constant.to_string()));
    }
    let number = |name: &str| keyword(name).and_then(Value::as_f64);
    let count = |name: &str| keyword(name).and_then(Value::as_u64);
    if let Some(found) = value.as_f64() {
        if let Some(least) = number("minimum")
            && found < least
        {
            return Err(unfit(format!("at least {}", schema["minimum"])));
        }
        if let Some(most) = number("maximum")
            && found > most
        {
            return Err(unfit(format!("at most {}", schema["maximum"])));
        }
    }
    let (size, least, most, what) = match value {
        Value::String(text) => (text.chars().count(), "minLength", "maxLength", "characters"),
        Value::Array(items) => (items.len(), "minItems", "maxItems", "items"),
        Value::Object(map) => (map.len(), "minProperties", "maxProperties", "properties"),
        _ => (0, "", "", ""),
    };
    if let Some(least) = count(least)
        && (size as u64) < least
    {
        return Err(unfit(format!("at least {least} {what}")));
    }
    if let Some(most) = count(most)
        && size as u64 > most
    {
        return Err(unfit(format!("at most {most} {what}")));
    }
    if let (Value::Array(items), Some(inner)) = (value, keyword("items")) {
        for (index, item) in items.iter().enumerate() {
            fits(inner, item, &format!("{path}/{index}"))?;
        }
    }
    if let Value::Object(found) = value {
        object_fits(schema, found, path)?;
    }
    Ok(())
}

fn object_fits(schema: &Value, found: &Map<String, Value>, path: &str) -> Result<(), ConfigError> {
    let none = Map::new();
    let known = schema
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&none);
    let required = schema.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        if !found.contains_key(name) {
            return Err(ConfigError {
                path: format!("{path}/{}", escaped(name)),
                expected: known.get(name).map_or("a value".into(), described),
                found: "nothing".into(),
            });
        }
    }
    let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
    for (name, value) in found {
        let path = format!("{path}/{}", escaped(name));
        match known.get(name) {
            Some(inner) => fits(inner, value, &path)?,
            None if closed => {
                let names: Vec<&str> = known.keys().map(String::as_str).collect();
                let meant = nearest(name, names.iter().copied())
                    .map_or(String::new(), |name| format!(" (did you mean {name}?)"));
                let expected = match names.as_slice() {
                    [] => "no property".into(),
                    names => format!("one of the properties {}{meant}", names.join(", ")),
                };
                let found = format!("the unknown property {name:?}");
                return Err(ConfigError {
                    path,
                    expected,
                    found,
                });
            }
            None => {}
        }
    }
    Ok(())
}

/// What a property's schema says first, for an error about its absence.
fn described(schema: &Value) -> String {
    match (schema.get("type"), schema.get("description")) {
        (Some(Value::String(kind)), Some(Value::String(what))) => format!("{kind} ({what})"),
        (Some(Value::String(kind)), _) => kind.clone(),
        _ => "a value".into(),
    }
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => {
            value.is_i64()
                || value.is_u64()
                || value.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        _ => value.is_object(),
    }
}

/// The type and, shortened, the value.
fn brief(value: &Value) -> String {
    let kind = TYPES
        .iter()
        .find(|name| has_type(value, name))
        .unwrap_or(&"value");
    let mut text = value.to_string();
    if text.len() > MAX_SHOWN {
        let cut = (0..=MAX_SHOWN)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(cut);
        text.push('…');
    }
    match value {
        Value::Null => "null".into(),
        _ => format!("{kind} {text}"),
    }
}

/// A name as a part of a JSON Pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests;
