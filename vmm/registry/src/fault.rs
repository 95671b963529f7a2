//! What a failed request means: the errors of the libraries below, and answers
//! that are not success.

use std::error::Error as StdError;
use std::time::Duration;

use oci_client::errors::OciEnvelope;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::Error;
use crate::error::Cause;
use crate::transport::Target;

/// Longest explanation that is passed on, in characters.
const MAX_DETAIL_LEN: usize = 200;
/// See [`wants_tls`].
const WANTS_TLS: [&str; 2] = [
    "Client sent an HTTP request to an HTTPS server",
    "The plain HTTP request was sent to HTTPS port",
];

/// An error of a request or of its answer's body.
pub(crate) fn broken(target: &Target, error: reqwest::Error) -> Error {
    let (what, registry) = (target.what.clone(), target.registry.clone());
    match tls_fault(&error) {
        Some(rustls::Error::InvalidMessage(_)) => return Error::NotTls { registry },
        Some(fault) => {
            return Error::Tls {
                registry,
                source: Cause(fault.to_string()),
            };
        }
        None => {}
    }
    let source = cause(&error);
    if error.is_connect() {
        Error::Connect { registry, source }
    } else if error.is_redirect() {
        target.protocol(source.0)
    } else {
        Error::Broken {
            what,
            registry,
            source,
        }
    }
}

/// The text of the error that lies deepest.
fn cause(error: &(dyn StdError + 'static)) -> Cause {
    let deepest = causes(error).last();
    Cause(deepest.map_or_else(String::new, ToString::to_string))
}

fn tls_fault<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    causes(error).find_map(|error| error.downcast_ref())
}

/// An error and what caused it. An I/O error that holds another one names the
/// cause of that as its own, so what it holds is looked for first.
fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| {
        let held = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        match held {
            Some(held) => Some(held),
            None => error.source(),
        }
    })
}

/// When to come again: a number of seconds. The other form, a date, is taken
/// for nothing said.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// Whether an answer to plain HTTP says that it should have been TLS, in the
/// words of Go's servers or of nginx.
pub(crate) fn wants_tls(body: &[u8]) -> bool {
    let text = String::from_utf8_lossy(body);
    WANTS_TLS.iter().any(|words| text.contains(words))
}

/// The first words of a registry's explanation, fit for a terminal.
pub(crate) fn detail(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<OciEnvelope>(body) {
        Ok(envelope) => envelope
            .errors
            .into_iter()
            .next()
            .map(|error| error.message),
        Err(_) => std::str::from_utf8(body).ok().map(str::to_owned),
    };
    let text: String = text
        .iter()
        .flat_map(|text| text.trim().chars())
        .map(|char| if char.is_control() { ' ' } else { char })
        .take(MAX_DETAIL_LEN)
        .collect();
    match text.is_empty() || text.starts_with('<') {
        true => String::new(),
        false => format!(": {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explanations_are_cut_and_cleaned() {
        let envelope = br#"{"errors":[{"code":"X","message":"bad\u001b[31m thing"}]}"#;
        assert_eq!(detail(envelope), ": bad [31m thing");
        assert_eq!(detail(b"out of order\n"), ": out of order");
        assert_eq!(detail(b"<html>"), "");
        assert_eq!(detail(b"\xff"), "");
        assert_eq!(detail("ä".repeat(1000).as_bytes()).chars().count(), 202);
    }
}
