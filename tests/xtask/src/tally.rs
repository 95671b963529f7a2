//! Counting test results in the output of test programs as it passes by, and
//! keeping what failed for the end, where it is looked for.

use std::fmt;
use std::io::{self, Write};
use std::mem;

/// A longer line is no result; it is not kept in memory.
const MAX_LINE: usize = 64 << 10;
/// Most bytes of a failed test's output that are told again at the end.
const MAX_OUTPUT: usize = 2 << 10;
/// Most failures that are told again.
const MAX_FAILURES: usize = 50;

/// What the tests said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Signed, because a test that skips itself is taken off before the
    /// program's own count, which has it among the passed, is added.
    passed: i64,
    pub failed: i64,
    pub skipped: i64,
    /// What failed and what it said, the first ones.
    failures: Vec<String>,
}

impl Tally {
    /// One thing that passed.
    pub fn passed() -> Self {
        Self {
            passed: 1,
            ..Self::default()
        }
    }

    /// One thing that failed, and why.
    pub fn failed(why: String) -> Self {
        Self {
            failed: 1,
            failures: vec![why],
            ..Self::default()
        }
    }

    /// Adds another tally to this one.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures);
        self.failures.truncate(MAX_FAILURES);
    }

    /// Number of tests that ran.
    pub fn ran(&self) -> i64 {
        self.passed + self.failed
    }
}

/// What failed, and the closing line, which other programs may read.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.failures {
            writeln!(f, "FAILED {}", failure.trim_end())?;
        }
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
    tally: Tally,
    /// The test program that runs now, where lines `==> NAME` tell.
    program: Option<String>,
    part: Part,
}

/// Where in a test program's output a line is.
#[derive(Default)]
enum Part {
    #[default]
    Running,
    /// What a failed test said: its name, then lines.
    Output(String),
    /// The names of the failed tests.
    Names,
}

impl<W: Write> Counter<W> {
    /// A counter in front of `to`.
    pub fn new(to: W) -> Self {
        Self {
            to,
            line: Vec::new(),
            tally: Tally::default(),
            program: None,
            part: Part::default(),
        }
    }

    /// What was counted; a program that did not get to its end has failed.
    pub fn into_tally(mut self) -> Tally {
        self.end_output();
        self.end_program();
        self.tally
    }

    fn line(&mut self, line: &str) {
        if let (Part::Running, Some(program)) = (&self.part, line.strip_prefix("==> ")) {
            self.end_program();
            self.program = Some(program.to_owned());
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.end_output();
            self.program = None;
            self.tally.passed += number_before(result, " passed");
            self.tally.failed += number_before(result, " failed");
            self.tally.skipped += number_before(result, " ignored");
        } else if line == "failures:" {
            self.end_output();
            self.part = Part::Names;
        } else if let Some(name) = output_of(line) {
            self.end_output();
            let name = self.in_program(name);
            self.part = Part::Output(name);
        } else if line.contains("SKIP: ") {
            self.tally.skipped += 1;
            self.tally.passed -= 1;
        } else if let Part::Output(output) = &mut self.part {
            // Frames of a backtrace are indented, and would hide the message.
            if output.len() + line.len() < MAX_OUTPUT && !line.starts_with("  ") {
                output.push('\n');
                output.push_str(line);
            }
        } else if let (Part::Names, Some(name)) = (&self.part, line.strip_prefix("    ")) {
            let name = self.in_program(name);
            let told = |failure: &String| failure.lines().next() == Some(&name);
            if !self.tally.failures.iter().any(told) {
                self.fail(name);
            }
        }
    }

    fn in_program(&self, test: &str) -> String {
        match &self.program {
            Some(program) => format!("{program}: {test}"),
            None => test.to_owned(),
        }
    }

    fn end_output(&mut self) {
        if let Part::Output(output) = mem::take(&mut self.part) {
            self.fail(output);
        }
    }

    fn end_program(&mut self) {
        if let Some(program) = self.program.take() {
            let why = format!("{program}: the program did not get to its end");
            self.tally.add(Tally::failed(why));
        }
    }

    /// Keeps what failed; the program's own result counts it.
    fn fail(&mut self, failure: String) {
        if self.tally.failures.len() < MAX_FAILURES {
            self.tally.failures.push(failure);
        }
    }
}

/// The test in the line that precedes a failed one's output.
fn output_of(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

impl<W: Write> Write for Counter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        for &byte in &bytes[..written] {
            if byte == b'\n' {
                let line = mem::take(&mut self.line);
                self.line(&String::from_utf8_lossy(&line));
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
        counter.into_tally()
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
    }

    #[test]
    fn test_that_skips_itself_counts_as_skipped_not_passed() {
        let tally = count(
            "test one ... SKIP: no such device\nok\n\
             test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(tally.to_string(), "3 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn what_failed_is_told_again_without_its_backtrace() {
        let tally = count(
            "==> boot\n\
             test starts ... FAILED\n\n\
             failures:\n\n\
             ---- starts stdout ----\n\
             thread 'starts' panicked at tests/boot.rs:7:9:\n\
             no guest\n\
             stack backtrace:\n   \
                0: core::panicking::panic_fmt\n\n\
             failures:\n    starts\n    says_nothing\n\n\
             test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n",
        );
        assert_eq!(
            tally.to_string(),
            "FAILED boot: starts\n\
             thread 'starts' panicked at tests/boot.rs:7:9:\n\
             no guest\n\
             stack backtrace:\n\
             FAILED boot: says_nothing\n\
             1 passed, 2 failed, 0 skipped"
        );
    }

    #[test]
    fn program_without_a_result_has_failed() {
        let tally = count(
            "==> boot\n\
             ==> exec\n\
             test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n\
             ==> ends\n",
        );
        assert_eq!(
            tally.to_string(),
            "FAILED boot: the program did not get to its end\n\
             FAILED ends: the program did not get to its end\n\
             1 passed, 2 failed, 0 skipped"
        );
    }
}
