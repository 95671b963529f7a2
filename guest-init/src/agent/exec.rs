//! Starting a process for a connection: environment, program path, streams, and what can fail.

use std::collections::HashMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use guest_protocol::{Exec, ExecFailure, ExecFailureKind, FrameReader, ProcessMessage, Tty};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, fchown, pipe2};

use super::child::{self, Plan, Step};
use super::oom::OomWatch;
use super::relay::{self, Child};
use super::user::{Names, User};
use super::{Agent, Target, answer, shorten};
use crate::sys;

/// Docker's, for an environment without one.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// For a terminal whose type nobody named.
const DEFAULT_TERM: &str = "xterm";

/// Starts the process and stays with it until its end, or says why not.
pub fn serve(agent: &Arc<Agent>, reader: FrameReader<File>, exec: Exec) {
    match start(agent, &exec) {
        Ok(child) => {
            agent
                .processes()
                .insert(child.pid, Arc::clone(&child.target));
            // When the host is gone the relay notices.
            answer(&reader, &ProcessMessage::Started { pid: child.pid });
            relay::run(agent, reader, child);
        }
        Err(failure) => answer(&reader, &ProcessMessage::Failed(failure)),
    }
}

fn start(agent: &Agent, exec: &Exec) -> Result<Child, ExecFailure> {
    let user = Names::load(&agent.root)
        .resolve(exec.user.as_deref())
        .map_err(|message| failed(ExecFailureKind::NoSuchUser, Errno::UnknownErrno, message))?;
    let env = environment(exec, &user, &agent.hostname);
    let search = env
        .iter()
        .find_map(|var| var.strip_prefix(b"PATH="))
        .unwrap_or_default();
    let programs = strings(match &exec.program {
        Some(program) => vec![program.as_bytes().to_vec()],
        None => candidates(first(exec), search),
    })?;
    let cwd = exec.cwd.as_deref().unwrap_or(OsStr::new("/"));
    let streams = Streams::open(exec, &user).map_err(|errno| {
        failed(
            ExecFailureKind::Other,
            errno,
            format!("open the streams: {}", errno.desc()),
        )
    })?;
    let plan = Plan {
        programs: &programs,
        argv: &strings(exec.argv.iter().map(|arg| arg.as_bytes().to_vec()))?,
        env: &strings(env)?,
        cwd: &strings([cwd.as_bytes().to_vec()])?.remove(0),
        user: &user,
        stdio: [
            streams.child[0].as_fd(),
            streams.child[1].as_fd(),
            streams.child[2].as_fd(),
        ],
        terminal: streams.terminal.is_some(),
    };
    let oom = OomWatch::start();
    let (pid, pidfd) = child::spawn(&plan).map_err(|(step, errno)| explain(step, errno, exec))?;
    let target = Arc::new(Target {
        pidfd,
        terminal: streams.terminal,
    });
    let [stdin, stdout, stderr] = streams.agent;
    Ok(Child {
        pid: pid.cast_unsigned(),
        target,
        stdin,
        outputs: [stdout, stderr],
        oom,
    })
}

/// `NAME=value` for each variable; the last of a name wins, and what every
/// program expects is added where it is missing.
fn environment(exec: &Exec, user: &User, hostname: &str) -> Vec<Vec<u8>> {
    let mut index = HashMap::new();
    let mut env: Vec<(&OsStr, &OsStr)> = Vec::new();
    for (name, value) in &exec.env {
        let at = *index.entry(name.as_os_str()).or_insert(env.len());
        match env.get_mut(at) {
            Some(variable) => variable.1 = value,
            None => env.push((name, value)),
        }
    }
    let term = exec
        .tty
        .as_ref()
        .map(|tty| tty.term.as_deref().unwrap_or(DEFAULT_TERM));
    let defaults = [
        ("PATH", Some(OsStr::new(DEFAULT_PATH))),
        ("HOME", Some(user.home.as_os_str())),
        ("HOSTNAME", Some(OsStr::new(hostname))),
        ("TERM", term.map(OsStr::new)),
    ];
    for (name, value) in defaults {
        if let (Some(value), false) = (value, index.contains_key(OsStr::new(name))) {
            env.push((OsStr::new(name), value));
        }
    }
    env.into_iter()
        .map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat())
        .collect()
}

fn first(exec: &Exec) -> &OsStr {
    exec.argv
        .first()
        .map(OsString::as_os_str)
        .unwrap_or_default()
}

/// Where a program may be: itself when it has a slash, else in each directory
/// of the search path, of which an empty one is the working directory.
fn candidates(program: &OsStr, search: &[u8]) -> Vec<Vec<u8>> {
    let program = program.as_bytes();
    if program.is_empty() || program.contains(&b'/') {
        return vec![program.to_vec()];
    }
    let path = |dir: &[u8]| match dir {
        b"" => program.to_vec(),
        dir => [dir, b"/", program].concat(),
    };
    search.split(|&b| b == b':').map(path).collect()
}

fn strings(bytes: impl IntoIterator<Item = Vec<u8>>) -> Result<Vec<CString>, ExecFailure> {
    bytes
        .into_iter()
        .map(CString::new)
        .collect::<Result<_, _>>()
        .map_err(|_| {
            failed(
                ExecFailureKind::Other,
                Errno::EINVAL,
                "NUL byte in an argument".to_owned(),
            )
        })
}

/// Both ends of the three streams.
struct Streams {
    child: [OwnedFd; 3],
    /// The agent's: to write stdin, to read stdout and stderr.
    agent: [Option<File>; 3],
    terminal: Option<OwnedFd>,
}

