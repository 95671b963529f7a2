//! The runtime that Golem's exe-unit starts: the command line and the protocol of
//! `ya-runtime-vm`, over the library `shem`. golem-runtime, sections 1 to 5.
//!
//! `deploy` turns an image and wishes into a work folder with a [`Deployment`];
//! `start` boots it and serves the Runtime API on standard input and output. What is
//! done to a VM goes through `shem`, which other personalities use as well.
#![forbid(unsafe_code)]

pub mod args;
mod boot;
mod counters;
mod deploy;
mod deployment;
mod logging;
mod mounts;
mod network;
mod offer;
mod outbox;
mod processes;
mod self_test;
mod server;
mod size;
mod start;

pub use boot::{Booted, boot};
pub use deploy::{Order, deploy, tell};
pub use deployment::{Deployment, FILE as DEPLOYMENT_FILE};
pub use logging::init as init_logging;
pub use mounts::{MountKind, Mounted};
pub use network::Cards;
pub use offer::offer_template;
pub use self_test::{SelfTestError, self_test};
pub use start::start;

/// Version of the contract that is kept: that of the `ya-runtime-vm` whose place
/// this takes, as market offers and clients compare it.
pub const CONTRACT_VERSION: &str = "0.5.2";

/// Name of the program, before what it says.
pub const PROGRAM: &str = "ya-runtime-shem";
