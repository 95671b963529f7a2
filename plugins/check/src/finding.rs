//! What is wrong with a plugin, in words.

use std::error::Error;

use plugin_host::{CreateError, DeviceFailure, FailureKind, PluginDevice};

/// Why a check failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding(pub String);

impl Finding {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Finding(text.into())
    }

    /// An error with its causes.
    pub(crate) fn of(error: &(dyn Error + 'static)) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        Finding(text)
    }
}

impl From<DeviceFailure> for Finding {
    fn from(failure: DeviceFailure) -> Self {
        Finding(format!("{}: {}", failure.callback, failure.kind))
    }
}

impl From<CreateError> for Finding {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Failed(failure) => failure.into(),
            error => Finding::of(&error),
        }
    }
}

/// That `device` has done nothing wrong so far.
pub(crate) fn sound(device: &PluginDevice) -> Result<(), Finding> {
    if let Some(failure) = device.failure() {
        return Err(failure.clone().into());
    }
    match device.misuse() {
        Some(kind) => Err(Finding(kind.to_string())),
        None => Ok(()),
    }
}

/// A refusal must have a text.
pub(crate) fn in_words(what: &str, kind: &FailureKind) -> Result<(), Finding> {
    match kind {
        FailureKind::Error { text: Some(_), .. } => Ok(()),
        FailureKind::Error { errno, text: None } => Err(Finding(format!(
            "{what} returns -{errno} without a word: call set_error before"
        ))),
        kind => Err(Finding(format!("{what}: {kind}"))),
    }
}
