//! The project's own commands: `cargo xtask run`, `test`, `lab`, `kernel`, `deb`,
//! `ci`, `fuzz` and `bench`. Each sets up what it needs by itself.

mod args;
mod checks;
mod deb;
mod debian_image;
mod debian_root;
mod debian_tree;
mod fuzz;
mod guest;
mod kernel;
mod lab;
mod newcomer;
mod packages;
mod paths;
mod place;
mod process;
mod registry;
mod tally;
mod tests;
mod tool;

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Result;
use clap::Parser;

use args::{Args, BenchName, LabArgs, Task};
use kernel::Pack;
use place::Place;

/// Exit status when the command that we should run did not get to its own.
const OUR_FAILURE: u8 = 125;

fn main() -> ExitCode {
    let task = Args::parse().task;
    let runs_a_command = matches!(task, Task::Run { .. } | Task::Lab(_));
    match perform(task) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            if runs_a_command {
                ExitCode::from(OUR_FAILURE)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn perform(task: Task) -> Result<i32> {
    match task {
        Task::Run { command } => run(command),
        Task::Test { long, filter } => tests::run(&tests::Selection { long, filter }),
        Task::Ci => checks::all().map(|()| 0),
        Task::Lab(args) => lab(args),
        Task::Kernel { pack } => {
            packages::ensure()?;
            println!("{}", kernel::ensure(pack.into())?.display());
            Ok(0)
        }
        Task::Deb => {
            packages::ensure()?;
            println!("{}", deb::build(&guest::build()?)?.display());
            Ok(0)
        }
        Task::Fuzz { seconds, target } => {
            packages::ensure()?;
            let tally = fuzz::run(seconds, &target)?;
            println!("{tally}");
            Ok(i32::from(tally.failed > 0))
        }
        Task::Bench { what, args } => bench(what, args),
    }
}

/// `cargo xtask run`: the shortest way from a fresh clone to a command in a VM.
fn run(command: Vec<OsString>) -> Result<i32> {
    packages::ensure()?;
    // The tuned kernel is preferred once it exists; it is built for the tests.
    if !paths::store()?
        .join("kernels")
        .join(Pack::Tuned.name())
        .exists()
    {
        kernel::ensure(Pack::Stock)?;
    }
    let built = guest::build()?;
    let mut argv: Vec<OsString> = vec![(&built.shem).into(), "run".into(), "-i".into()];
    argv.push((&built.demo_image).into());
    if !command.is_empty() {
        argv.push("--".into());
        argv.extend(command);
    }
    Place::choose(&built.shem).become_command(argv, tests::environment(&built)?, Vec::new())
}

/// `cargo xtask bench`: measures side by side, in one place.
fn bench(what: BenchName, args: Vec<OsString>) -> Result<i32> {
    packages::ensure()?;
    let built = guest::build()?;
    let mut environment = tests::environment(&built)?;
    let (pack, name) = match what {
        BenchName::Boot => (Some(Pack::Tuned), None),
        BenchName::Volumes => (Some(Pack::Bench), Some("volumes")),
        BenchName::Networks => (Some(Pack::Tuned), Some("networks")),
        BenchName::Images => (None, Some("images")),
    };
    if let Some(pack) = pack {
        kernel::ensure(pack)?;
    }
    if what == BenchName::Volumes {
        let workload = guest::build_workload()?;
        environment.push(("SHEM_BENCH_WORKLOAD".into(), workload.into()));
    }
    say("building the benchmark");
    process::quiet(&mut cargo("build --quiet --release -p bench"))?;
    let program = built.shem.parent().unwrap_or(Path::new("")).join("bench");
    let mut argv: Vec<OsString> = vec![program.into()];
    argv.extend(name.map(OsString::from));
    let shares = args.iter().filter_map(|word| plot_folder(word)).collect();
    argv.extend(args);
    let place = match pack {
        Some(_) => Place::choose(&built.shem),
        None => Place::Here,
    };
    place.become_command(argv, environment, shares)
}

/// Where `plot=FILE` writes.
fn plot_folder(word: &OsStr) -> Option<PathBuf> {
    let file = word.to_str()?.strip_prefix("plot=")?;
    let file = std::path::absolute(file).ok()?;
    file.parent().map(Path::to_owned)
}

fn lab(args: LabArgs) -> Result<i32> {
    packages::ensure()?;
    let mut lab = lab::Lab::new(args.command);
    lab.cpus = args.cpus.unwrap_or(lab.cpus);
    lab.memory = args.mem.unwrap_or(lab.memory);
    lab.qemu_args = args.qemu_arg;
    lab.shares = args
        .share
        .iter()
        .map(std::path::absolute)
        .collect::<Result<_, _>>()?;
    lab.limit = args.timeout.map(Duration::from_secs);
    lab.stdin = true;
    lab.run(&mut std::io::stdout(), &mut std::io::stderr())
}

/// Tells the user what happens now, one line a step.
fn say(step: &str) {
    eprintln!("==> {step}");
}

/// A call of the cargo that runs us, in the workspace. Words are separated by
/// single spaces.
fn cargo(words: &str) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = process::command(program);
    cargo.current_dir(paths::root()).args(words.split(' '));
    cargo
}
