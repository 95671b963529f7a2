//! A running VM.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use device_model::Threads;
use device_model::net::NetCounters;
use guest_client::{Agent, ClientError, ExecError, Process};
use guest_protocol::{HostEntry, Interface, Resolver};
use gvmi::ContainerConfig;
use machine::{Machine, StopReason, StopReport, Timeline, Watch};

use crate::devices::{DeviceError, PluginDevices};
use crate::{Command, ForwardError, Forwarder, KernelPack, PortForward, VmBuilder, VmHandle};

/// How long a guest may take to shut down in order before it is killed.
pub const STOP_GRACE: Duration = Duration::from_secs(10);

/// What `stat` counts a file's room in, in bytes.
const BLOCK: u64 = 512;

/// A VM whose agent answers. Dropping it kills the guest and waits for its threads.
pub struct Vm {
    /// First, as they are told before the machine goes.
    pub(crate) plugins: PluginDevices,
    /// Taken when the guest is asked to shut down, which ends the agent too.
    pub(crate) watch: Option<Watch>,
    pub(crate) agent: Agent,
    pub(crate) machine: Machine,
    pub(crate) config: ContainerConfig,
    /// Starts threads that are as confined as the machine's.
    pub(crate) threads: Threads,
    /// Where the frontends of network cards count.
    pub(crate) cards: Vec<Arc<NetCounters>>,
    /// The disks' files, to look at.
    pub(crate) disks: Vec<File>,
    /// Keeps named volumes from being removed.
    pub(crate) _in_use: Vec<Arc<File>>,
}

/// Bytes that a VM's network cards carried, told from the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// To the guest.
    pub received: u64,
    /// From the guest.
    pub sent: u64,
}

impl Vm {
    /// Begins a VM that runs `kernel`, with `guest_init` as its PID 1.
    pub fn builder(kernel: KernelPack, guest_init: PathBuf) -> VmBuilder {
        VmBuilder::new(kernel, guest_init)
    }

    /// Starts a command and returns when its program runs. Several can run at
    /// once, from any thread.
    pub fn exec(&self, command: &Command) -> Result<Process, ExecError> {
        self.agent.exec(command.to_exec(&self.config))
    }

    /// Gives a network interface of the guest its addresses and routes, and brings
    /// it up. What is there already is no error, and what is there beside stays.
    ///
    /// # Errors
    /// [`ClientError::Failed`] with the guest's error number, which names the
    /// interface and the step: `ENODEV` when there is no such interface.
    pub fn set_interface(&self, interface: &Interface) -> Result<(), ClientError> {
        self.agent.set_interface(interface.clone())
    }

    /// Replaces the guest's `/etc/resolv.conf`.
    pub fn set_resolver(&self, resolver: &Resolver) -> Result<(), ClientError> {
        self.agent.set_resolver(resolver.clone())
    }

    /// Adds to the guest's `/etc/hosts` the entries that it does not have.
    pub fn add_hosts(&self, entries: &[HostEntry]) -> Result<(), ClientError> {
        self.agent.hosts(entries.to_vec())
    }

    /// Has what connects to `ports` of this host arrive at ports of the guest,
    /// until the forwarder is dropped. It takes no network card: the guest's
    /// servers see connections from their own loopback interface.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let builder: shem::VmBuilder = todo!();
    /// use shem::PortForward;
    ///
    /// let port = PortForward::bind("127.0.0.1:8080".parse()?, 80)?;
    /// let vm = builder.boot()?;
    /// let forwarder = vm.forward(vec![port])?;
    /// # Ok(()) }
    /// ```
    pub fn forward(&self, ports: Vec<PortForward>) -> Result<Forwarder, ForwardError> {
        Forwarder::start(ports, Arc::clone(self.agent.port()), &self.threads)
    }

    /// The agent: files, host entries, clock.
    pub fn agent(&self) -> &Agent {
        &self.agent
    }

    /// The configuration of the top image.
    pub fn config(&self) -> &ContainerConfig {
        &self.config
    }

    /// Shuts the guest down in order, with its file systems written out, and
    /// kills it when that takes longer than `grace`.
    pub fn stop(mut self, grace: Duration) -> StopReport {
        self.watch = None;
        self.plugins.before_stop();
        match self.agent.shutdown_within(grace) {
            Ok(()) => {}
            Err(error) => {
                log::warn!("ask the guest to shut down: {error}");
                self.kill();
            }
        }
        if let Some(report) = self.machine.handle().wait(Some(grace)) {
            return report;
        }
        self.kill();
        self.wait()
    }

    /// Tells the devices of plugins of a network that the VM joins: a JSON object.
    pub fn join_network(&self, network: &serde_json::Value) -> Result<(), DeviceError> {
        Ok(self.plugins.join_network(network)?)
    }

    /// Stops the VM from other places, and waits for its end there.
    pub fn handle(&self) -> VmHandle {
        self.machine.handle().clone()
    }

    /// Room on the host that the temporary disks take, in bytes.
    pub fn temporary_disk_usage(&self) -> u64 {
        let disks = self.disks.iter().filter_map(|disk| disk.metadata().ok());
        let unnamed = disks.filter(|disk| disk.nlink() == 0);
        unnamed.map(|disk| disk.blocks() * BLOCK).sum()
    }

    /// Bytes of the frames that went through the VM's network cards.
    pub fn traffic(&self) -> Traffic {
        let mut sum = Traffic::default();
        for card in &self.cards {
            sum.received += card.received_bytes.get();
            sum.sent += card.sent_bytes.get();
        }
        sum
    }

    /// Ends the guest at once, as if its power were cut.
    pub fn kill(&self) {
        self.machine.handle().stop(StopReason::Killed);
    }

    /// Ends the guest at once because the owner's time limit passed.
    pub fn time_out(&self) {
        self.machine.handle().stop(StopReason::Timeout);
    }

    /// Waits until the VM has stopped, for whatever reason.
    pub fn wait(&self) -> StopReport {
        self.machine
            .handle()
            .wait(None)
            .expect("without a limit the wait ends with a report")
    }

    /// As [`Vm::wait`], but `None` when `limit` passes first.
    pub fn wait_timeout(&self, limit: Duration) -> Option<StopReport> {
        self.machine.handle().wait(Some(limit))
    }

    /// When the VM reached which stage of its start.
    pub fn timeline(&self) -> Timeline {
        self.machine.timeline()
    }
}
