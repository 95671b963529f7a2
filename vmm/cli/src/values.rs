//! Option values that people write in their own ways: sizes, durations, names.
//! Pure functions; each error says what would have been right.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Longest host name that Linux takes.
const MAX_HOSTNAME: usize = 64;

/// A parser of option values whose errors tell all that they know: of one with
/// causes clap shows the first line alone.
pub fn told<T: 'static>(
    parse: fn(&str) -> Result<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| parse(text).map_err(|error| format!("{error:#}"))
}

/// Bytes: a number, decimals allowed, with b, k, m, g or t behind it (powers
/// of 1024, as Docker has it; `MB` and `MiB` mean the same).
pub fn size(text: &str) -> Result<u64> {
    let (number, unit) = split_unit(text);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => bail!("unknown unit {unit:?}: use b, k, m or g, as in 512m"),
    };
    let scale = 1u64 << shift;
    let bytes = match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(scale),
        Err(_) => {
            let number: f64 = number
                .parse()
                .ok()
                .context("not a size: write a number and a unit, as in 512m or 2g")?;
            // A float that does not fit saturates, and is refused as too large below.
            Some((number * scale as f64) as u64).filter(|bytes| *bytes < u64::MAX)
        }
    };
    bytes.context("too large")
}

/// `bytes` in the largest unit that divides it.
pub fn show_size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    units
        .iter()
        .find(|(shift, _)| bytes >= 1 << shift && bytes.is_multiple_of(1 << shift))
        .map_or_else(
            || format!("{bytes} bytes"),
            |(shift, unit)| format!("{} {unit}", bytes >> shift),
        )
}

/// A JSON object.
pub fn json_object(text: &str) -> Result<Value> {
    let value: Value = serde_json::from_str(text).context("not JSON")?;
    ensure!(
        value.is_object(),
        "not a JSON object, as in {{\"key\":\"value\"}}"
    );
    Ok(value)
}

/// A time: `90` or `90s`, `1m30s`, `500ms`, `2h`, `1d`. Zero is refused.
pub fn duration(text: &str) -> Result<Duration> {
    const FORM: &str = "not a duration: write a number and a unit, as in 30s, 5m or 1h30m";
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, tail) = split_unit(rest);
        let unit_len = tail
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_len);
        let seconds = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            // Only a number alone may go without a unit.
            "" if rest == text && tail.is_empty() => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => bail!(FORM),
        };
        let number: f64 = number.parse().ok().context(FORM)?;
        let part = Duration::try_from_secs_f64(number * seconds)
            .ok()
            .context("too long")?;
        total = total.checked_add(part).context("too long")?;
        rest = tail;
    }
    ensure!(!total.is_zero(), FORM);
    Ok(total)
}

/// The digits and points at the start of `text`, and what follows.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

/// A host name: letters, digits, hyphens and points.
pub fn hostname(text: &str) -> Result<String> {
    ensure!(
        (1..=MAX_HOSTNAME).contains(&text.len()),
        "a host name has 1 to {MAX_HOSTNAME} characters"
    );
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    ensure!(
        text.chars().all(allowed) && !text.starts_with(['-', '.']),
        "a host name has letters, digits, hyphens and points"
    );
    Ok(text.to_owned())
}

/// `NAME=VALUE`, as labels are given; a name alone has the empty value.
pub fn pair(text: &str) -> Result<(String, String)> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    ensure!(!name.is_empty(), "the name before = is empty");
    Ok((name.to_owned(), value.to_owned()))
}

/// A path of an image, which begins at its root.
pub fn absolute(text: &str) -> Result<String> {
    ensure!(text.starts_with('/'), "a path of the image begins with a /");
    Ok(text.to_owned())
}

/// What must not be empty.
pub fn something(text: &str) -> Result<String> {
    ensure!(!text.is_empty(), "it is empty");
    Ok(text.to_owned())
}

/// A URL, of which no more is asked than a scheme.
pub fn url(text: &str) -> Result<String> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    ensure!(
        scheme.is_some_and(|scheme| !scheme.is_empty()),
        "not a URL, as in https://example.com/my.gvmi"
    );
    Ok(text.to_owned())
}

/// Words of a command: a JSON list of strings, or one word as it stands.
pub fn words(text: &str) -> Result<Vec<String>> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text)
            .context("not a JSON list of strings, as in [\"sh\", \"-c\", \"date\"]");
    }
    Ok(vec![text.to_owned()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_docker_does() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512b", 512),
            ("1k", 1 << 10),
            ("512M", 512 << 20),
            ("512 MiB", 512 << 20),
            ("2gb", 2 << 30),
            ("1.5g", 3 << 29),
            ("1t", 1 << 40),
        ] {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn sizes_that_make_no_sense_are_refused_with_an_example() {
        for text in ["", "m", "-1m", "1.2.3g", "12x", "99999999999t", "1e5"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(
            size("12x").unwrap_err().to_string(),
            "unknown unit \"x\": use b, k, m or g, as in 512m"
        );
    }

    #[test]
    fn sizes_are_shown_in_the_largest_whole_unit() {
        assert_eq!(show_size(512 << 20), "512 MiB");
        assert_eq!(show_size(2 << 30), "2 GiB");
        assert_eq!(show_size(1536), "1536 bytes");
        assert_eq!(show_size(0), "0 bytes");
    }

    #[test]
    fn durations_are_read_with_and_without_units() {
        for (text, millis) in [
            ("10", 10_000),
            ("10s", 10_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("0.5s", 500),
        ] {
            assert_eq!(
                duration(text).unwrap(),
                Duration::from_millis(millis),
                "{text}"
            );
        }
        for text in [
            "",
            "0",
            "s",
            "-1s",
            "1x",
            "1m30",
            "1..2s",
            "99999999999999999999999d",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn host_names_are_checked() {
        assert_eq!(hostname("web-1.local").unwrap(), "web-1.local");
        for text in ["", "-x", "a b", "ä", &"x".repeat(65)] {
            assert!(hostname(text).is_err(), "{text}");
        }
    }

    #[test]
    fn commands_are_json_lists_or_single_words() {
        assert_eq!(words("[\"sh\", \"-c\"]").unwrap(), ["sh", "-c"]);
        assert_eq!(words("/bin/my app").unwrap(), ["/bin/my app"]);
        assert!(words("[1]").is_err());
    }
}
