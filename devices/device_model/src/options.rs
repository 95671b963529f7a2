//! Reading a driver's options, which may come from a command line.

use std::fmt::Display;
use std::str::FromStr;

use anyhow::Context;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Deserializer, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};

/// Reads a driver's `options`; null stands for none. A text is taken for the number
/// or the truth value that the driver wants there, since a command line knows no
/// types.
///
/// # Errors
/// What serde says of the option at fault.
pub fn read_options<T: DeserializeOwned>(options: Value) -> anyhow::Result<T> {
    let options = match options {
        Value::Null => Value::Object(serde_json::Map::new()),
        options => options,
    };
    T::deserialize(Lenient(options)).context("options")
}

/// A value whose texts may be read as something else.
struct Lenient(Value);

impl IntoDeserializer<'_, Error> for Lenient {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// A text as the value `T`, if the driver wants one here.
fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T, Error> {
    text.parse()
        .map_err(|error| Error::custom(format_args!("{text:?}: {error}")))
}

macro_rules! from_text {
    ($($method:ident $visit:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.0 {
                Value::String(text) => visitor.$visit(parsed(&text)?),
                value => value.$method(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Lenient {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Object(map) => {
                let entries = map.into_iter().map(|(name, value)| (name, Lenient(value)));
                visitor.visit_map(MapDeserializer::new(entries))
            }
            Value::Array(items) => {
                visitor.visit_seq(SeqDeserializer::new(items.into_iter().map(Lenient)))
            }
            value => value.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    from_text! {
        deserialize_bool visit_bool
        deserialize_i8 visit_i8
        deserialize_i16 visit_i16
        deserialize_i32 visit_i32
        deserialize_i64 visit_i64
        deserialize_u8 visit_u8
        deserialize_u16 visit_u16
        deserialize_u32 visit_u32
        deserialize_u64 visit_u64
        deserialize_f32 visit_f32
        deserialize_f64 visit_f64
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Options {
        serial: String,
        #[serde(default)]
        read_only: bool,
        size: Option<u64>,
        limit: Option<Limit>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    struct Limit {
        rate: u32,
    }

    fn read(options: Value) -> Result<Options, String> {
        read_options(options).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn text_becomes_what_the_driver_wants_and_stays_text_where_it_wants_that() {
        let typed =
            json!({ "serial": "12", "read_only": true, "size": 34, "limit": { "rate": 5 } });
        let text =
            json!({ "serial": "12", "read_only": "true", "size": "34", "limit": { "rate": "5" } });
        let read_typed = read(typed).unwrap();
        assert_eq!(read(text).unwrap(), read_typed);
        assert_eq!(
            (read_typed.serial.as_str(), read_typed.size),
            ("12", Some(34))
        );
        assert_eq!(
            read(json!({ "serial": "x", "size": null })).unwrap().size,
            None
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (options, word) in [
            (json!({ "serial": "x", "size": "lots" }), "\"lots\""),
            (json!({ "serial": "x", "read_only": "yes" }), "\"yes\""),
            (
                json!({ "serial": "x", "sice": 5 }),
                "unknown field `sice`, expected one of",
            ),
            (json!({ "serial": 5 }), "integer `5`, expected a string"),
            (Value::Null, "missing field `serial`"),
        ] {
            let error = read(options).unwrap_err();
            assert!(
                error.starts_with("options: ") && error.contains(word),
                "{error}"
            );
        }
    }
}
