//! Names and texts out of images, archives and registries, fit for a terminal,
//! which would act on control characters.

use std::fmt::Write;

/// A path as text for a terminal: what is not UTF-8, and control characters,
/// are escaped.
pub fn display_path(path: &[u8]) -> String {
    let mut text = String::new();
    for chunk in path.utf8_chunks() {
        for char in chunk.valid().chars() {
            if char.is_control() {
                text.extend(char.escape_default());
            } else {
                text.push(char);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_cannot_reach_the_terminal() {
        assert_eq!(
            display_path(b"a\x1b[2J\n\xff/\xc3\xa4"),
            "a\\u{1b}[2J\\n\\xff/ä"
        );
    }
}
