//! Texts from images in errors: not too long, and without control characters,
//! which a terminal would act on.

/// Most characters of a text from an image in an error.
const MAX_SHOWN: usize = 200;
/// Most names in an error.
const MAX_LISTED: usize = 20;

/// A text from an image, for an error.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for char in text.chars().take(MAX_SHOWN) {
        match char.is_control() {
            true => shown.extend(char.escape_default()),
            false => shown.push(char),
        }
    }
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// The names that there are, for an error.
pub(crate) fn listed(names: &[String]) -> String {
    let mut parts: Vec<_> = names.iter().take(MAX_LISTED).map(|n| shown(n)).collect();
    if names.len() > MAX_LISTED {
        parts.push(format!("{} more", names.len() - MAX_LISTED));
    }
    match parts[..] {
        [] => "there is none".to_owned(),
        _ => format!("there are {}", parts.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use crate::oci::OciFault;

    #[test]
    fn texts_of_images_cannot_reach_the_terminal_as_they_are() {
        let fault = OciFault::NoSuchImage {
            wanted: "a".to_owned(),
            there: vec!["\x1b[31mred\n".to_owned(), "b".repeat(1 << 20)],
        };
        let text = fault.to_string();
        assert!(
            text.len() < 500 && !text.contains(char::is_control),
            "{text}"
        );
        let there = vec!["x".to_owned(); 100];
        let text = OciFault::Several { there }.to_string();
        assert!(text.ends_with("x, 80 more)"), "{text}");
    }
}
