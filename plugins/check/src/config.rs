//! Configurations that cannot be: they are refused by the schema, or by `create` in
//! words, and never break the plugin.

use plugin_host::{CreateError, Schema};
use serde_json::{Value, json};

use crate::check::Subject;
use crate::finding::{Finding, in_words};

/// A property that no driver has.
const UNKNOWN: &str = "no-such-property";
/// Longer than any name or path.
const LONG: usize = 5000;

/// Tries many, and counts those that were refused.
pub(crate) fn refusals(subject: &Subject) -> Result<String, Finding> {
    let mut tried = 0;
    let mut refused = 0;
    for config in variations(subject) {
        tried += 1;
        subject.stage(&format!("create with {}", brief(&config)));
        refused += usize::from(!is_taken(subject, &config)?);
    }
    if closed(subject.driver.schema.as_ref()) {
        tried += 1;
        refused += 1;
        let mut config = subject.config.clone();
        config[UNKNOWN] = json!(true);
        subject.stage("create with an unknown property");
        if is_taken(subject, &config)? {
            return Err(Finding(format!(
                "it takes {config}, so that nobody learns of a misspelt property: \
                 say \"additionalProperties\": false in config_schema"
            )));
        }
    }
    Ok(format!("{refused} of {tried} odd configurations refused"))
}

/// Whether a device is made of it; a refusal must have a reason.
fn is_taken(subject: &Subject, config: &Value) -> Result<bool, Finding> {
    match subject.create_of("dev0", config) {
        Ok(_) => Ok(true),
        Err(CreateError::Failed(failure)) => {
            let what = format!("create with {}", brief(config));
            in_words(&what, &failure.kind).map(|()| false)
        }
        Err(CreateError::Config { .. }) => Ok(false),
    }
}

/// Unless the schema takes other properties by its own words.
fn closed(schema: Option<&Schema>) -> bool {
    let others = schema.map(|schema| &schema.as_json()["additionalProperties"]);
    others != Some(&Value::Bool(true))
}

/// The configuration with each property wrong or extreme in each way.
fn variations(subject: &Subject) -> Vec<Value> {
    let schema = subject.driver.schema.as_ref().map(Schema::as_json);
    let declared = schema.and_then(|schema| schema["properties"].as_object());
    let set = subject.config.as_object();
    let names = declared.into_iter().chain(set).flat_map(|map| map.keys());
    let mut names: Vec<&String> = names.collect();
    names.sort();
    names.dedup();
    let values = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(i64::MAX),
        json!(1e300),
        json!(""),
        json!("x".repeat(LONG)),
        json!([]),
        json!({}),
    ];
    let mut made = Vec::new();
    for name in names {
        let bounds = ["minimum", "maximum"];
        let bound = |keyword| declared.and_then(|known| known.get(name)?.get(keyword).cloned());
        for value in values
            .iter()
            .cloned()
            .chain(bounds.into_iter().filter_map(bound))
        {
            let mut config = subject.config.clone();
            config[name] = value;
            made.push(config);
        }
        let mut without = subject.config.clone();
        if let Some(map) = without.as_object_mut() {
            map.remove(name);
        }
        made.push(without);
    }
    made
}

fn brief(config: &Value) -> String {
    let text = config.to_string();
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}
