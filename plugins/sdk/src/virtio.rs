//! A virtio device of a plugin, and its queues.

// UNSAFETY: chains are pieces of guest memory by pointer.
#![expect(unsafe_code, reason = "reads and writes guest memory")]

use plugin_abi as abi;
use plugin_abi::Iovec;

use crate::device::Device;
use crate::error::Result;
use crate::host::Host;

/// A virtio device. The guest chooses everything that arrives.
pub trait VirtioDevice: Device {
    /// VIRTIO 1.2 section 5: 4 is an entropy source.
    const DEVICE_TYPE: u32;
    /// Most descriptors of each queue: powers of two.
    const QUEUE_SIZES: &'static [u16];
    /// Feature bits of the device type.
    const FEATURES: u64 = 0;

    /// The driver accepted these of the features.
    fn ack_features(&mut self, _features: u64) {}

    /// Fills `data`, which is zero, from configuration space at `offset`.
    fn read_config(&mut self, _offset: u64, _data: &mut [u8]) {}

    /// The driver wrote to configuration space.
    fn write_config(&mut self, _offset: u64, _data: &[u8]) {}

    /// The driver is ready. An error is told to it, and it may try again.
    fn activate(&mut self) -> Result<()> {
        Ok(())
    }

    /// `queue` may have chains: take them until there is none. An error ends the
    /// device.
    fn queue_ready(&mut self, queue: Queue) -> Result<()>;

    /// The driver reset the device: all chains are forgotten.
    fn deactivate(&mut self) {}
}

/// A queue of an active device.
#[derive(Clone, Copy)]
pub struct Queue {
    host: Host,
    index: u16,
}

impl Queue {
    /// Queue `index` of the device of `host`.
    pub fn new(host: Host, index: u16) -> Self {
        Queue { host, index }
    }

    /// Its number.
    pub fn index(self) -> u16 {
        self.index
    }

    /// The next chain; after `None` the device is told of the next one. `None` also
    /// when the driver broke the rings, until it has reset the device.
    pub fn pop(self) -> Result<Option<Chain>> {
        let table: abi::HostVirtio = self.host.extension(abi::EXT_VIRTIO_DEVICE)?;
        let mut chain = abi::Chain {
            struct_size: size_of::<abi::Chain>() as u32,
            head: 0,
            reserved: 0,
            readable: std::ptr::null(),
            readable_count: 0,
            writable: std::ptr::null(),
            writable_count: 0,
        };
        // SAFETY: a function of the host, with its own pointer and a struct to fill.
        let call = |pop: unsafe extern "C" fn(_, _, _) -> _| unsafe {
            pop(self.host.as_ptr(), self.index, &raw mut chain)
        };
        let there = match self.host.ask(table.pop, call) {
            // The driver broke the rings and has been told to reset: no failure of
            // the device, which has nothing more to do until then.
            Err(error) if error.errno() == libc::EIO => false,
            answer => answer? == 1,
        };
        Ok(there.then(|| Chain {
            queue: self,
            head: chain.head,
            // SAFETY: the host's, valid until the chain goes back, which dropping does.
            readable: Cursor::new(unsafe { pieces(chain.readable, chain.readable_count) }),
            // SAFETY: as above.
            writable: Cursor::new(unsafe { pieces(chain.writable, chain.writable_count) }),
        }))
    }
}

/// A descriptor chain: a stream of bytes from the driver, and one to it. Dropped, it
/// goes back with what was written.
pub struct Chain {
    queue: Queue,
    head: u16,
    readable: Cursor,
    writable: Cursor,
}

impl Chain {
    /// Bytes that are left to read.
    pub fn left(&self) -> usize {
        self.readable.left()
    }

    /// Bytes that are left to write.
    pub fn room(&self) -> usize {
        self.writable.left()
    }

    /// Copies the next bytes to `to`; how many there were.
    pub fn read(&mut self, to: &mut [u8]) -> usize {
        let mut done = 0;
        self.readable.advance(to.len(), |piece, len| {
            // SAFETY: `len` bytes of guest memory, and as many of `to` from `done` on,
            // which is not guest memory.
            unsafe { std::ptr::copy_nonoverlapping(piece, to[done..].as_mut_ptr(), len) };
            done += len;
        })
    }

    /// Writes `from`; how much there was room for.
    pub fn write(&mut self, from: &[u8]) -> usize {
        let mut done = 0;
        self.writable.advance(from.len(), |piece, len| {
            // SAFETY: as above.
            unsafe { std::ptr::copy_nonoverlapping(from[done..].as_ptr(), piece, len) };
            done += len;
        })
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        let host = self.queue.host;
        let written = u32::try_from(self.writable.done).unwrap_or(u32::MAX);
        let Ok(table) = host.extension::<abi::HostVirtio>(abi::EXT_VIRTIO_DEVICE) else {
            return;
        };
        // SAFETY: a function of the host, with its own pointer.
        let call = |complete: unsafe extern "C" fn(_, _, _, _) -> _| unsafe {
            complete(host.as_ptr(), self.queue.index, self.head, written)
        };
        // An error is of a device that was reset, or a driver that has to.
        let _ = host.ask(table.complete, call);
    }
}

/// # Safety
///
/// `data` points at `count` pieces, unless that is 0, valid as long as what is made
/// of them.
unsafe fn pieces(data: *const Iovec, count: usize) -> &'static [Iovec] {
    if count == 0 || data.is_null() {
        return &[];
    }
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts(data, count) }
}

/// A place in pieces of memory.
struct Cursor {
    pieces: &'static [Iovec],
    /// In the first piece.
    at: usize,
    done: usize,
}

// SAFETY: guest memory may be used on any thread.
unsafe impl Send for Cursor {}

impl Cursor {
    fn new(pieces: &'static [Iovec]) -> Self {
        Cursor {
            pieces,
            at: 0,
            done: 0,
        }
    }

    fn left(&self) -> usize {
        self.pieces.iter().map(|piece| piece.len).sum::<usize>() - self.at
    }

    /// Goes `len` bytes on, or to the end, and hands each run to `each`.
    fn advance(&mut self, len: usize, mut each: impl FnMut(*mut u8, usize)) -> usize {
        let mut left = len;
        while let Some(piece) = self.pieces.first()
            && left > 0
        {
            let run = left.min(piece.len - self.at);
            each(piece.data.cast::<u8>().wrapping_add(self.at), run);
            left -= run;
            self.at += run;
            if self.at == piece.len {
                self.pieces = &self.pieces[1..];
                self.at = 0;
            }
        }
        self.done += len - left;
        len - left
    }
}
