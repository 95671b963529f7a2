//! The command line of what has to do with Golem: `shem shell` and `shem golem`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueHint};

use crate::{help, values};

/// `shem shell`.
#[derive(Debug, Args)]
#[command(after_help = help::SHELL)]
pub struct ShellArgs {
    /// Image to deploy
    #[arg(required_unless_present = "no_deploy", value_name = "IMAGE", value_hint = ValueHint::FilePath)]
    pub image: Option<PathBuf>,

    /// Work folder, which stays, with the volumes in it [default: a temporary one]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub workdir: Option<PathBuf>,

    /// Start what is deployed in --workdir already
    #[arg(long, requires = "workdir", conflicts_with_all =
          ["image", "cpus", "memory", "storage", "volume_override", "hostname"])]
    pub no_deploy: bool,

    /// Number of CPUs of the VM [default: 1]
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u8).range(1..=i64::from(shem::MAX_VCPUS)))]
    pub cpus: Option<u8>,

    /// RAM of the VM: a number and b, k, m or g [default: 512m]
    #[arg(short, long, value_name = "SIZE", value_parser = values::told(values::size))]
    pub memory: Option<u64>,

    /// Room for changes to the image's files [default: 1g]
    #[arg(long, value_name = "SIZE", value_parser = values::told(values::size))]
    pub storage: Option<u64>,

    /// Volumes beside the image's, as a requestor orders them: a JSON object of paths
    #[arg(long, value_name = "JSON")]
    pub volume_override: Option<String>,

    /// Host name of the VM [default: golem]
    #[arg(long, value_name = "NAME", value_parser = values::told(values::hostname))]
    pub hostname: Option<String>,

    /// Run this shell [default: /bin/bash where the image has it, else /bin/sh]
    #[arg(long, value_name = "PATH", conflicts_with = "command")]
    pub shell: Option<OsString>,

    /// What to run instead of a shell
    #[arg(last = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

impl ShellArgs {
    /// Room for changes in bytes, unless said otherwise.
    pub const STORAGE: u64 = 1 << 30;

    /// RAM in bytes.
    pub fn memory(&self) -> u64 {
        self.memory.unwrap_or(shem::DEFAULT_MEMORY)
    }
}

/// `shem golem`.
#[derive(Debug, Subcommand)]
pub enum GolemCommand {
    /// Run a requestor's commands against the runtime, as a provider's exe-unit does
    ExecScript(ExecScriptArgs),
}

/// `shem golem exec-script`.
#[derive(Debug, Args)]
#[command(after_help = help::EXEC_SCRIPT)]
pub struct ExecScriptArgs {
    /// Image that the commands deploy
    #[arg(value_name = "IMAGE", value_hint = ValueHint::FilePath)]
    pub image: PathBuf,

    /// JSON array of commands; - reads it from standard input
    #[arg(value_name = "COMMANDS.json", value_hint = ValueHint::FilePath)]
    pub script: PathBuf,

    /// The runtime [default: ya-runtime-shem beside this program, else in PATH]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::ExecutablePath)]
    pub runtime: Option<PathBuf>,

    /// Work folder, which stays, with the volumes in it [default: a temporary one]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub workdir: Option<PathBuf>,

    /// Number of CPUs, as a provider offers them
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub cpu_cores: u64,

    /// RAM in GiB
    #[arg(long, value_name = "GIB", default_value_t = 0.25)]
    pub mem_gib: f64,

    /// Room for changes to the image's files in GiB
    #[arg(long, value_name = "GIB", default_value_t = 0.25)]
    pub storage_gib: f64,

    /// One more word for the runtime, as in --runtime-arg=--task-package=base.gvmi
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub runtime_arg: Vec<OsString>,

    /// Longest time of each `run`, as in 90 or 1m30s
    #[arg(long, value_name = "SECONDS", value_parser = values::told(values::duration))]
    pub timeout: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::args::{Cli, Command};
    use crate::deferred::Deferred;

    #[test]
    fn shell_starts_an_image_or_what_is_deployed_already() {
        let shell = |line: &str| {
            let line = format!("shem shell {line}");
            Cli::try_parse_from(line.split(' ')).map(|cli| match cli.command {
                Command::Shell(Deferred(args)) => args,
                other => panic!("not shell: {other:?}"),
            })
        };
        let args = shell("my.gvmi -m 1g --storage 2g -- ls -l").unwrap();
        assert_eq!((args.memory(), args.storage), (1 << 30, Some(2 << 30)));
        assert_eq!(args.command, ["ls", "-l"]);
        let args = shell("--workdir work --no-deploy").unwrap();
        assert!(args.no_deploy && args.image.is_none());
        for line in [
            "--workdir work",
            "--no-deploy",
            "my.gvmi --workdir work --no-deploy",
            "--no-deploy --workdir work --cpus 2",
            "my.gvmi --shell /bin/ash -- ls",
        ] {
            assert!(shell(line).is_err(), "{line}");
        }
    }
}
