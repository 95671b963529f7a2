//! The command line of `cargo xtask`. Parsing it does nothing else.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::kernel::Pack;

/// Sets up, runs, tests and measures shem.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    disable_help_subcommand = true
)]
pub struct Args {
    #[command(subcommand)]
    pub task: Task,
}

#[derive(Subcommand)]
pub enum Task {
    /// Build everything and run a command in a VM
    Run {
        /// The command; without one, the demo image's own greets
        #[arg(last = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Check the sources and run all tests, with real guests among them
    Test {
        /// Also the soak, bulk and fuzz runs that are too slow for every day
        #[arg(long)]
        long: bool,
        /// Run only tests whose names contain this, and no checks
        filter: Vec<String>,
    },
    /// Check the sources only: format, lints, documentation, dependencies
    Ci,
    /// Run a command in an emulated machine that has real KVM
    Lab(LabArgs),
    /// Make a kernel pack and print its folder
    Kernel {
        /// Debian's kernel as it is, or ours, which starts faster
        pack: PackName,
    },
    /// Make the Debian package for providers and print its file
    Deb,
    /// Run fuzz targets, all or those named
    Fuzz {
        /// How long each
        #[arg(long, value_name = "N", default_value_t = 60)]
        seconds: u64,
        /// Names of files in tests/fuzz/src/bin
        target: Vec<String>,
    },
    /// Measure, side by side with what does the same
    Bench {
        /// How fast guests start, how fast folders or networks of the host are in them, or
        /// how fast images are built
        #[arg(value_enum, default_value_t = BenchName::Boot)]
        what: BenchName,
        /// Arguments of the benchmark program
        #[arg(last = true, value_name = "ARG")]
        args: Vec<OsString>,
    },
}

/// Options of `cargo xtask lab`.
#[derive(clap::Args)]
pub struct LabArgs {
    /// Emulated processors
    #[arg(long, value_name = "N")]
    pub cpus: Option<usize>,
    /// The machine's memory, such as 6G
    #[arg(long, value_name = "SIZE")]
    pub mem: Option<String>,
    /// A word for QEMU's command line; may be repeated
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    pub qemu_arg: Vec<OsString>,
    /// A folder that the command may write to; may be repeated
    #[arg(long, value_name = "DIR")]
    pub share: Vec<PathBuf>,
    /// Give up after this many seconds
    #[arg(long, value_name = "S")]
    pub timeout: Option<u64>,
    /// The command, which sees this machine's files and the current folder
    #[arg(required = true, last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchName {
    Boot,
    Volumes,
    Networks,
    Images,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum PackName {
    Stock,
    Tuned,
}

impl From<PackName> for Pack {
    fn from(name: PackName) -> Self {
        match name {
            PackName::Stock => Self::Stock,
            PackName::Tuned => Self::Tuned,
        }
    }
}
