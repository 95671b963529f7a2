//! The agent: takes connections from the host and does what they ask.
//!
//! It listens before it connects out, so that the host may use it as soon as
//! it hears from it. Every connection to its port has a thread of its own,
//! which ends with the connection; the control connection is served by the
//! main thread, and its end is the end of the agent and so of the guest.
//!
//! Nothing the container does may stop the agent: it is exempt from the
//! out-of-memory killer, needs no disk space, and answers with an error where
//! a thread or a process cannot be had.

mod archive;
mod child;
mod control;
mod drain;
mod exec;
mod files;
mod forward;
mod oom;
mod relay;
mod resolver;
mod user;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use guest_protocol::{
    AGENT_PORT, BootTimes, CONTROL_PORT, Done, ExecFailure, ExecFailureKind, Failure, FrameReader,
    HOST_CID, MAX_REQUEST, Open, ProcessMessage, decode, write_message,
};
use nix::errno::Errno;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, VsockAddr, bind, connect, listen, socket,
};

use crate::console::say;
use crate::disks::Disks;
use crate::error::{Attempt, Result};
use crate::init;
use crate::sys;
use drain::Drain;

/// Connections served at a time; each costs a thread and up to a quarter MiB.
const MAX_CONNECTIONS: usize = 512;

/// Stack of a connection's thread; its buffers are on the heap.
const THREAD_STACK: usize = 128 * 1024;

/// Descriptors of the agent: several for each connection.
const MAX_DESCRIPTORS: u64 = 1 << 19;

/// The processes that connections started, and what all connections share.
pub struct Agent {
    hostname: String,
    /// Root of the container for files; `/` but in tests.
    root: PathBuf,
    connections: Mutex<usize>,
    /// Of these, the ones to ports of the container.
    forwarded: Mutex<usize>,
    processes: Mutex<HashMap<u32, Arc<Target>>>,
    drain: Drain,
}

/// How to reach a process whose end was not yet taken note of.
pub struct Target {
    pidfd: OwnedFd,
    terminal: Option<OwnedFd>,
}

/// Connects to the host and serves it until it hangs up or asks for the end,
/// when it leaves `disks` in order.
pub fn run(hostname: String, mut times: BootTimes, disks: &Disks) -> Result<()> {
    protect();
    let listener = listen_on(AGENT_PORT).attempt("listen on vsock")?;
    let control = connect_to_host(CONTROL_PORT).attempt("connect to the host")?;
    times.agent_ready_us = init::boot_time_us();
    control::send_hello(&control, times)?;

    let drain = Drain::start().attempt("start the drain")?;
    let agent = Arc::new(Agent::new(hostname, PathBuf::from("/"), drain));
    let acceptor = Arc::clone(&agent);
    thread::Builder::new()
        .stack_size(THREAD_STACK)
        .spawn(move || acceptor.accept_all(&listener))
        .attempt("start the listener")?;
    match control::serve(control, Path::new("/"))? {
        control::End::HungUp => Ok(()),
        control::End::Shutdown => {
            say("powering off");
            init::power_off(Some(disks))
        }
    }
}

impl Agent {
    /// An agent without connections.
    pub fn new(hostname: String, root: PathBuf, drain: Drain) -> Self {
        let (connections, forwarded, processes) = Default::default();
        Self {
            hostname,
            root,
            connections,
            forwarded,
            processes,
            drain,
        }
    }

    fn accept_all(self: &Arc<Self>, listener: &OwnedFd) {
        loop {
            match sys::accept(listener.as_fd()) {
                Ok(connection) => self.accept(connection),
                // Out of memory or of descriptors in all the guest: whoever
                // has them needs the processor to give them back.
                Err(Errno::ENFILE | Errno::EMFILE | Errno::ENOMEM | Errno::ENOBUFS) => {
                    thread::yield_now();
                }
                // One that went away again.
                Err(Errno::EINTR | Errno::ECONNABORTED | Errno::ECONNRESET) => {}
                Err(e) => {
                    say(format_args!("agent: accept: {e}"));
                    std::process::exit(1);
                }
            }
        }
    }

    /// Serves a connection in a thread of its own, or says why not.
    pub fn accept(self: &Arc<Self>, connection: OwnedFd) {
        let Some(slot) = Slot::take(self, |agent| &agent.connections, MAX_CONNECTIONS) else {
            return refuse(
                &connection,
                Errno::EAGAIN,
                "too many connections to the agent",
            );
        };
        // The thread's closure is gone when it cannot start, so the
        // connection is shared to have something to answer on.
        let connection = Arc::new(connection);
        let served = Arc::clone(&connection);
        let thread = thread::Builder::new()
            .stack_size(THREAD_STACK)
            .spawn(move || {
                slot.agent.serve(&served);
            });
        if let Err(e) = thread {
            let errno = Errno::from_raw(e.raw_os_error().unwrap_or(libc::EAGAIN));
            refuse(&connection, errno, "the agent cannot start a thread");
        }
    }

