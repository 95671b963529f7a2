//! One way for frames: a datagram socket or a stream, by one descriptor.

use std::io;
use std::os::fd::BorrowedFd;

use plugin_sdk::Pieces;

use crate::frames::BadLength;

/// Bytes of an Ethernet header: nothing shorter is a frame.
pub const ETHERNET: usize = 14;
/// Bytes of a VLAN's tag, which come on top of a packet's.
const VLAN_TAG: usize = 4;

/// Bytes that a socket holds of each direction, as exe-unit's do; the kernel allows
/// what `net.core.wmem_max` and `rmem_max` say.
pub const SOCKET_BUFFER: usize = 2 << 20;

/// The longest frame of a packet of `mtu` bytes.
pub fn longest_frame(mtu: u16) -> usize {
    usize::from(mtu) + ETHERNET + VLAN_TAG
}

/// A way for frames. Never waits.
pub trait Link: Send {
    /// What is waited for.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Sends one frame, or takes it to go with [`Link::send_rest`], or drops it.
    fn send(&mut self, frame: Pieces<'_>) -> Result<(), Stop>;

    /// Receives one frame into `room`, which has room for the longest; its length.
    fn receive(&mut self, room: Pieces<'_>) -> Result<usize, Stop>;

    /// What was taken is to be sent still, when the descriptor is writable.
    fn has_rest(&self) -> bool {
        false
    }

    /// Sends of that what goes.
    fn send_rest(&mut self) -> Result<(), Stop> {
        Ok(())
    }

    /// [`Link::receive`] has something, whatever the descriptor says.
    fn has_more(&self) -> bool {
        false
    }

    /// The descriptor has an error, or its end.
    fn trouble(&mut self) -> Stop;
}

/// Why no frame went or came.
#[derive(Debug)]
pub enum Stop {
    /// Not now: when the descriptor is ready.
    WouldBlock,
    /// One of a length that cannot be carried. It is gone.
    FrameSize,
    /// One that the other side did not take, or word of one. The link stays.
    Lost(io::Error),
    /// The link is of no use any more.
    Ended(Ended),
}

/// How a link ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// Its other side did.
    #[error("the other side has closed it")]
    Closed,
    /// A stream that is none of frames.
    #[error(transparent)]
    Framing(#[from] BadLength),
    /// An error of the socket.
    #[error(transparent)]
    Socket(io::Error),
}

impl From<Ended> for Stop {
    fn from(ended: Ended) -> Self {
        Stop::Ended(ended)
    }
}

/// How the socket behind `fd` came to its end.
pub fn end_of(fd: BorrowedFd<'_>) -> Ended {
    match rustix::net::sockopt::socket_error(fd) {
        Ok(Err(error)) | Err(error) => Ended::Socket(error.into()),
        Ok(Ok(())) => Ended::Closed,
    }
}