impl Streams {
    fn open(exec: &Exec, user: &User) -> Result<Self, Errno> {
        match &exec.tty {
            Some(tty) => Self::open_terminal(tty, exec.stdin, user),
            None => Self::open_pipes(exec.stdin, user),
        }
    }

    fn open_pipes(has_stdin: bool, user: &User) -> Result<Self, Errno> {
        let (stdin, stdin_end) = if has_stdin {
            let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
            (read, Some(agent_end(write)?))
        } else {
            (
                open(
                    "/dev/null",
                    OFlag::O_RDONLY | OFlag::O_CLOEXEC,
                    Mode::empty(),
                )?,
                None,
            )
        };
        let (stdout_end, stdout) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr_end, stderr) = pipe2(OFlag::O_CLOEXEC)?;
        if has_stdin {
            give(&stdin, user);
        }
        give(&stdout, user);
        give(&stderr, user);
        let agent = [
            stdin_end,
            Some(agent_end(stdout_end)?),
            Some(agent_end(stderr_end)?),
        ];
        Ok(Self {
            child: [stdin, stdout, stderr],
            agent,
            terminal: None,
        })
    }

    fn open_terminal(tty: &Tty, has_stdin: bool, user: &User) -> Result<Self, Errno> {
        let (master, slave) = sys::open_pty().map_err(errno_of)?;
        sys::set_window_size(master.as_fd(), tty.size).map_err(errno_of)?;
        give(&slave, user);
        let duplicate = |fd: &OwnedFd| fd.try_clone().map_err(errno_of);
        let stdin_end = if has_stdin {
            Some(agent_end(duplicate(&master)?)?)
        } else {
            None
        };
        let agent = [stdin_end, Some(agent_end(duplicate(&master)?)?), None];
        let child = [duplicate(&slave)?, duplicate(&slave)?, slave];
        Ok(Self {
            child,
            agent,
            terminal: Some(master),
        })
    }
}

/// Lets the user open its own streams again by way of `/dev/stdout` and such.
fn give(stream: &OwnedFd, user: &User) {
    // It fails only in tests that are not root, where the owner is right.
    let _ = fchown(stream, Some(Uid::from_raw(user.uid)), None);
}

fn agent_end(fd: OwnedFd) -> Result<File, Errno> {
    sys::set_nonblocking(fd.as_fd()).map_err(errno_of)?;
    Ok(fd.into())
}

fn errno_of(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Puts a failed step in words that name the thing.
fn explain(step: Step, errno: Errno, exec: &Exec) -> ExecFailure {
    use ExecFailureKind::{NoSuchWorkdir, NotExecutable, NotFound, Other};
    let path = Path::new(
        exec.argv
            .first()
            .map(OsString::as_os_str)
            .unwrap_or_default(),
    );
    let program = path.display();
    let cwd = exec.cwd.clone().unwrap_or_default();
    let reason = errno.desc();
    let (kind, message) = match (step, errno) {
        (Step::Setup, _) => (Other, format!("start a process: {reason}")),
        (Step::User, _) => (Other, format!("change the user: {reason}")),
        (Step::Workdir, _) => (
            NoSuchWorkdir,
            format!("working directory {}: {reason}", cwd.display()),
        ),
        (Step::Program, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG) => {
            let slash = path.as_os_str().as_bytes().contains(&b'/');
            let exists = slash && path.exists();
            let text = match (exists, slash) {
                (true, _) => "its interpreter or loader is missing",
                (false, true) => reason,
                (false, false) => "not found in PATH",
            };
            (NotFound, format!("{program}: {text}"))
        }
        (
            Step::Program,
            Errno::EACCES | Errno::EPERM | Errno::ENOEXEC | Errno::ETXTBSY | Errno::EISDIR,
        ) => (NotExecutable, format!("{program}: {reason}")),
        (Step::Program, _) => (Other, format!("{program}: {reason}")),
    };
    failed(kind, errno, message)
}

fn failed(kind: ExecFailureKind, errno: Errno, message: String) -> ExecFailure {
    ExecFailure {
        kind,
        errno: errno as i32,
        message: shorten(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec_with(env: &[(&str, &str)]) -> Exec {
        let env = env
            .iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Exec {
            argv: vec!["true".into()],
            env,
            ..Exec::default()
        }
    }

    fn text(env: Vec<Vec<u8>>) -> Vec<String> {
        env.into_iter()
            .map(|var| String::from_utf8(var).unwrap())
            .collect()
    }

    #[test]
    fn environment_gets_what_is_missing() {
        let user = User {
            home: "/home/app".into(),
            ..User::default()
        };
        let env = text(environment(&exec_with(&[("A", "1")]), &user, "golem"));
        let path = format!("PATH={DEFAULT_PATH}");
        assert_eq!(env, ["A=1", &path, "HOME=/home/app", "HOSTNAME=golem"]);
    }

    #[test]
    fn later_variable_wins_and_keeps_the_default_out() {
        let exec = exec_with(&[
            ("HOME", "/a"),
            ("PATH", "/p"),
            ("HOME", "/b"),
            ("HOSTNAME", ""),
        ]);
        let env = text(environment(&exec, &User::default(), "golem"));
        assert_eq!(env, ["HOME=/b", "PATH=/p", "HOSTNAME="]);
    }

    #[test]
    fn program_is_searched_only_without_a_slash() {
        let find =
            |program: &str, path: &str| text(candidates(OsStr::new(program), path.as_bytes()));
        assert_eq!(find("ls", "/bin:/usr/bin"), ["/bin/ls", "/usr/bin/ls"]);
        assert_eq!(find("ls", ":/bin"), ["ls", "/bin/ls"]);
        assert_eq!(find("./ls", "/bin"), ["./ls"]);
        assert_eq!(find("", "/bin"), [""]);
    }
}
