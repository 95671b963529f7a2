//! The table: a row for each thing that the workload does, a column for each
//! candidate.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::thread::available_parallelism;

use super::Rows;
use super::options::Options;

/// A row: its name in the workload's output, its name in the table, and in
/// which unit it is told.
pub struct Row {
    pub key: &'static str,
    pub title: &'static str,
    pub unit: Unit,
}

/// What is told of the time for one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Throughput in MiB/s.
    Rate,
    /// Microseconds each.
    Each,
}

/// All rows in order.
pub const ROWS: &[Row] = &[
    row("write", "write, 1 MiB blocks, fsync (MiB/s)", Unit::Rate),
    row("read", "read, 1 MiB blocks (MiB/s)", Unit::Rate),
    row("random read", "random read, 4 KiB (µs)", Unit::Each),
    row(
        "random write",
        "random write, 4 KiB, one fsync (µs)",
        Unit::Each,
    ),
    row("create", "create a file (µs)", Unit::Each),
    row("stat", "stat a file (µs)", Unit::Each),
    row("unlink", "unlink a file (µs)", Unit::Each),
    row("unpack", "unpack a tree, each file (µs)", Unit::Each),
    row("find", "list and stat it, each file (µs)", Unit::Each),
    row("read tree", "read it, each file (µs)", Unit::Each),
];

const fn row(key: &'static str, title: &'static str, unit: Unit) -> Row {
    Row { key, title, unit }
}

/// Candidates that are compared: how many times as fast the first is.
const RATIOS: &[(&str, &str)] = &[
    ("shem coherent", "virtiofsd none"),
    ("shem coherent", "virtiofsd auto"),
    ("shem exclusive", "virtiofsd always"),
    ("shem coherent", "9p"),
    ("shem exclusive", "9p"),
];

/// What was measured.
pub struct Table {
    columns: Vec<(&'static str, BTreeMap<String, Vec<f64>>)>,
    caption: String,
}

/// A median with the smallest and the largest.
#[derive(Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Table {
    /// One without columns.
    pub fn new(options: &Options, kernel: String) -> Self {
        let amounts: Vec<String> = options
            .amounts
            .iter()
            .map(|(name, amount)| format!("{name} {amount}"))
            .collect();
        let cpus = available_parallelism().map_or(0, usize::from);
        Table {
            columns: Vec::new(),
            caption: format!(
                "{} rounds, alternating; {}; guests of 1 CPU with kernel {kernel} on {cpus} CPU {}; \
                 median (minimum to maximum)",
                options.rounds,
                amounts.join(", "),
                processor()
            ),
        }
    }

    /// One more column.
    pub fn add(&mut self, candidate: &'static str) {
        self.columns.push((candidate, Rows::new()));
    }

    /// Keeps what one round gave for a candidate that was added.
    pub fn note(&mut self, candidate: &str, rows: Rows) {
        let column = self.columns.iter_mut().find(|(name, _)| *name == candidate);
        let (_, column) = column.expect("the candidate was added");
        for (row, times) in rows {
            column.entry(row).or_default().extend(times);
        }
    }

    /// Names of the columns.
    pub fn columns(&self) -> impl Iterator<Item = &'static str> {
        self.columns.iter().map(|(name, _)| *name)
    }

    /// What is known of the conditions.
    pub fn caption(&self) -> &str {
        &self.caption
    }

    /// Seconds for one.
    pub fn spread(&self, row: &Row, candidate: &str) -> Option<Spread> {
        let (_, column) = self.columns.iter().find(|(name, _)| *name == candidate)?;
        let mut times = column.get(row.key)?.clone();
        times.sort_unstable_by(f64::total_cmp);
        Some(Spread {
            median: times[times.len() / 2],
            least: *times.first()?,
            most: *times.last()?,
        })
    }

    fn cell(&self, row: &Row, candidate: &str) -> String {
        let Some(times) = self.spread(row, candidate) else {
            return String::new();
        };
        let Spread {
            median,
            least,
            most,
        } = times;
        let rate = |time: f64| 1.0 / time / f64::from(1 << 20);
        let each = |time: f64| time * 1e6;
        let (median, first, last) = match row.unit {
            Unit::Rate => (rate(median), rate(most), rate(least)),
            Unit::Each => (each(median), each(least), each(most)),
        };
        format!("{median:.0} ({first:.0} to {last:.0})")
    }

    fn ratio(&self, row: &Row, ours: &str, theirs: &str) -> String {
        match (self.spread(row, ours), self.spread(row, theirs)) {
            (Some(ours), Some(theirs)) => format!("{:.2}", theirs.median / ours.median),
            _ => String::new(),
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.caption)?;
        write!(f, "| |")?;
        self.columns().try_for_each(|name| write!(f, " {name} |"))?;
        for (ours, theirs) in RATIOS {
            write!(f, " {ours} : {theirs} |")?;
        }
        let columns = 1 + self.columns.len() + RATIOS.len();
        writeln!(f, "\n|{}", " --- |".repeat(columns))?;
        for row in ROWS {
            write!(f, "| {} |", row.title)?;
            for name in self.columns() {
                write!(f, " {} |", self.cell(row, name))?;
            }
            for (ours, theirs) in RATIOS {
                write!(f, " {} |", self.ratio(row, ours, theirs))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The processor's name, and whether it is an emulated one.
fn processor() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let name = name.map_or("of unknown kind", |(_, name)| name);
    let vendor = fs::read_to_string("/sys/class/dmi/id/sys_vendor").unwrap_or_default();
    match vendor.trim() {
        "QEMU" => format!("{name} emulated by QEMU"),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: &[(&'static str, [f64; 3])]) -> Table {
        let options = Options::parse(std::iter::empty()).unwrap();
        let mut table = Table::new(&options, "kernel 1".into());
        for (name, times) in columns {
            table.add(name);
            for time in times {
                let rows = [("write", time / 1e6), ("stat", time / 1e3)];
                let rows = rows.map(|(row, time)| (row.to_owned(), vec![time]));
                table.note(name, rows.into_iter().collect());
            }
        }
        table
    }

    #[test]
    fn medians_stand_before_the_extremes_and_ratios_say_how_much_faster_we_are() {
        let text = table(&[
            ("shem coherent", [0.02, 0.01, 0.04]),
            ("9p", [0.06, 0.06, 0.06]),
        ])
        .to_string();
        assert!(
            text.contains(
                "| stat a file (µs) | 20 (10 to 40) | 60 (60 to 60) |  |  |  | 3.00 |  |"
            )
        );
        assert!(text.contains("| 48 (24 to 95) | 16 (16 to 16) |"), "{text}");
    }

    #[test]
    fn plot_has_a_bar_for_each_figure() {
        let table = table(&[("shem coherent", [1.0; 3]), ("9p", [2.0; 3])]);
        let svg = super::super::plot::draw(&table);
        // Two rows of two candidates, and the ground.
        assert_eq!(svg.matches("<rect").count(), 5);
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    }
}
