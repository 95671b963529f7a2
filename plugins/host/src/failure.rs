//! What a plugin did that ended its device.

use std::fmt;

/// A device that is not called any more, and why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("device {id:?} of plugin {plugin:?} failed in {callback}: {kind}")]
pub struct DeviceFailure {
    /// The device's id.
    pub id: String,
    /// The plugin's name.
    pub plugin: String,
    /// The function of the ABI that was called.
    pub callback: &'static str,
    /// What it did.
    pub kind: FailureKind,
}

/// What a callback did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// It returned an error.
    Error {
        /// Positive, as in `errno.h`.
        errno: i32,
        /// What it said by `set_error`.
        text: Option<String>,
    },
    /// It panicked, which its SDK caught.
    Panicked {
        /// The panic's message.
        text: Option<String>,
    },
    /// It returned something that the ABI does not allow.
    Garbage {
        /// What.
        found: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// It called a function of the host where that is not allowed.
    Misuse {
        /// The function.
        function: &'static str,
        /// What is allowed.
        allowed: &'static str,
    },
}

impl FailureKind {
    /// A negative return value as an error, with what was said before.
    pub(crate) fn of(value: i32, text: Option<String>) -> Self {
        // i32::MIN has no positive counterpart, and is no errno either.
        let errno = value.checked_neg().unwrap_or(libc::EINVAL);
        if errno == libc::ENOTRECOVERABLE {
            FailureKind::Panicked { text }
        } else {
            FailureKind::Error { errno, text }
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FailureKind::Error {
                text: Some(text), ..
            } => f.write_str(text),
            FailureKind::Error { errno, text: None } => {
                write!(f, "{}", std::io::Error::from_raw_os_error(*errno))
            }
            FailureKind::Panicked { text: Some(text) } => write!(f, "it panicked: {text}"),
            FailureKind::Panicked { text: None } => f.write_str("it panicked"),
            FailureKind::Garbage { found, allowed } => {
                write!(f, "it returned {found}, allowed is {allowed}")
            }
            FailureKind::Misuse { function, allowed } => {
                write!(f, "it called {function}, which is allowed {allowed}")
            }
        }
    }
}
