//! What the benchmark of volumes runs in every guest: the rows, one after the
//! other, on one folder. Takes the times and prints `row NANOSECONDS
//! COUNT` for each, where the count is of bytes or of operations.
//!
//! `bench-workload folder=/mnt size=MIB operations=N files=N tree=N`. As the
//! first process of a guest without any other it loads modules and mounts the
//! folder itself, see `init`.

mod init;
mod rows;

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use rustix::mm::MlockAllFlags;

use rows::Rows;

/// The words `KEY=VALUE` of the command line.
pub struct Words(HashMap<String, String>);

impl Words {
    fn read() -> Result<Self> {
        let mut words = HashMap::new();
        for word in std::env::args().skip(1) {
            let Some((key, value)) = word.split_once('=') else {
                bail!("{word:?} is not KEY=VALUE");
            };
            words.insert(key.to_owned(), value.to_owned());
        }
        Ok(Words(words))
    }

    /// The value of `key`.
    pub fn text(&self, key: &str) -> Result<&str> {
        let value = self.0.get(key).map(String::as_str);
        value.with_context(|| format!("{key}= is missing"))
    }

    fn number(&self, key: &str) -> Result<usize> {
        let value = self.text(key)?;
        value
            .parse()
            .with_context(|| format!("{key}={value} is not a number"))
    }
}

fn main() -> Result<()> {
    let words = Words::read()?;
    let first = std::process::id() == 1;
    if first {
        init::prepare(&words)?;
    }
    // Else dropping the caches has it read its own pages again, from wherever
    // each guest has them, in the time of the next row.
    rustix::mm::mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE)
        .context("keep the program in memory")?;
    Rows {
        folder: words.text("folder")?.into(),
        size: words.number("size")? << 20,
        operations: words.number("operations")?,
        files: words.number("files")?,
        tree: words.number("tree")?,
    }
    .run()?;
    if first {
        init::finish(&words)?;
    }
    Ok(())
}
