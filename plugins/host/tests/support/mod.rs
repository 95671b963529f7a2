//! What the tests of this crate share: libraries built from the fixtures in
//! `tests/plugins`, and devices of them. A driver and an event loop are those of
//! `plugin_check`.

#![allow(dead_code, unused_imports, reason = "each test file uses its part")]

#[path = "../../../../tests/plugins/building.rs"]
mod building;

use plugin_host::{GuestFacts, Plugin, PluginDevice};
use serde_json::Value;

pub use building::{Library, kept, library, library_at, package};
pub use plugin_check::{Driver, Loop, PATIENCE, Told};

pub const FACTS: GuestFacts = GuestFacts {
    vcpus: 2,
    memory: 64 << 20,
};

/// The plugin with a device of each kind.
pub fn devices() -> (Library, Plugin) {
    let library = library("device.c", &[]);
    let plugin = Plugin::load(&library.path).unwrap();
    (library, plugin)
}

pub fn create(
    plugin: &Plugin,
    driver: &str,
    config: Value,
) -> Result<PluginDevice, plugin_host::CreateError> {
    let driver = plugin
        .drivers
        .iter()
        .find(|found| found.name == driver)
        .unwrap();
    PluginDevice::create(plugin, driver, "dev0", &config, FACTS)
}
