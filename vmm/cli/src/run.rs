//! `shem run`: boots the images, runs the command, passes its streams, signals
//! and exit status through, and ends the VM.

use std::ffi::OsString;
use std::io::{self, ErrorKind, IsTerminal};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use gvmi::{ContainerConfig, Image};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use shem::{
    ClientError, Command, Devices, Event, ExecError, Exit, ExitStatus, Policy, Process, STOP_GRACE,
    Stdin, StopReport, Store, Tty, Vm, Volume, WindowSize,
};

use crate::args::RunArgs;
use crate::argv::argv;
use crate::config::Config;
use crate::console::ConsoleToStderr;
use crate::output::Output;
use crate::running::{self, Claim, RunFolder};
use crate::signals::{Signals, ToCommand};
use crate::stdin::{Closed, Feeder, Sink};
use crate::terminal::RawMode;
use crate::{devices, environment, help, mounts, net, publish, status, terminal, values};

/// Signals on their way to the command; more than these are lost.
const PENDING_SIGNALS: usize = 16;
/// Size of a terminal that we cannot see.
const DEFAULT_SIZE: WindowSize = WindowSize { rows: 24, cols: 80 };
/// How long a VM may take to stop after its agent has gone.
const STOPPING: Duration = Duration::from_secs(10);

/// `shem run`; `start` is when the process began.
pub fn run(mut args: RunArgs, start: Instant) -> Result<u8> {
    let config = match &args.config.clone() {
        Some(path) => Config::read_into(path, &mut args)?,
        None => Config::default(),
    };
    check(&args)?;
    confine::report_violations(terminal::restore).context("prepare for seccomp violations")?;
    raise_descriptor_limit();
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
        eprint!("{}", vm.timeline());
    }
    let _forwarder = match ports.is_empty() {
        true => None,
        false => Some(vm.forward(ports)?),
    };
    attend(&args, vm, &command, &signals, keeps)
}

/// Refuses what can be refused before anything is done.
fn check(args: &RunArgs) -> Result<()> {
    if args.interactive && args.tty && !io::stdin().is_terminal() {
        bail!("-t with -i needs a terminal on standard input, which it is not; leave out -t");
    }
    check_memory(args.memory())
}

fn check_memory(bytes: u64) -> Result<()> {
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

/// As many descriptors as the user may have: shared folders live on them, and
/// the soft limit is low for the sake of old programs that count bits.
pub fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        log::debug!("raise the limit of open files: {error}");
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
        let term = std::env::var("TERM").ok().filter(|term| !term.is_empty());
        let size = window_size().unwrap_or(DEFAULT_SIZE);
        command = command.tty(Tty { size, term });
    }
    Ok(command)
}

fn window_size() -> Option<WindowSize> {
    terminal::size().map(|(rows, cols)| WindowSize { rows, cols })
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
        .inspect_err(|error| {
            if let shem::BootError::Stopped { report } | shem::BootError::TimedOut { report, .. } =
                error
            {
                show_console(report);
            }
        })
        .map_err(Into::into)
}

/// Runs the command in the VM to its end. Where a volume `keeps` what was
/// written, the VM ends in order, else at once.
fn attend(args: &RunArgs, vm: Vm, command: &Command, signals: &Signals, keeps: bool) -> Result<u8> {
    let process = match vm.exec(command) {
        Ok(process) => process,
        Err(ExecError::Client(error)) => return Err(stopped(&vm, error)),
        Err(error) => {
            eprintln!("shem: {error}");
            return Ok(error.exit_code());
        }
    };
    let passer = Passer::start(signals, process.stdin())?;
    let ended = stream(args, process)?;
    let outcome = match ended {
        Ended::Exit(exit) => Ok(exit_status(exit, args.memory())),
        Ended::ReaderGone => Ok(status::signalled(libc::SIGPIPE)),
        Ended::Lost(error) => Err(stopped(&vm, error)),
    };
    // Either ends what the passer may be waiting for.
    if keeps {
        vm.stop(STOP_GRACE);
    } else {
        vm.kill();
    }
    drop(passer);
    outcome
}

/// How the command's streams ended.
enum Ended {
    /// With the command.
    Exit(Exit),
    /// Nobody reads our output any more, as SIGPIPE would tell a local command.
    ReaderGone,
    /// With the connection.
    Lost(ClientError),
}

