//! `shem golem`: what Golem's requestors and providers do, on one machine.
//!
//! `exec-script` stands where exe-unit stands: it runs a requestor's commands against
//! the runtime's own program, over its command line and protocol, and keeps exe-unit's
//! rules. golem-runtime, sections 1 to 3.

mod interrupt;
mod location;
mod runtime;
mod script;
mod transfer;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::args::ExecScriptArgs;
use crate::output::Output;
use crate::status;
use crate::workdir::Workdir;
use interrupt::Interrupt;
use location::Volumes;
use runtime::{Call, Runtime, Sink, Trouble, Waker};
use script::Command;

/// `shem golem exec-script`.
pub fn exec_script(args: &ExecScriptArgs) -> Result<u8> {
    let commands = script::read(&args.script)?;
    let image = std::path::absolute(&args.image).context("find the image")?;
    let program = program(args.runtime.as_deref())?;
    let waker = Waker::default();
    let woken = waker.clone();
    let interrupt = Interrupt::start(move || woken.wake())?;
    let workdir = Workdir::open(args.workdir.as_deref())?;
    let mut batch = Batch {
        args,
        image: &image,
        call: Call {
            program: &program,
            workdir: workdir.path(),
            interrupt: &interrupt,
            waker: &waker,
        },
        volumes: Volumes::default(),
        runtime: None,
        streams: Streams {
            stdout: Output::new(io::stdout())?,
            stderr: Output::new(io::stderr())?,
        },
    };
    let all_well = batch.run(&commands);
    Ok(match (interrupt.status(), all_well) {
        (Some(status), _) => status,
        (None, true) => status::SUCCESS,
        (None, false) => status::UNHEALTHY,
    })
}

/// The runtime's program: the one that is named, one beside this program, or one to be
/// found in PATH.
fn program(named: Option<&Path>) -> Result<OsString> {
    if let Some(named) = named {
        return match named.components().count() {
            // It is started from another folder.
            2.. => Ok(std::path::absolute(named)
                .context("find the runtime")?
                .into()),
            _ => Ok(named.into()),
        };
    }
    let own = std::env::current_exe().context("find this program")?;
    let beside = own.with_file_name(ya_runtime::PROGRAM);
    Ok(match beside.is_file() {
        true => beside.into(),
        false => ya_runtime::PROGRAM.into(),
    })
}

/// A script that runs.
struct Batch<'a> {
    args: &'a ExecScriptArgs,
    image: &'a Path,
    call: Call<'a>,
    volumes: Volumes,
    runtime: Option<Runtime>,
    streams: Streams,
}

