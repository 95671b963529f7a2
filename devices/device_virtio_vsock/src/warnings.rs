//! A log that neither the guest nor a client can flood.

use std::fmt::Display;

/// Counts things that should not happen, and logs the first, second, fourth,
/// eighth and so on: at most 64 lines in the life of an activation.
#[derive(Debug, Default)]
pub struct Warnings(u64);

impl Warnings {
    /// Notes `what` happened.
    pub fn note(&mut self, what: impl Display) {
        self.0 = self.0.saturating_add(1);
        if self.0.is_power_of_two() {
            log::warn!("vsock: {what} (warning {})", self.0);
        }
    }
}
