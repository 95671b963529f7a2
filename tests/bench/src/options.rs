//! The words after the name of a benchmark that compares.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// Times that every candidate is measured unless told otherwise.
const ROUNDS: usize = 3;

/// How often or in which size a candidate does something.
#[derive(Clone)]
pub struct Amount {
    name: &'static str,
    unit: &'static str,
    number: usize,
}

/// An amount and what it is unless told otherwise.
pub const fn amount(name: &'static str, unit: &'static str, number: usize) -> Amount {
    Amount { name, unit, number }
}

/// How much is measured.
pub struct Options {
    /// Times that every candidate is measured.
    pub rounds: usize,
    /// How much each does in a round.
    amounts: Vec<Amount>,
    /// Candidates whose names contain one of these, all when empty.
    only: Vec<String>,
    /// Where to put the plot.
    pub plot: Option<PathBuf>,
}

impl Options {
    /// Reads `[ROUNDS] [AMOUNT=NUMBER]… [only=NAME]… [plot=FILE]`, where the amounts are
    /// these unless told otherwise.
    pub fn parse(arguments: impl Iterator<Item = OsString>, amounts: &[Amount]) -> Result<Self> {
        let mut options = Options {
            rounds: ROUNDS,
            amounts: amounts.to_vec(),
            only: Vec::new(),
            plot: None,
        };
        let usage = usage(amounts);
        for argument in arguments {
            let argument = argument.to_string_lossy();
            let number = |text: &str| {
                let number: Option<usize> = text.parse().ok().filter(|number| *number > 0);
                number.with_context(|| format!("{argument}: use {usage}"))
            };
            match argument.split_once('=') {
                None => options.rounds = number(&argument)?,
                Some(("only", name)) => options.only.push(name.to_owned()),
                Some(("plot", path)) => options.plot = Some(path.into()),
                Some((key, value)) => {
                    let mut amounts = options.amounts.iter_mut();
                    let Some(amount) = amounts.find(|amount| amount.name == key) else {
                        bail!("{argument}: use {usage}");
                    };
                    amount.number = number(value)?;
                }
            }
        }
        Ok(options)
    }

    /// The number of an amount that was among those to parse.
    pub fn amount(&self, name: &str) -> usize {
        let mut amounts = self.amounts.iter();
        let amount = amounts.find(|amount| amount.name == name);
        amount.expect("the amount is one of the benchmark's").number
    }

    /// All amounts as they are told.
    pub fn words(&self) -> Vec<String> {
        let amounts = self.amounts.iter();
        amounts
            .map(|amount| format!("{}={}", amount.name, amount.number))
            .collect()
    }

    /// Whether the candidate is to be measured.
    pub fn names(&self, candidate: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| candidate.contains(&**part))
    }
}

fn usage(amounts: &[Amount]) -> String {
    let mut usage = String::from("[ROUNDS]");
    for Amount { name, unit, .. } in amounts {
        // Writing to a string cannot fail.
        let _ = write!(usage, " [{name}={unit}]");
    }
    usage + " [only=NAME]… [plot=FILE]"
}

#[cfg(test)]
mod tests {
    use super::*;

    const AMOUNTS: &[Amount] = &[amount("size", "MIB", 64), amount("files", "N", 100)];

    fn parse(words: &[&str]) -> Result<Options> {
        Options::parse(words.iter().map(OsString::from), AMOUNTS)
    }

    #[test]
    fn what_is_not_said_stays_as_it_is() {
        let options = parse(&["5", "files=7", "only=disk", "only=9p", "plot=a.svg"]).unwrap();
        assert_eq!(options.rounds, 5);
        assert_eq!((options.amount("size"), options.amount("files")), (64, 7));
        assert_eq!(options.words(), ["size=64", "files=7"]);
        assert_eq!(options.plot, Some("a.svg".into()));
        let names = ["shem disk", "9p", "shem coherent"].map(|name| options.names(name));
        assert_eq!(names, [true, true, false]);
        let options = parse(&[]).unwrap();
        assert!(options.names("9p"));
        assert_eq!((options.rounds, options.plot), (ROUNDS, None));
    }

    #[test]
    fn other_words_are_refused_with_those_that_there_are() {
        for word in ["x", "0", "size=0", "size=x", "trees=1"] {
            let error = parse(&[word]).err().unwrap().to_string();
            let usage = "[ROUNDS] [size=MIB] [files=N] [only=NAME]… [plot=FILE]";
            assert_eq!(error, format!("{word}: use {usage}"));
        }
    }
}
