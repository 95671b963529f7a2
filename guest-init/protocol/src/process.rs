//! Messages of the connections to the agent's port: processes, signals, files, ports.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Serialize};

use crate::error::{Failure, MessageError};
use crate::limits::{MAX_ARG, MAX_ARGS, MAX_ENV, MAX_NAME, MAX_PATH, MAX_TERM, MAX_TEXT, MAX_USER};
use crate::message::{Message, check_len, check_text};

/// First frame of a connection to the agent: what it is for. Grows at its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Open {
    /// Start a process and stay connected to it.
    Exec(Exec),
    /// Send a signal to a process that an open connection started.
    Signal {
        /// As [`ProcessMessage::Started`] told.
        pid: u32,
        /// Linux signal number.
        signal: i32,
    },
    /// Change the window size of such a process's terminal.
    Resize {
        /// As [`ProcessMessage::Started`] told.
        pid: u32,
        /// The new size.
        size: WindowSize,
    },
    /// Read a regular file: data frames, then [`FileMessage::End`].
    FileRead {
        /// Path in the container's root.
        path: OsString,
    },
    /// Replace a regular file: after [`FileMessage::Ready`] the host sends
    /// data frames and [`FileRequest::End`]; the file appears whole at
    /// [`FileMessage::End`] or not at all.
    FileWrite(FileWrite),
    /// Ask for [`FileMessage::Stat`] of a path; the last link is followed.
    FileStat {
        /// Path in the container's root.
        path: OsString,
    },
    /// Read a file or a tree as a tar archive: data frames, then
    /// [`FileMessage::End`].
    ArchiveRead(ArchiveRead),
    /// Unpack a tar archive: after [`FileMessage::Ready`] the host sends data
    /// frames and [`FileRequest::End`]; what is in the archive appears whole at
    /// [`FileMessage::End`] or not at all.
    ArchiveWrite {
        /// Path of an existing folder in the container's root.
        path: OsString,
    },
    /// Connect to a TCP port of the guest, at 127.0.0.1 or else at ::1: after a
    /// [`Done`] without failure the connection is that one, as raw bytes both
    /// ways, and each way ends by itself.
    Connect {
        /// Not 0.
        port: u16,
    },
}

/// A process to start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// The file to execute, as `execve` takes it: nothing is searched. `None` is
    /// the first of `argv`, which without a slash is looked for in the `PATH` of
    /// `env`.
    pub program: Option<OsString>,
    /// What the program finds as its arguments, at least one.
    pub argv: Vec<OsString>,
    /// The whole environment: names without `=` and values. Later entries
    /// win. The agent adds `PATH`, `HOME`, `HOSTNAME` and, with a terminal,
    /// `TERM` when they are missing.
    pub env: Vec<(OsString, OsString)>,
    /// Working directory; `None` is `/`.
    pub cwd: Option<OsString>,
    /// `uid`, `uid:gid`, `name`, `name:group` and mixtures, as the image's
    /// `/etc/passwd` and `/etc/group` know them; `None` is root.
    pub user: Option<String>,
    /// A terminal for all three streams, its output arriving as stdout;
    /// `None` is pipes.
    pub tty: Option<Tty>,
    /// Whether stdin is relayed; otherwise it is `/dev/null`.
    pub stdin: bool,
}

/// The terminal of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tty {
    /// Window size to start with.
    pub size: WindowSize,
    /// `TERM` when the environment has none; `None` is `xterm`.
    pub term: Option<String>,
}

/// Size of a terminal window in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub cols: u16,
}

/// What the agent says about a process: first `Started` or `Failed`, last `Exit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessMessage {
    /// The program runs.
    Started {
        /// Its process id in the guest, never 0.
        pid: u32,
    },
    /// It does not, and the connection ends here.
    Failed(ExecFailure),
    /// It ended; all output it left in its pipes went before.
    Exit(Exit),
}

/// Why a process could not be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecFailure {
    /// What to tell the user.
    pub kind: ExecFailureKind,
    /// Linux error number, 0 when there is none.
    pub errno: i32,
    /// One line that names the thing.
    pub message: String,
}

/// Kinds of [`ExecFailure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecFailureKind {
    /// No such program: exit status 127 by custom.
    NotFound,
    /// It exists but does not execute: exit status 126 by custom.
    NotExecutable,
    /// The image knows no such user or group.
    NoSuchUser,
    /// The working directory is missing or not one.
    NoSuchWorkdir,
    /// Anything else, such as too many processes.
    Other,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Status as `wait` gives it.
    pub status: ExitStatus,
    /// The kernel ran out of memory and killed this process or, when it ended
    /// with 137, one that it had waited for.
    pub oom_killed: bool,
}

/// Status of an ended process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It exited with this code, 0 to 255.
    Code(i32),
    /// A signal ended it.
    Signal {
        /// Linux signal number.
        signal: i32,
        /// Whether it dumped core.
        core_dumped: bool,
    },
}

/// What the host says on a process connection beside stdin data. Grows at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProcessRequest {
    /// The process has all of its stdin.
    CloseStdin,
}

/// The agent's only answer to [`Open::Signal`], [`Open::Resize`] and [`Open::Connect`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done(
    /// Nothing, or why not; `ESRCH` when the process has ended, `ECONNREFUSED`
    /// when nobody listens.
    pub Result<(), Failure>,
);

