//! From what a VM should be to a VM whose agent answers.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use confine::{Enforcement, Policy, SeccompMode};
use device_model::{Incoming, StreamHost, Threads, stream_port};
use guest_client::{Agent, ClientError};
use guest_protocol::{BootConfig, CONTROL_PORT, Upper};
use gvmi::{ContainerConfig, Image};
use machine::{
    BeforeGuest, DeviceSpec, Machine, MachineConfig, MachineError, Stage, StopReason, StopReport,
};
use serde_json::json;

use crate::devices::{DeviceError, Devices, Finished};
use crate::initramfs::{self, InitramfsError};
use crate::volumes::{Plan, SharedFolder, Volume, VolumeError};
use crate::{KernelPack, Vm};

/// RAM of a VM unless said otherwise, in bytes.
pub const DEFAULT_MEMORY: u64 = 512 << 20;
/// Host name of a VM unless said otherwise, as Golem's.
pub const DEFAULT_HOSTNAME: &str = "golem";
/// How long a guest may take until its agent answers, unless said otherwise.
/// Kernels need far below a second where KVM is real.
pub const DEFAULT_BOOT_TIMEOUT: Duration = Duration::from_secs(60);

/// Before guest-init's last words on the console.
const FATAL: &str = "shem-init: fatal: ";

/// How long a machine that is stopping anyway may take to do so.
const END: Duration = Duration::from_secs(10);

/// The kernel command line of every guest:
/// - `loglevel=1`: each character on the serial console costs two exits and more;
///   a panic is shown in full all the same;
/// - `panic=-1`: a panicking kernel resets at once, which the VMM sees;
/// - `reboot=acpi`: by the reset register; hardware-reduced kernels would else
///   try EFI and then real mode, where there is nothing;
/// - `pci=off`: there is no PCI to look for;
/// - `noreplace-smp`: a kernel with one CPU would else take the lock prefix off
///   thousands of instructions, one by one and under a page table made for it;
/// - the rest spares the kernel looks and waits that a VM does not need.
pub const KERNEL_CMDLINE: &str = "console=ttyS0 loglevel=1 panic=-1 reboot=acpi pci=off tsc=reliable no_timer_check noreplace-smp cryptomgr.notests rcupdate.rcu_expedited=1 random.trust_cpu=on";