impl Batch<'_> {
    /// Runs the commands until one fails; whether none did.
    fn run(&mut self, commands: &[Command]) -> bool {
        let started = Instant::now();
        let mut times = Vec::new();
        let mut failure = None;
        for (index, command) in commands.iter().enumerate() {
            let about = format!("{}/{} {command}", index + 1, commands.len());
            say(format_args!("{about}"));
            let begun = Instant::now();
            let outcome = self.perform(command);
            let time = begun.elapsed();
            times.push(format!("{} {}", command.name(), Seconds(time)));
            match outcome {
                Ok(()) => say(format_args!("{about}: done in {}", Seconds(time))),
                Err(error) => {
                    let error = format!("{error:#}");
                    say(format_args!(
                        "{about}: failed after {}: {error}",
                        Seconds(time)
                    ));
                    failure = Some(format!("command {} failed: {error}", index + 1));
                    break;
                }
            }
        }
        if let Some(runtime) = self.runtime.take() {
            say(format_args!("the VM is shut down"));
            if let Err(error) = runtime.shut_down() {
                let error = format!("{error:#}");
                say(format_args!("{error}"));
                failure.get_or_insert(error);
            }
        }
        let (ran, all) = (times.len(), commands.len());
        let (took, times) = (Seconds(started.elapsed()), times.join(", "));
        let failed = failure
            .as_ref()
            .map_or(String::new(), |why| format!("; {why}"));
        say(format_args!(
            "{ran} of {all} commands ran in {took} ({times}){failed}"
        ));
        failure.is_none()
    }

    fn perform(&mut self, command: &Command) -> Result<()> {
        ensure!(self.call.interrupt.status().is_none(), Trouble::Interrupted);
        match command {
            Command::Deploy { volumes, hostname } => {
                let mut argv = self.common_argv();
                let mut option = |name: &str, value: &Option<String>| {
                    if let Some(value) = value {
                        argv.extend([name.into(), value.into()]);
                    }
                };
                option("--volume-override", volumes);
                option("--hostname", hostname);
                argv.extend(["deploy", "--"].map(Into::into));
                let told = runtime::deploy(&self.call, &argv)?.or_else(exited)?;
                self.volumes = Volumes::from_deploy(&told, self.call.workdir)?;
                for (path, folder) in self.volumes.iter() {
                    say(format_args!("{path} -> {}", folder.display()));
                }
                Ok(())
            }
            Command::Start { args } => {
                let mut argv = self.common_argv();
                argv.push("start".into());
                argv.extend(args.iter().map(Into::into));
                let mut runtime = Runtime::start(&self.call, &argv)?;
                match runtime.hello(&mut self.streams) {
                    Ok(()) => {
                        self.runtime = Some(runtime);
                        Ok(())
                    }
                    Err(trouble) => self.end_of(runtime, trouble),
                }
            }
            Command::Run { entry_point, args } => {
                let Some(mut runtime) = self.runtime.take() else {
                    bail!("the runtime has ended before");
                };
                let limit = self.args.timeout;
                match runtime.run(entry_point, args, limit, &mut self.streams) {
                    Ok(code) => {
                        self.runtime = Some(runtime);
                        return_code(code)
                    }
                    Err(trouble) => self.end_of(runtime, trouble),
                }
            }
            Command::Transfer { from, to } => {
                transfer::transfer(from, to, &self.volumes, self.call.interrupt)?;
                Ok(())
            }
            Command::Terminate => match self.runtime.take() {
                Some(runtime) => runtime.shut_down(),
                None => Ok(()),
            },
        }
    }

    /// Makes of a wait's end that of its command. A runtime that is gone leaves its
    /// exit status to it; others are kept, to be shut down.
    fn end_of(&mut self, runtime: Runtime, trouble: Trouble) -> Result<()> {
        match trouble {
            Trouble::Gone | Trouble::Frame(_) => {
                let status = runtime.end()?;
                log::warn!("{:#}: it ended with {status}", anyhow::Error::from(trouble));
                match status.success() {
                    // As exe-unit takes it.
                    true => Ok(()),
                    false => exited(status),
                }
            }
            other => {
                self.runtime = Some(runtime);
                Err(other.into())
            }
        }
    }

    /// What exe-unit has in front of every verb.
    fn common_argv(&self) -> Vec<OsString> {
        let ExecScriptArgs {
            cpu_cores,
            mem_gib,
            storage_gib,
            runtime_arg,
            ..
        } = self.args;
        let mut argv: Vec<OsString> = Vec::new();
        let mut option = |name: &str, value: &OsStr| argv.extend([name.into(), value.into()]);
        option("--workdir", self.call.workdir.as_os_str());
        option("--task-package", self.image.as_os_str());
        option("--cpu-cores", cpu_cores.to_string().as_ref());
        option("--mem-gib", mem_gib.to_string().as_ref());
        option("--storage-gib", storage_gib.to_string().as_ref());
        argv.extend(runtime_arg.iter().cloned());
        argv
    }
}

/// A command failed with its process, in exe-unit's words.
fn exited<T>(status: ExitStatus) -> Result<T> {
    match status.code() {
        Some(code) => bail!("ExeScript command exited with code {code}"),
        None => bail!("the runtime was ended: {status}"),
    }
}

fn return_code(code: i32) -> Result<()> {
    ensure!(code == 0, "ExeScript command exited with code {code}");
    Ok(())
}

/// Our standard streams, for what processes write.
struct Streams {
    stdout: Output,
    stderr: Output,
}

impl Sink for Streams {
    fn stdout(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stdout.write(bytes)
    }

    fn stderr(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stderr.write(bytes)
    }
}

/// A time in a log.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} s", self.0.as_secs_f64())
    }
}

/// One line of the log, which nobody may read any more.
fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "shem: {line}");
}
