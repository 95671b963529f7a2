//! Loads plugins and makes their devices into devices of the VMM.
//!
//! A plugin is a shared library of the ABI in `plugins/abi`. What it says of
//! itself is read, checked and refused here ([`Plugin`], [`LoadError`]); a
//! [`PluginSet`] finds drivers by name; a [`PluginDevice`] is one device, which
//! becomes a `device_model` device, a network backend, or neither.
//!
//! A plugin runs in this process with all its rights. What can be held of it is:
//! an error, a caught panic or a value that the ABI does not allow is a
//! [`DeviceFailure`], after which the device is not called any more. A crash is a
//! crash. Libraries are never unloaded: their static data is used to the end.
//!
//! Files: `elf`, `load` and `search` (libraries), `schema` and `nearest`
//! (configurations), `set` (drivers), `instance` (a device and the calls into it),
//! `failure`, `events` and `active` (what a device uses), `host_api` (the functions
//! that it calls), `device`, `virtio` and `net` (what it becomes).

mod active;
mod device;
mod elf;
mod events;
mod failure;
mod guest;
mod host_api;
mod instance;
mod load;
mod nearest;
mod net;
mod schema;
mod search;
mod set;
mod virtio;

pub use crate::device::{CreateError, PluginDevice};
pub use crate::elf::NotALibrary;
pub use crate::failure::{DeviceFailure, FailureKind};
pub use crate::guest::{GuestAdditions, GuestFacts};
pub use crate::instance::CallStats;
pub use crate::load::{Driver, LoadError, NeededPath, OfferProperty, Plugin};
pub use crate::nearest::nearest;
pub use crate::schema::{ConfigError, Schema, SchemaError};
pub use crate::search::{LIBRARY_PREFIX, PATH_VARIABLE, SYSTEM_FOLDERS, SearchError, SearchPath};
pub use crate::set::{PluginSet, SetError};
