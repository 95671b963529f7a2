//! `start`: boots the VM, then serves exe-unit until that goes away.
//!
//! Threads: this one waits for the end; `requests` reads standard input, and so
//! notices at any time that exe-unit is gone; `server` does what is asked for;
//! `answers` writes standard output; one for each process passes its output on; and
//! `vm` waits for the VM. Only those that have output to pass on, and `answers`, ever
//! wait for who reads ours.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use runtime_api::response::Command;
use runtime_api::{Error, ErrorCode, FrameError, FrameReader, ProcessStatus};
use serde_json::json;
use shem::{StopReason, StopReport, Vm};

use crate::Deployment;
use crate::args::Args;
use crate::boot::{boot, check_devices};
use crate::counters::{self, Counters};
use crate::outbox::{Outbox, TooManyRequests};
use crate::processes::Processes;
use crate::server::{Job, Server};

/// Word behind the verb that asks for the image's entry point.
const ENTRYPOINT: &str = "start-entrypoint";

/// Where the entry point's output goes, in the work folder.
const ENTRYPOINT_LOG: &str = "logs/entrypoint.log";

/// How long what was said at the end may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long the VM may take to go.
const GOING: Duration = Duration::from_secs(5);

/// Why it ends.
enum End {
    /// Standard input has ended: exe-unit is done, or dead.
    Input,
    /// What came on standard input is of no use.
    Protocol(FrameError),
    /// Answers are not read.
    Requests(TooManyRequests),
    /// Nobody reads our output.
    Output(io::Error),
    /// The VM has stopped.
    Stopped(Box<StopReport>),
}

/// Boots what was deployed and serves; returns when all is over, with an error when
/// the VM or exe-unit's messages were at fault. `started` is when the process began.
pub fn start(args: &Args, words: &[OsString], started: Instant) -> Result<()> {
    let workdir = args.workdir.as_deref().context("start needs --workdir")?;
    let workdir = std::path::absolute(workdir).context("find the work folder")?;
    check_devices(&args.pci_device)?;
    let deployment = Deployment::read(&workdir)?;
    let entrypoint = match words.iter().any(|word| word == ENTRYPOINT) {
        true => Some(Entrypoint::prepare(&deployment, &workdir)?),
        false => None,
    };
    let endpoints = (args.vpn_endpoint.as_deref(), args.inet_endpoint.as_deref());
    let outbox = Arc::new(Outbox::default());
    let (ends, end) = channel();
    let (jobs, for_server) = channel();
    let is_up = Arc::new(AtomicBool::new(false));
    let requests = Requests {
        outbox: Arc::clone(&outbox),
        jobs: jobs.clone(),
        ends: ends.clone(),
        is_up: Arc::clone(&is_up),
    };
    let booted = boot(&deployment, &workdir, endpoints, started, || {
        spawn("requests", move || requests.read())
    })?;
    is_up.store(true, Ordering::Release);
    log::info!("the VM is up:\n{}", booted.vm.timeline());

    let handle = booted.vm.handle();
    let processes = Processes::default();
    if let Some(entrypoint) = entrypoint {
        entrypoint.start(&booted.vm, &processes, &outbox)?;
    }
    {
        let (outbox, ends) = (Arc::clone(&outbox), ends.clone());
        spawn("answers", move || {
            if let Err(error) = outbox.write_to(io::stdout()) {
                send(&ends, End::Output(error));
            }
        })?;
    }
    {
        let handle = handle.clone();
        spawn("vm", move || {
            if let Some(report) = handle.wait(None) {
                send(&ends, End::Stopped(Box::new(report)));
            }
        })?;
    }
    let was_asked = Arc::new(AtomicBool::new(false));
    let counters = Counters::new(&workdir);
    let server = Server::new(booted, processes, &outbox, counters, &was_asked);
    let (gone, going) = channel::<()>();
    spawn("server", move || {
        server.serve(&for_server);
        drop(gone);
    })?;

    let outcome = wait(&end, &jobs, &was_asked);
    handle.stop(StopReason::Killed);
    if !outbox.close(LAST_WORDS) {
        log::info!("the last of our output was not read");
    }
    send(&jobs, Job::End);
    if going.recv_timeout(GOING) == Err(RecvTimeoutError::Timeout) {
        log::warn!("the VM does not end; this process does");
    }
    outcome
}

