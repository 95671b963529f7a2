//! `shem plugin check`: the checks of `plugin_check`, each in a process of this
//! program.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use plugin_check::{Line, Suite, Verdict, carry_out};
use serde_json::json;

use crate::args::CheckArgs;
use crate::status;

/// Carries the command out for the plugin in the file at `path`.
pub fn run(path: &Path, args: CheckArgs) -> Result<u8> {
    if let Some(task) = args.inner {
        carry_out(path, &task).context("make a check")?;
        return Ok(status::SUCCESS);
    }
    let program = std::env::current_exe().context("find this program")?;
    // The others have the path with a / in it that is a path for all.
    let path = std::path::absolute(path).context("find this folder")?;
    let mut command = vec![program.into_os_string()];
    command.extend(verbosity().map(Into::into));
    command.extend(["plugin", "check"].map(Into::into));
    command.extend([path.into_os_string(), "--inner".into()]);
    let suite = Suite {
        command,
        driver: args.driver,
        config: args.config,
        limit: args.limit,
    };
    let mut told = Vec::new();
    let mut printed = Ok(());
    suite.run(|line| {
        if !args.json && printed.is_ok() {
            printed = print(&text(&line));
        }
        told.push(line);
    })?;
    printed?;
    if args.json {
        let list: Vec<_> = told.iter().map(as_json).collect();
        print(&serde_json::to_string_pretty(&list)?)?;
    } else {
        print(&summary(&told))?;
    }
    let failed = told
        .iter()
        .any(|line| matches!(line.verdict, Verdict::Failed(_)));
    Ok(if failed {
        status::UNHEALTHY
    } else {
        status::SUCCESS
    })
}

/// Has the processes say as much as this one.
fn verbosity() -> impl Iterator<Item = &'static str> {
    let count = (log::max_level() as usize).saturating_sub(log::LevelFilter::Warn as usize);
    std::iter::repeat_n("--verbose", count)
}

fn print(line: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{line}")
}

/// A verdict as a word and its text.
fn parts(verdict: &Verdict) -> (&'static str, &str) {
    match verdict {
        Verdict::Ok(text) => ("ok", text),
        Verdict::Failed(text) => ("FAIL", text),
        Verdict::Skipped(text) => ("skip", text),
    }
}

fn text(line: &Line) -> String {
    let (word, text) = parts(&line.verdict);
    let check = match &line.driver {
        Some(driver) => format!("{driver} {}", line.check),
        None => line.check.to_string(),
    };
    format!("{word:4} {check}: {text}")
}

fn as_json(line: &Line) -> serde_json::Value {
    let (word, text) = parts(&line.verdict);
    let word = word.to_ascii_lowercase();
    json!({ "Driver": line.driver, "Check": line.check.to_string(), "Verdict": word, "Text": text })
}

fn summary(told: &[Line]) -> String {
    let count = |word| {
        told.iter()
            .filter(|line| parts(&line.verdict).0 == word)
            .count()
    };
    let (failed, skipped) = (count("FAIL"), count("skip"));
    let skipped = match skipped {
        0 => String::new(),
        count => format!(", {count} skipped"),
    };
    let checks = if told.len() == 1 { "check" } else { "checks" };
    format!("{} {checks}, {failed} failed{skipped}", told.len())
}
