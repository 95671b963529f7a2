//! The runtime as exe-unit sees it: a process for each verb, and what is said with
//! that of `start` on its standard input and output. golem-runtime, section 2.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command as Program, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use runtime_api::request::{Command as Asked, Hello, RunProcess, Shutdown};
use runtime_api::response::Command as Answer;
use runtime_api::{Error, ErrorCode, FrameError, FrameReader, ProcessStatus, Request, Response};

use super::interrupt::Interrupt;

/// What exe-unit says of itself, and the number of its first request.
const VERSION: &str = "0.1.0";
const FIRST_ID: u64 = 2;

/// Events that are read ahead, as exe-unit does.
const QUEUE: usize = 8;
/// Most bytes of what `deploy` tells.
const MAX_DEPLOYMENT: u64 = 1 << 20;
/// How long a runtime may take to shut its VM down, and then to go.
const SHUTDOWN: Duration = Duration::from_secs(20);
const GOING: Duration = Duration::from_secs(10);
/// How long a pipe may stay open when its process has ended.
const DRAIN: Duration = Duration::from_secs(2);

/// Something that a runtime did, or who waits for it.
#[derive(Debug)]
pub enum Happened {
    /// A message came.
    Said(Box<Response>),
    /// `deploy` has written all that it tells.
    Told(io::Result<Vec<u8>>),
    /// No more messages come.
    Ended(Option<FrameError>),
    /// The process has ended.
    Exited,
    /// A signal came.
    Woken,
}

/// Wakes who waits for a runtime, when a signal came.
#[derive(Clone, Default)]
pub struct Waker(Arc<Mutex<Option<SyncSender<Happened>>>>);

impl Waker {
    /// Has the wait look whether it is to end.
    pub fn wake(&self) {
        if let Some(sender) = &*self.lock() {
            // Who has that much to read is awake.
            let _ = sender.try_send(Happened::Woken);
        }
    }

    fn set(&self, sender: SyncSender<Happened>) {
        *self.lock() = Some(sender);
    }

    fn lock(&self) -> MutexGuard<'_, Option<SyncSender<Happened>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a wait for a runtime ended without what was waited for.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// It is gone, or says nothing any more.
    #[error("the runtime is gone")]
    Gone,
    /// It says what makes no sense.
    #[error("the runtime's messages")]
    Frame(#[source] FrameError),
    /// It refuses, in the words that requestors get.
    #[error("{}", refusal(.0))]
    Refused(Error),
    /// Events of a process that nobody started came in the place of those of one that
    /// was.
    #[error(
        "events of process {bound} came before the answer that names process {named}: exe-unit \
         would wait for {bound} for ever"
    )]
    Stolen {
        /// Whose events came.
        bound: u64,
        /// Which was started.
        named: u64,
    },
    /// It took too long.
    #[error("it took longer than {} s", .0.as_secs_f32())]
    TimedOut(Duration),
    /// A signal came.
    #[error("interrupted")]
    Interrupted,
    /// What a process wrote cannot be passed on.
    #[error("write the output of a process")]
    Output(#[source] io::Error),
}

/// As exe-unit shows it.
fn refusal(error: &Error) -> String {
    let code = ErrorCode::try_from(error.code)
        .map_or_else(|_| error.code.to_string(), |code| format!("{code:?}"));
    format!("Runtime error: {code}: {}", error.message)
}

