//! The table: a row for each thing that the program in the guest does, a column for each
//! candidate.

use std::fmt;

use crate::rows::Rows;

/// A row: its name in the program's output, its name in the table, and in
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

/// A row, where the unit is in its title too.
pub const fn row(key: &'static str, title: &'static str, unit: Unit) -> Row {
    Row { key, title, unit }
}

/// What was measured.
pub struct Table {
    rows: &'static [Row],
    ratios: &'static [Ratio],
    caption: String,
    columns: Vec<(&'static str, Rows)>,
}

/// Candidates that are compared: how many times as fast the first is.
pub type Ratio = (&'static str, &'static str);

/// A median with the smallest and the largest.
#[derive(Clone, Copy)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Table {
    /// One without columns; the caption tells of the conditions.
    pub fn new(rows: &'static [Row], ratios: &'static [Ratio], caption: String) -> Self {
        Table {
            rows,
            ratios,
            caption,
            columns: Vec::new(),
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

    /// The rows, measured or not.
    pub fn rows(&self) -> &'static [Row] {
        self.rows
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
        for (ours, theirs) in self.ratios {
            write!(f, " {ours} : {theirs} |")?;
        }
        let columns = 1 + self.columns.len() + self.ratios.len();
        writeln!(f, "\n|{}", " --- |".repeat(columns))?;
        for row in self.rows {
            write!(f, "| {} |", row.title)?;
            for name in self.columns() {
                write!(f, " {} |", self.cell(row, name))?;
            }
            for (ours, theirs) in self.ratios {
                write!(f, " {} |", self.ratio(row, ours, theirs))?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: &[Row] = &[
        row("write", "write (MiB/s)", Unit::Rate),
        row("stat", "stat a file (µs)", Unit::Each),
        row("unlink", "unlink a file (µs)", Unit::Each),
    ];

    fn table(columns: &[(&'static str, [f64; 3])]) -> Table {
        let mut table = Table::new(ROWS, &[("ours", "theirs"), ("ours", "none")], "Once".into());
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
        let table = table(&[("ours", [0.02, 0.01, 0.04]), ("theirs", [0.06; 3])]);
        let expected = "Once\n\n\
            | | ours | theirs | ours : theirs | ours : none |\n\
            | --- | --- | --- | --- | --- |\n\
            | write (MiB/s) | 48 (24 to 95) | 16 (16 to 16) | 3.00 |  |\n\
            | stat a file (µs) | 20 (10 to 40) | 60 (60 to 60) | 3.00 |  |\n\
            | unlink a file (µs) |  |  |  |  |\n";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn plot_has_a_bar_for_each_figure() {
        let table = table(&[("ours", [1.0; 3]), ("theirs", [2.0; 3])]);
        let svg = crate::plot::draw(&table, "Title");
        // Two rows of two candidates, and the ground.
        assert_eq!(svg.matches("<rect").count(), 5);
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    }
}
