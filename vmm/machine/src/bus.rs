//! Address to device: the MMIO and the port I/O space of a machine.
//!
//! A bus is filled while the machine is built and never changes after; look-up
//! takes no lock, and each device has a lock of its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use device_model::BusDevice;

/// A device with its lock, which only vCPU threads and the end of the machine take.
pub type SharedDevice = Arc<Mutex<dyn BusDevice>>;

/// One address space.
#[derive(Default)]
pub struct Bus {
    /// Start to (length, device). Ranges do not overlap.
    ranges: BTreeMap<u64, (u64, SharedDevice)>,
}

impl Bus {
    /// Puts `device` at `start..start + len`, which must be free: the machine
    /// lays its ranges out itself.
    pub fn insert(&mut self, start: u64, len: u64, device: SharedDevice) {
        debug_assert!(self.find(start).is_none() && self.find(start + len - 1).is_none());
        self.ranges.insert(start, (len, device));
    }

    /// Reads at `address`. Where no device answers, all bits are one, as on a PC.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address) {
            Some((offset, device)) => lock(device).read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// Writes at `address`. Where no device answers, nothing happens, as on a PC.
    pub fn write(&self, address: u64, data: &[u8]) {
        if let Some((offset, device)) = self.find(address) {
            lock(device).write(offset, data);
        }
    }

    fn find(&self, address: u64) -> Option<(u64, &SharedDevice)> {
        let (start, (len, device)) = self.ranges.range(..=address).next_back()?;
        let offset = address - start;
        (offset < *len).then_some((offset, device))
    }
}

fn lock(device: &SharedDevice) -> std::sync::MutexGuard<'_, dyn BusDevice + 'static> {
    // A device that panicked has stopped the machine; whoever still comes by
    // may see its half-done state but no broken memory.
    device
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Echo(Vec<u8>);

    impl BusDevice for Echo {
        fn read(&mut self, offset: u64, data: &mut [u8]) {
            data.fill(offset as u8);
        }

        fn write(&mut self, _offset: u64, data: &[u8]) {
            self.0 = data.to_vec();
        }
    }

    fn bus() -> Bus {
        let mut bus = Bus::default();
        bus.insert(0x100, 0x10, Arc::new(Mutex::new(Echo(Vec::new()))));
        bus
    }

    #[test]
    fn a_device_sees_offsets_from_its_own_start() {
        let mut data = [0; 2];
        bus().read(0x10f, &mut data);
        assert_eq!(data, [0xf, 0xf]);
    }

    #[test]
    fn where_nothing_answers_all_bits_are_one() {
        for address in [0, 0xff, 0x110, u64::MAX] {
            let mut data = [0; 4];
            bus().read(address, &mut data);
            bus().write(address, &data);
            assert_eq!(data, [0xff; 4], "at {address:#x}");
        }
    }
}
