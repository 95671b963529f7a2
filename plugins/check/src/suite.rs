//! Which checks are made of a plugin, and what is told of each.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::check::{Check, Outcome, Task};
use crate::process::{self, Ended};

/// How much longer everything takes under valgrind.
const VALGRIND_FACTOR: u32 = 10;
/// Its exit status when it has found something.
const VALGRIND_FOUND: i32 = 99;

/// The checks of a plugin.
pub struct Suite {
    /// The command that does [`carry_out`](crate::carry_out) with the plugin and a
    /// task, which is added as the last argument.
    pub command: Vec<OsString>,
    /// The driver to check; `None`: each.
    pub driver: Option<String>,
    /// The configuration of its devices; `None`: the smallest that its schema allows.
    pub config: Option<Value>,
    /// Longest time of a check.
    pub limit: Duration,
}

/// What is told of a check.
#[derive(Clone, Debug)]
pub struct Line {
    /// `None` for a check of the library.
    pub driver: Option<String>,
    /// Which one.
    pub check: Check,
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is well, and what was seen.
    Ok(String),
    /// What is wrong.
    Failed(String),
    /// It was not made, and why.
    Skipped(String),
}

/// The checks could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// A process could not be started or waited for.
    #[error("run a check in a process of its own")]
    Process(#[from] io::Error),
    /// The plugin does not have the driver.
    #[error("the plugin has no driver {name:?}; it has {}", known.join(", "))]
    UnknownDriver {
        /// As asked for.
        name: String,
        /// The plugin's.
        known: Vec<String>,
    },
    /// One configuration for many drivers.
    #[error("a configuration is for one driver: say which of {} by --driver", known.join(", "))]
    WhichDriver {
        /// The plugin's.
        known: Vec<String>,
    },
}

impl Suite {
    /// Makes the checks and tells of each as soon as it is over. Those that need what
    /// another has found broken are left out.
    pub fn run(&self, mut told: impl FnMut(Line)) -> Result<(), SuiteError> {
        let (verdict, drivers) = self.attempt(Check::Load, None)?;
        let loaded = matches!(verdict, Verdict::Ok(_));
        told(Line {
            driver: None,
            check: Check::Load,
            verdict,
        });
        let drivers = if loaded {
            self.chosen(drivers)?
        } else {
            Vec::new()
        };
        for driver in drivers {
            let mut failed = Vec::new();
            for check in Check::OF_DRIVERS {
                if check.needs().is_some_and(|needed| failed.contains(&needed)) {
                    failed.push(check);
                    continue;
                }
                let (verdict, _) = self.attempt(check, Some(&driver))?;
                if matches!(verdict, Verdict::Failed(_)) {
                    failed.push(check);
                }
                told(Line {
                    driver: Some(driver.clone()),
                    check,
                    verdict,
                });
            }
        }
        Ok(())
    }

    fn chosen(&self, known: Vec<String>) -> Result<Vec<String>, SuiteError> {
        match &self.driver {
            Some(name) if known.contains(name) => Ok(vec![name.clone()]),
            Some(name) => Err(SuiteError::UnknownDriver {
                name: name.clone(),
                known,
            }),
            None if self.config.is_some() && known.len() > 1 => {
                Err(SuiteError::WhichDriver { known })
            }
            None => Ok(known),
        }
    }

    fn attempt(
        &self,
        check: Check,
        driver: Option<&String>,
    ) -> Result<(Verdict, Vec<String>), SuiteError> {
        let task = Task {
            check,
            driver: driver.cloned(),
            config: driver.and(self.config.clone()),
        };
        let task = serde_json::to_string(&task).map_err(io::Error::from)?;
        let valgrind = check == Check::Memory;
        let mut argv: Vec<OsString> = Vec::new();
        if valgrind {
            let found = format!("--error-exitcode={VALGRIND_FOUND}");
            let options = ["--quiet", "--leak-check=full", "--show-leak-kinds=definite"];
            argv.extend(["valgrind", &found].map(OsString::from));
            argv.extend(options.map(OsString::from));
            argv.push("--errors-for-leak-kinds=definite".into());
        }
        argv.extend(self.command.iter().cloned());
        argv.push(task.into());
        let mut command = Command::new(&argv[0]);
        command.args(&argv[1..]);
        let limit = self.limit * if valgrind { VALGRIND_FACTOR } else { 1 };
        match process::run(command, limit, valgrind) {
            Ok(ended) => Ok(judge(&ended, limit)),
            Err(error) if valgrind && error.kind() == io::ErrorKind::NotFound => {
                let why = "valgrind is not installed".into();
                Ok((Verdict::Skipped(why), Vec::new()))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// What a process that has ended says of the plugin.
fn judge(ended: &Ended, limit: Duration) -> (Verdict, Vec<String>) {
    let mut lines: Vec<&str> = ended.out.lines().collect();
    let outcome = lines
        .last()
        .and_then(|last| serde_json::from_str(last).ok());
    if outcome.is_some() {
        lines.pop();
    }
    let stage = lines.last().unwrap_or(&"the start");
    let failed = |text: String| (Verdict::Failed(text), Vec::new());
    if ended.late {
        let seconds = limit.as_secs();
        return failed(format!("still not done after {seconds} s, in {stage}"));
    }
    if let Some(signal) = ended.status.signal() {
        let name = Signal::try_from(signal).map_or("an unknown signal", Signal::as_str);
        return failed(format!("it crashed with {name} in {stage}"));
    }
    if ended.status.code() == Some(VALGRIND_FOUND) && outcome.is_some() {
        eprint!("{}", ended.err);
        return failed(valgrind_said(&ended.err));
    }
    let Some(Outcome { verdict, drivers }) = outcome else {
        let status = ended.status.code().unwrap_or_default();
        return failed(format!(
            "it ended the process with status {status} in {stage}"
        ));
    };
    match verdict {
        Ok(text) => (Verdict::Ok(text), drivers),
        Err(text) => failed(text),
    }
}

/// The first thing that valgrind found, and where.
fn valgrind_said(report: &str) -> String {
    // ==PID== text
    let text = |line: &'_ str| {
        Some(
            line.strip_prefix("==")?
                .split_once("== ")?
                .1
                .trim()
                .to_owned(),
        )
    };
    let mut lines = report
        .lines()
        .filter_map(text)
        .filter(|line| !line.is_empty());
    let what = lines.next().unwrap_or_else(|| "an error".into());
    // at 0xADDRESS: function (file:line)
    let place = lines.find(|line| !line.contains("vgpreload"));
    let place = place.as_deref().and_then(|line| line.split_once(": "));
    let place = place.map_or(String::new(), |(_, place)| format!(" at {place}"));
    format!("valgrind found: {what}{place}; all of it is above")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_find_of_valgrind_is_told_with_its_place() {
        let report = "a word of the plugin\n==7== 13 bytes are lost\n\
                      ==7==    at 0x48: malloc (in vgpreload.so)\n\
                      ==7==    by 0x49: create (bad.c:12)\n==7== \n";
        let text = valgrind_said(report);
        assert!(
            text.contains("13 bytes are lost at create (bad.c:12)"),
            "{text}"
        );
    }
}