/// Where output of processes goes: bytes of stdout, or of stderr.
pub trait Sink {
    fn stdout(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn stderr(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// What is said with a runtime.
pub struct Session<W> {
    requests: W,
    happened: Receiver<Happened>,
    last_id: u64,
    /// Processes whose events came, or that were started.
    known: BTreeSet<u64>,
    /// The process has ended; its last messages may still come, until then.
    exited: Option<Instant>,
    interrupt: Interrupt,
}

impl<W: Write> Session<W> {
    fn new(requests: W, happened: Receiver<Happened>, interrupt: &Interrupt) -> Self {
        Session {
            requests,
            happened,
            last_id: FIRST_ID - 1,
            known: BTreeSet::new(),
            exited: None,
            interrupt: interrupt.clone(),
        }
    }

    fn ask(&mut self, command: Asked) -> Result<u64, Trouble> {
        self.last_id += 1;
        let request = Request {
            id: self.last_id,
            command: Some(command),
        };
        let frame = runtime_api::to_frame(&request);
        self.requests
            .write_all(&frame)
            .and_then(|()| self.requests.flush())
            // A runtime that is gone says nothing more either.
            .map_err(|_| Trouble::Gone)?;
        Ok(self.last_id)
    }

    fn next(&mut self, limit: Option<(Instant, Duration)>) -> Result<Response, Trouble> {
        loop {
            if self.interrupt.status().is_some() {
                return Err(Trouble::Interrupted);
            }
            let deadline = match (limit, self.exited) {
                (Some((deadline, _)), Some(drained)) => Some(deadline.min(drained)),
                (limit, drained) => limit.map(|(deadline, _)| deadline).or(drained),
            };
            match (receive(&self.happened, deadline), limit) {
                (Some(Happened::Said(response)), _) => return Ok(*response),
                (Some(Happened::Ended(None)), _) => return Err(Trouble::Gone),
                (Some(Happened::Ended(Some(error))), _) => return Err(Trouble::Frame(error)),
                (Some(Happened::Exited), _) => self.exited = Some(Instant::now() + DRAIN),
                (Some(Happened::Told(_) | Happened::Woken), _) => {}
                (None, Some((_, limit))) if self.exited.is_none() => {
                    return Err(Trouble::TimedOut(limit));
                }
                (None, _) => return Err(Trouble::Gone),
            }
        }
    }

    /// Greets, which is answered when the VM is up. What is written meanwhile is of
    /// the command `start`.
    fn hello(&mut self, sink: &mut impl Sink) -> Result<(), Trouble> {
        let version = VERSION.into();
        let id = self.ask(Asked::Hello(Hello { version }))?;
        loop {
            let response = self.next(None)?;
            match response.command {
                Some(Answer::Hello(hello)) if response.id == id => {
                    log::info!("the runtime greets as version {:?}", hello.version);
                    return Ok(());
                }
                Some(Answer::Error(error)) if response.id == id => {
                    return Err(Trouble::Refused(error));
                }
                Some(Answer::Status(status)) => write(&status, sink)?,
                _ => note(&response),
            }
        }
    }

    /// Runs a program to its end, and gives its return code. By exe-unit's rules: it is
    /// the process that the answer names, or the first unknown one of which an event
    /// comes before; and it ends with `running` false.
    fn run(
        &mut self,
        run: RunProcess,
        limit: Option<Duration>,
        sink: &mut impl Sink,
    ) -> Result<i32, Trouble> {
        let limit = limit.map(|limit| (Instant::now() + limit, limit));
        let id = self.ask(Asked::Run(run))?;
        let mut bound = None;
        loop {
            let response = self.next(limit)?;
            match response.command {
                Some(Answer::Status(status))
                    if bound.map_or_else(
                        || !self.known.contains(&status.pid),
                        |pid| pid == status.pid,
                    ) =>
                {
                    bound = Some(status.pid);
                    self.known.insert(status.pid);
                    write(&status, sink)?;
                    if !status.running {
                        return Ok(status.return_code);
                    }
                }
                Some(Answer::Run(run)) if response.id == id => {
                    if let Some(bound) = bound.filter(|bound| *bound != run.pid) {
                        let named = run.pid;
                        return Err(Trouble::Stolen { bound, named });
                    }
                    bound = Some(run.pid);
                    self.known.insert(run.pid);
                }
                Some(Answer::Error(error)) if response.id == id => {
                    return Err(Trouble::Refused(error));
                }
                _ => note(&response),
            }
        }
    }

    /// Has the VM shut down, whatever signal came.
    fn shut_down(&mut self) -> Result<(), Trouble> {
        self.interrupt = Interrupt::default();
        let id = self.ask(Asked::Shutdown(Shutdown {}))?;
        let limit = Some((Instant::now() + SHUTDOWN, SHUTDOWN));
        loop {
            let response = self.next(limit)?;
            match &response.command {
                Some(Answer::Shutdown(_)) if response.id == id => return Ok(()),
                Some(Answer::Error(error)) if response.id == id => {
                    return Err(Trouble::Refused(error.clone()));
                }
                // Of processes that end with the VM.
                _ => log::debug!("at the end the runtime said {response:?}"),
            }
        }
    }
}

/// Something that happens before `deadline`.
fn receive(happened: &Receiver<Happened>, deadline: Option<Instant>) -> Option<Happened> {
    let Some(deadline) = deadline else {
        return happened.recv().ok();
    };
    let left = deadline.saturating_duration_since(Instant::now());
    happened.recv_timeout(left).ok()
}

fn write(status: &ProcessStatus, sink: &mut impl Sink) -> Result<(), Trouble> {
    sink.stdout(&status.stdout)
        .and_then(|()| sink.stderr(&status.stderr))
        .map_err(Trouble::Output)
}

/// What nobody waits for.
fn note(response: &Response) {
    match &response.command {
        Some(Answer::Status(status)) => log::warn!(
            "an event of process {}, which nobody waits for: exe-unit may take it for another's",
            status.pid
        ),
        other => log::debug!("the runtime said {other:?}"),
    }
}

/// The process of `start`. Dropping it closes its input, with which it ends.
pub struct Runtime {
    child: Child,
    session: Session<ChildStdin>,
}

impl Runtime {
    /// Starts it.
    pub fn start(call: &Call<'_>, argv: &[OsString]) -> Result<Self> {
        let mut child = spawn(call, argv, Stdio::piped())?;
        let (sender, happened) = watch(&child, call.waker)?;
        let stdout = child.stdout.take().context("the runtime has no output")?;
        thread::Builder::new()
            .name("messages".into())
            .spawn(move || read(stdout, &sender))
            .context("start the thread that reads messages")?;
        let stdin = child.stdin.take().context("the runtime has no input")?;
        Ok(Runtime {
            child,
            session: Session::new(stdin, happened, call.interrupt),
        })
    }

    /// Greets it; returns when its VM is up.
    pub fn hello(&mut self, sink: &mut impl Sink) -> Result<(), Trouble> {
        self.session.hello(sink)
    }

    /// Runs a program as a requestor names it, and gives its return code.
    pub fn run(
        &mut self,
        entry_point: &str,
        args: &[String],
        limit: Option<Duration>,
        sink: &mut impl Sink,
    ) -> Result<i32, Trouble> {
        let name = entry_point.rsplit('/').next().unwrap_or(entry_point);
        let mut argv = vec![name.to_owned()];
        argv.extend_from_slice(args);
        let run = RunProcess {
            bin: entry_point.into(),
            args: argv,
            ..RunProcess::default()
        };
        self.session.run(run, limit, sink)
    }

    /// Has its VM shut down, and waits until it is gone.
    pub fn shut_down(mut self) -> Result<()> {
        let asked = self.session.shut_down();
        let status = self.end()?;
        asked.with_context(|| format!("shut the runtime down, which ended with {status}"))
    }

    /// Closes its input and waits for its end, for some time.
    pub fn end(self) -> Result<ExitStatus> {
        let Session {
            requests,
            happened,
            exited,
            ..
        } = self.session;
        drop(requests);
        finish(self.child, &happened, exited.is_some())
    }
}

/// What all processes of a runtime have in common.
pub struct Call<'a> {
    /// The program: a path, or a name to be found in PATH.
    pub program: &'a OsStr,
    /// Where it runs.
    pub workdir: &'a Path,
    /// Whether a signal came, which ends waits.
    pub interrupt: &'a Interrupt,
    /// Told of by this.
    pub waker: &'a Waker,
}

/// Runs the runtime's `deploy`, and gives what it tells, or how it failed.
pub fn deploy(call: &Call<'_>, argv: &[OsString]) -> Result<Result<Vec<u8>, ExitStatus>> {
    let mut child = spawn(call, argv, Stdio::null())?;
    let (sender, happened) = watch(&child, call.waker)?;
    let stdout = child.stdout.take().context("the runtime has no output")?;
    thread::Builder::new()
        .name("deployment".into())
        .spawn(move || {
            let mut told = Vec::new();
            let outcome = stdout.take(MAX_DEPLOYMENT).read_to_end(&mut told);
            // Nobody waits for it when this fails.
            let _ = sender.send(Happened::Told(outcome.map(|_| told)));
        })
        .context("start the thread that reads the deployment")?;
    let (mut told, mut drained) = (None, None);
    while told.is_none() || drained.is_none() {
        if call.interrupt.status().is_some() {
            child.kill().context("kill the runtime's `deploy`")?;
            finish(child, &happened, drained.is_some())?;
            return Err(Trouble::Interrupted.into());
        }
        match receive(&happened, drained) {
            Some(Happened::Told(outcome)) => told = Some(outcome),
            Some(Happened::Exited) => drained = Some(Instant::now() + DRAIN),
            Some(Happened::Said(_) | Happened::Ended(_) | Happened::Woken) => {}
            None => break,
        }
    }
    let status = finish(child, &happened, drained.is_some())?;
    let told = told.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()));
    match status.success() {
        true => Ok(Ok(told.context("read what the runtime's `deploy` tells")?)),
        false => Ok(Err(status)),
    }
}

