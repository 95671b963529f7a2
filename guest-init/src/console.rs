//! Lines on the guest's console, each one write so that none is torn.

use std::fmt::Display;
use std::io::Write;

/// Writes `shem-init: ` and the text. A console that cannot be written to is
/// no reason to stop.
pub fn say(text: impl Display) {
    let line = format!("shem-init: {text}\n");
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}
