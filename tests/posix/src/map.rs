//! Files in memory, by volatile accesses: another process may change them.
// UNSAFETY: mmap(2) and accesses to what it gives.
#![expect(unsafe_code, reason = "mmap")]

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, MsFlags, ProtFlags, mmap, msync, munmap};
use rustix::io::Errno;

/// A mapping, unmapped when dropped.
pub struct Map {
    start: NonNull<c_void>,
    len: usize,
}

impl Map {
    /// Maps `len` bytes from the start of the file, to read and, with
    /// `writable`, to write; changes are the file's if `shared`.
    pub fn new(file: impl AsFd, len: usize, shared: bool, writable: bool) -> Result<Self, Errno> {
        let mut access = ProtFlags::PROT_READ;
        if writable {
            access |= ProtFlags::PROT_WRITE;
        }
        let flags = if shared {
            MapFlags::MAP_SHARED
        } else {
            MapFlags::MAP_PRIVATE
        };
        let len = NonZeroUsize::new(len).ok_or(Errno::INVAL)?;
        // SAFETY: a new mapping at a place of the kernel's choice.
        let start = unsafe { mmap(None, len, access, flags, file, 0) }.map_err(errno)?;
        Ok(Map {
            start,
            len: len.get(),
        })
    }

    fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.len);
        // SAFETY: inside of the mapping.
        unsafe { self.start.as_ptr().cast::<u8>().add(offset) }
    }

    /// A byte. Behind the end of the file this is SIGBUS.
    pub fn get(&self, offset: usize) -> u8 {
        // SAFETY: mapped and readable, and a byte is always aligned.
        unsafe { self.at(offset).read_volatile() }
    }

    /// Sets a byte of a writable mapping.
    pub fn set(&self, offset: usize, byte: u8) {
        // SAFETY: as in `get`; a mapping that is not writable is SIGSEGV.
        unsafe { self.at(offset).write_volatile(byte) }
    }

    /// Many bytes.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        for (index, byte) in into.iter_mut().enumerate() {
            *byte = self.get(offset + index);
        }
    }

    /// Sets many bytes.
    pub fn write(&self, offset: usize, from: &[u8]) {
        for (index, byte) in from.iter().enumerate() {
            self.set(offset + index, *byte);
        }
    }

    /// Returns when the file has what was written.
    pub fn sync(&self) -> Result<(), Errno> {
        // SAFETY: the whole of our mapping.
        unsafe { msync(self.start, self.len, MsFlags::MS_SYNC) }.map_err(errno)
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the whole of our mapping, to which nobody has a reference.
        let unmapped = unsafe { munmap(self.start, self.len) };
        unmapped.expect("it was mapped");
    }
}

fn errno(error: nix::errno::Errno) -> Errno {
    Errno::from_raw_os_error(error as i32)
}
