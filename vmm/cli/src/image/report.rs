//! Tells how far a job is: bars on a terminal, lines elsewhere, JSON for programs, or
//! nothing.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::args::ReportArgs;

/// Time before the first line of a stage and between two: a short one has none.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Time between two events of a stage.
const EVENT_EVERY: Duration = Duration::from_millis(200);
/// Stage, bar, amounts, rate and time left.
const BAR: &str =
    "{msg:8} [{bar:30}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta} left";

/// What is written to, in errors.
pub const STDOUT: &str = "write to standard output";

/// In what form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Nothing,
    Json,
    Lines,
    Bars,
}

/// Where a job tells how far it is.
#[derive(Debug)]
pub struct Report {
    form: Form,
}

impl Report {
    /// As the command line asks.
    pub fn new(args: &ReportArgs) -> Self {
        let form = if args.quiet {
            Form::Nothing
        } else if args.json {
            Form::Json
        } else if io::stderr().is_terminal() {
            Form::Bars
        } else {
            Form::Lines
        };
        Report { form }
    }

    /// A stage of the job, told when it gets on.
    pub fn stage(&self, name: &'static str) -> Stage {
        Stage {
            name,
            form: self.form,
            begun: Instant::now(),
            told: None,
            bar: None,
        }
    }

    /// What of the source the image lacks.
    pub fn warning(&self, text: &str) -> Result<()> {
        match self.form {
            Form::Nothing => {}
            Form::Json => event(&json!({ "event": "warning", "text": text }))?,
            Form::Lines | Form::Bars => note!("shem: warning: {text}"),
        }
        Ok(())
    }

    /// The end of it: a line for people, or an object for programs, which gets the name
    /// of its event.
    pub fn done(&self, line: &str, mut object: Value) -> Result<()> {
        match self.form {
            Form::Nothing => {}
            Form::Json => {
                object["event"] = "done".into();
                event(&object)?;
            }
            Form::Lines | Form::Bars => note!("{line}"),
        }
        Ok(())
    }
}

/// A part of a job that goes on in bytes.
pub struct Stage {
    name: &'static str,
    form: Form,
    begun: Instant,
    /// When it was told of last, and with how much.
    told: Option<(Instant, u64)>,
    bar: Option<ProgressBar>,
}

impl Stage {
    /// `done` bytes of `total` are.
    pub fn set(&mut self, done: u64, total: u64) {
        match self.form {
            Form::Nothing => {}
            Form::Bars => {
                let bar = self.bar.get_or_insert_with(|| new_bar(self.name));
                bar.set_length(total);
                bar.set_position(done);
            }
            Form::Lines => {
                let first = self.begun.elapsed() >= LINE_EVERY;
                if self.is_due(done, total, first, LINE_EVERY) {
                    note!("{}: {} of {}", self.name, mib(done), mib(total));
                }
            }
            Form::Json => {
                if self.is_due(done, total, true, EVENT_EVERY) {
                    let stage = self.name;
                    let told = json!({ "event": "progress", "stage": stage, "done": done, "total": total });
                    // Whoever read it may be gone; the end of the job will tell.
                    let _ = event(&told);
                }
            }
        }
    }

    /// Whether this is to be told: when the `first` may be, from time to time, and the
    /// end of what was told of before.
    fn is_due(&mut self, done: u64, total: u64, first: bool, every: Duration) -> bool {
        let due = match self.told {
            None => first,
            Some((_, before)) if before == done => false,
            Some((when, _)) => done >= total || when.elapsed() >= every,
        };
        if due {
            self.told = Some((Instant::now(), done));
        }
        due
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn new_bar(name: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template(BAR).expect("the template is right");
    let bar = ProgressBar::new(0).with_message(name);
    bar.with_style(style.progress_chars("=> "))
}

/// Prints an event as a line.
fn event(object: &Value) -> Result<()> {
    writeln!(io::stdout(), "{object}").context(STDOUT)
}

/// Bytes in MiB, as people read them.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_told_at_its_start_and_its_end_and_not_at_each_step() {
        let report = Report { form: Form::Lines };
        let mut stage = report.stage("pack");
        let never = Duration::MAX;
        assert!(!stage.is_due(0, 9, false, Duration::ZERO));
        assert!(stage.is_due(0, 9, true, never));
        assert!(!stage.is_due(0, 9, true, Duration::ZERO));
        assert!(!stage.is_due(5, 9, true, never));
        assert!(stage.is_due(5, 9, true, Duration::ZERO));
        assert!(stage.is_due(9, 9, true, never));
        assert!(!stage.is_due(9, 9, true, never));
    }

    #[test]
    fn the_bar_s_template_is_right() {
        new_bar("fetch").set_position(1);
    }
}
