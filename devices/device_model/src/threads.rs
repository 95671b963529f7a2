//! How a device, or its machine's owner, starts a thread of its own, under the
//! machine's confinement.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, mpsc};
use std::thread::{Builder, JoinHandle};

/// What a thread does, and so which system calls it is allowed.
#[derive(Clone, Debug)]
pub enum ThreadKind {
    /// Runs guest code: `KVM_RUN` and bus dispatch.
    Vcpu,
    /// The event loop, which serves every device that does not block.
    EventLoop,
    /// Reads and writes disk image files for one virtqueue.
    BlockIo,
    /// Serves files of the host to the guest, for one virtqueue of a file
    /// system device.
    FileServer(FileAccess),
    /// Takes connections to ports of the host and passes them on to the guest.
    Forwarder,
}

/// What a thread may do to the host's files by name. By default nothing.
#[derive(Clone, Debug, Default)]
pub struct FileAccess {
    /// It opens, makes and removes what is in this folder, and nothing else.
    pub folder: Option<Arc<OwnedFd>>,
    /// It changes nothing there.
    pub read_only: bool,
    /// It acts as other users, so it keeps root's capabilities over files.
    pub as_users: bool,
}

type EnterFn = dyn Fn(&ThreadKind) -> io::Result<()> + Send + Sync;

/// Starts threads that confine themselves before they do anything else.
#[derive(Clone)]
pub struct Threads(Arc<EnterFn>);

impl Threads {
    /// `enter` is called first thing on each new thread; its error fails the start.
    pub fn new(enter: impl Fn(&ThreadKind) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Threads(Arc::new(enter))
    }

    /// Confines the calling thread as one of `kind`, for whoever wraps these threads.
    pub fn enter(&self, kind: &ThreadKind) -> io::Result<()> {
        (self.0)(kind)
    }

    /// Starts a thread named `name` (at most 15 bytes are kept by Linux) and
    /// returns when it has been confined. The caller owns the handle and joins it.
    pub fn spawn(
        &self,
        name: String,
        kind: ThreadKind,
        body: impl FnOnce() + Send + 'static,
    ) -> io::Result<JoinHandle<()>> {
        let threads = self.clone();
        let (confined, ready) = mpsc::sync_channel(1);
        let handle = Builder::new().name(name).spawn(move || {
            let outcome = threads.enter(&kind);
            let confined_ok = outcome.is_ok();
            // The receiver waits below for exactly this message.
            let _ = confined.send(outcome);
            if confined_ok {
                body();
            }
        })?;
        match ready.recv() {
            Ok(Ok(())) => Ok(handle),
            Ok(Err(error)) => {
                let _ = handle.join();
                Err(error)
            }
            Err(_) => Err(io::Error::other(
                "the thread ended before it could be confined",
            )),
        }
    }
}
