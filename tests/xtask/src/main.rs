//! The project's own commands: `cargo xtask run`, `test`, `lab`, `kernel`,
//! `ci` and `bench`. Each sets up what it needs by itself.

mod lab;
mod packages;
mod paths;
mod process;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Sets up, runs and tests shem.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    disable_help_subcommand = true
)]
struct Args {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Run a command in the emulated machine that has real KVM
    Lab(LabArgs),
}

/// Options of `cargo xtask lab`.
#[derive(clap::Args)]
struct LabArgs {
    /// Emulated processors
    #[arg(long, value_name = "N")]
    cpus: Option<usize>,
    /// The machine's memory
    #[arg(long, value_name = "SIZE")]
    mem: Option<String>,
    /// A word for QEMU's command line; may be repeated
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    qemu_arg: Vec<OsString>,
    /// A folder that the command may write to; may be repeated
    #[arg(long, value_name = "DIR")]
    share: Vec<PathBuf>,
    /// Give up after this many seconds
    #[arg(long, value_name = "S")]
    timeout: Option<u64>,
    /// The command, which sees this machine's files and the current folder
    #[arg(required = true, last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.task {
        Task::Lab(args) => lab(args),
    };
    match outcome {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
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

/// The cargo that runs us, in the workspace.
fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut cargo = process::command(program);
    cargo.current_dir(paths::root());
    cargo
}
