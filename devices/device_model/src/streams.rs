//! Byte streams between this process and the guest, by port: the two ends
//! through which a vsock device and its owner in the same process meet.
//!
//! Each stream is one end of a Unix socket pair, so that its owner can block,
//! poll and time out on it as on any socket, and the device needs no second
//! kind of peer besides the Unix sockets of other programs.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, mpsc};

use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Streams that may wait in an [`Incoming`] to be received. Each holds a file
/// descriptor and the guest makes them, so that there is a limit: beyond it
/// the guest's connections are refused.
const ACCEPT_BACKLOG: usize = 64;

/// Makes the two ends of a stream port: one for the owner, one for the device.
pub fn stream_port() -> io::Result<(StreamHost, StreamBackend)> {
    let shared = Arc::new(Shared {
        wake: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
        asks: Mutex::new(Some(VecDeque::new())),
    });
    Ok((StreamHost(Arc::clone(&shared)), StreamBackend(shared)))
}

struct Shared {
    wake: EventFd,
    /// `None` once the device is gone.
    asks: Mutex<Option<VecDeque<Ask>>>,
}

/// What the owner asks of the device.
pub enum Ask {
    /// Connect `stream` to the guest's listener at `port`. When there is none,
    /// the device closes `stream`.
    Connect {
        /// vsock port in the guest.
        port: u32,
        /// The device's end of the pair, blocking until the device changes it.
        stream: UnixStream,
    },
    /// Send the device's streams for guest connections to host `port` here.
    /// A dropped receiver ends it: later connections are refused.
    Listen {
        /// vsock port on the host (CID 2).
        port: u32,
        /// Takes the owner's end of each accepted stream. Never block on it:
        /// when it is full, refuse the connection.
        accepted: mpsc::SyncSender<UnixStream>,
    },
}

/// The owner's end.
#[derive(Clone)]
pub struct StreamHost(Arc<Shared>);

impl StreamHost {
    /// Opens a stream to the guest's listener at `port` and returns at once;
    /// what is written waits for the connection. When the guest refuses, the
    /// stream ends: reads return 0 and writes fail with `EPIPE`. An error of
    /// kind `NotConnected` says that there is no device any more.
    pub fn connect(&self, port: u32) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        self.ask(Ask::Connect {
            port,
            stream: theirs,
        })?;
        Ok(ours)
    }

    /// Accepts the guest's connections to host `port` from now on. Fails as
    /// [`StreamHost::connect`] does.
    pub fn listen(&self, port: u32) -> io::Result<Incoming> {
        let (accepted, incoming) = mpsc::sync_channel(ACCEPT_BACKLOG);
        self.ask(Ask::Listen { port, accepted })?;
        Ok(Incoming(incoming))
    }

    fn ask(&self, ask: Ask) -> io::Result<()> {
        self.0
            .asks
            .lock()
            .expect("no holder of this lock panics")
            .as_mut()
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the device is gone"))?
            .push_back(ask);
        self.0.wake.write(1)
    }
}

/// Streams that the guest opened to one host port, in the order of arrival.
/// Ends (`RecvError`) when the device is gone.
pub struct Incoming(mpsc::Receiver<UnixStream>);

impl std::ops::Deref for Incoming {
    type Target = mpsc::Receiver<UnixStream>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// The device's end, given to it as a live object with its options.
pub struct StreamBackend(Arc<Shared>);

impl StreamBackend {
    /// Readable whenever [`StreamBackend::next`] may have something.
    pub fn wake(&self) -> &EventFd {
        &self.0.wake
    }

    /// The oldest ask not yet taken. Read [`StreamBackend::wake`] before the
    /// first call of a turn, then call until `None`.
    pub fn next(&self) -> Option<Ask> {
        self.0
            .asks
            .lock()
            .expect("no holder of this lock panics")
            .as_mut()?
            .pop_front()
    }
}

impl Drop for StreamBackend {
    /// Ends what was asked and not taken, so that no owner waits for it.
    fn drop(&mut self) {
        let asks = self
            .0
            .asks
            .lock()
            .expect("no holder of this lock panics")
            .take();
        drop(asks);
    }
}
