//! `shem run`: boots the images and runs the command.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use gvmi::{ContainerConfig, Image};
use shem::{Command, Devices, Policy, Store, Vm, Volume};

use crate::args::RunArgs;
use crate::argv::argv;
use crate::attend::{self, Manner, attend};
use crate::config::Config;
use crate::console::ConsoleToStderr;
use crate::running::{self, Claim, RunFolder};
use crate::signals::Signals;
use crate::{devices, environment, help, mounts, net, publish, terminal, values};

/// `shem run`; `start` is when the process began.
pub fn run(mut args: RunArgs, start: Instant) -> Result<u8> {
    let config = match &args.config.clone() {
        Some(path) => Config::read_into(path, &mut args)?,
        None => Config::default(),
    };
    check(&args)?;
    confine::report_violations(terminal::restore).context("prepare for seccomp violations")?;
    shem::raise_descriptor_limit();
    let claim = claim(args.name.as_deref())?;
    let store = Store::discover();
    let volumes = mounts::volumes(&args, &store.volumes())?;
    let as_users = volumes.iter().any(Volume::acts_as_users);
    let keeps = volumes.iter().any(Volume::keeps_changes);
    // Before this process is confined: plugins open what they ever need, and it makes
    // no network socket afterwards.
    let mut cards = net::cards(&args.net)?;
    let (by_passt, by_agent) = publish::split(&args.publish, net::passt(&cards))?;
    net::publish(&mut cards, by_passt);
    let ports = publish::listen(&by_agent)?;
    let devices = devices::devices(&args, &cards, &config.plugins, config.devices)?;
    let policy = Policy {
        mode: args.seccomp,
        plugins: devices.needs().clone(),
    };
    confine::enter_process(&policy, as_users)?;
    let images = open_images(&args.images, std::env::args_os())?;
    let top = images.first().map(|image| image.contents().config.clone());
    let command = command(&args, &top.unwrap_or_default())?;
    // Before any other thread exists that signals could be delivered to.
    let signals = Signals::start(args.timeout.map(|limit| start + limit))?;
    let socket = claim.as_ref().map(Claim::socket);
    let vm = boot(&args, &store, images, volumes, devices, socket, start)?;
    net::configure(&vm, &cards)?;
    if let (Some(claim), Some(image)) = (&claim, args.images.first()) {
        claim.publish(image)?;
        log::info!("the VM's name is {}", claim.name());
    }
    if args.timeline {
        note!("{}", vm.timeline().to_string().trim_end());
    }
    let _forwarder = match ports.is_empty() {
        true => None,
        false => Some(vm.forward(ports)?),
    };
    let manner = Manner {
        interactive: args.interactive,
        tty: args.tty,
        memory: args.memory(),
        in_order: keeps,
    };
    attend(vm, &command, &manner, &signals)
}

/// Refuses what can be refused before anything is done.
fn check(args: &RunArgs) -> Result<()> {
    if args.interactive && args.tty && !io::stdin().is_terminal() {
        bail!("-t with -i needs a terminal on standard input, which it is not; leave out -t");
    }
    check_memory(args.memory())
}

/// Refuses less memory than a VM needs.
pub fn check_memory(bytes: u64) -> Result<()> {
    /// Nobody means fewer bytes than this: a unit was forgotten.
    const NO_UNIT: u64 = 1 << 20;
    let hint = if bytes < NO_UNIT {
        "; write a unit, as in 512m"
    } else {
        ""
    };
    ensure!(
        bytes >= shem::MIN_MEMORY,
        "--memory: {} is too little, a VM has at least {}{hint}",
        values::show_size(bytes),
        values::show_size(shem::MIN_MEMORY),
    );
    Ok(())
}

/// The VM's name, if it can have one: without a run folder it goes without,
/// unless it was asked for.
fn claim(name: Option<&str>) -> Result<Option<Claim>> {
    let run_folder = RunFolder::of_this_user();
    match name {
        Some(name) => run_folder.claim(name).map(Some),
        None => Ok(run_folder
            .claim(&running::random_name())
            .inspect_err(|error| log::info!("`shem cp` will not find this VM: {error:#}"))
            .ok()),
    }
}

