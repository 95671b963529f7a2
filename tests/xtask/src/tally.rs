//! Counting test results in the output of test programs as it passes by.

use std::fmt;
use std::io::{self, Write};

/// A longer line is no result; it is not kept in memory.
const MAX_LINE: usize = 64 << 10;

/// What the tests said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Signed, because a test that skips itself is taken off before the
    /// program's own count, which has it among the passed, is added.
    passed: i64,
    pub failed: i64,
    pub skipped: i64,
    /// Number of test programs that got to their end.
    pub programs: i64,
}

impl Tally {
    /// One thing that passed or failed.
    pub fn one(passed: bool) -> Self {
        Self {
            passed: i64::from(passed),
            failed: i64::from(!passed),
            ..Self::default()
        }
    }

    /// Adds another tally to this one.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.programs += other.programs;
    }

    /// Number of tests that ran.
    pub fn ran(&self) -> i64 {
        self.passed + self.failed
    }

    fn line(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += number_before(result, " passed");
            self.failed += number_before(result, " failed");
            self.skipped += number_before(result, " ignored");
            self.programs += 1;
        } else if line.contains("SKIP: ") {
            self.skipped += 1;
            self.passed -= 1;
        }
    }
}

/// The closing line, which other programs may read.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
            ..
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

fn number_before(text: &str, what: &str) -> i64 {
    let Some(end) = text.find(what) else { return 0 };
    let digits = text[..end].rsplit(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// Passes bytes on and counts results among their lines.
pub struct Counter<W> {
    to: W,
    line: Vec<u8>,
    /// What was counted up to the last line end.
    pub tally: Tally,
}

impl<W: Write> Counter<W> {
    /// A counter in front of `to`.
    pub fn new(to: W) -> Self {
        Self {
            to,
            line: Vec::new(),
            tally: Tally::default(),
        }
    }
}

impl<W: Write> Write for Counter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        for &byte in &bytes[..written] {
            if byte == b'\n' {
                self.tally.line(&String::from_utf8_lossy(&self.line));
                self.line.clear();
            } else if self.line.len() < MAX_LINE {
                self.line.push(byte);
            }
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(output: &str) -> Tally {
        let mut counter = Counter::new(Vec::new());
        // Small pieces, as a slow machine delivers them.
        for piece in output.as_bytes().chunks(7) {
            counter.write_all(piece).expect("a vector takes everything");
        }
        assert_eq!(counter.to, output.as_bytes());
        counter.tally
    }

    #[test]
    fn results_of_several_programs_are_summed() {
        let tally = count(
            "running 2 tests\n\
             test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
             noise\n\
             test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 5 filtered out\n",
        );
        assert_eq!(tally.to_string(), "15 passed, 2 failed, 1 skipped");
        assert_eq!(tally.programs, 2);
    }

    #[test]
    fn test_that_skips_itself_counts_as_skipped_not_passed() {
        let tally = count(
            "test one ... SKIP: no such device\nok\n\
             test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(tally.to_string(), "3 passed, 0 failed, 1 skipped");
    }
}
