//! Lists of texts from images in errors: not too long.

use crate::display::shown;

/// Most names in an error.
const MAX_LISTED: usize = 20;

/// The names that there are, for an error.
pub(crate) fn listed(names: &[String]) -> String {
    let mut parts: Vec<_> = names.iter().take(MAX_LISTED).map(shown).collect();
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
