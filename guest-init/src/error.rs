//! The error of the boot: what was attempted and why it failed, as one line for the console.

use std::fmt::{self, Display};
use std::io;

/// Ends the boot.
#[derive(Debug)]
pub struct BootError(String);

/// What most of the boot returns.
pub type Result<T> = std::result::Result<T, BootError>;

impl BootError {
    /// An error that is its own reason.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Adds what was attempted to a system error.
pub trait Attempt<T> {
    /// The error becomes `what: reason`.
    fn attempt(self, what: impl Display) -> Result<T>;
}

impl<T, E: Into<io::Error>> Attempt<T> for std::result::Result<T, E> {
    fn attempt(self, what: impl Display) -> Result<T> {
        self.map_err(|e| BootError(format!("{what}: {}", e.into())))
    }
}