/// Waits until `child` is gone, kills it when that takes too long, and reaps it.
fn finish(mut child: Child, happened: &Receiver<Happened>, exited: bool) -> Result<ExitStatus> {
    let deadline = Instant::now() + GOING;
    let mut gone = exited;
    while !gone {
        match receive(happened, Some(deadline)) {
            Some(Happened::Exited) => gone = true,
            Some(_) => {}
            None => {
                log::warn!(
                    "the runtime does not end within {} s: it is killed",
                    GOING.as_secs()
                );
                child.kill().context("kill the runtime")?;
                gone = true;
            }
        }
    }
    child.wait().context("wait for the runtime")
}

fn spawn(call: &Call<'_>, argv: &[OsString], stdin: Stdio) -> Result<Child> {
    let program = call.program;
    log::info!("start {} {argv:?}", program.display());
    Program::new(program)
        .args(argv)
        .current_dir(call.workdir)
        .stdin(stdin)
        .stdout(Stdio::piped())
        // A terminal's Ctrl-C is for us, who then end it in order.
        .process_group(0)
        .spawn()
        .with_context(|| {
            format!(
                "start {}; name the runtime by --runtime, or put it beside this program or in PATH",
                program.display()
            )
        })
}

/// Tells of the end of `child`, which stays to be reaped.
fn watch(child: &Child, waker: &Waker) -> Result<(SyncSender<Happened>, Receiver<Happened>)> {
    let (sender, happened) = sync_channel(QUEUE);
    waker.set(sender.clone());
    let pid = Pid::from_raw(i32::try_from(child.id()).context("a process has a number")?);
    let to = sender.clone();
    thread::Builder::new()
        .name("exit".into())
        .spawn(move || {
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            while waitid(Id::Pid(pid), flags) == Err(nix::errno::Errno::EINTR) {}
            // Nobody waits for it when this fails.
            let _ = to.send(Happened::Exited);
        })
        .context("start the thread that waits for the runtime")?;
    Ok((sender, happened))
}

/// Reads messages to their end.
fn read(stdout: ChildStdout, to: &SyncSender<Happened>) {
    let mut frames = FrameReader::new(BufReader::new(stdout));
    loop {
        let happened = match frames.read() {
            Ok(Some(response)) => Happened::Said(Box::new(response)),
            Ok(None) => Happened::Ended(None),
            Err(error) => Happened::Ended(Some(error)),
        };
        let last = matches!(happened, Happened::Ended(_));
        if to.send(happened).is_err() || last {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
