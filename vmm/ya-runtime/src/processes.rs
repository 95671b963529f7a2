//! The processes that exe-unit started: their numbers, and what it hears of them.
//!
//! Each has a thread that passes its output on. The rules, whose breach makes
//! exe-unit wait for ever or mix processes up (golem-runtime, section 2.5): nothing
//! of a process before its first event or after its last, all of its output before
//! its end, and few large pieces of it rather than many small ones.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use runtime_api::ProcessStatus;
use runtime_api::response::Command;
use shem::{ClientError, Event, Exit, ExitStatus, Process, Stdin};

use crate::outbox::{Closed, Outbox};

/// Output of one process is collected for this long before more of it is sent, so
/// that a chatty one makes few events. The first does not wait.
const INTERVAL: Duration = Duration::from_millis(20);

/// Unless there is this much, in bytes.
const PIECE: usize = 256 * 1024;

/// Processes at a time.
const MAX_PROCESSES: usize = 256;

/// Most of an entry point's output that is kept, in bytes.
const MAX_ENTRYPOINT_LOG: u64 = 16 << 20;

/// Why there is no such process.
#[derive(Debug)]
pub struct NoProcess;

/// Those that run.
#[derive(Clone, Default)]
pub struct Processes(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    last_pid: u64,
    running: HashMap<u64, Stdin>,
}

impl Processes {
    /// Whether one more may be started.
    pub fn has_room(&self) -> bool {
        self.lock().running.len() < MAX_PROCESSES
    }

    /// Answers request `id` with the start of `process`, and from now on passes its
    /// output to `outbox`.
    pub fn start(&self, process: Process, id: u64, outbox: &Arc<Outbox>) -> std::io::Result<()> {
        let pid = self.insert(&process);
        let (table, for_thread) = (self.clone(), Arc::clone(outbox));
        thread::Builder::new()
            .name(format!("run{pid}"))
            .spawn(move || {
                for_thread.answer_started(id, pid);
                let ended = relay(process, pid, &for_thread);
                table.lock().running.remove(&pid);
                match ended {
                    Ok(exit) => tell_end(pid, exit, &for_thread),
                    Err(why) => log::info!("process {pid} is lost: {why}"),
                }
            })
            .inspect_err(|_| drop(self.lock().running.remove(&pid)))
            .map(drop)
    }

    /// Takes care of the image's entry point: its output goes to `log`, as nobody
    /// waits for it. Returns its number.
    pub fn start_entrypoint(&self, process: Process, log: File) -> std::io::Result<u64> {
        let pid = self.insert(&process);
        let table = self.clone();
        thread::Builder::new()
            .name("entrypoint".into())
            .spawn(move || {
                keep_output(process, log);
                table.lock().running.remove(&pid);
            })
            .map(|_| pid)
    }

    /// Sends a signal. The agent's answer is waited for.
    pub fn signal(&self, pid: u64, signal: i32) -> Result<Result<(), ClientError>, NoProcess> {
        let process = self.lock().running.get(&pid).cloned();
        Ok(process.ok_or(NoProcess)?.signal(signal))
    }

    fn insert(&self, process: &Process) -> u64 {
        let mut table = self.lock();
        table.last_pid += 1;
        let pid = table.last_pid;
        table.running.insert(pid, process.stdin());
        pid
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a process is heard of no more.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("nobody reads our output any more")]
    Reader,
    #[error(transparent)]
    Agent(#[from] ClientError),
}

impl From<Closed> for Lost {
    fn from(_: Closed) -> Self {
        Lost::Reader
    }
}

/// Output that was not sent yet.
#[derive(Default)]
struct Collected {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Collected {
    fn len(&self) -> usize {
        self.stdout.len() + self.stderr.len()
    }

    fn send(&mut self, pid: u64, outbox: &Outbox) -> Result<(), Closed> {
        let piece = |stdout, stderr| ProcessStatus {
            pid,
            running: true,
            return_code: 0,
            stdout,
            stderr,
        };
        // One or the other in each: clients of old know no events with both.
        let stdout = std::mem::take(&mut self.stdout);
        let stderr = std::mem::take(&mut self.stderr);
        for piece in [piece(stdout, Vec::new()), piece(Vec::new(), stderr)] {
            if !(piece.stdout.is_empty() && piece.stderr.is_empty()) {
                outbox.send(Command::Status(piece))?;
            }
        }
        Ok(())
    }
}

/// Passes a process's output on until its end.
fn relay(mut process: Process, pid: u64, outbox: &Outbox) -> Result<Exit, Lost> {
    let mut collected = Collected::default();
    let mut due = Instant::now();
    loop {
        let event = match collected.len() {
            0 => Some(process.next_event()?),
            _ => process.next_event_before(due)?,
        };
        let ended = match event {
            Some(Event::Stdout(bytes)) => {
                collected.stdout.extend(bytes);
                None
            }
            Some(Event::Stderr(bytes)) => {
                collected.stderr.extend(bytes);
                None
            }
            Some(Event::Exit(exit)) => Some(exit),
            None => None,
        };
        if ended.is_some() || collected.len() >= PIECE || Instant::now() >= due {
            collected.send(pid, outbox)?;
            due = Instant::now() + INTERVAL;
        }
        if let Some(exit) = ended {
            return Ok(exit);
        }
    }
}

fn tell_end(pid: u64, exit: Exit, outbox: &Outbox) {
    if exit.oom_killed {
        log::warn!("process {pid} was killed because the VM's memory was used up");
    }
    let status = ProcessStatus {
        pid,
        return_code: return_code(exit.status),
        ..ProcessStatus::default()
    };
    if outbox.send(Command::Status(status)).is_err() {
        log::info!("process {pid} ended, which nobody reads any more");
    }
}

/// The status, or the bare number of the signal: golem-runtime, fact 3.
fn return_code(status: ExitStatus) -> i32 {
    match status {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal { signal, .. } => signal,
    }
}

/// Writes an entry point's output to `log`, up to a limit.
fn keep_output(mut process: Process, mut log: File) {
    let mut room = MAX_ENTRYPOINT_LOG;
    loop {
        let bytes = match process.next_event() {
            Ok(Event::Stdout(bytes) | Event::Stderr(bytes)) => bytes,
            Ok(Event::Exit(exit)) => {
                return log::info!("the entry point ended: {:?}", exit.status);
            }
            Err(error) => return log::info!("the entry point is lost: {error}"),
        };
        if room == 0 {
            continue;
        }
        let kept = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        room -= kept as u64;
        if let Err(error) = log.write_all(&bytes[..kept]) {
            log::warn!("keep the entry point's output: {error}; the rest is dropped");
            room = 0;
        } else if room == 0 {
            log::warn!("the entry point wrote {MAX_ENTRYPOINT_LOG} bytes; the rest is dropped");
        }
    }
}
