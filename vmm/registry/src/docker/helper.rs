//! Programs that keep passwords for Docker: `docker-credential-NAME`
//! (docker-credential-helpers, "Development"), with a limit of time and output.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Deserialize;
use serde_json::json;
use thiserror::Error;

use crate::auth::Identity;

/// How long a helper may take; it may ask its user for something.
const MAX_TIME: Duration = Duration::from_secs(60);
/// Longest answer that is read, in bytes.
const MAX_OUTPUT: usize = 64 << 10;
/// Longest message to a helper: what a pipe takes without a reader.
const MAX_INPUT: usize = 16 << 10;
/// What helpers print when they have nothing.
const NOT_FOUND: &str = "credentials not found";
/// The user in whose place a helper has a refresh token.
const TOKEN_USER: &str = "<token>";

/// Why a helper was not of use.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HelperError {
    /// Not the name of a program in `$PATH`.
    #[error("`{name}` is not the name of a helper")]
    Name {
        /// As configured.
        name: String,
    },
    /// Not run.
    #[error("cannot run {program}")]
    Run {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Too slow.
    #[error("{program} gives no answer within {} s", waited.as_secs())]
    Time {
        /// The program.
        program: String,
        /// How long it had.
        waited: Duration,
    },
    /// It says that it failed.
    #[error("{program} says: {message}")]
    Failed {
        /// The program.
        program: String,
        /// Its words, cut short.
        message: String,
    },
    /// Too much or something else than credentials.
    #[error("{program} gives an answer that is not understood")]
    Answer {
        /// The program.
        program: String,
    },
    /// More than helpers take.
    #[error("user and password are too long for {program}")]
    Input {
        /// The program.
        program: String,
    },
}

pub(super) struct Helper {
    /// Name in `$PATH`.
    pub(super) program: String,
    pub(super) max_time: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Credential {
    username: String,
    secret: String,
}

impl Helper {
    pub(super) fn new(name: &str) -> Result<Self, HelperError> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        match name.bytes().all(good) {
            true => Ok(Self {
                program: format!("docker-credential-{name}"),
                max_time: MAX_TIME,
            }),
            false => Err(HelperError::Name {
                name: name.escape_debug().to_string(),
            }),
        }
    }

    pub(super) fn program(&self) -> String {
        self.program.clone()
    }

    /// Who we are at the registry with this key, if the helper knows.
    pub(super) fn get(&self, key: &str) -> Result<Option<Identity>, HelperError> {
        let Some(answer) = self.run("get", key.as_bytes())? else {
            return Ok(None);
        };
        let found: Credential =
            serde_json::from_slice(&answer).map_err(|_| HelperError::Answer {
                program: self.program(),
            })?;
        Ok(Some(match found.username.as_str() {
            TOKEN_USER => Identity::Refresh(found.secret),
            _ => Identity::Password {
                user: found.username,
                password: found.secret,
            },
        }))
    }

    pub(super) fn store(&self, key: &str, user: &str, password: &str) -> Result<(), HelperError> {
        let credential = json!({ "ServerURL": key, "Username": user, "Secret": password });
        self.run("store", credential.to_string().as_bytes())?;
        Ok(())
    }

    /// `false` when there was nothing.
    pub(super) fn erase(&self, key: &str) -> Result<bool, HelperError> {
        Ok(self.run("erase", key.as_bytes())?.is_some())
    }

    /// What the helper prints; `None` when it says that it knows nothing.
    fn run(&self, action: &str, input: &[u8]) -> Result<Option<Vec<u8>>, HelperError> {
        let program = self.program();
        if input.len() > MAX_INPUT {
            return Err(HelperError::Input { program });
        }
        let run = |source| HelperError::Run {
            program: self.program(),
            source,
        };
        let mut child = Command::new(&program)
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(run)?;
        let ended = self.talk(&mut child, input);
        if !matches!(ended, Ok(Some(_))) {
            // It may have ended just now; and a killed one is waited for in no time.
            let _ = child.kill();
        }
        let status = child.wait().map_err(run)?;
        let output = ended.map_err(run)?.ok_or(HelperError::Time {
            program: program.clone(),
            waited: self.max_time,
        })?;
        if output.len() > MAX_OUTPUT {
            return Err(HelperError::Answer { program });
        }
        if status.success() {
            return Ok(Some(output));
        }
        let message: String = String::from_utf8_lossy(&output)
            .trim()
            .chars()
            .map(|char| if char.is_control() { ' ' } else { char })
            .take(200)
            .collect();
        match message.contains(NOT_FOUND) {
            true => Ok(None),
            false => Err(HelperError::Failed { program, message }),
        }
    }

    /// Writes the input and reads the output until the helper ends; `None` when
    /// it does not in time. More output than allowed is cut.
    fn talk(&self, child: &mut Child, input: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let end = Instant::now() + self.max_time;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(input) {
                // It needs no input to fail.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                result => result?,
            }
        }
        let mut output = Vec::new();
        if let Some(mut stdout) = child.stdout.take() {
            let mut buffer = [0; 4096];
            loop {
                if !ready(&stdout, end)? {
                    return Ok(None);
                }
                let read = stdout.read(&mut buffer)?;
                output.extend_from_slice(&buffer[..read]);
                if read == 0 || output.len() > MAX_OUTPUT {
                    break;
                }
            }
        }
        let pid = Pid::from_child(child);
        let process = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(ready(&process, end)?.then_some(output))
    }
}

/// Whether there is something to read from `fd` before `end`.
fn ready(fd: &impl AsFd, end: Instant) -> io::Result<bool> {
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(fd, PollFlags::IN)];
        match poll(&mut fds, Some(&left)) {
            Err(rustix::io::Errno::INTR) => {}
            result => return Ok(result? > 0),
        }
    }
}

#[cfg(test)]
mod tests;
