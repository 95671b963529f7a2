//! What every plugin has to hold, tried on one plugin: `shem plugin check`.
//!
//! A [`Suite`] runs the checks, each in a process of its own, so that a plugin that
//! crashes or blocks fails a check and ends nothing else. What such a process does is
//! [`carry_out`]: the plugin's devices are made by the plugin host as in a VM, and
//! driven by a [`Driver`] on a [`Loop`], which are here for the host's own tests too.
//!
//! Files: `suite` (which checks, and what is told of them), `process` (the processes
//! that make them), `check` (what the checks are), `life`, `config`, `virtio` and
//! `net` (the checks), `finding`, `smallest` (configurations out of schemas), `guest`
//! and `event_loop` (the machine).

mod check;
mod config;
mod event_loop;
mod finding;
mod guest;
mod life;
mod net;
mod process;
mod smallest;
mod suite;
mod virtio;

pub use crate::check::{Check, Task, carry_out};
pub use crate::event_loop::Loop;
pub use crate::guest::{Driver, Interrupts, PATIENCE, Told};
pub use crate::suite::{Line, Suite, SuiteError, Verdict};
