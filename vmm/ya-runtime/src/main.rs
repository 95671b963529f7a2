//! The program `ya-runtime-shem`: parses the command line, does one thing, and ends
//! with a status. Standard output is for what the contract says, and nothing else.
#![forbid(unsafe_code)]

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use ya_runtime::args::{Args, Verb};
use ya_runtime::{Order, PROGRAM, deploy, init_logging, offer_template, self_test, start, tell};

fn main() -> ExitCode {
    let started = Instant::now();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Nothing is left to do when this cannot be printed.
            let _ = error.print();
            return match error.use_stderr() {
                true => ExitCode::FAILURE,
                false => ExitCode::SUCCESS,
            };
        }
    };
    match perform(&args, started) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{PROGRAM}: {error:#}");
            log::debug!("it ends with a failure: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(args: &Args, started: Instant) -> Result<()> {
    match &args.verb {
        Verb::Deploy(_) => {
            init_logging("deploy");
            let deployment = deploy(&Order::new(args)?)?;
            tell(&deployment, &mut io::stdout())
        }
        Verb::Start(rest) => {
            init_logging("start");
            confine::report_violations(|| {}).context("prepare for seccomp violations")?;
            start(args, &rest.args, started)
        }
        Verb::OfferTemplate(_) => {
            init_logging("offer-template");
            let found = self_test(args)?;
            print(&offer_template(&found)?.to_string())
        }
        Verb::Test(_) => {
            init_logging("test");
            print(&self_test(args)?.to_string())
        }
        Verb::Run(_) => bail!("CLI `run` is not supported"),
    }
}

/// One line, at once.
fn print(line: &str) -> Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .context("write to standard output")
}
