//! What exe-unit asks for, done one after the other. golem-runtime, section 2.4.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use nix::errno::Errno;
use runtime_api::request::{self, KillProcess, RunProcess};
use runtime_api::response::{self, Command};
use runtime_api::{Error, ErrorCode, Request};
use shem::{ClientError, ExecError, Vm};

use crate::CONTRACT_VERSION;
use crate::boot::Booted;
use crate::counters::Counters;
use crate::network::Cards;
use crate::outbox::Outbox;
use crate::processes::{NoProcess, Processes};

/// How long the guest may take to shut down: exe-unit waits for 5 s, and then kills.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(4);

/// What the server is to do.
pub enum Job {
    /// What exe-unit asked for.
    Request(Request),
    /// Tell exe-unit of the counters.
    Count,
    /// Let the VM go.
    End,
}

/// Serves requests with a VM.
pub struct Server {
    /// Until it was shut down.
    vm: Option<Vm>,
    cards: Cards,
    processes: Processes,
    outbox: Arc<Outbox>,
    counters: Counters,
    /// Set before exe-unit's request ends the VM.
    was_asked: Arc<AtomicBool>,
}

impl Server {
    pub fn new(
        booted: Booted,
        processes: Processes,
        outbox: &Arc<Outbox>,
        counters: Counters,
        was_asked: &Arc<AtomicBool>,
    ) -> Self {
        Server {
            vm: Some(booted.vm),
            cards: booted.cards,
            processes,
            outbox: Arc::clone(outbox),
            counters,
            was_asked: Arc::clone(was_asked),
        }
    }

    /// Serves until it is to end.
    pub fn serve(mut self, jobs: &Receiver<Job>) {
        for job in jobs {
            match job {
                Job::Request(request) => self.request(request),
                Job::Count => self.count(),
                Job::End => return,
            }
        }
    }

    fn request(&mut self, Request { id, command }: Request) {
        use request::Command as Asked;
        let outcome = match command {
            Some(Asked::Hello(hello)) => {
                log::debug!("hello from a client of version {:?}", hello.version);
                let version = CONTRACT_VERSION.into();
                Ok(Command::Hello(response::Hello { version }))
            }
            Some(Asked::Run(run)) => match self.run(run, id) {
                // Answered together with the first event.
                Ok(()) => return,
                Err(error) => Err(error),
            },
            Some(Asked::Kill(kill)) => self.kill(&kill),
            Some(Asked::Network(network)) => self
                .vm()
                .and_then(|vm| {
                    let joined = self.cards.join(vm, &network);
                    joined.map_err(|error| internal(format!("{error:#}")))
                })
                .map(|endpoint| {
                    let endpoint = Some(endpoint);
                    Command::Network(response::CreateNetwork { endpoint })
                }),
            Some(Asked::Shutdown(_)) => {
                self.shut_down();
                Ok(Command::Shutdown(response::Shutdown {}))
            }
            None => Err(internal("unknown command".into())),
        };
        let answer = outcome.unwrap_or_else(|error| {
            log::info!("request {id} failed: {}", error.message);
            Command::Error(error)
        });
        self.outbox.answer(id, answer);
    }

    fn vm(&self) -> Result<&Vm, Error> {
        let vm = self.vm.as_ref();
        vm.ok_or_else(|| internal("the VM was shut down".into()))
    }

    fn run(&self, run: RunProcess, id: u64) -> Result<(), Error> {
        let vm = self.vm()?;
        if !self.processes.has_room() {
            return Err(not_run(Errno::EAGAIN as i32));
        }
        let args = match run.args.is_empty() {
            true => vec![run.bin.clone()],
            false => run.args,
        };
        let command = shem::Command::new(args).program(&run.bin);
        let process = vm.exec(&command).map_err(|error| {
            log::info!("run {:?}: {error}", run.bin);
            not_run(errno(&error))
        })?;
        let started = self.processes.start(process, id, &self.outbox);
        started.map_err(|error| not_run(error.raw_os_error().unwrap_or(Errno::EAGAIN as i32)))
    }

    fn kill(&self, kill: &KillProcess) -> Result<Command, Error> {
        let KillProcess { pid, signal } = *kill;
        // Who does not say which means the one that ends everything.
        let signal = match signal {
            0 => nix::libc::SIGKILL,
            signal => signal,
        };
        let failed = |errno| internal(format!("Killing process {pid} failed, exit code: {errno}"));
        match self.processes.signal(pid, signal) {
            Ok(Ok(())) => Ok(Command::Kill(response::KillProcess {})),
            Ok(Err(ClientError::Failed(failure))) => Err(failed(failure.errno)),
            Ok(Err(error)) => Err(internal(format!("{error:#}"))),
            Err(NoProcess) => Err(failed(Errno::ESRCH as i32)),
        }
    }

    fn shut_down(&mut self) {
        self.count();
        if let Some(vm) = self.vm.take() {
            self.was_asked.store(true, Ordering::Release);
            vm.stop(SHUTDOWN_GRACE);
        }
    }

    fn count(&mut self) {
        if let Some(vm) = &self.vm
            && let Err(error) = self.counters.send(vm, &self.outbox)
        {
            log::debug!("count what the VM has used: {error}");
        }
    }
}

fn internal(message: String) -> Error {
    Error {
        code: ErrorCode::Internal.into(),
        message,
        ..Error::default()
    }
}

/// In the words that exe-unit's users know.
fn not_run(errno: i32) -> Error {
    internal(format!("Running process failed, exit code: {errno}"))
}

/// The error number of a process that did not start; that of bad arguments where
/// there is none, as for a user that the image does not know.
fn errno(error: &ExecError) -> i32 {
    let errno = match error {
        ExecError::Failed(failure) => failure.errno,
        ExecError::Client(ClientError::Failed(failure)) => failure.errno,
        ExecError::Client(ClientError::Request(_)) => Errno::E2BIG as i32,
        ExecError::Client(_) => Errno::EIO as i32,
    };
    match errno {
        0 => Errno::EINVAL as i32,
        errno => errno,
    }
}
