//! The host's side of the device: who listens to which port, and the Unix
//! sockets. Outlives activations, of which at most one has it at a time.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};

use device_model::StreamBackend;

use crate::unix::UnixSide;

/// What a guest's connection can reach, and where the host's come from.
#[derive(Default)]
pub struct Host {
    /// Where the owner in this process asks; `None` without one.
    pub backend: Option<StreamBackend>,
    /// Where other programs connect; `None` without a path.
    pub unix: Option<UnixSide>,
    listeners: HashMap<u32, SyncSender<UnixStream>>,
}

impl Host {
    /// A host side without listeners in this process.
    pub fn new(backend: Option<StreamBackend>, unix: Option<UnixSide>) -> Self {
        Host {
            backend,
            unix,
            listeners: HashMap::new(),
        }
    }

    /// Sends connections to `port` to `accepted` from now on.
    pub fn listen(&mut self, port: u32, accepted: SyncSender<UnixStream>) {
        self.listeners.insert(port, accepted);
    }

    /// The device's end of a stream to whoever listens to `port`. `None` when
    /// nobody does, or it does not keep up with accepting.
    pub fn open(&mut self, port: u32) -> Option<UnixStream> {
        let Some(accepted) = self.listeners.get(&port) else {
            return self.unix.as_ref()?.connect(port).ok();
        };
        let (ours, theirs) = UnixStream::pair().ok()?;
        match accepted.try_send(theirs) {
            Ok(()) => Some(ours),
            Err(error) => {
                if matches!(error, std::sync::mpsc::TrySendError::Disconnected(_)) {
                    self.listeners.remove(&port);
                }
                None
            }
        }
    }
}

/// Where the host's side waits while no activation has it.
///
/// The lock is held only to put in or to take out, never across a call into
/// the event loop, on whose thread [`Lease`]s end.
pub type HostSlot = Arc<Mutex<Option<Host>>>;

/// The host's side, taken for one activation; goes back when dropped.
pub struct Lease {
    host: Host,
    slot: HostSlot,
}

impl Lease {
    /// `None` when another activation has it, which the transport rules out.
    pub fn take(slot: &HostSlot) -> Option<Self> {
        let host = slot.lock().expect("no holder of this lock panics").take()?;
        Some(Lease {
            host,
            slot: Arc::clone(slot),
        })
    }
}

impl Deref for Lease {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Host {
        &mut self.host
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let host = std::mem::take(&mut self.host);
        *self.slot.lock().expect("no holder of this lock panics") = Some(host);
    }
}