/// A file to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileWrite {
    /// Path in the container's root; its directory must exist.
    pub path: OsString,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A file or a tree to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveRead {
    /// Path in the container's root.
    pub path: OsString,
    /// What it is called at the top of the archive: one name, or `.` for a
    /// folder's contents.
    pub name: OsString,
    /// When the path is a link: what it leads to, instead of the link itself.
    pub follow: bool,
}

/// What the host says on a file connection beside data. Grows at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileRequest {
    /// The file is complete.
    End,
}

/// What the agent says on a file connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileMessage {
    /// It waits for the data of the file to write.
    Ready,
    /// The file was sent whole, or is in place.
    End,
    /// The answer to [`Open::FileStat`].
    Stat(FileStat),
    /// It did not work; the connection ends here.
    Failed(Failure),
}

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStat {
    /// Its type.
    pub kind: FileKind,
    /// Permission bits, at most 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Last change of the content in nanoseconds since the epoch.
    pub modified_nanos: i64,
}

/// Type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A device, FIFO or socket.
    Other,
}

impl Message for Open {
    fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::Exec(exec) => exec.check(),
            Self::Signal { .. } | Self::Resize { .. } => Ok(()),
            Self::Connect { port: 0 } => Err(MessageError::Invalid { what: "port" }),
            Self::Connect { .. } => Ok(()),
            Self::FileRead { path } | Self::FileStat { path } | Self::ArchiveWrite { path } => {
                check_path(path)
            }
            Self::ArchiveRead(read) => {
                check_path(&read.path)?;
                check_name(&read.name)
            }
            Self::FileWrite(write) => {
                check_path(&write.path)?;
                check_mode(write.mode)
            }
        }
    }
}

impl Exec {
    fn check(&self) -> Result<(), MessageError> {
        check_len("number of arguments", self.argv.len(), MAX_ARGS)?;
        if self.argv.is_empty() {
            return Err(MessageError::Invalid {
                what: "empty argument list",
            });
        }
        for arg in &self.argv {
            check_text("argument", arg.as_bytes(), MAX_ARG)?;
        }
        if let Some(program) = &self.program {
            check_text("program", program.as_bytes(), MAX_PATH)?;
        }
        check_len("number of environment variables", self.env.len(), MAX_ENV)?;
        for (name, value) in &self.env {
            let limit = MAX_ARG.saturating_sub(value.len() + 1);
            check_text("environment variable", name.as_bytes(), limit)?;
            check_text("environment variable", value.as_bytes(), MAX_ARG)?;
            if name.is_empty() || name.as_bytes().contains(&b'=') {
                return Err(MessageError::Invalid {
                    what: "environment variable name",
                });
            }
        }
        self.cwd.as_deref().map_or(Ok(()), check_path)?;
        if let Some(user) = &self.user {
            check_text("user", user.as_bytes(), MAX_USER)?;
        }
        if let Some(Tty {
            term: Some(term), ..
        }) = &self.tty
        {
            check_text("terminal type", term.as_bytes(), MAX_TERM)?;
        }
        Ok(())
    }
}

impl Message for ProcessMessage {
    fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::Started { pid: 0 } => Err(MessageError::Invalid { what: "process id" }),
            Self::Failed(failure) => check_len("failure message", failure.message.len(), MAX_TEXT),
            Self::Exit(Exit {
                status: ExitStatus::Code(code),
                ..
            }) if !(0..256).contains(code) => Err(MessageError::Invalid { what: "exit code" }),
            Self::Exit(Exit {
                status: ExitStatus::Signal { signal, .. },
                ..
            }) if !(1..128).contains(signal) => Err(MessageError::Invalid {
                what: "signal number",
            }),
            Self::Started { .. } | Self::Exit(_) => Ok(()),
        }
    }
}

impl Message for ProcessRequest {
    fn check(&self) -> Result<(), MessageError> {
        Ok(())
    }
}

impl Message for FileRequest {
    fn check(&self) -> Result<(), MessageError> {
        Ok(())
    }
}

impl Message for Done {
    fn check(&self) -> Result<(), MessageError> {
        self.0.as_ref().err().map_or(Ok(()), Message::check)
    }
}

impl Message for FileMessage {
    fn check(&self) -> Result<(), MessageError> {
        match self {
            Self::Ready | Self::End => Ok(()),
            Self::Stat(stat) => check_mode(stat.mode),
            Self::Failed(failure) => failure.check(),
        }
    }
}

fn check_path(path: &OsStr) -> Result<(), MessageError> {
    if path.is_empty() {
        return Err(MessageError::Invalid { what: "empty path" });
    }
    check_text("path", path.as_bytes(), MAX_PATH)
}

/// One component of a path, or `.`.
fn check_name(name: &OsStr) -> Result<(), MessageError> {
    check_text("name", name.as_bytes(), MAX_NAME)?;
    if name.is_empty() || name == ".." || name.as_bytes().contains(&b'/') {
        return Err(MessageError::Invalid { what: "name" });
    }
    Ok(())
}

fn check_mode(mode: u32) -> Result<(), MessageError> {
    if mode > 0o7777 {
        Err(MessageError::Invalid { what: "file mode" })
    } else {
        Ok(())
    }
}
