//! A virtio network card (VIRTIO 1.2 section 5.1): the guest's side. What is behind
//! it is a [`device_model::net::NetBackend`], which never sees a queue.
//!
//! Frames go between guest memory and the backend without a copy. Only the header
//! before each is copied, so that what was checked is what is used, and the end of a
//! frame to the guest that is longer than expected.
//!
//! ```text
//! factory ─▶ device ──activate──▶ frontend (event loop) ─┬─▶ receive  ─┐
//!              │                     │                   ├─▶ transmit ─┼─▶ queue, chain
//!              └─▶ host (backend) ◀──┘                   └─▶ control  ─┘
//! ```
//!
//! `header` and `features` hold the rules of VIRTIO, `limit` those of rates.
#![forbid(unsafe_code)]

mod card;
mod chain;
mod control;
mod device;
mod factory;
mod features;
mod frontend;
mod header;
mod host;
mod limit;
mod queue;
mod receive;
mod timer;
mod transmit;

#[cfg(test)]
mod tests;

pub use device::{NetDevice, Rate, Settings};
pub use factory::Factory;

/// Bytes of an Ethernet header, and of the tag that it may have.
const ETHERNET: usize = 14;
const VLAN_TAG: usize = 4;

/// Frames of one queue in one turn, so that none holds the event loop.
const FRAMES_PER_TURN: usize = 64;