/// Waits for the end, and has the counters told until then.
fn wait(end: &Receiver<End>, jobs: &Sender<Job>, was_asked: &AtomicBool) -> Result<()> {
    loop {
        match end.recv_timeout(counters::INTERVAL) {
            Err(RecvTimeoutError::Timeout) => send(jobs, Job::Count),
            Err(RecvTimeoutError::Disconnected) => bail!("nothing is left to wait for"),
            Ok(End::Input) => {
                log::info!("standard input has ended, and the VM with it");
                return Ok(());
            }
            Ok(End::Protocol(error)) => return Err(error).context("standard input"),
            Ok(End::Requests(error)) => return Err(error.into()),
            Ok(End::Output(error)) => return Err(error).context("write to standard output"),
            Ok(End::Stopped(report)) if was_asked.load(Ordering::Acquire) => {
                // exe-unit ends us.
                log::info!("the VM was shut down: {}", report.reason);
            }
            Ok(End::Stopped(report)) => {
                let console = report.console_tail.trim_end();
                log::info!("the end of the guest's console:\n{console}");
                return Err(anyhow!("the VM stopped: {}", report.reason));
            }
        }
    }
}

/// Reads what exe-unit asks for.
struct Requests {
    outbox: Arc<Outbox>,
    jobs: Sender<Job>,
    ends: Sender<End>,
    is_up: Arc<AtomicBool>,
}

impl Requests {
    fn read(self) {
        let end = self.read_to_end();
        if !self.is_up.load(Ordering::Acquire) && matches!(end, End::Input) {
            // A VM that boots is waited for, but it goes with its process.
            log::info!("standard input has ended before the VM was up");
            process::exit(0);
        }
        send(&self.ends, end);
    }

    fn read_to_end(&self) -> End {
        let mut frames = FrameReader::new(BufReader::new(io::stdin()));
        loop {
            let request = match frames.read() {
                Ok(Some(request)) => Ok(request),
                Ok(None) => return End::Input,
                Err(FrameError::Malformed(error)) => Err(error),
                Err(error) => return End::Protocol(error),
            };
            if let Err(error) = self.outbox.expect_answer() {
                return End::Requests(error);
            }
            match request {
                Ok(request) => send(&self.jobs, Job::Request(request)),
                Err(error) => {
                    let message = format!("this is no request: {error}");
                    log::info!("{message}");
                    // Whose number is not known.
                    self.outbox.answer(0, Command::Error(bad_request(message)));
                }
            }
        }
    }
}

fn bad_request(message: String) -> Error {
    Error {
        code: ErrorCode::BadRequest.into(),
        message,
        ..Error::default()
    }
}

/// The image's own program, which runs from the start.
struct Entrypoint {
    argv: Vec<String>,
    /// Where it is, when that is a path.
    program: Option<String>,
    log: File,
}

impl Entrypoint {
    /// Finds out what it is, before a VM is booted for nothing.
    fn prepare(deployment: &Deployment, workdir: &Path) -> Result<Self> {
        let images = deployment.images()?;
        let top = images.first().context("there is no image")?;
        let config = &top.contents().config;
        let Some(program) = config.entrypoint.first() else {
            bail!(
                "'start_entrypoint' flag is set but the container does not define an entrypoint!"
            );
        };
        let mut argv = [config.entrypoint.as_slice(), &config.cmd].concat();
        let mut path = None;
        if let Some((_, name)) = program.rsplit_once('/') {
            path = Some(program.clone());
            argv[0] = name.to_owned();
        }
        let log = workdir.join(ENTRYPOINT_LOG);
        let log = fs::create_dir_all(log.parent().unwrap_or(workdir))
            .and_then(|()| File::create(&log))
            .with_context(|| format!("make {}", log.display()))?;
        Ok(Entrypoint {
            argv,
            program: path,
            log,
        })
    }

    /// Runs it, and tells exe-unit in the only event of it: process 0 is none that
    /// anybody waits for, so that it becomes output of the command Start.
    fn start(self, vm: &Vm, processes: &Processes, outbox: &Outbox) -> Result<()> {
        let mut command = shem::Command::new(&self.argv);
        if let Some(program) = self.program {
            command = command.program(program);
        }
        let process = vm.exec(&command).context("start the image's entry point")?;
        let pid = processes.start_entrypoint(process, self.log)?;
        let told = json!({ "start": null, "entrypoint": { "pid": pid, "command": self.argv } });
        outbox.offer(Command::Status(ProcessStatus {
            pid: 0,
            running: true,
            stdout: told.to_string().into_bytes(),
            ..ProcessStatus::default()
        }));
        Ok(())
    }
}

/// Starts a thread that ends with the process.
fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = thread::Builder::new().name(name.into()).spawn(body);
    thread
        .map(drop)
        .with_context(|| format!("start the thread {name:?}"))
}

/// Who would take it may be gone, which then needs it no more.
fn send<T>(to: &Sender<T>, what: T) {
    let _ = to.send(what);
}
