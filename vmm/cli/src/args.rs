//! The command line as types. Parsing it has no effects.

mod golem;
mod image;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;
use confine::SeccompMode;

use crate::deferred::Deferred;
use crate::devices::{self, DeviceArg};
use crate::mounts::{self, MountArg};
use crate::net::{self, NetArg};
use crate::publish::Publish;
use crate::{help, running, values};

pub use golem::{ExecScriptArgs, GolemCommand, ShellArgs};
pub use image::{
    BuildArgs, CatArgs, DiffArgs, ExportArgs, ImageCommand, InspectArgs, LoginArgs, LogoutArgs,
    LsArgs, PruneArgs, PullArgs, PushArgs, RegistryArgs, ReportArgs, VerifyArgs,
};

/// Run commands in small, fast virtual machines.
#[derive(Debug, Parser)]
#[command(name = "shem", version, after_help = help::SHEM, max_term_width = 100)]
pub struct Cli {
    /// Say more on standard error; twice for details, three times for everything
    #[arg(long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Short for --verbose, before the command: `shem run -v` mounts a volume
    #[arg(short = 'v', action = clap::ArgAction::Count)]
    pub more: u8,

    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// How much is to be said.
    pub fn verbosity(&self) -> u8 {
        self.verbose.saturating_add(self.more)
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boot an image and run a command in it
    Run(Box<RunArgs>),
    /// Deploy an image as Golem's providers do, and get a shell in it
    Shell(Deferred<ShellArgs>),
    /// Do what Golem's requestors and providers do, without a network of theirs
    #[command(subcommand)]
    Golem(Deferred<GolemCommand>),
    /// Make images, show what they hold, and keep them in registries
    #[command(subcommand)]
    Image(Deferred<ImageCommand>),
    /// Make, list and remove volumes that have a name
    #[command(subcommand)]
    Volume(Deferred<VolumeCommand>),
    /// List, show, make and check plugins
    #[command(subcommand)]
    Plugin(Deferred<PluginCommand>),
    /// Copy files between this host and a running VM or a volume
    Cp(Deferred<CopyArgs>),
    /// List the VMs that run
    Ps(Deferred<PsArgs>),
    /// Say whether this machine can run images, and what to do if not
    Doctor(Deferred<DoctorArgs>),
    /// Print the completions of a shell, for its start-up file
    Completions {
        /// Which shell
        shell: Shell,
    },
}

/// `shem run`.
#[derive(Debug, Args)]
#[command(after_help = help::RUN)]
pub struct RunArgs {
    /// Feed our standard input to the command
    #[arg(short, long)]
    pub interactive: bool,

    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,

    /// Set a variable in the command's environment; a name alone takes its value here
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub env: Vec<OsString>,

    /// Set the variables of a file, one NAME=VALUE a line
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub env_file: Vec<PathBuf>,

    /// Run as this user, as the image knows it [default: the image's, else root]
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,

    /// Start in this folder of the image [default: the image's, else /]
    #[arg(short, long, value_name = "PATH")]
    pub workdir: Option<OsString>,

