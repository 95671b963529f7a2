//! What a guest measures, by the lines that it prints.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::run::start;
use crate::table::Row;

/// Times of each row by its name, in the order of the rounds: seconds for one
/// byte or one operation.
pub type Rows = BTreeMap<String, Vec<f64>>;

/// What a guest prints last that does not end by itself.
pub const END: &str = "bench: end";
/// Longest time that one row may take.
const LIMIT: Duration = Duration::from_secs(1200);

/// All of these rows, from the guest that `command` starts. The guest is killed after its
/// last line.
pub fn of_guest(command: Command, expected: &[Row]) -> Result<Rows> {
    let name = format!("{command:?}");
    let (running, reader) = start(command)?;
    let (lines, printed) = mpsc::channel();
    let watcher = std::thread::spawn(move || follow(reader, &lines));
    let mut rows = Rows::new();
    let mut seen = String::new();
    // Until it says so, has ended, or says nothing.
    while let Ok(line) = printed.recv_timeout(LIMIT) {
        if line.contains(END) {
            break;
        }
        if let Some((row, time)) = parse(&line) {
            rows.entry(row).or_default().push(time);
        }
        seen += &line;
        seen.push('\n');
    }
    drop(running);
    let _ = watcher.join();
    if expected.iter().any(|row| !rows.contains_key(row.key)) {
        bail!("not all rows came from {name}, but:\n{seen}");
    }
    Ok(rows)
}

fn follow(reader: impl Read, lines: &mpsc::Sender<String>) {
    for line in BufReader::new(reader).lines().map_while(Result::ok) {
        if lines.send(line).is_err() {
            return;
        }
    }
}

/// `row NANOSECONDS COUNT NAME`: the name, and the seconds for one.
fn parse(line: &str) -> Option<(String, f64)> {
    let (_, row) = line.split_once("row ")?;
    let mut words = row.trim_end().splitn(3, ' ');
    let nanoseconds: f64 = words.next()?.parse().ok()?;
    let count: f64 = words.next()?.parse().ok()?;
    Some((words.next()?.to_owned(), nanoseconds / 1e9 / count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Unit, row};

    const ROWS: &[Row] = &[row("a", "a", Unit::Each), row("b c", "b c", Unit::Each)];

    fn of_script(script: &str) -> Result<Rows> {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        of_guest(shell, ROWS)
    }

    #[test]
    fn row_is_read_behind_whatever_the_console_says_before_it() {
        let (name, time) = parse("[    1.0] row 3000000000 1500 random read\r").unwrap();
        assert_eq!((&*name, time), ("random read", 0.002));
        for line in ["", "row", "row 1 2", "row one 2 read"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }

    #[test]
    fn guest_is_heard_to_its_end_or_to_its_word() {
        let rows = "echo row 2000000000 2 a; echo row 1000000000 2 b c";
        for end in ["", "; echo 'bench: end'; exec sleep 1000"] {
            let rows = of_script(&format!("{rows}{end}")).unwrap();
            assert_eq!((&*rows["a"], &*rows["b c"]), (&[1.0][..], &[0.5][..]));
        }
    }

    #[test]
    fn guest_without_all_rows_fails_with_what_it_said() {
        let error = of_script("echo row 1 1 a; echo oops >&2").unwrap_err();
        assert!(
            error.to_string().ends_with("but:\nrow 1 1 a\noops\n"),
            "{error}"
        );
    }
}
