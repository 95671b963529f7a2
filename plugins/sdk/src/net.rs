//! A network backend of a plugin.

// UNSAFETY: frames are pieces of guest memory by pointer.
#![expect(unsafe_code, reason = "vectored transfers of guest memory")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use plugin_abi as abi;
use plugin_abi::Iovec;

use crate::device::Device;
use crate::error::Result;

/// Most pieces of a frame: see `send` of `shem_net_backend_t`.
const MAX_PIECES: usize = 64;

/// What is behind a virtual network card. `EAGAIN` and `EMSGSIZE`
/// ([`Error::from_errno`](crate::Error::from_errno)) are answers of `send` and
/// `receive`; other errors end the device.
pub trait NetBackend: Device {
    /// What it can do.
    fn describe(&mut self) -> Result<NetInfo>;

    /// The driver is ready; there is no interest yet.
    fn start(&mut self, setup: NetSetup) -> Result<()>;

    /// The driver reset the card.
    fn stop(&mut self);

    /// Tell by [`Host::net_ready`](crate::Host::net_ready) of these directions from
    /// now on, at once if it is so now, and of no others.
    fn set_interest(&mut self, queue: u16, directions: Directions) -> Result<()>;

    /// Sends one frame, or copies it, where [`NetSetup::flushes`].
    fn send(&mut self, queue: u16, frame: Pieces<'_>) -> Result<()>;

    /// The last frame for now has been sent: those that were copied are to go, at once
    /// or as soon as they can.
    fn flush(&mut self, queue: u16) -> Result<()> {
        let _ = queue;
        Ok(())
    }

    /// Receives one frame into `room`; its length, above 0.
    fn receive(&mut self, queue: u16, room: Pieces<'_>) -> Result<usize>;
}

/// What a backend can do: see `shem_net_info_t`.
#[derive(Clone, Copy, Debug)]
pub struct NetInfo {
    /// `NET_SEND_*` and `NET_RECEIVE_*` of [`crate::abi`].
    pub offloads: u32,
    /// 1 to 8.
    pub queue_pairs: u16,
    /// The longest packet; `None`: the guest's default.
    pub mtu: Option<u16>,
    /// The card's address; `None`: the host makes one.
    pub mac: Option<[u8; 6]>,
    /// Frames begin with a virtio-net header.
    pub header: bool,
    /// The link is there at the start.
    pub link_up: bool,
    /// Longest frame, header included.
    pub max_frame: u32,
}

/// What the driver accepted.
#[derive(Clone, Copy, Debug)]
pub struct NetSetup {
    /// Of those offered.
    pub offloads: u32,
    /// Of those offered.
    pub queue_pairs: u16,
    /// The host calls [`NetBackend::flush`]; those of version 1.0 do not.
    pub flushes: bool,
}

/// Directions of a queue pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directions {
    /// To the guest.
    pub receive: bool,
    /// From the guest.
    pub send: bool,
}

impl Directions {
    pub(crate) fn of(bits: u32) -> Self {
        Directions {
            receive: bits & abi::NET_RECEIVE != 0,
            send: bits & abi::NET_SEND != 0,
        }
    }

    pub(crate) fn bits(self) -> u32 {
        let receive = if self.receive { abi::NET_RECEIVE } else { 0 };
        let send = if self.send { abi::NET_SEND } else { 0 };
        receive | send
    }
}

/// A frame, or room for one, in guest memory.
#[derive(Clone, Copy)]
pub struct Pieces<'a>(&'a [Iovec]);

impl<'a> Pieces<'a> {
    /// # Safety
    ///
    /// The pieces are mapped memory that the kernel may read and write.
    pub(crate) unsafe fn new(pieces: &'a [Iovec]) -> Self {
        Pieces(pieces)
    }

    /// Bytes in all of them.
    pub fn len(self) -> usize {
        self.0.iter().map(|piece| piece.len).sum()
    }

    /// There are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Writes all of it to `fd` in one call.
    pub fn write_to(self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let (pieces, count) = self.raw();
        // SAFETY: pieces of memory that the kernel may read.
        done(unsafe { libc::writev(fd.as_raw_fd(), pieces.cast_const(), count as libc::c_int) })
    }

    /// Reads from `fd` into it in one call.
    pub fn read_from(self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let (pieces, count) = self.raw();
        // SAFETY: pieces of memory that the kernel may write, to which nobody has a
        // reference: they are the guest's.
        done(unsafe { libc::readv(fd.as_raw_fd(), pieces.cast_const(), count as libc::c_int) })
    }

    /// Sends it to the socket `fd` in one call, without waiting: one datagram, or as much
    /// of it as a stream takes. Raises no `SIGPIPE`.
    pub fn send_to(self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        if self.0.len() > MAX_PIECES {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        let message = self.message();
        // SAFETY: a message of pieces of memory that the kernel may read.
        done(unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, flags) })
    }

    /// Receives one datagram of the socket `fd`, without waiting. Its length, which
    /// is more than [`Pieces::len`] when it has been cut.
    pub fn receive_from(self, fd: BorrowedFd<'_>) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        let mut message = self.message();
        // SAFETY: a message of pieces of memory that the kernel may write, as above.
        done(unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, flags) })
    }

    /// Copies from its bytes at `offset` on to `to`; how many there were.
    pub fn copy_to(self, offset: usize, to: &mut [u8]) -> usize {
        self.each(offset, to.len(), |piece, at, len| {
            // SAFETY: `len` bytes of guest memory, and as many of `to`, which is not
            // guest memory.
            unsafe { std::ptr::copy_nonoverlapping(piece, to[at..].as_mut_ptr(), len) };
        })
    }

    /// Copies `from` to its beginning; how many bytes there was room for.
    pub fn copy_from(self, from: &[u8]) -> usize {
        self.each(0, from.len(), |piece, at, len| {
            // SAFETY: as above, the other way.
            unsafe { std::ptr::copy_nonoverlapping(from[at..].as_ptr(), piece, len) };
        })
    }

    /// Calls `copy` with the parts of the `len` bytes at `offset`: where one is, how
    /// many came before, and its length, which is as much of `len` as is left at most.
    fn each(
        self,
        mut offset: usize,
        len: usize,
        mut copy: impl FnMut(*mut u8, usize, usize),
    ) -> usize {
        let mut done = 0;
        for piece in self.0 {
            let skipped = offset.min(piece.len);
            offset -= skipped;
            let now = (piece.len - skipped).min(len - done);
            if now > 0 {
                copy(piece.data.cast::<u8>().wrapping_add(skipped), done, now);
                done += now;
            }
        }
        done
    }

    /// As the kernel takes them: the same layout.
    fn raw(self) -> (*mut libc::iovec, usize) {
        const { assert!(size_of::<Iovec>() == size_of::<libc::iovec>()) };
        (self.0.as_ptr().cast_mut().cast(), self.0.len())
    }

    fn message(self) -> libc::msghdr {
        let (pieces, count) = self.raw();
        libc::msghdr {
            msg_name: std::ptr::null_mut(),
            msg_namelen: 0,
            msg_iov: pieces,
            msg_iovlen: count,
            msg_control: std::ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        }
    }
}

fn done(answer: isize) -> io::Result<usize> {
    usize::try_from(answer).map_err(|_| io::Error::last_os_error())
}

#[cfg(test)]
mod tests;
