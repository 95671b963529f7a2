//! A command to run in a VM.

use std::ffi::{OsStr, OsString};

use guest_protocol::Exec;
pub use guest_protocol::{Tty, WindowSize};
use gvmi::ContainerConfig;

/// A command with what the image's configuration does not say of it.
///
/// What is not set here comes from the top image: its environment (to which
/// [`Command::env`] adds), user and working directory.
#[derive(Clone, Debug)]
pub struct Command {
    program: Option<OsString>,
    argv: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    cwd: Option<OsString>,
    user: Option<String>,
    tty: Option<Tty>,
    stdin: bool,
}

impl Command {
    /// A program and its arguments. A program without `/` is looked for in the
    /// process's PATH.
    pub fn new<I, S>(argv: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let argv = argv
            .into_iter()
            .map(|arg| arg.as_ref().to_owned())
            .collect();
        Command {
            program: None,
            argv,
            env: Vec::new(),
            cwd: None,
            user: None,
            tty: None,
            stdin: false,
        }
    }

    /// Executes this file, as `execve` takes it and without a search, whatever the
    /// first argument says.
    pub fn program(mut self, path: impl AsRef<OsStr>) -> Self {
        self.program = Some(path.as_ref().to_owned());
        self
    }

    /// Sets an environment variable, over the image's.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets the working directory, instead of the image's.
    pub fn cwd(mut self, path: impl AsRef<OsStr>) -> Self {
        self.cwd = Some(path.as_ref().to_owned());
        self
    }

    /// Sets the user, instead of the image's: `name`, `name:group`, `uid` or `uid:gid`.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Gives it a terminal, to which stdout and stderr both go.
    pub fn tty(mut self, tty: Tty) -> Self {
        self.tty = Some(tty);
        self
    }

    /// Attaches stdin. Without it the process reads an end of file.
    pub fn stdin(mut self, attached: bool) -> Self {
        self.stdin = attached;
        self
    }

    /// The request for the agent, with `config` filling in what is not set.
    pub(crate) fn to_exec(&self, config: &ContainerConfig) -> Exec {
        let from_image = config.env.iter().map(|entry| match entry.split_once('=') {
            Some((name, value)) => (name.into(), value.into()),
            None => (entry.into(), OsString::new()),
        });
        let mut env: Vec<(OsString, OsString)> = Vec::new();
        for (name, value) in from_image.chain(self.env.iter().cloned()) {
            match env.iter_mut().find(|(known, _)| *known == name) {
                Some(known) => known.1 = value,
                None => env.push((name, value)),
            }
        }
        Exec {
            program: self.program.clone(),
            argv: self.argv.clone(),
            env,
            cwd: self
                .cwd
                .clone()
                .or_else(|| config.working_dir.clone().map(Into::into)),
            user: self.user.clone().or_else(|| config.user.clone()),
            tty: self.tty.clone(),
            stdin: self.stdin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ContainerConfig {
        ContainerConfig {
            env: vec!["A=1".into(), "B=x=y".into(), "EMPTY".into()],
            user: Some("nginx".into()),
            working_dir: Some("/srv".into()),
            ..Default::default()
        }
    }

    #[test]
    fn the_image_fills_in_what_the_command_leaves_open() {
        let exec = Command::new(["true"]).to_exec(&image());
        assert_eq!(exec.user.as_deref(), Some("nginx"));
        assert_eq!(exec.cwd.as_deref(), Some(OsStr::new("/srv")));
        let env: Vec<_> = exec
            .env
            .iter()
            .map(|(n, v)| (n.to_str().unwrap(), v.to_str().unwrap()))
            .collect();
        assert_eq!(env, [("A", "1"), ("B", "x=y"), ("EMPTY", "")]);
    }

    #[test]
    fn the_command_overrides_the_image() {
        let exec = Command::new(["true"])
            .env("A", "2")
            .env("C", "3")
            .user("0")
            .cwd("/")
            .to_exec(&image());
        assert_eq!(exec.user.as_deref(), Some("0"));
        assert_eq!(exec.cwd.as_deref(), Some(OsStr::new("/")));
        assert_eq!(exec.env[0], ("A".into(), "2".into()));
        assert_eq!(exec.env[3], ("C".into(), "3".into()));
        assert_eq!(exec.env.len(), 4);
    }
}