/// Passes the streams of the command through until it ends.
fn stream(args: &RunArgs, process: Process) -> Result<Ended> {
    let _raw = match args.interactive && args.tty {
        true => Some(RawMode::enter()?),
        false => None,
    };
    let _feeder = match args.interactive {
        true => Some(Feeder::start(ToStdin(process.stdin()))?),
        false => None,
    };
    relay(process)
}

/// Writes what the command writes. Takes the process because its end has to
/// come before that of a feeder that waits for it to read.
fn relay(mut process: Process) -> Result<Ended> {
    let mut stdout = Output::new(io::stdout())?;
    let mut stderr = Output::new(io::stderr())?;
    loop {
        let written = match process.next_event() {
            Ok(Event::Stdout(bytes)) => stdout.write(&bytes),
            Ok(Event::Stderr(bytes)) => stderr.write(&bytes),
            Ok(Event::Exit(exit)) => return Ok(Ended::Exit(exit)),
            Err(error) => return Ok(Ended::Lost(error)),
        };
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(Ended::ReaderGone),
            Err(error) => return Err(error).context("write the command's output"),
        }
    }
}

/// The command's standard input, for the feeder.
struct ToStdin(Stdin);

impl Sink for ToStdin {
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Closed> {
        self.0.write_all(bytes).map_err(|_| Closed)
    }

    fn close(&mut self) {
        // The command may have ended, and then it needs no end of input.
        let _ = self.0.close();
    }
}

/// The thread that passes signals and window sizes to the command: each waits
/// for the agent's answer, which the thread that takes them must not.
struct Passer<'a> {
    signals: &'a Signals,
    thread: Option<JoinHandle<()>>,
}

impl<'a> Passer<'a> {
    fn start(signals: &'a Signals, command: Stdin) -> Result<Self> {
        let (sender, orders) = sync_channel(PENDING_SIGNALS);
        // The size may have changed since the command was told.
        let _ = sender.try_send(ToCommand::Resize);
        signals.set_target(sender);
        let mut passer = Passer {
            signals,
            thread: None,
        };
        let thread = std::thread::Builder::new()
            .name("to-command".into())
            .spawn(move || pass(&orders, &command))
            .context("start the thread that passes signals")?;
        passer.thread = Some(thread);
        Ok(passer)
    }
}

impl Drop for Passer<'_> {
    fn drop(&mut self) {
        // Ends the thread, whose channel then has no sender.
        self.signals.clear_target();
        if let Some(thread) = self.thread.take() {
            // It returns nothing, and its panic was printed.
            let _ = thread.join();
        }
    }
}

fn pass(orders: &Receiver<ToCommand>, command: &Stdin) {
    for order in orders {
        let outcome = match order {
            ToCommand::Signal(signal) => command.signal(signal),
            ToCommand::Resize => window_size().map_or(Ok(()), |size| command.resize(size)),
        };
        if let Err(error) = outcome {
            // As a rule the command has just ended, or has no terminal.
            log::debug!("{order:?} did not reach the command: {error}");
        }
    }
}

fn exit_status(exit: Exit, memory: u64) -> u8 {
    if exit.oom_killed {
        eprintln!(
            "shem: the command was killed because the VM's {} of memory were used up; give it \
             more with --memory",
            values::show_size(memory)
        );
    }
    match exit.status {
        ExitStatus::Code(code) => u8::try_from(code).unwrap_or(status::FAILED),
        ExitStatus::Signal { signal, .. } => status::signalled(signal),
    }
}

/// Why the agent was lost: as a rule because the VM has stopped, or is about to.
fn stopped(vm: &Vm, error: ClientError) -> anyhow::Error {
    if !matches!(error, ClientError::Lost) {
        return error.into();
    }
    match vm.wait_timeout(STOPPING) {
        Some(report) => {
            show_console(&report);
            anyhow!("the VM stopped while the command ran: {}", report.reason)
        }
        None => error.into(),
    }
}

/// The guest's last words, for those who asked for more than one line.
fn show_console(report: &StopReport) {
    log::info!(
        "the end of the guest's console:\n{}",
        report.console_tail.trim_end()
    );
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

    #[test]
    fn exits_become_statuses_as_docker_has_them() {
        let exit = |status| {
            exit_status(
                Exit {
                    status,
                    oom_killed: false,
                },
                0,
            )
        };
        assert_eq!(exit(ExitStatus::Code(3)), 3);
        let killed = ExitStatus::Signal {
            signal: 9,
            core_dumped: false,
        };
        assert_eq!(exit(killed), 137);
    }
}
