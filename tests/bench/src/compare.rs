//! Candidates side by side: each in a guest of its own, in every round one after the
//! other, so that a machine that slows down does so for all.

use std::fs;
use std::thread::available_parallelism;

use anyhow::{Context, Result};

use crate::host::{processor, wash};
use crate::options::Options;
use crate::plot;
use crate::rows::Rows;
use crate::table::{Ratio, Row, Table};

/// One candidate.
pub struct Candidate<Way: 'static> {
    /// For the table.
    pub name: &'static str,
    /// How it does what is measured.
    pub way: Way,
}

/// What is compared.
pub struct Subject<Way: 'static> {
    /// For the plot.
    pub title: &'static str,
    pub candidates: &'static [Candidate<Way>],
    pub rows: &'static [Row],
    pub ratios: &'static [Ratio],
}

impl<Way> Subject<Way> {
    /// Measures the chosen candidates, prints the table in Markdown, and writes the plot
    /// where one is wanted.
    pub fn compare(
        &self,
        options: &Options,
        kernel: &str,
        measure: impl Fn(&Way) -> Result<Rows>,
    ) -> Result<()> {
        let candidates = self.candidates.iter();
        let chosen: Vec<_> = candidates
            .filter(|candidate| options.names(candidate.name))
            .collect();
        let mut table = Table::new(self.rows, self.ratios, caption(options, kernel));
        for candidate in &chosen {
            table.add(candidate.name);
        }
        for round in 1..=options.rounds {
            for Candidate { name, way } in &chosen {
                eprintln!("round {round} of {}: {name}", options.rounds);
                wash();
                table.note(
                    name,
                    measure(way).with_context(|| format!("measure {name}"))?,
                );
            }
        }
        println!("{table}");
        if let Some(path) = &options.plot {
            let plot = plot::draw(&table, self.title);
            fs::write(path, plot).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }
}

fn caption(options: &Options, kernel: &str) -> String {
    let cpus = available_parallelism().map_or(0, usize::from);
    format!(
        "{} rounds, alternating; {}; guests of 1 CPU with kernel {kernel} on {cpus} CPU {}; \
         median (minimum to maximum)",
        options.rounds,
        options.words().join(" "),
        processor()
    )
}
