//! The agent and its client together, over Unix sockets, with real processes of this machine.

mod archive;
mod files;
mod forward;
mod output;
mod services;
mod stdin;
mod surroundings;
mod terminal;

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use guest_client::{Agent as Client, ClientError, Event, ExecError, Output, Process};
use guest_protocol::{
    BootTimes, Exec, ExecFailureKind, Exit, ExitStatus, FileKind, FileWrite, HostEntry, Interface,
    Resolver, Tty, WindowSize,
};
use nix::sys::stat::Mode;
use nix::unistd::{getgid, getuid, mkfifo};

use super::Agent;
use super::control::{self, End};
use super::drain::Drain;
use crate::error::BootError;

/// More than any test writes.
const LIMIT: usize = 64 << 20;

/// A client whose agent runs in this process.
struct Guest {
    client: Client,
    agent: Arc<Agent>,
    control: Option<JoinHandle<Result<End, BootError>>>,
    root: tempfile::TempDir,
}

impl Guest {
    fn boot() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let drain = Drain::start().unwrap();
        let agent = Arc::new(Agent::new("golem".into(), root.path().into(), drain));
        let (host, guest) = UnixStream::pair().unwrap();
        let files = root.path().to_owned();
        let control = thread::spawn(move || {
            let control = OwnedFd::from(guest).into();
            control::send_hello(
                &control,
                BootTimes {
                    init_start_us: 5,
                    ..BootTimes::default()
                },
            )?;
            control::serve(control, &files)
        });
        let port = Arc::clone(&agent);
        let connect = move |_port| {
            let (host, guest) = UnixStream::pair()?;
            port.accept(guest.into());
            Ok(host)
        };
        let client = Client::handshake(host, Box::new(connect)).unwrap();
        Self {
            client,
            agent,
            control: Some(control),
            root,
        }
    }

    fn start(&self, exec: Exec) -> Process {
        self.client.exec(exec).unwrap()
    }

    fn shell(&self, script: &str) -> Output {
        self.start(shell(script)).wait_with_output(LIMIT).unwrap()
    }

    fn refusal(&self, exec: Exec) -> (ExecFailureKind, String) {
        match self.client.exec(exec) {
            Err(ExecError::Failed(failure)) => (failure.kind, failure.message),
            other => panic!("not refused: {other:?}"),
        }
    }
}

fn exec(argv: &[&str]) -> Exec {
    Exec {
        argv: argv.iter().map(OsString::from).collect(),
        ..Exec::default()
    }
}

fn shell(script: &str) -> Exec {
    exec(&["sh", "-c", script])
}

fn tty(script: &str) -> Exec {
    let size = WindowSize { rows: 24, cols: 80 };
    Exec {
        tty: Some(Tty { size, term: None }),
        stdin: true,
        ..shell(script)
    }
}

fn code(code: i32) -> Exit {
    Exit {
        status: ExitStatus::Code(code),
        oom_killed: false,
    }
}

fn signalled(signal: i32) -> Exit {
    Exit {
        status: ExitStatus::Signal {
            signal,
            core_dumped: false,
        },
        oom_killed: false,
    }
}

/// Reads stdout events until `wanted` has come.
fn wait_for(process: &mut Process, wanted: &str) {
    let mut text = String::new();
    while !text.contains(wanted) {
        match process.next_event().unwrap() {
            Event::Stdout(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
            other => panic!("{other:?} before {wanted:?}, after {text:?}"),
        }
    }
}

/// A FIFO that tells when the last process that holds it for writing is gone.
fn wait_for_hang_up_of(path: &Path) {
    let mut nothing = Vec::new();
    fs::File::open(path)
        .unwrap()
        .read_to_end(&mut nothing)
        .unwrap();
}
