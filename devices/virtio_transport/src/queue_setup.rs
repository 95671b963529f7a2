//! A queue as the driver describes it before DRIVER_OK, and the one step that
//! makes a checked, working queue of the description.
//!
//! Holds whatever the driver wrote; nothing here is believed until
//! [`QueueSetup::freeze`]. VIRTIO 1.2 sections 2.7 and 4.2.2.

use device_model::GuestMemory;
use virtio_queue::{Error, Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemory as _, Permissions};

/// Bytes of a descriptor, of an entry of the available ring, of one of the used ring.
const DESCRIPTOR: u64 = 16;
const AVAIL_ENTRY: u64 = 2;
const USED_ENTRY: u64 = 8;
/// Bytes of either ring besides its entries: flags, index and event index.
const RING_FIELDS: u64 = 6;

/// One of the three areas of a split virtqueue.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Area {
    Descriptors,
    Avail,
    Used,
}

/// Which half of a 64-bit address a 32-bit register holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Half {
    Low,
    High,
}

/// The driver's description of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueSetup {
    max_size: u16,
    /// As written: nothing checks it before [`QueueSetup::freeze`].
    size: u32,
    ready: bool,
    descriptors: u64,
    avail: u64,
    used: u64,
}

impl QueueSetup {
    pub(crate) fn new(max_size: u16) -> Self {
        QueueSetup {
            max_size,
            size: 0,
            ready: false,
            descriptors: 0,
            avail: 0,
            used: 0,
        }
    }

    pub(crate) fn max_size(&self) -> u16 {
        self.max_size
    }

    pub(crate) fn ready(&self) -> bool {
        self.ready
    }

    /// The driver may take a queue back before DRIVER_OK, to describe it anew.
    pub(crate) fn set_ready(&mut self, ready: bool) {
        self.ready = ready;
    }

    /// Has no effect on a queue that is ready.
    pub(crate) fn set_size(&mut self, size: u32) {
        if !self.ready {
            self.size = size;
        }
    }

    /// Has no effect on a queue that is ready.
    pub(crate) fn set_address(&mut self, area: Area, half: Half, value: u32) {
        if self.ready {
            return;
        }
        let address = match area {
            Area::Descriptors => &mut self.descriptors,
            Area::Avail => &mut self.avail,
            Area::Used => &mut self.used,
        };
        let value = u64::from(value);
        *address = match half {
            Half::Low => (*address & !0xffff_ffff) | value,
            Half::High => (*address & 0xffff_ffff) | (value << 32),
        };
    }

    /// A working queue at position 0. Fails when the size is not a power of two
    /// up to the device's maximum, or an area is misaligned or not in `memory`.
    ///
    /// [`Queue::is_valid`] and the plain setters check the same, but each logs
    /// an error when it refuses, which would let a driver fill the host's log.
    pub(crate) fn freeze(&self, memory: &GuestMemory, event_idx: bool) -> Result<Queue, Error> {
        let size = u16::try_from(self.size).map_err(|_| Error::InvalidSize)?;
        // The queue's own iterator takes a ring at 0 for one that is not set up.
        if self.avail == 0 {
            return Err(Error::InvalidAvailRingAlign);
        }
        let mut queue = Queue::new(self.max_size)?;
        queue.try_set_size(size)?;
        queue.try_set_desc_table_address(GuestAddress(self.descriptors))?;
        queue.try_set_avail_ring_address(GuestAddress(self.avail))?;
        queue.try_set_used_ring_address(GuestAddress(self.used))?;

        let entries = u64::from(size);
        for (address, length, access) in [
            (self.descriptors, DESCRIPTOR * entries, Permissions::Read),
            (
                self.avail,
                RING_FIELDS + AVAIL_ENTRY * entries,
                Permissions::Read,
            ),
            (
                self.used,
                RING_FIELDS + USED_ENTRY * entries,
                Permissions::Write,
            ),
        ] {
            if !memory.check_range(GuestAddress(address), length as usize, access) {
                return Err(Error::FindMemoryRegion);
            }
        }
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        Ok(queue)
    }
}
