//! The boot, step by step, as PID 1.
//!
//! What has to be right (the root file system, volumes) ends the boot when it
//! fails; what is only wanted (a host name, `/run`) is a warning. No thread is
//! started before the agent is forked off.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use guest_protocol::{BOOT_CONFIG_PATH, BootConfig, BootTimes};
use nix::sys::reboot::{RebootMode, reboot};
use nix::time::{ClockId, clock_gettime};

use crate::agent;
use crate::console::say;
use crate::disks::Disks;
use crate::error::{Attempt, BootError, Result};
use crate::identity;
use crate::modules;
use crate::mounts;
use crate::reap;
use crate::root;
use crate::sys::{self, Fork};
use crate::volumes;

/// How long the host may take to end a machine without an agent.
const HOST_GRACE: Duration = Duration::from_secs(10);

/// Boots, forks the agent and reaps; in the agent's process it is the agent.
/// PID 1 never returns.
pub fn run() -> ExitCode {
    let init_start_us = boot_time_us();
    say("start");
    match boot(init_start_us) {
        Ok(Fork::Child) => ExitCode::FAILURE,
        Ok(Fork::Parent(agent)) => {
            let end = reap::until_end_of(agent);
            say(format_args!("the agent ended ({end})"));
            nix::unistd::sync();
            // The host sees the agent's connection end and takes the machine
            // down, as an agent lost. A power-off now would look wanted.
            std::thread::sleep(HOST_GRACE);
            power_off(None)
        }
        Err(error) => {
            say(format_args!("fatal: {error}"));
            power_off(None)
        }
    }
}

/// Returns in PID 1 with the agent's id, and in the agent when that is over.
fn boot(init_start_us: u64) -> Result<Fork> {
    mounts::mount_early();
    let config = fs::read(BOOT_CONFIG_PATH).attempt(BOOT_CONFIG_PATH)?;
    let config = BootConfig::decode(&config)
        .map_err(|error| BootError::new(format!("boot configuration: {error}")))?;
    modules::load(&config.modules)?;
    let mut disks = Disks::find()?;
    root::assemble(&config.layers, &config.upper, &mut disks)?;
    root::switch()?;
    mounts::mount_container(&config.mounts);
    volumes::mount_all(&config.mounts, &mut disks)?;
    identity::apply(&config.hostname);
    let root_ready_us = boot_time_us();

    match sys::fork().attempt("fork the agent")? {
        Fork::Child => {
            let times = BootTimes {
                init_start_us,
                root_ready_us,
                agent_ready_us: 0,
            };
            if let Err(error) = agent::run(config.hostname, times, &disks) {
                say(format_args!("agent: {error}"));
            }
            Ok(Fork::Child)
        }
        parent => Ok(parent),
    }
}

/// Microseconds since the kernel started.
pub fn boot_time_us() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(0, |time| {
        let seconds = time.tv_sec().saturating_mul(1_000_000);
        seconds.saturating_add(time.tv_nsec() / 1_000)
    });
    u64::try_from(now).unwrap_or(0)
}

/// Writes file systems out, leaves `disks` in order, and ends the machine.
pub fn power_off(disks: Option<&Disks>) -> ! {
    nix::unistd::sync();
    if let Some(disks) = disks {
        disks.freeze();
    }
    let Err(error) = reboot(RebootMode::RB_POWER_OFF);
    say(format_args!("power off: {error}"));
    // PID 1 that ends is a kernel panic, which stops the machine as well.
    std::process::exit(1);
}
