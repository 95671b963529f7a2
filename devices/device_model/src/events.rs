//! A handle to the machine's one event loop, for devices to join and leave it.

use event_manager::{Error, MutEventSubscriber, RemoteEndpoint, SubscriberId};

use crate::ActivateError;

/// What the event loop drives: see `event_manager::MutEventSubscriber`.
///
/// `process` runs on the event loop's thread, which serves every device: do a
/// bounded amount of work, never block.
pub type Subscriber = Box<dyn MutEventSubscriber + Send>;

/// Adds subscribers to the event loop from any other thread.
#[derive(Clone)]
pub struct EventHandle(RemoteEndpoint<Subscriber>);

impl EventHandle {
    /// Wraps the remote end of an event manager.
    pub fn new(endpoint: RemoteEndpoint<Subscriber>) -> Self {
        EventHandle(endpoint)
    }

    /// Hands `subscriber` to the event loop and returns when it has been
    /// initialised there. It stays until the [`Registration`] is dropped.
    ///
    /// Must not be called on the event loop's own thread, which would wait for
    /// itself. Fails when the loop has ended.
    pub fn add(&self, subscriber: Subscriber) -> Result<Registration, ActivateError> {
        let id = self
            .0
            .call_blocking(move |ops| Ok::<_, Error>(ops.add_subscriber(subscriber)))
            .map_err(|source| ActivateError::new("join the event loop", source))?;
        Ok(Registration {
            endpoint: self.0.clone(),
            id,
        })
    }
}

/// A subscriber's place in the event loop. Dropping it takes the subscriber
/// out and drops it; when the drop returns, `process` is not running and will
/// not run again. Must not be dropped on the event loop's own thread.
pub struct Registration {
    endpoint: RemoteEndpoint<Subscriber>,
    id: SubscriberId,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let id = self.id;
        // An error means that the loop has ended and taken its subscribers along.
        let _ = self
            .endpoint
            .call_blocking(move |ops| ops.remove_subscriber(id).map(drop));
    }
}