    /// Number of CPUs of the VM [default: 1]
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u8).range(1..=i64::from(shem::MAX_VCPUS)))]
    pub cpus: Option<u8>,

    /// RAM of the VM: a number and b, k, m or g [default: 512m]
    #[arg(short, long, value_name = "SIZE", value_parser = values::told(values::size))]
    pub memory: Option<u64>,

    /// Mount a folder, or a volume by its name, with ro, cache=exclusive, owner=as-is|mapped|squash
    #[arg(short, long, value_name = "HOST:GUEST[:ro][,OPTION…]", value_parser = values::told(mounts::volume))]
    pub volume: Vec<MountArg>,

    /// Mount what type=volume|bind|tmpfs|disk says, with source=, target=, readonly and more
    #[arg(long, value_name = "KEY=VALUE,…", value_parser = values::told(mounts::mount))]
    pub mount: Vec<MountArg>,

    /// Mount memory of the VM
    #[arg(long, value_name = "PATH[:size=SIZE,mode=MODE]", value_parser = values::told(mounts::tmpfs))]
    pub tmpfs: Vec<MountArg>,

    /// Keep the changes to the image's files on a disk of this size instead of in the VM's RAM
    #[arg(long, value_name = "SIZE", value_parser = values::told(values::size))]
    pub disk_size: Option<u64>,

    /// Owner in the VM of files that the host put into a folder [default: root]
    #[arg(long, value_name = "UID[:GID]", value_parser = values::told(mounts::ids))]
    pub volume_uid: Option<(u32, u32)>,

    /// Load a plugin: its name, or a path with a / in it
    #[arg(long, value_name = "NAME|PATH", value_hint = ValueHint::FilePath)]
    pub plugin: Vec<String>,

    /// Add a device, of a plugin or built in
    #[arg(long, value_name = "DRIVER[,id=ID][,KEY=VALUE…]", value_parser = values::told(devices::device))]
    pub device: Vec<DeviceArg>,

    /// Give the VM a network card: none, passt, tap=NAME, golem=URL or hub=PATH [default: none]
    #[arg(long, alias = "network", value_name = "NETWORK[,ip=ADDR/LEN][,KEY=VALUE…]", value_parser = values::told(net::net))]
    pub net: Vec<NetArg>,

    /// Have a port of this host lead to one of the VM; PORT alone takes any that is free
    #[arg(short, long, value_name = "[[HOST_IP:]HOST_PORT:]PORT[/udp]",
          value_parser = values::told(str::parse::<Publish>))]
    pub publish: Vec<Publish>,

    /// Run the VM that this TOML file describes, with what is said here on top
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,

    /// Docker's way to leave nothing behind, which a VM never does
    #[arg(long = "rm", hide = true)]
    _rm: bool,

    /// Name of the VM while it runs, for `shem cp` and `shem ps` [default: a random one]
    #[arg(long, value_name = "NAME", value_parser = values::told(running::name))]
    pub name: Option<String>,

    /// Host name of the VM
    #[arg(long, value_name = "NAME", value_parser = values::told(values::hostname))]
    pub hostname: Option<String>,

    /// Run this program instead of the image's ENTRYPOINT
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<OsString>,

    /// Boot this kernel pack: its name, or its folder [default: tuned, else stock]
    #[arg(long, value_name = "PACK", value_hint = ValueHint::DirPath)]
    pub kernel: Option<String>,

    /// End the VM when boot and command together take longer, as in 30s or 1h30m
    #[arg(long, value_name = "DURATION", value_parser = values::told(values::duration))]
    pub timeout: Option<Duration>,

    /// Print how long each step of the boot took
    #[arg(long)]
    pub timeline: bool,

    /// Show the guest's console on standard error
    #[arg(long)]
    pub console: bool,

    /// What happens when the VMM makes a system call that it should not: kill, log or off
    #[arg(long, value_name = "MODE", default_value_t = SeccompMode::Kill)]
    pub seccomp: SeccompMode,

    /// Image to run; with several the first is the top one, whose settings count
    #[arg(required_unless_present = "config", value_name = "IMAGE", value_hint = ValueHint::FilePath)]
    pub images: Vec<PathBuf>,

    /// What to run in the image [default: the image's ENTRYPOINT and CMD]
    #[arg(last = true, value_name = "CMD", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

impl RunArgs {
    /// Number of CPUs.
    pub fn cpus(&self) -> u8 {
        self.cpus.unwrap_or(1)
    }

    /// RAM in bytes.
    pub fn memory(&self) -> u64 {
        self.memory.unwrap_or(shem::DEFAULT_MEMORY)
    }
}