/// Opens the images. One that does not exist, behind another and in a line
/// without `--`, is taken for a command that was meant.
fn open_images(paths: &[PathBuf], mut line: impl Iterator<Item = OsString>) -> Result<Vec<Image>> {
    let separated = line.any(|word| word == "--");
    if let [first, rest @ ..] = paths
        && let Some(at) = rest.iter().position(|path| !path.exists())
        && !separated
    {
        let missing = rest[at].display();
        bail!(
            "{missing}: no such image; {}",
            help::separator(first, &rest[at..])
        );
    }
    paths.iter().map(|path| Ok(Image::open(path)?)).collect()
}

/// What runs in the VM, by the image's configuration and the options.
fn command(args: &RunArgs, image: &ContainerConfig) -> Result<Command> {
    let argv = argv(image, args.entrypoint.clone(), args.command.clone())?;
    let mut command = Command::new(argv).stdin(args.interactive);
    let env = environment::merge(&args.env_file, &args.env, |name| std::env::var_os(name))?;
    for (name, value) in env {
        command = command.env(name, value);
    }
    if let Some(user) = &args.user {
        command = command.user(user);
    }
    if let Some(workdir) = &args.workdir {
        command = command.cwd(workdir);
    }
    if args.tty {
        command = command.tty(attend::tty());
    }
    Ok(command)
}

fn boot(
    args: &RunArgs,
    store: &Store,
    images: Vec<Image>,
    volumes: Vec<Volume>,
    devices: Devices,
    socket: Option<PathBuf>,
    start: Instant,
) -> Result<Vm> {
    let kernel = store.kernel(args.kernel.as_deref())?;
    log::info!(
        "kernel {} {} from {}",
        kernel.name(),
        kernel.version(),
        kernel.origin()
    );
    let mut builder = Vm::builder(kernel, store.guest_init()?)
        .started_at(start)
        .vcpus(args.cpus())
        .memory(args.memory())
        .devices(devices)
        .seccomp(args.seccomp)
        .before_guest(|| confine::drop_capabilities().map_err(io::Error::other));
    for image in images {
        builder = builder.layer(image);
    }
    for volume in volumes {
        builder = builder.volume(volume);
    }
    if let Some(socket) = socket {
        builder = builder.vsock_socket(socket);
    }
    if let Some(hostname) = &args.hostname {
        builder = builder.hostname(hostname);
    }
    if args.console {
        builder = builder.console(ConsoleToStderr::new());
    }
    builder
        .boot()
        .inspect_err(attend::show_failed_boot)
        .map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgotten_unit_of_memory_is_pointed_out() {
        let error = check_memory(512).unwrap_err().to_string();
        assert_eq!(
            error,
            "--memory: 512 bytes is too little, a VM has at least 64 MiB; write a unit, as in 512m"
        );
        let error = check_memory(32 << 20).unwrap_err().to_string();
        assert!(error.ends_with("a VM has at least 64 MiB"));
        check_memory(64 << 20).unwrap();
    }

    #[test]
    fn command_without_separator_is_guessed_and_spelled_out() {
        let paths = ["/dev/null", "echo", "hi"].map(PathBuf::from);
        let line = ["shem", "run", "/dev/null", "echo", "hi"].map(OsString::from);
        let error = open_images(&paths, line.into_iter())
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "echo: no such image; to run it as a command write: shem run /dev/null -- echo hi"
        );
    }

    #[test]
    fn missing_image_of_a_separated_line_is_just_missing() {
        let paths = ["/nonexistent/a.gvmi"].map(PathBuf::from);
        let line = ["shem", "run", "/nonexistent/a.gvmi", "--", "x"].map(OsString::from);
        let error = open_images(&paths, line.into_iter())
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("/nonexistent/a.gvmi: no such file"),
            "{error}"
        );
    }
}
