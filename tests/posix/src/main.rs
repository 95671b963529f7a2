//! `posix-suite DIR [--read-only DIR] [--slow] [FILTER…]`: what POSIX and Linux
//! say about files, checked on the file system of a folder.
//!
//! Each case runs in a process of its own, in an empty folder of its own, as
//! root with no umask. Prints a line for each case, with what was wrong below
//! it, and for each file of cases `NAME: N passed, M failed`. Exits with 1 when
//! a case failed. A filter is a part of `FILE: CASE`.
//!
//! A case is right when it passes on ext4 and on tmpfs.

mod calls;
mod cases;
mod check;
mod process;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use check::{Report, Verdict};

const USAGE: &str = "usage: posix-suite DIR [--read-only DIR] [--slow] [FILTER…]";

/// The argument that makes this program do nothing but wait.
pub const WAIT: &str = "--wait";

struct Args {
    folder: PathBuf,
    read_only: Option<PathBuf>,
    slow: bool,
    filters: Vec<String>,
}

fn main() -> ExitCode {
    // A copy of this program that a case runs, until the end of its input.
    if std::env::args().nth(1).as_deref() == Some(WAIT) {
        return match std::io::copy(&mut std::io::stdin(), &mut std::io::sink()) {
            Ok(_) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    let Some(args) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("posix-suite: {}: {error}", args.folder.display());
            ExitCode::from(2)
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Args> {
    let mut args = Args {
        folder: PathBuf::new(),
        read_only: None,
        slow: false,
        filters: Vec::new(),
    };
    let mut folder = None;
    while let Some(word) = words.next() {
        match word.as_str() {
            "--read-only" => args.read_only = Some(words.next()?.into()),
            "--slow" => args.slow = true,
            option if option.starts_with('-') => return None,
            _ if folder.is_none() => folder = Some(word),
            _ => args.filters.push(word),
        }
    }
    args.folder = folder?.into();
    Some(args)
}

/// Whether all went well.
fn run(args: &Args) -> std::io::Result<bool> {
    let base = std::fs::canonicalize(&args.folder)?;
    let read_only = args.read_only.as_deref();
    let read_only = read_only.map(std::fs::canonicalize).transpose()?;
    let (mut all_passed, mut all_failed) = (0, 0);
    for file in cases::FILES {
        let (mut passed, mut failed) = (0, 0);
        let wanted = file.cases.iter().filter(|case| {
            let name = format!("{}: {}", file.name, case.0);
            let named = args
                .filters
                .iter()
                .any(|filter| name.contains(filter.as_str()));
            named || args.filters.is_empty() && (args.slow || !file.slow)
        });
        for (number, (name, body)) in wanted.enumerate() {
            let folder = base.join(format!("{}.{number}", file.name));
            let report = run_one(&folder, read_only.as_deref(), *body)?;
            println!("{}: {name}: {}", file.name, report.verdict());
            for wrong in &report.wrong {
                println!("    {wrong}");
            }
            match report.verdict() {
                Verdict::Failed => failed += 1,
                _ => passed += 1,
            }
        }
        if passed + failed > 0 {
            println!("{}: {passed} passed, {failed} failed", file.name);
        }
        (all_passed, all_failed) = (all_passed + passed, all_failed + failed);
    }
    println!("all: {all_passed} passed, {all_failed} failed");
    Ok(all_failed == 0)
}

fn run_one(folder: &Path, read_only: Option<&Path>, body: fn()) -> std::io::Result<Report> {
    std::fs::create_dir(folder)?;
    let report = check::watch(|| {
        std::env::set_current_dir(folder).expect("the folder was just made");
        check::set_read_only(read_only);
        body();
    })?;
    // What a case left may be a hundred levels deep, or a mess to look at.
    std::fs::remove_dir_all(folder)?;
    Ok(report)
}
