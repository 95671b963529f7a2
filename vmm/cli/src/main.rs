//! The command `shem`: boots a `.gvmi` image and runs a command in it, makes
//! and shows images, and says what a machine lacks.
//!
//! Parsing is pure ([`args`], [`values`], [`environment`], [`argv`]); what has
//! effects is in [`run`], [`image`] and [`doctor`].

mod args;
mod argv;
mod console;
mod doctor;
mod environment;
mod help;
mod image;
mod logging;
mod output;
mod run;
mod signals;
mod status;
mod stdin;
mod terminal;
mod values;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::time::Instant;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::args::{Cli, Command, ImageCommand};

fn main() -> ExitCode {
    let start = Instant::now();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    logging::init(cli.verbose);
    let outcome = match cli.command {
        Command::Run(args) => run::run(args, start),
        Command::Image(ImageCommand::Build(args)) => image::build(args),
        Command::Image(ImageCommand::Inspect(args)) => image::inspect(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "shem", &mut io::stdout());
            Ok(status::SUCCESS)
        }
    };
    match outcome {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("shem: {error:#}");
            ExitCode::from(status::FAILED)
        }
    }
}

/// Prints what clap has to say: help that was asked for, or what is wrong.
fn usage(error: &clap::Error) -> ExitCode {
    // Nothing is left to do when this cannot be printed.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::from(status::SUCCESS);
    }
    if error.kind() == ErrorKind::UnknownArgument
        && help::lacks_separator(std::env::args_os().collect::<Vec<OsString>>())
    {
        eprintln!("\n{}", help::SEPARATOR);
    }
    ExitCode::from(status::FAILED)
}
