//! Plugins for shem in safe Rust.
//!
//! ```
//! use plugin_sdk::{Device, Host, Level, NoConfig, Result, export_plugin};
//!
//! struct Hello;
//!
//! impl Device for Hello {
//!     type Config = NoConfig;
//!     fn create(host: Host, id: &str, _: NoConfig) -> Result<Self> {
//!         host.log(Level::Info, &format!("hello from {id}"));
//!         Ok(Hello)
//!     }
//! }
//!
//! export_plugin! { summary: "Says hello", "hello" => Hello }
//! ```
//!
//! A plugin is a crate of type `cdylib` that implements [`Device`], and with it
//! [`VirtioDevice`] or [`NetBackend`] if it is one, and names its drivers in
//! [`export_plugin!`]. A panic is caught where it would leave the plugin, and ends
//! its device: build with `panic = "unwind"`, Cargo's default. [`testing`] has a
//! host for a plugin's own tests.
//!
//! What each callback may do, on which thread it comes and what its errors mean is
//! said in the C headers of `plugins/abi`, and holds here in the same way.

mod descriptor;
mod device;
mod error;
mod export;
mod host;
mod net;
#[doc(hidden)]
pub mod shim;
pub mod testing;
mod virtio;

pub use crate::descriptor::descriptor;
pub use crate::device::{Device, NoConfig};
pub use crate::error::{Error, Result};
pub use crate::host::{Events, Guest, Host, Level};
pub use crate::net::{Directions, NetBackend, NetInfo, NetSetup, Pieces};
pub use crate::virtio::{Chain, Queue, VirtioDevice};
pub use plugin_abi as abi;