/// `shem volume`.
#[derive(Debug, Subcommand)]
#[command(after_help = help::VOLUME)]
pub enum VolumeCommand {
    /// Make a volume and print its name
    Create {
        /// Its name
        name: String,
        /// Make it a disk of this size, not a folder
        #[arg(long, value_name = "SIZE", value_parser = values::told(values::size))]
        disk: Option<u64>,
        /// Attach a note
        #[arg(short, long, value_name = "NAME=VALUE", value_parser = values::told(values::pair))]
        label: Vec<(String, String)>,
    },
    /// List the volumes
    Ls {
        /// Only their names
        #[arg(short, long)]
        quiet: bool,
        /// As JSON
        #[arg(long, conflicts_with = "quiet")]
        json: bool,
    },
    /// Remove volumes with all that is in them
    Rm {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
        /// One that does not exist is no failure
        #[arg(short, long)]
        force: bool,
    },
    /// Show volumes as JSON
    Inspect {
        /// Their names
        #[arg(required = true)]
        names: Vec<String>,
    },
}

/// `shem plugin`.
#[derive(Debug, Subcommand)]
#[command(after_help = help::PLUGIN)]
pub enum PluginCommand {
    /// List the plugins that are found by name
    Ls {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a plugin is, needs and offers
    Info {
        /// Its name, or a path with a / in it
        #[arg(value_name = "NAME|PATH", value_hint = ValueHint::FilePath)]
        plugin: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the sources of a new plugin, which build and pass their test
    New(NewPluginArgs),
    /// Try whether a plugin keeps the rules, and say where not
    Check(CheckArgs),
}

/// `shem plugin new`.
#[derive(Debug, Args)]
#[command(after_help = help::PLUGIN_NEW)]
pub struct NewPluginArgs {
    /// Its name and that of its driver: a letter, then letters, digits and -, in lower case
    pub name: String,

    /// Its language
    #[arg(long, value_name = "LANGUAGE", value_enum, default_value_t)]
    pub lang: Language,

    /// Folder to make [default: NAME]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub path: Option<PathBuf>,

    /// Folder of shem's sources, for the crate `plugin_sdk` [default: see below]
    #[arg(long, value_name = "DIR", env = "SHEM_SDK", value_hint = ValueHint::DirPath)]
    pub sdk: Option<PathBuf>,
}

/// Languages of new plugins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// With the SDK
    #[default]
    Rust,
    /// With the headers alone
    C,
}

/// `shem plugin check`.
#[derive(Debug, Args)]
#[command(after_help = help::PLUGIN_CHECK)]
pub struct CheckArgs {
    /// Its name, or a path with a / in it
    #[arg(value_name = "NAME|PATH", value_hint = ValueHint::FilePath)]
    pub plugin: String,

    /// Check this driver only
    #[arg(long, value_name = "DRIVER")]
    pub driver: Option<String>,

    /// Make devices of this configuration [default: the smallest that the schema allows]
    #[arg(long, value_name = "JSON", value_parser = values::told(values::json_object))]
    pub config: Option<serde_json::Value>,

    /// Longest time of a check, as in 30s or 2m
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = values::told(values::duration))]
    pub limit: Duration,

    /// As JSON, when all is done
    #[arg(long)]
    pub json: bool,

    /// For the command itself: makes one check, in this process
    #[arg(long, hide = true, value_name = "JSON")]
    pub inner: Option<String>,
}

/// `shem cp`.
#[derive(Debug, Args)]
#[command(after_help = help::CP)]
pub struct CopyArgs {
    /// Keep owners, set-id bits and capabilities; on this host that takes root
    #[arg(short, long)]
    pub archive: bool,

    /// Copy what SRC leads to when it is a link, instead of the link
    #[arg(short = 'L', long)]
    pub follow_link: bool,

    /// Say nothing when all went well
    #[arg(short, long)]
    pub quiet: bool,

    /// What to copy: PATH, NAME:PATH, volume:NAME:PATH, or - for a tar on standard input
    #[arg(value_name = "SRC", value_hint = ValueHint::AnyPath)]
    pub source: OsString,

    /// Where to: PATH, NAME:PATH, volume:NAME:PATH, or - for a tar on standard output
    #[arg(value_name = "DST", value_hint = ValueHint::AnyPath)]
    pub destination: OsString,
}

