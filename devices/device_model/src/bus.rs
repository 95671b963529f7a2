//! A device that answers reads and writes at addresses of a bus.

/// A range of an I/O bus (MMIO or port I/O).
///
/// Called on a vCPU thread that waits for the answer: compute, do not block.
/// The guest chooses `offset` (always inside the registered range) and the
/// length of `data` (1, 2, 4 or 8 bytes); every combination must be answered.
pub trait BusDevice: Send {
    /// Fill `data` with what the guest reads at `offset` from the range's start.
    fn read(&mut self, offset: u64, data: &mut [u8]);

    /// Take `data`, which the guest wrote at `offset` from the range's start.
    fn write(&mut self, offset: u64, data: &[u8]);
}

impl BusDevice for Box<dyn BusDevice> {
    fn read(&mut self, offset: u64, data: &mut [u8]) {
        (**self).read(offset, data);
    }

    fn write(&mut self, offset: u64, data: &[u8]) {
        (**self).write(offset, data);
    }
}
