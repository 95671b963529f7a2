//! `shem shell`: deploys an image and boots it as Golem's exe-unit would have it, and
//! runs a shell in it.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use shem::{BootError, ClientError, Command, FileKind, Vm};
use ya_runtime::{Booted, Deployment, MountKind, Order};

use crate::args::ShellArgs;
use crate::attend::{self, Manner, attend};
use crate::run;
use crate::signals::Signals;
use crate::terminal;
use crate::workdir::Workdir;

/// Shells in the order of preference; the last is taken unseen.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// Bytes of a GiB, to count with fractions.
const GIB: f64 = (1_u64 << 30) as f64;

/// `shem shell`; `start` is when the process began.
pub fn run(args: &ShellArgs, start: Instant) -> Result<u8> {
    run::check_memory(args.memory())?;
    confine::report_violations(terminal::restore).context("prepare for seccomp violations")?;
    let workdir = Workdir::open(args.workdir.as_deref())?;
    let deployment = match &args.image {
        Some(image) => ya_runtime::deploy(&order(args, image, workdir.path()))?,
        None => Deployment::read(workdir.path())?,
    };
    show_volumes(&deployment, workdir.path());
    let mut signals = None;
    let Booted { vm, cards: _ } =
        ya_runtime::boot(&deployment, workdir.path(), (None, None), start, || {
            // Before any other thread exists that signals could be delivered to.
            signals = Some(Signals::start(None)?);
            Ok(())
        })
        .inspect_err(|error| {
            if let Some(error) = error.downcast_ref::<BootError>() {
                attend::show_failed_boot(error);
            }
        })?;
    let signals = signals.context("signals are not taken")?;
    let argv = match args.command.is_empty() {
        true => vec![shell(args, &vm)?],
        false => args.command.clone(),
    };
    let manner = Manner {
        interactive: true,
        tty: io::stdin().is_terminal(),
        memory: deployment.memory_mib << 20,
        in_order: true,
    };
    let mut command = Command::new(argv).stdin(true);
    if manner.tty {
        command = command.tty(attend::tty());
    }
    attend(vm, &command, &manner, &signals)
}

/// What exe-unit would have the runtime deploy.
fn order(args: &ShellArgs, image: &Path, workdir: &Path) -> Order {
    let hostname = args.hostname.as_deref();
    Order {
        workdir: workdir.to_owned(),
        packages: vec![image.to_owned()],
        cpu_cores: args.cpus.unwrap_or(1).into(),
        mem_gib: args.memory() as f64 / GIB,
        storage_gib: args.storage.unwrap_or(ShellArgs::STORAGE) as f64 / GIB,
        volume_override: args.volume_override.clone(),
        hostname: hostname.unwrap_or(shem::DEFAULT_HOSTNAME).to_owned(),
    }
}

/// Where what is in the guest's volumes is found on this host.
fn show_volumes(deployment: &Deployment, workdir: &Path) {
    for mount in &deployment.mounts {
        if let MountKind::Host { name } = &mount.kind {
            note!("{} -> {}", mount.path, workdir.join(name).display());
        }
    }
}

/// The shell that was asked for, or the best that the image has.
fn shell(args: &ShellArgs, vm: &Vm) -> Result<OsString> {
    if let Some(shell) = &args.shell {
        return Ok(shell.clone());
    }
    let [best, other] = SHELLS;
    let found = match vm.agent().port().stat_file(best) {
        Ok(stat) => stat.kind == FileKind::File,
        Err(ClientError::Failed(_)) => false,
        Err(error) => return Err(error).context("look for a shell in the image"),
    };
    Ok(if found { best } else { other }.into())
}
