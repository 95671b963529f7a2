//! From a deployment to a VM that runs: shared by `start` and by who wants to see
//! what `start` would run.

use std::io;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use confine::Policy;
use shem::{Devices, Resolver, SeccompMode, Store, Vm, Volume};

use crate::Deployment;
use crate::network::Cards;

/// Whom guests ask for names: golem-runtime, section 4.
const NAMESERVERS: [[u8; 4]; 2] = [[1, 1, 1, 1], [8, 8, 8, 8]];

/// A VM, and its cards.
pub struct Booted {
    /// Its agent answers.
    pub vm: Vm,
    /// In no network yet.
    pub cards: Cards,
}

/// Boots what was deployed to `workdir`, with cards for these endpoints of exe-unit's.
/// `before_guest` is called when the process is confined: the threads that it starts
/// are too. The calling process can make no sockets and start no programs from
/// then on.
pub fn boot(
    deployment: &Deployment,
    workdir: &Path,
    (vpn, inet): (Option<&str>, Option<&str>),
    started: Instant,
    confined: impl FnOnce() -> Result<()>,
) -> Result<Booted> {
    shem::raise_descriptor_limit();
    let images = deployment.images()?;
    let volumes = deployment.volumes(workdir);
    let memory = deployment.memory_mib << 20;
    let mut devices = Devices::new(deployment.vcpus, memory);
    let cards = Cards::add(&mut devices, vpn, inet)?;
    let as_users = volumes.iter().any(Volume::acts_as_users);
    let policy = Policy {
        mode: SeccompMode::Kill,
        plugins: devices.needs().clone(),
    };
    confine::enter_process(&policy, as_users)?;
    confined()?;
    let store = Store::discover();
    let kernel = store.kernel(None)?;
    let mut builder = Vm::builder(kernel, store.guest_init()?)
        .started_at(started)
        .vcpus(deployment.vcpus)
        .memory(memory)
        .hostname(&deployment.hostname)
        .devices(devices)
        .before_guest(|| confine::drop_capabilities().map_err(io::Error::other));
    for image in images {
        builder = builder.layer(image);
    }
    for volume in volumes {
        builder = builder.volume(volume);
    }
    let vm = builder.boot()?;
    let nameservers = NAMESERVERS.map(Into::into).into();
    let search = Vec::new();
    vm.set_resolver(&Resolver {
        nameservers,
        search,
    })
    .context("name the guest's name servers")?;
    Ok(Booted { vm, cards })
}

/// What `start` refuses to run without: said before a VM is booted for nothing.
pub(crate) fn check_devices(pci_devices: &[String]) -> Result<()> {
    let wanted: Vec<&str> = pci_devices
        .iter()
        .map(String::as_str)
        .filter(|device| !device.is_empty())
        .collect();
    ensure!(
        wanted.is_empty(),
        "--pci-device {}: there is no plugin for devices of the host yet",
        wanted.join(" ")
    );
    Ok(())
}
