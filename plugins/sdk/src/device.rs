//! What every device of a plugin is.

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::Result;
use crate::host::{Events, Host};

/// A device. One call of it comes at a time, on whichever thread; dropping it is
/// the last, and ends the threads that it has started.
pub trait Device: Send + Sized + 'static {
    /// Its configuration, read by serde from a JSON object. Let it
    /// `deny_unknown_fields`, or have a [`Device::CONFIG_SCHEMA`] that does.
    type Config: DeserializeOwned;

    /// What it is, in one line; empty: the plugin's own summary.
    const SUMMARY: &'static str = "";

    /// JSON Schema of the configuration, which the host checks before it calls
    /// anything: for better errors and for `shem plugin info`. The keywords are
    /// those of `config_schema` in the C header.
    const CONFIG_SCHEMA: &'static str = "";

    /// Makes the device, named `id`, and opens what it will ever open. An error
    /// keeps the VM from starting. `host` may be kept as long as the device lives.
    fn create(host: Host, id: &str, config: Self::Config) -> Result<Self>;

    /// `events` hold for `fd`, which was added by [`Host::add_fd`]. An error ends
    /// the device.
    fn on_event(&mut self, _fd: i32, _events: Events, _token: u64) -> Result<()> {
        Ok(())
    }

    /// The timer of [`Host::set_timer`] has rung. An error ends the device.
    fn on_timer(&mut self, _token: u64) -> Result<()> {
        Ok(())
    }

    /// All devices are made, nothing runs: the last moment to open and to add to
    /// the guest. An error keeps the VM from starting.
    fn before_boot(&mut self) -> Result<()> {
        Ok(())
    }

    /// The guest's agent answers. An error ends the VM.
    fn agent_ready(&mut self) -> Result<()> {
        Ok(())
    }

    /// The VM joins a network, described by a JSON object.
    fn join_network(&mut self, _network: &str) -> Result<()> {
        Ok(())
    }

    /// The VM is about to stop.
    fn before_stop(&mut self) {}
}

/// No configuration: an empty object.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}
