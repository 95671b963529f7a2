//! A command that runs in a VM as if it ran here: its streams, signals, window sizes
//! and exit status are passed through, and the VM ends after it.

use std::io::{self, ErrorKind};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use shem::{
    BootError, ClientError, Command, Event, ExecError, Exit, ExitStatus, Process, STOP_GRACE,
    Stdin, StopReport, Tty, Vm, WindowSize,
};

use crate::output::Output;
use crate::signals::{Signals, ToCommand};
use crate::stdin::{Closed, Feeder, Sink};
use crate::terminal::RawMode;
use crate::{status, terminal, values};

/// Signals on their way to the command; more than these are lost.
const PENDING_SIGNALS: usize = 16;
/// Size of a terminal that we cannot see.
const DEFAULT_SIZE: WindowSize = WindowSize { rows: 24, cols: 80 };
/// How long a VM may take to stop after its agent has gone.
const STOPPING: Duration = Duration::from_secs(10);

/// How a command is attended.
pub struct Manner {
    /// It is fed with our standard input.
    pub interactive: bool,
    /// It has a terminal; ours, where it is interactive.
    pub tty: bool,
    /// RAM of its VM in bytes.
    pub memory: u64,
    /// The VM ends in order, as something keeps what was written, else at once.
    pub in_order: bool,
}

/// A terminal like the one that we have.
pub fn tty() -> Tty {
    Tty {
        size: window_size().unwrap_or(DEFAULT_SIZE),
        term: std::env::var("TERM").ok().filter(|term| !term.is_empty()),
    }
}

fn window_size() -> Option<WindowSize> {
    terminal::size().map(|(rows, cols)| WindowSize { rows, cols })
}

/// The last words of a guest whose agent never answered.
pub fn show_failed_boot(error: &BootError) {
    if let BootError::Stopped { report } | BootError::TimedOut { report, .. } = error {
        show_console(report);
    }
}

/// Runs the command in the VM to its end, and ends the VM. Gives the exit status.
pub fn attend(vm: Vm, command: &Command, manner: &Manner, signals: &Signals) -> Result<u8> {
    let process = match vm.exec(command) {
        Ok(process) => process,
        Err(ExecError::Client(error)) => return Err(stopped(&vm, error)),
        Err(error) => {
            note!("shem: {error}");
            return Ok(error.exit_code());
        }
    };
    let passer = Passer::start(signals, process.stdin())?;
    let ended = stream(manner, process)?;
    let outcome = match ended {
        Ended::Exit(exit) => Ok(exit_status(exit, manner.memory)),
        Ended::ReaderGone => Ok(status::signalled(libc::SIGPIPE)),
        Ended::Lost(error) => Err(stopped(&vm, error)),
    };
    // Either ends what the passer may be waiting for.
    if manner.in_order {
        vm.stop(STOP_GRACE);
    } else {
        vm.kill();
    }
    drop(passer);
    outcome
}

/// How the command's streams ended.
enum Ended {
    /// With the command.
    Exit(Exit),
    /// Nobody reads our output any more, as SIGPIPE would tell a local command.
    ReaderGone,
    /// With the connection.
    Lost(ClientError),
}

/// Passes the streams of the command through until it ends.
fn stream(manner: &Manner, process: Process) -> Result<Ended> {
    let _raw = match manner.interactive && manner.tty {
        true => Some(RawMode::enter()?),
        false => None,
    };
    let _feeder = match manner.interactive {
        true => Some(Feeder::start(ToStdin(process.stdin()))?),
        false => None,
    };
    relay(process)
}

/// Writes what the command writes. Takes the process because its end has to
/// come before that of a feeder that waits for it to read.
fn relay(mut process: Process) -> Result<Ended> {
    let mut stdout = Output::new(io::stdout())?;
    let mut stderr = Output::new(io::stderr())?;
    loop {
        let written = match process.next_event() {
            Ok(Event::Stdout(bytes)) => stdout.write(&bytes),
            Ok(Event::Stderr(bytes)) => stderr.write(&bytes),
            Ok(Event::Exit(exit)) => return Ok(Ended::Exit(exit)),
            Err(error) => return Ok(Ended::Lost(error)),
        };
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Ended::ReaderGone),
            Err(error) => return Err(error).context("write the command's output"),
        }
    }
}

/// The command's standard input, for the feeder.
struct ToStdin(Stdin);

impl Sink for ToStdin {
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        self.0.write_all(bytes).map_err(|_| Closed)
    }

    fn close(&mut self) {
        // The command may have ended, and then it needs no end of input.
        let _ = self.0.close();
    }
}

/// The thread that passes signals and window sizes to the command: each waits
/// for the agent's answer, which the thread that takes them must not.
struct Passer<'a> {
    signals: &'a Signals,
    thread: Option<JoinHandle<()>>,
}

impl<'a> Passer<'a> {
    fn start(signals: &'a Signals, command: Stdin) -> Result<Self> {
        let (sender, orders) = sync_channel(PENDING_SIGNALS);
        // The size may have changed since the command was told.
        let _ = sender.try_send(ToCommand::Resize);
        signals.set_target(sender);
        let mut passer = Passer {
            signals,
            thread: None,
        };
        let thread = std::thread::Builder::new()
            .name("to-command".into())
            .spawn(move || pass(&orders, &command))
            .context("start the thread that passes signals")?;
        passer.thread = Some(thread);
        Ok(passer)
    }
}

impl Drop for Passer<'_> {
    fn drop(&mut self) {
        // Ends the thread, whose channel then has no sender.
        self.signals.clear_target();
        if let Some(thread) = self.thread.take() {
            // It returns nothing, and its panic was printed.
            let _ = thread.join();
        }
    }
}

fn pass(orders: &Receiver<ToCommand>, command: &Stdin) {
    for order in orders {
        let outcome = match order {
            ToCommand::Signal(signal) => command.signal(signal),
            ToCommand::Resize => window_size().map_or(Ok(()), |size| command.resize(size)),
        };
        if let Err(error) = outcome {
            // As a rule the command has just ended, or has no terminal.
            log::debug!("{order:?} did not reach the command: {error}");
        }
    }
}

fn exit_status(exit: Exit, memory: u64) -> u8 {
    if exit.oom_killed {
        note!(
            "shem: the command was killed because the VM's {} of memory were used up; give it \
             more with --memory",
            values::show_size(memory)
        );
    }
    match exit.status {
        ExitStatus::Code(code) => u8::try_from(code).unwrap_or(status::FAILED),
        ExitStatus::Signal { signal, .. } => status::signalled(signal),
    }
}

/// Why the agent was lost: as a rule because the VM has stopped, or is about to.
fn stopped(vm: &Vm, error: ClientError) -> anyhow::Error {
    if !matches!(error, ClientError::Lost) {
        return error.into();
    }
    match vm.wait_timeout(STOPPING) {
        Some(report) => {
            show_console(&report);
            anyhow!("the VM stopped while the command ran: {}", report.reason)
        }
        None => error.into(),
    }
}

/// The guest's last words, for those who asked for more than one line.
fn show_console(report: &StopReport) {
    log::info!(
        "the end of the guest's console:\n{}",
        report.console_tail.trim_end()
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_become_statuses_as_docker_has_them() {
        let exit = |status| {
            exit_status(
                Exit {
                    status,
                    oom_killed: false,
                },
                0,
            )
        };
        assert_eq!(exit(ExitStatus::Code(3)), 3);
        let killed = ExitStatus::Signal {
            signal: 9,
            core_dumped: false,
        };
        assert_eq!(exit(killed), 137);
    }
}