    fn serve(self: &Arc<Self>, connection: &OwnedFd) {
        let Ok(connection) = connection.try_clone() else {
            return refuse(connection, Errno::EMFILE, "the agent is out of descriptors");
        };
        let mut reader = FrameReader::new(File::from(connection), MAX_REQUEST);
        let open = match reader.read_frame() {
            Ok(Some(frame)) => decode::<Open>(frame.body),
            // Nobody is there to answer to.
            Ok(None) | Err(_) => return,
        };
        match open {
            Ok(Open::Exec(exec)) => exec::serve(self, reader, exec),
            Ok(Open::Signal { pid, signal }) => {
                let done = self.with_process(pid, |target| {
                    sys::pidfd_signal(target.pidfd.as_fd(), signal)
                });
                answer(&reader, &Done(done));
            }
            Ok(Open::Resize { pid, size }) => {
                let done = self.with_process(pid, |target| match &target.terminal {
                    Some(terminal) => sys::set_window_size(terminal.as_fd(), size),
                    None => Err(io::Error::from_raw_os_error(libc::ENOTTY)),
                });
                answer(&reader, &Done(done));
            }
            Ok(Open::FileRead { path }) => files::read(&self.root, &reader, &path),
            Ok(Open::FileWrite(write)) => files::write(&self.root, &mut reader, &write),
            Ok(Open::FileStat { path }) => files::stat(&self.root, &reader, &path),
            Ok(Open::ArchiveRead(read)) => archive::read(&self.root, &reader, &read),
            Ok(Open::ArchiveWrite { path }) => archive::write(&self.root, &mut reader, &path),
            Ok(Open::Connect { port }) => forward::serve(self, reader, port),
            Err(e) => {
                let failed = exec_failure(Errno::EPROTO, format!("request: {e}"));
                answer(&reader, &failed);
            }
        }
    }

    fn with_process(
        &self,
        pid: u32,
        act: impl FnOnce(&Target) -> io::Result<()>,
    ) -> std::result::Result<(), Failure> {
        let target = self.processes().get(&pid).cloned();
        let result = match target {
            Some(target) => act(&target),
            None => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        };
        result.map_err(|e| failure(&e, format_args!("process {pid}")))
    }

    fn processes(&self) -> MutexGuard<'_, HashMap<u32, Arc<Target>>> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of so many connections, given back when dropped.
struct Slot {
    agent: Arc<Agent>,
    count: fn(&Agent) -> &Mutex<usize>,
}

impl Slot {
    /// Takes one of `limit`, of which `count` is the number that are taken.
    fn take(agent: &Arc<Agent>, count: fn(&Agent) -> &Mutex<usize>, limit: usize) -> Option<Self> {
        let mut taken = count(agent).lock().unwrap_or_else(PoisonError::into_inner);
        if *taken >= limit {
            return None;
        }
        *taken += 1;
        Some(Self {
            agent: Arc::clone(agent),
            count,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *(self.count)(&self.agent)
            .lock()
            .unwrap_or_else(PoisonError::into_inner) -= 1;
    }
}

/// Sends a message on a connection that is read elsewhere. A host that has
/// gone needs no answer.
fn answer(reader: &FrameReader<File>, message: &impl guest_protocol::Message) {
    let _ = write_message(&mut reader.get_ref(), message);
}

/// Answers before the request was read. Most connections are for processes,
/// and the others take it for a breach of protocol that ends them as well.
fn refuse(connection: &OwnedFd, errno: Errno, message: &str) {
    if let Ok(connection) = connection.try_clone() {
        let failed = exec_failure(errno, message.to_owned());
        let _ = write_message(&mut File::from(connection), &failed);
    }
}

fn exec_failure(errno: Errno, message: String) -> ProcessMessage {
    let kind = ExecFailureKind::Other;
    ProcessMessage::Failed(ExecFailure {
        kind,
        errno: errno as i32,
        message,
    })
}

/// A system error about something, for the host.
fn failure(error: &io::Error, what: impl std::fmt::Display) -> Failure {
    let errno = error.raw_os_error().unwrap_or(0);
    let reason = if errno == 0 {
        error.to_string()
    } else {
        Errno::from_raw(errno).desc().into()
    };
    Failure {
        errno,
        message: shorten(format!("{what}: {reason}")),
    }
}

/// Keeps a text within what the protocol allows.
fn shorten(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(guest_protocol::MAX_TEXT));
    text
}

/// Keeps the agent alive when memory is short, and its descriptors plenty.
fn protect() {
    if let Err(e) = fs::write("/proc/self/oom_score_adj", "-1000") {
        say(format_args!(
            "warning: protect the agent from the out-of-memory killer: {e}"
        ));
    }
    if let Err(e) = setrlimit(Resource::RLIMIT_NOFILE, MAX_DESCRIPTORS, MAX_DESCRIPTORS) {
        say(format_args!("warning: raise the limit of descriptors: {e}"));
    }
}

fn listen_on(port: u32) -> nix::Result<OwnedFd> {
    let listener = vsock()?;
    bind(
        listener.as_raw_fd(),
        &VsockAddr::new(libc::VMADDR_CID_ANY, port),
    )?;
    listen(&listener, Backlog::MAXCONN)?;
    Ok(listener)
}

fn connect_to_host(port: u32) -> nix::Result<File> {
    let stream = vsock()?;
    connect(stream.as_raw_fd(), &VsockAddr::new(HOST_CID, port))?;
    Ok(stream.into())
}

fn vsock() -> nix::Result<OwnedFd> {
    socket(
        AddressFamily::Vsock,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
}
