//! Measures how fast folders of the host are in a guest, side by side in one
//! run: `shem`'s file system, C virtiofsd and 9p under QEMU, and a disk of each
//! as the yardstick.
//!
//! All guests run one kernel and one program, `bench-workload`, which takes the
//! times. Rounds go over all candidates, so that a machine that slows down does
//! so for each. Prints a table in Markdown; with `--plot` writes the plot too.

mod candidates;
mod host;
mod options;
mod plot;
mod table;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;

use anyhow::{Context, Result};

use candidates::{CANDIDATES, Candidate};
use host::Setup;
use options::Options;
use table::Table;

/// Times of each row by its name, in the order of the rounds: seconds for one
/// byte or one operation.
type Rows = BTreeMap<String, Vec<f64>>;

/// `cargo xtask bench volumes -- ARGS`.
pub fn run(arguments: impl Iterator<Item = OsString>) -> Result<()> {
    let options = Options::parse(arguments)?;
    let setup = Setup::new(&options)?;
    let chosen: Vec<&Candidate> = CANDIDATES
        .iter()
        .filter(|candidate| options.names(candidate.name))
        .collect();
    let mut table = Table::new(&options, setup.kernel());
    for candidate in &chosen {
        table.add(candidate.name);
    }
    for round in 1..=options.rounds {
        for candidate in &chosen {
            eprintln!("round {round} of {}: {}", options.rounds, candidate.name);
            let rows = candidate
                .measure(&setup)
                .with_context(|| format!("measure {}", candidate.name))?;
            table.note(candidate.name, rows);
        }
    }
    println!("{table}");
    if let Some(path) = &options.plot {
        fs::write(path, plot::draw(&table)).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
