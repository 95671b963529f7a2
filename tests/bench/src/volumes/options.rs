//! The words after `volumes`.

use std::ffi::OsString;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// How much is measured.
pub struct Options {
    /// Times that every candidate is measured.
    pub rounds: usize,
    /// Words for the workload: how much it does.
    pub amounts: Vec<(&'static str, usize)>,
    /// Candidates whose names contain one of these, all when empty.
    only: Vec<String>,
    /// Where to put the plot.
    pub plot: Option<PathBuf>,
}

const USAGE: &str =
    "[ROUNDS] [size=MIB] [operations=N] [files=N] [tree=N] [only=NAME]… [plot=FILE]";

impl Options {
    /// Reads `USAGE`.
    pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self> {
        let mut options = Options {
            rounds: 3,
            amounts: vec![
                ("size", 64),
                ("operations", 2_000),
                ("files", 10_000),
                ("tree", 4_000),
            ],
            only: Vec::new(),
            plot: None,
        };
        for argument in arguments {
            let argument = argument.to_string_lossy();
            let number = |text: &str| {
                let number: Option<usize> = text.parse().ok().filter(|number| *number > 0);
                number.with_context(|| format!("{argument}: use {USAGE}"))
            };
            match argument.split_once('=') {
                None => options.rounds = number(&argument)?,
                Some(("only", name)) => options.only.push(name.to_owned()),
                Some(("plot", path)) => options.plot = Some(path.into()),
                Some((key, value)) => {
                    let amount = options.amounts.iter_mut().find(|(name, _)| *name == key);
                    let Some((_, amount)) = amount else {
                        bail!("{argument}: use {USAGE}");
                    };
                    *amount = number(value)?;
                }
            }
        }
        Ok(options)
    }

    /// Whether the candidate is to be measured.
    pub fn names(&self, candidate: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| candidate.contains(&**part))
    }
}