/// `shem ps`.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// Only their names
    #[arg(short, long)]
    pub quiet: bool,
}

/// `shem doctor`.
#[derive(Debug, Args)]
#[command(after_help = help::DOCTOR)]
pub struct DoctorArgs {
    /// Only try whether KVM runs a guest; one line, exit status 0 or 1
    #[arg(long)]
    pub probe: bool,

    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// The options of `shem run LINE`.
#[cfg(test)]
pub(crate) fn run_args(line: &[&str]) -> Result<RunArgs, clap::Error> {
    let line = ["shem", "run"].iter().chain(line);
    Cli::try_parse_from(line).map(|cli| match cli.command {
        Command::Run(args) => *args,
        other => panic!("not run: {other:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::run_args as run;
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_images_and_command_are_told_apart() {
        let args = run(&[
            "-it",
            "-e",
            "A=1",
            "-e",
            "B",
            "-m",
            "2g",
            "--cpus",
            "4",
            "top.gvmi",
            "base.gvmi",
            "--",
            "sh",
            "-c",
            "-- x",
        ])
        .unwrap();
        assert!(args.interactive && args.tty);
        assert_eq!(args.env, ["A=1", "B"]);
        assert_eq!((args.memory(), args.cpus()), (2 << 30, 4));
        assert_eq!(args.images.len(), 2);
        assert_eq!(args.command, ["sh", "-c", "-- x"]);
    }

    #[test]
    fn options_after_the_image_are_ours_until_the_separator() {
        let args = run(&["image", "-i", "--", "cat", "-i"]).unwrap();
        assert!(args.interactive);
        assert_eq!(args.command, ["cat", "-i"]);
    }

    #[test]
    fn defaults_are_one_cpu_and_512_mib_under_kill() {
        let args = run(&["image"]).unwrap();
        assert_eq!((args.cpus(), args.memory()), (1, 512 << 20));
        assert_eq!(args.seccomp, SeccompMode::Kill);
        assert!(args.command.is_empty() && args.timeout.is_none());
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        for (line, word) in [
            (["--cpus", "0", "i"], "--cpus"),
            (["--cpus", "33", "i"], "--cpus"),
            (["--memory", "lots", "i"], "--memory"),
            (["--timeout", "0", "i"], "--timeout"),
            (["--seccomp", "audit", "i"], "kill, log or off"),
            (["--hostname", "a b", "i"], "--hostname"),
            (["--publish", "http", "i"], "--publish"),
            // The cause as well.
            (["--net", "tap=t,gateway=x", "i"], "\"x\" is no IP address"),
            (["--tmpfs", "/x:size=foo", "i"], "unknown unit"),
        ] {
            let error = run(&line).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        assert!(run(&[]).unwrap_err().to_string().contains("<IMAGE>"));
    }

    #[test]
    fn verbosity_counts_before_and_after_the_subcommand() {
        for (line, count) in [
            ("shem -v doctor", 1),
            ("shem doctor --verbose --verbose", 2),
            ("shem -vv run -v a:/b image", 2),
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            assert_eq!(cli.verbosity(), count, "{line}");
        }
    }

    #[test]
    fn help_of_each_command_has_examples_that_parse() {
        for text in [
            help::SHEM,
            help::RUN,
            help::SHELL,
            help::EXEC_SCRIPT,
            help::VOLUME,
            help::PLUGIN,
            help::PLUGIN_NEW,
            help::PLUGIN_CHECK,
            help::DOCTOR,
        ] {
            let examples = text.lines().filter_map(|line| line.strip_prefix("  shem "));
            let mut count = 0;
            for example in examples {
                // The explanation is set off by spaces.
                let line = example.split("   ").next().unwrap();
                let parsed = Cli::try_parse_from(["shem"].into_iter().chain(line.split(' ')));
                assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
                count += 1;
            }
            assert!(count >= 2);
        }
    }
}
