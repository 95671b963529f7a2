//! Presents a [`device_model::VirtioDevice`] to the guest's driver.
//!
//! The status machine, the feature negotiation and the queue set-up of VIRTIO
//! 1.2 (sections 2 and 3) live in one place that no transport repeats; a
//! transport is a register file in front of it. There is one so far,
//! [`MmioTransport`] (section 4.2). Knows neither KVM nor any device: the
//! machine registers the kicks as ioeventfds.
//!
//! What the driver is held to, whatever the transport:
//!
//! - status bits come in order and only go away by a reset (writing 0);
//! - FEATURES_OK is set only when `VIRTIO_F_VERSION_1` and nothing that was not
//!   offered is accepted;
//! - queues can be set up between FEATURES_OK and DRIVER_OK, and never after:
//!   the device works on copies that were checked against guest memory;
//! - a DRIVER_OK with a queue that does not lie in guest memory gives
//!   DEVICE_NEEDS_RESET, and the device is not started.
//!
//! A write that breaks a rule has no effect.
#![forbid(unsafe_code)]

mod core;
mod interrupt;
mod mmio;
mod queue_setup;
#[cfg(test)]
mod tests;
mod window;

pub use mmio::MmioTransport;
pub use window::Windows;
