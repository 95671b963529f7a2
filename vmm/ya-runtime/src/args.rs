//! The command line, as exe-unit writes it: golem-runtime, sections 1.3 and 1.4.
//! Options come before the verb; one that comes again counts as it came last.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueHint};

use crate::PROGRAM;

/// Run Golem's images in small virtual machines, for exe-unit.
#[derive(Debug, Parser)]
#[command(name = PROGRAM, version, args_override_self = true, max_term_width = 100)]
pub struct Args {
    /// Folder for all that belongs to the activity; deploy and start need it
    #[arg(short, long, value_name = "PATH", value_hint = ValueHint::DirPath)]
    pub workdir: Option<PathBuf>,

    /// Image; of several the first is the top layer. deploy and start need one
    #[arg(short, long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub task_package: Vec<PathBuf>,

    /// Number of CPUs of the VM
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub cpu_cores: u64,

    /// RAM of the VM in GiB
    #[arg(long, value_name = "GIB", default_value_t = 0.25)]
    pub mem_gib: f64,

    /// Room for changes to the image's files in GiB
    #[arg(long, value_name = "GIB", default_value_t = 0.25)]
    pub storage_gib: f64,

    /// Where exe-unit takes frames of the VPN: udp://, tcp-connect://, tcp-listen:// or unix://
    #[arg(long, value_name = "URL")]
    pub vpn_endpoint: Option<String>,

    /// Where exe-unit takes frames for the Internet
    #[arg(long, value_name = "URL")]
    pub inet_endpoint: Option<String>,

    /// PCI device of the host that the VM gets
    #[arg(long, value_name = "BDF", env = "YA_RUNTIME_VM_PCI_DEVICE")]
    pub pci_device: Vec<String>,

    /// Volumes beside the image's: a JSON object of paths
    #[arg(long, value_name = "JSON", env = "YA_RUNTIME_VOLUME_OVERRIDE")]
    pub volume_override: Option<String>,

    /// Host name of the VM
    #[arg(long, value_name = "NAME", env = "YA_RUNTIME_HOSTNAME",
          default_value = shem::DEFAULT_HOSTNAME)]
    pub hostname: String,

    /// How many seconds the self-test may take
    #[arg(
        long,
        value_name = "SECONDS",
        env = "YA_RUNTIME_VM_TEST_TIMEOUT",
        default_value_t = 10
    )]
    pub test_timeout: u64,

    /// Number of CPUs of the self-test's VM
    #[arg(
        long,
        value_name = "N",
        env = "YA_RUNTIME_VM_TEST_CPU_CORES",
        default_value_t = 1
    )]
    pub test_cpu_cores: u64,

    /// RAM of the self-test's VM in GiB
    #[arg(
        long,
        value_name = "GIB",
        env = "YA_RUNTIME_VM_TEST_MEM_GIB",
        default_value_t = 0.5
    )]
    pub test_mem_gib: f64,

    /// What is to be done.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What is to be done. Words behind a verb are taken and, but for `start`'s, not
/// looked at.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Check the image and prepare the work folder
    Deploy(Rest),
    /// Boot the VM and serve the Runtime API on standard input and output
    Start(Rest),
    /// Not supported: commands run through `start`
    Run(Rest),
    /// Print what this machine can offer to the market
    OfferTemplate(Rest),
    /// Boot a VM to see whether this machine can
    Test(Rest),
}

/// Words behind a verb.
#[derive(Debug, clap::Args)]
pub struct Rest {
    /// `start-entrypoint`, behind start, runs the image's ENTRYPOINT
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Args {
        Args::try_parse_from(line.split(' ')).unwrap()
    }

    #[test]
    fn lines_of_exe_unit_are_understood() {
        let deploy = parse(
            "rt --workdir /w --task-package /c/img.gvmi --cpu-cores 2 --mem-gib 0.5 \
             --storage-gib 28.130107879638672 --volume-override {} --hostname myhost deploy --",
        );
        assert_eq!(deploy.workdir, Some("/w".into()));
        assert_eq!(deploy.task_package, [PathBuf::from("/c/img.gvmi")]);
        assert_eq!((deploy.cpu_cores, deploy.mem_gib), (2, 0.5));
        assert_eq!(deploy.storage_gib, 28.130_107_879_638_672);
        assert_eq!(deploy.volume_override.as_deref(), Some("{}"));
        assert_eq!(deploy.hostname, "myhost");
        assert!(matches!(deploy.verb, Verb::Deploy(rest) if rest.args.is_empty()));
        let start = parse(
            "rt --workdir /w --task-package /c/img.gvmi --vpn-endpoint udp://127.0.0.1:5 \
             --inet-endpoint udp://127.0.0.1:6 start start-entrypoint --x",
        );
        assert_eq!(start.vpn_endpoint.as_deref(), Some("udp://127.0.0.1:5"));
        assert_eq!((start.cpu_cores, start.hostname.as_str()), (1, "golem"));
        assert!(
            matches!(start.verb, Verb::Start(rest) if rest.args == ["start-entrypoint", "--x"])
        );
        assert!(matches!(
            parse("rt offer-template").verb,
            Verb::OfferTemplate(_)
        ));
        let test = parse("rt --test-timeout 30 --test-cpu-cores 2 --test-mem-gib 1 test");
        assert_eq!((test.test_timeout, test.test_cpu_cores), (30, 2));
    }

    #[test]
    fn what_comes_again_counts_as_it_came_last_and_lists_grow() {
        let args =
            parse("rt -t a -t b --pci-device x --pci-device y --cpu-cores 1 --cpu-cores 3 test");
        assert_eq!(args.task_package, [PathBuf::from("a"), "b".into()]);
        assert_eq!(args.pci_device, ["x", "y"]);
        assert_eq!(args.cpu_cores, 3);
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "rt",
            "rt --cpu-cores x test",
            "rt --nonsense test",
            "rt destroy",
        ] {
            assert!(Args::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