/// Why a VM did not come up.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// No image was added, and it was not said that there is none.
    #[error("a VM needs at least one image, unless it is built without one")]
    NoImage,
    /// A volume cannot be had.
    #[error(transparent)]
    Volume(#[from] VolumeError),
    /// A device beside the VM's own failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// An image that a plugin adds cannot be used.
    #[error("an image that a plugin adds")]
    Layer(#[source] gvmi::OpenError),
    /// The device for sockets takes its options as text.
    #[error("the socket's path {} is not UTF-8", path.display())]
    SocketPath {
        /// As given.
        path: PathBuf,
    },
    /// A file of the initramfs is missing or too much was asked for.
    #[error(transparent)]
    Initramfs(#[from] InitramfsError),
    /// The machine could not be built.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// A resource of the host ran out.
    #[error("{what}")]
    Host {
        /// What was being attempted.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The guest stopped before its agent answered.
    #[error("the guest did not start: {}{}", report.reason, last_words(report))]
    Stopped {
        /// Why, and the console's tail.
        report: Box<StopReport>,
    },
    /// The guest's agent did not connect in time.
    #[error("the guest's agent did not answer within {} s{}", limit.as_secs(), last_words(report))]
    TimedOut {
        /// The limit.
        limit: Duration,
        /// What there was at that moment.
        report: Box<StopReport>,
    },
    /// The agent is there, but the greeting failed.
    #[error("greet the guest's agent")]
    Agent(#[source] ClientError),
}

/// What the guest's init gave up for, or the console's last line, for an error
/// of one line.
fn last_words(report: &StopReport) -> String {
    let lines = || report.console_tail.lines().rev().map(str::trim);
    if let Some(fatal) = lines().find_map(|line| line.strip_prefix(FATAL)) {
        return format!("; its init: {fatal}");
    }
    let last = lines().find(|line| !line.is_empty());
    last.map_or(String::new(), |line| {
        format!("; the console's last line: {line}")
    })
}

/// What a VM should be. Made by [`Vm::builder`].
pub struct VmBuilder {
    start: Instant,
    kernel: KernelPack,
    guest_init: PathBuf,
    layers: Vec<Image>,
    without_image: bool,
    vsock_socket: Option<PathBuf>,
    volumes: Vec<Volume>,
    devices: Option<Devices>,
    vcpus: u8,
    memory: u64,
    hostname: String,
    seccomp: SeccompMode,
    console: Option<Box<dyn Write + Send>>,
    boot_timeout: Duration,
    before_guest: Option<BeforeGuest>,
}

impl VmBuilder {
    pub(crate) fn new(kernel: KernelPack, guest_init: PathBuf) -> Self {
        VmBuilder {
            start: Instant::now(),
            kernel,
            guest_init,
            layers: Vec::new(),
            without_image: false,
            vsock_socket: None,
            volumes: Vec::new(),
            devices: None,
            vcpus: 1,
            memory: DEFAULT_MEMORY,
            hostname: DEFAULT_HOSTNAME.into(),
            seccomp: SeccompMode::Kill,
            console: None,
            boot_timeout: DEFAULT_BOOT_TIMEOUT,
            before_guest: None,
        }
    }

    /// Adds an image. The first one is the top layer of the root file system,
    /// and its configuration is the VM's.
    pub fn layer(mut self, image: Image) -> Self {
        self.layers.push(image);
        self
    }

    /// Boots with an empty root file system when no image is added: there is
    /// nothing to run then, but the agent and the volumes are there.
    pub fn without_image(mut self) -> Self {
        self.without_image = true;
        self
    }

    /// Lets other processes connect to ports of the guest, through a Unix socket
    /// at `path` in Firecracker's form; nothing may be there yet. It is removed
    /// when the VM has ended.
    pub fn vsock_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.vsock_socket = Some(path.into());
        self
    }

    /// Mounts a volume, in whatever order they are given.
    pub fn volume(mut self, volume: Volume) -> Self {
        self.volumes.push(volume);
        self
    }

    /// Adds devices, which were made for a VM of this size.
    pub fn devices(mut self, devices: Devices) -> Self {
        self.devices = Some(devices);
        self
    }

    /// Number of vCPUs, 1 to [`crate::MAX_VCPUS`].
    pub fn vcpus(mut self, vcpus: u8) -> Self {
        self.vcpus = vcpus;
        self
    }

    /// RAM in bytes, at least [`crate::MIN_MEMORY`].
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = bytes;
        self
    }

    /// Host name, at most 64 bytes.
    pub fn hostname(mut self, hostname: impl Into<String>) -> Self {
        self.hostname = hostname.into();
        self
    }

    /// What a system call outside of a thread's filter does.
    pub fn seccomp(mut self, mode: SeccompMode) -> Self {
        self.seccomp = mode;
        self
    }

    /// Gets a copy of the guest's console as it comes. Must not block: what it
    /// cannot take at once is lost.
    pub fn console(mut self, copy: impl Write + Send + 'static) -> Self {
        self.console = Some(Box::new(copy));
        self
    }

    /// How long the guest may take until its agent answers.
    pub fn boot_timeout(mut self, limit: Duration) -> Self {
        self.boot_timeout = limit;
        self
    }

    /// Calls `hook` on the thread that boots, when everything is open and before
    /// the guest's first instruction: the moment to give up rights. Its error
    /// fails the boot.
    pub fn before_guest(mut self, hook: impl FnOnce() -> io::Result<()> + Send + 'static) -> Self {
        self.before_guest = Some(Box::new(hook));
        self
    }

    /// The moment that the timeline counts from, instead of the builder's making.
    pub fn started_at(mut self, start: Instant) -> Self {
        self.start = start;
        self
    }

    /// Boots the VM and returns when its agent is ready.
    pub fn boot(mut self) -> Result<Vm, BootError> {
        let mut config = match self.layers.first() {
            Some(top) => top.contents().config.clone(),
            None if self.without_image => ContainerConfig::default(),
            None => return Err(BootError::NoImage),
        };
        let devices = match self.devices.take() {
            Some(devices) => devices,
            None => Devices::new(self.vcpus, self.memory),
        };
        devices.check_size(self.vcpus, self.memory)?;
        let additions = devices.before_boot()?;
        for layer in &additions.layers {
            let image = Image::open(layer).map_err(BootError::Layer)?;
            self.layers.push(image);
        }
        for (source, target) in additions.mounts {
            let folder = Volume::new(SharedFolder::new(source), target).read_only();
            self.volumes.push(folder);
        }
        add_env(&mut config, additions.env);
        let serials: Vec<String> = (0..self.layers.len())
            .map(|index| format!("layer{index}"))
            .collect();
        let plan = Plan::of(self.volumes, &config.volumes)?;
        let also: Vec<&str> = (plan.modules.iter().copied())
            .chain(devices.card_module())
            .chain(additions.modules.iter().map(String::as_str))
            .collect();
        let modules: Vec<_> = self.kernel.modules(&also).collect();
        let policy = Policy {
            mode: self.seccomp,
            plugins: devices.needs().clone(),
        };
        let Finished {
            specs,
            made,
            cards,
            plugins,
        } = devices.finish()?;
        let boot = BootConfig {
            hostname: self.hostname,
            layers: serials.clone(),
            upper: plan.upper.unwrap_or(Upper::Tmpfs { size: None }),
            mounts: plan.mounts,
            modules: modules.iter().map(|(name, _)| (*name).to_owned()).collect(),
        };
        let initramfs = initramfs::build(&self.guest_init, &modules, &boot)?;

        let uds = match &self.vsock_socket {
            Some(path) => Some(
                path.to_str()
                    .ok_or_else(|| BootError::SocketPath { path: path.clone() })?,
            ),
            None => None,
        };
        let (streams, backend) = stream_port().map_err(host("make the port to the agent"))?;
        let incoming = streams
            .listen(CONTROL_PORT)
            .map_err(host("listen for the agent"))?;
        let mut devices = vec![DeviceSpec {
            id: "vsock0".into(),
            driver: "virtio-vsock".into(),
            options: json!({ "uds": uds }),
            attachment: Some(Box::new(backend)),
        }];
        for (image, serial) in self.layers.into_iter().zip(serials) {
            let size = image.contents().device_len;
            devices.push(DeviceSpec {
                id: serial.clone(),
                driver: "virtio-blk".into(),
                options: json!({ "path": image.path().to_string_lossy(), "read_only": true, "serial": serial, "size": size }),
                attachment: Some(Box::new(image.into_file())),
            });
        }
        devices.extend(plan.devices);
        devices.extend(specs);
        let threads = confined_threads(policy);
        let machine = Machine::start(MachineConfig {
            start: self.start,
            vcpus: self.vcpus,
            memory: self.memory,
            kernel: self.kernel.vmlinux(),
            initramfs,
            cmdline: KERNEL_CMDLINE.into(),
            devices,
            made,
            console: self.console,
            threads: threads.clone(),
            before_guest: self.before_guest,
        })?;
        let agent = greet(&machine, streams, &incoming, self.boot_timeout)?;
        let watch = agent
            .control_fd()
            .try_clone_to_owned()
            .and_then(|control| machine.stop_on_hangup(control, StopReason::AgentLost))
            .map_err(host("watch the agent"))?;
        plugins.agent_ready().map_err(DeviceError::from)?;
        Ok(Vm {
            plugins,
            watch: Some(watch),
            agent,
            machine,
            config,
            threads,
            cards,
            disks: plan.disks,
            _in_use: plan.in_use,
        })
    }
}

/// Variables that `config` does not set.
fn add_env(config: &mut ContainerConfig, env: Vec<(String, String)>) {
    for (name, value) in env {
        let sets = |entry: &String| entry.split('=').next() == Some(&name);
        if !config.env.iter().any(sets) {
            config.env.push(format!("{name}={value}"));
        }
    }
}

/// Threads that confine themselves, with a word when shared folders are not
/// held by the kernel as well.
fn confined_threads(policy: Policy) -> Threads {
    let told = AtomicBool::new(false);
    Threads::new(move |kind| {
        let enforcement = confine::enter_thread(&policy, kind)?;
        if enforcement == Enforcement::None && !told.swap(true, Ordering::Relaxed) {
            log::warn!(
                "this kernel has no Landlock: only shem itself keeps the guest inside of its \
                 shared folders"
            );
        }
        Ok(())
    })
}

/// Waits for the agent to connect, greets it, and completes the timeline.
fn greet(
    machine: &Machine,
    streams: StreamHost,
    incoming: &Incoming,
    limit: Duration,
) -> Result<Agent, BootError> {
    let control = incoming
        .recv_timeout(limit)
        .map_err(|error| failed(machine, error, limit))?;
    let ready = Instant::now();
    let agent = Agent::handshake(control, Box::new(move |port| streams.connect(port))).map_err(
        |error| match error {
            // The machine went down under the greeting: its reason says more.
            ClientError::Lost => failed(machine, RecvTimeoutError::Disconnected, limit),
            error => BootError::Agent(error),
        },
    )?;
    // The guest's clock started with its kernel; what it measured is placed on
    // ours by the one moment that both have seen.
    let times = agent.hello().boot_times;
    for (stage, at) in [
        (Stage::Init, times.init_start_us),
        (Stage::RootReady, times.root_ready_us),
    ] {
        let before = Duration::from_micros(times.agent_ready_us.saturating_sub(at));
        if let Some(when) = ready.checked_sub(before) {
            machine.record(stage, when);
        }
    }
    machine.record(Stage::AgentReady, ready);
    Ok(agent)
}

/// Why no agent connected: the machine is stopping, or the time is up.
fn failed(machine: &Machine, error: RecvTimeoutError, limit: Duration) -> BootError {
    if error == RecvTimeoutError::Timeout {
        machine.handle().stop(StopReason::Timeout);
    }
    let report = machine
        .handle()
        .wait(Some(END))
        .unwrap_or_else(|| StopReport {
            reason: StopReason::Internal("the machine does not end".into()),
            console_tail: machine.console_tail(),
            timeline: machine.timeline(),
        });
    let report = Box::new(report);
    match report.reason {
        StopReason::Timeout => BootError::TimedOut { limit, report },
        _ => BootError::Stopped { report },
    }
}

fn host(what: &'static str) -> impl Fn(io::Error) -> BootError {
    move |source| BootError::Host { what, source }
}
