//! Names and texts out of images, archives and registries, fit for a terminal,
//! which would act on control characters.

use std::fmt::Write;

/// Most characters of a name in an error or a warning.
const MAX_SHOWN: usize = 200;
/// Most bytes of a character.
const MAX_CHAR: usize = 4;

/// A name or a text for an error or a warning: as [`display_path`] has it, and
/// cut where it is long.
pub(crate) fn shown(text: impl AsRef<[u8]>) -> String {
    let text = text.as_ref();
    let start = &text[..text.len().min(MAX_SHOWN * MAX_CHAR)];
    let mut shown = display_path(start);
    let end = shown.char_indices().nth(MAX_SHOWN).map(|(end, _)| end);
    if end.is_some() || start.len() < text.len() {
        shown.truncate(end.unwrap_or(shown.len()));
        shown.push('…');
    }
    shown
}

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
    fn long_names_are_cut_between_characters() {
        assert_eq!(shown("a".repeat(MAX_SHOWN)), "a".repeat(MAX_SHOWN));
        for char in ["a", "ä", "€", "𝄞"] {
            let long = char.repeat(MAX_SHOWN * 5);
            assert_eq!(shown(long), char.repeat(MAX_SHOWN) + "…");
        }
        assert_eq!(shown("\n".repeat(1 << 20)).chars().count(), MAX_SHOWN + 1);
    }

    #[test]
    fn paths_cannot_reach_the_terminal() {
        assert_eq!(
            display_path(b"a\x1b[2J\n\xff/\xc3\xa4"),
            "a\\u{1b}[2J\\n\\xff/ä"
        );
    }
}
