//! Lines to the guest's interrupt controller.

use vmm_sys_util::eventfd::EventFd;

/// An edge-triggered interrupt line. Callable from any thread, and never waits.
pub trait IrqLine: Send + Sync {
    /// Makes an edge. One that comes before the guest has taken the last may be
    /// taken together with it, as on any such line.
    fn pulse(&self);
}

/// Counts the edges.
impl IrqLine for EventFd {
    fn pulse(&self) {
        // Fails only when 2^64 - 2 edges wait, and then one is certainly seen.
        let _ = self.write(1);
    }
}
