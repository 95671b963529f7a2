//! `fs-exerciser DIR [--seed N] [--operations N] [--processes N] [--size N]`:
//! random operations on files of a folder, checked against a model in memory.
//!
//! One process changes one file by every way there is. With `--processes` as
//! many work in one tree, each with a seed of its own. The same seed makes the
//! same operations. On a difference it prints the seed and the last operations,
//! leaves the files as they are, and exits with 1.

mod data;
mod log;
mod random;
mod tree;

use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};

use random::Random;

const USAGE: &str =
    "usage: fs-exerciser DIR [--seed N] [--operations N] [--processes N] [--size N]";
/// All data is compared after so many operations, and at the end.
const CHECK_EVERY: usize = 500;

struct Args {
    folder: PathBuf,
    seed: u64,
    operations: usize,
    processes: usize,
    /// Which of the processes this is.
    part: Option<usize>,
    /// Most bytes of the file.
    size: usize,
}

fn main() -> ExitCode {
    let Some(args) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let outcome = match (args.processes, args.part) {
        (0, _) => one_file(&args),
        (_, Some(part)) => one_of_many(&args, part),
        (_, None) => many(&args),
    };
    match outcome {
        Ok(()) => {
            println!(
                "{} operations, seed {}: no difference",
                args.operations, args.seed
            );
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            println!("seed {}: {wrong}", args.seed);
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Args> {
    let mut args = Args {
        folder: words.next().filter(|word| !word.starts_with('-'))?.into(),
        seed: 1,
        operations: 1000,
        processes: 0,
        part: None,
        size: 1 << 20,
    };
    while let Some(word) = words.next() {
        let value = words.next()?;
        match word.as_str() {
            "--seed" => args.seed = value.parse().ok()?,
            "--operations" => args.operations = value.parse().ok()?,
            "--processes" => args.processes = value.parse().ok()?,
            "--part" => args.part = Some(value.parse().ok()?),
            "--size" => args.size = value.parse().ok().filter(|size| *size >= 8192)?,
            _ => return None,
        }
    }
    Some(args)
}

fn one_file(args: &Args) -> Result<(), String> {
    let path = args.folder.join(format!("exercise.{}", args.seed));
    let exercise = data::Exercise::new(&path, args.size, Random::new(args.seed));
    let mut exercise = exercise.map_err(|error| format!("{}: {error}", path.display()))?;
    for number in 1..=args.operations {
        let mut outcome = exercise.step();
        if outcome.is_ok() && (number % CHECK_EVERY == 0 || number == args.operations) {
            outcome = exercise.check_all();
        }
        outcome.map_err(|wrong| format!("{wrong}\n{}", exercise.log.tail()))?;
    }
    std::fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))
}

fn one_of_many(args: &Args, part: usize) -> Result<(), String> {
    let random = Random::new(args.seed.wrapping_add(part as u64) << 20);
    let exercise = tree::Exercise::new(&args.folder, part, args.processes, random);
    let mut exercise = exercise.map_err(|error| format!("process {part}: {error}"))?;
    for number in 1..=args.operations {
        let mut outcome = exercise.step();
        if outcome.is_ok() && (number % CHECK_EVERY == 0 || number == args.operations) {
            outcome = exercise.check_all();
        }
        outcome.map_err(|wrong| format!("process {part}: {wrong}\n{}", exercise.log.tail()))?;
    }
    Ok(())
}

/// Runs this program once for each part.
fn many(args: &Args) -> Result<(), String> {
    let folder = args.folder.join(format!("tree.{}", args.seed));
    std::fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let start = |part: usize| -> std::io::Result<Child> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(&folder);
        for (option, value) in [
            ("--seed", args.seed),
            ("--operations", args.operations as u64),
            ("--processes", args.processes as u64),
            ("--part", part as u64),
        ] {
            command.arg(option).arg(value.to_string());
        }
        command.stdout(std::io::stderr()).spawn()
    };
    let children: Vec<_> = (0..args.processes).map(start).collect();
    let mut failed = 0;
    for child in children {
        let end = child.and_then(|mut child| child.wait());
        failed += usize::from(!end.is_ok_and(|end| end.success()));
    }
    if failed > 0 {
        return Err(format!("{failed} of {} processes failed", args.processes));
    }
    std::fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))
}
