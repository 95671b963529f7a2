//! Bytes between a Unix stream and guest memory, in one system call for all
//! pieces, without a copy in between. Never blocks and never raises SIGPIPE.
//!
//! Knows nothing of packets or credit.

// UNSAFETY: the vectored calls take raw pointers, and references to guest
// memory, which the guest changes at will, must not exist.
#![expect(
    unsafe_code,
    reason = "sendmsg and recvmsg on volatile guest memory take raw pointers"
)]

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use vm_memory::VolatileSlice;

/// Sends the first bytes of `pieces` and returns how many.
pub fn send(stream: &UnixStream, pieces: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let mut vectors = io_vectors(pieces);
    let message = message(&mut vectors);
    retry(|| {
        // SAFETY:
        // - the descriptor is open as long as `stream` is borrowed;
        // - `message` points at `vectors`, which lives until after the call;
        // - each vector is a piece of mapped guest memory, valid for its length
        //   as long as `pieces` is borrowed, and the kernel only reads it.
        unsafe {
            libc::sendmsg(
                stream.as_raw_fd(),
                &message,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        }
    })
}

/// Receives into `pieces`, from the first byte on, and returns how many bytes.
/// 0 with room to receive means the end of the stream.
pub fn receive(stream: &UnixStream, pieces: &[VolatileSlice<'_>]) -> io::Result<usize> {
    let mut vectors = io_vectors(pieces);
    let mut message = message(&mut vectors);
    retry(|| {
        // SAFETY:
        // - the descriptor is open as long as `stream` is borrowed;
        // - `message` points at `vectors`, which lives until after the call,
        //   and at no buffer for control messages;
        // - each vector is a piece of mapped guest memory, valid for its length
        //   as long as `pieces` is borrowed; nothing holds a reference to it.
        unsafe { libc::recvmsg(stream.as_raw_fd(), &mut message, libc::MSG_DONTWAIT) }
    })
}

fn io_vectors(pieces: &[VolatileSlice<'_>]) -> Vec<libc::iovec> {
    pieces
        .iter()
        .map(|piece| libc::iovec {
            iov_base: piece.ptr_guard_mut().as_ptr().cast(),
            iov_len: piece.len(),
        })
        .collect()
}

fn message(vectors: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: a message header of zeros is valid: no name, no control, no vectors.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len();
    message
}

fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(count) => return Ok(count),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}
