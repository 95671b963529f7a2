//! The command `shem`: boots a `.gvmi` image and runs a command in it, makes
//! and shows images, and says what a machine lacks.
//!
//! Parsing is pure ([`args`], [`deferred`], [`values`], [`mounts`], [`net`], [`publish`],
//! [`environment`], [`argv`], [`golem`]'s scripts); what has effects is in [`run`],
//! [`shell`], [`golem`], [`image`], [`volume`], [`plugin`], [`copy`], [`running`] and
//! [`doctor`].

/// Tells on standard error, in a line. Where that cannot be written nobody is left to tell.
macro_rules! note {
    ($($text:tt)*) => {{
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("{}\n", format_args!($($text)*)),
        );
    }};
}

mod args;
mod argv;
mod attend;
mod config;
mod console;
mod copy;
mod deferred;
mod devices;
mod doctor;
mod environment;
mod golem;
mod help;
mod image;
mod interrupt;
mod logging;
mod mounts;
mod net;
mod output;
mod plugin;
mod publish;
mod run;
mod running;
mod shell;
mod signals;
mod status;
mod stdin;
mod terminal;
mod values;
mod volume;
mod workdir;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, Parser};
use clap_complete::Shell;

use crate::args::{Cli, Command, GolemCommand};
use crate::deferred::Deferred;

fn main() -> ExitCode {
    let start = Instant::now();
    if workdir::is_keeper(std::env::args_os()) {
        let outcome = workdir::keep();
        return ExitCode::from(outcome.unwrap_or_else(|error| report(&error)));
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(error),
    };
    logging::init(cli.verbosity());
    let outcome = match cli.command {
        Command::Run(args) => run::run(*args, start),
        Command::Shell(Deferred(args)) => shell::run(&args, start),
        Command::Golem(Deferred(GolemCommand::ExecScript(args))) => golem::exec_script(&args),
        Command::Image(Deferred(command)) => image::run(command),
        Command::Volume(Deferred(command)) => volume::run(command),
        Command::Plugin(Deferred(command)) => plugin::run(command),
        Command::Cp(Deferred(args)) => copy::run(&args),
        Command::Ps(Deferred(args)) => running::ps(&args),
        Command::Doctor(Deferred(args)) => doctor::run(&args),
        Command::Completions { shell } => completions(shell),
    };
    let status = outcome.unwrap_or_else(|error| report(&error));
    ExitCode::from(status)
}

fn completions(shell: Shell) -> Result<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "shem", &mut text);
    io::stdout().write_all(&text)?;
    Ok(status::SUCCESS)
}

/// Prints what failed; nothing when it is that nobody reads our output, of
/// which SIGPIPE would tell nobody either.
fn report(error: &anyhow::Error) -> u8 {
    let cause = error.root_cause().downcast_ref::<io::Error>();
    if cause.is_some_and(|cause| cause.kind() == io::ErrorKind::BrokenPipe) {
        return status::signalled(libc::SIGPIPE);
    }
    note!("shem: {error:#}");
    status::FAILED
}

/// Prints what clap has to say: help that was asked for, or what is wrong.
fn usage(mut error: clap::Error) -> ExitCode {
    let separator = error.kind() == ErrorKind::UnknownArgument
        && help::lacks_separator(std::env::args_os().collect::<Vec<OsString>>());
    if separator {
        // Its own guess is to put the separator before this one word.
        error.remove(ContextKind::Suggested);
    }
    // Nothing is left to do when this cannot be printed.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::from(status::SUCCESS);
    }
    if separator {
        note!("\n{}", help::SEPARATOR);
    }
    ExitCode::from(status::FAILED)
}
