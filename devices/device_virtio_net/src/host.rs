//! What is behind the card, and outlives activations, of which at most one has it
//! at a time.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use device_model::net::NetBackend;

use crate::limit::Bucket;

/// The backend with what goes on over resets.
pub(crate) struct Host {
    pub(crate) backend: Box<dyn NetBackend>,
    /// What may pass to and from the backend; `None`: anything.
    pub(crate) receive_limit: Option<Bucket>,
    pub(crate) send_limit: Option<Bucket>,
    /// Where frames end that are longer than the guest memory laid out for them: as
    /// long as the longest one.
    pub(crate) spill: Vec<u8>,
    /// How often an activation came to a bad end.
    ends: u64,
}

impl Host {
    pub(crate) fn new(backend: Box<dyn NetBackend>, spill: usize) -> Self {
        Host {
            backend,
            receive_limit: None,
            send_limit: None,
            spill: vec![0; spill],
            ends: 0,
        }
    }

    /// Logs why an activation ended, the first, second, fourth, eighth time and so
    /// on: the driver can do it as often as it likes.
    pub(crate) fn complain(&mut self, id: &str, error: &dyn std::error::Error) {
        self.ends = self.ends.saturating_add(1);
        if self.ends.is_power_of_two() {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                // A string takes everything.
                let _ = write!(text, ": {error}");
                cause = error.source();
            }
            log::error!("net {id:?}: {text} (time {})", self.ends);
        }
    }
}

/// Where the host's side waits while no activation has it.
///
/// The lock is held only to put in or to take out, never across a call into the
/// event loop, on whose thread [`Lease`]s end.
pub(crate) type HostSlot = Arc<Mutex<Option<Host>>>;

/// The host's side, taken for one activation. When dropped, the backend is stopped
/// and goes back.
pub(crate) struct Lease {
    host: Option<Host>,
    slot: HostSlot,
}

impl Lease {
    /// `None` when another activation has it, which the transport rules out.
    pub(crate) fn take(slot: &HostSlot) -> Option<Self> {
        let host = slot.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(Lease {
            host: Some(host),
            slot: Arc::clone(slot),
        })
    }

    pub(crate) fn host(&mut self) -> &mut Host {
        self.host.as_mut().expect("it is there until the drop")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(mut host) = self.host.take() {
            host.backend.stop();
            *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(host);
        }
    }
}
