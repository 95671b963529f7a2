//! Sizes as requestors write them: golem-runtime, section 3.1.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// Names of units and their bytes; a letter alone is a power of ten.
const UNITS: [(&str, u64); 22] = [
    ("b", 1),
    ("k", 1_000),
    ("kb", 1_000),
    ("m", 1_000_000),
    ("mb", 1_000_000),
    ("g", 1_000_000_000),
    ("gb", 1_000_000_000),
    ("t", 1_000_000_000_000),
    ("tb", 1_000_000_000_000),
    ("p", 1_000_000_000_000_000),
    ("pb", 1_000_000_000_000_000),
    ("ki", 1 << 10),
    ("kib", 1 << 10),
    ("mi", 1 << 20),
    ("mib", 1 << 20),
    ("gi", 1 << 30),
    ("gib", 1 << 30),
    ("ti", 1 << 40),
    ("tib", 1 << 40),
    ("pi", 1 << 50),
    ("pib", 1 << 50),
    ("", 1),
];

/// A number of bytes: a JSON integer, or a text as `10.7 GB` or `512mi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Size(pub u64);

impl Size {
    fn parse(text: &str) -> Option<Self> {
        let digits = text.len()
            - text
                .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
                .len();
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim_start_matches(' ').to_ascii_lowercase();
        let (_, bytes) = UNITS.iter().find(|(name, _)| *name == unit)?;
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(*bytes).map(Size);
        }
        let product = number.parse::<f64>().ok()? * *bytes as f64;
        // Beyond 2^53 a fraction of a byte is nobody's concern.
        (product < u64::MAX as f64).then_some(Size(product as u64))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            Bytes(u64),
            Text(String),
        }
        const EXPECTED: &str = "a size is a number of bytes, or a text as 512mi or 10.7 GB";
        let form =
            Form::deserialize(deserializer).map_err(|_| serde::de::Error::custom(EXPECTED))?;
        match form {
            Form::Bytes(bytes) => Ok(Size(bytes)),
            Form::Text(text) => Size::parse(&text)
                .ok_or_else(|| serde::de::Error::custom(format!("size {text:?}: {EXPECTED}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<u64, String> {
        let size = serde_json::from_str::<Size>(json).map_err(|error| error.to_string())?;
        Ok(size.0)
    }

    #[test]
    fn sizes_are_read_as_requestors_and_exe_unit_write_them() {
        for (json, bytes) in [
            ("4096", 4096),
            (r#""4096""#, 4096),
            (r#""10.7 GB""#, 10_700_000_000),
            (r#""1.6 GB""#, 1_600_000_000),
            (r#""1048.6 KB""#, 1_048_600),
            (r#""4.1 KB""#, 4_100),
            (r#""1000.0 MB""#, 1_000_000_000),
            (r#""512mi""#, 512 << 20),
            (r#""10GiB""#, 10 << 30),
            (r#""2  k""#, 2_000),
            (r#""0.5b""#, 0),
            (r#""16 pb""#, 16_000_000_000_000_000),
        ] {
            assert_eq!(read(json), Ok(bytes), "{json}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_the_form() {
        for json in [
            r#""""#,
            r#""GB""#,
            r#""-1""#,
            r#""1..2 k""#,
            r#""1 x""#,
            r#""1e9""#,
            r#"" 1""#,
            r#""99999999999999999999""#,
            r#""20000 pib""#,
            "-1",
            "1.5",
            "null",
            "[]",
        ] {
            let error = read(json).unwrap_err();
            assert!(
                error.contains("a size is a number of bytes"),
                "{json}: {error}"
            );
        }
    }
}
