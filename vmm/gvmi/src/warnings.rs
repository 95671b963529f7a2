//! What of a source is not in its image, in lines for its maker. A hostile
//! source could cause any number of them, so they are few and short.

/// Lines that are kept.
const MAX: usize = 32;

/// Warnings, each once.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    lines: Vec<String>,
    more: u64,
}

impl Warnings {
    pub(crate) fn add(&mut self, line: String) {
        if self.lines.contains(&line) {
            return;
        }
        if self.lines.len() < MAX {
            self.lines.push(line);
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn append(&mut self, other: Self) {
        other.lines.into_iter().for_each(|line| self.add(line));
        self.more += other.more;
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        let mut lines = self.lines;
        if self.more > 0 {
            lines.push(format!("{} more of the kind", self.more));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_told_once_and_their_number_is_limited() {
        let mut warnings = Warnings::default();
        for number in 0..MAX + 5 {
            warnings.add(number.to_string());
            warnings.add("0".to_owned());
        }
        let lines = warnings.into_lines();
        assert_eq!(lines.len(), MAX + 1);
        assert_eq!(lines[MAX], "5 more of the kind");
    }
}
