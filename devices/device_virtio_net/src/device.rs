//! The device towards its transport: features, configuration space, activation,
//! reset. Serves nothing itself. VIRTIO 1.2 sections 5.1.2 to 5.1.5.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use device_model::net::{MAX_QUEUE_PAIRS, NetBackend, NetCounters};
use device_model::{
    ActivateError, Activation, ActiveQueue, GuestMemory, Interrupt, Registration, Subscriber,
    VirtioDevice,
};
use virtio_bindings::bindings::virtio_net::VIRTIO_NET_S_LINK_UP;

use crate::card::{Card, Clock};
use crate::control::Control;
use crate::features::{self, Negotiated};
use crate::frontend::{Frontend, Guest, Pair, Setup};
use crate::host::{Host, HostSlot, Lease};
use crate::limit::Bucket;
use crate::queue::DeviceQueue;

/// VIRTIO 1.2 section 5.
const NETWORK_CARD: u32 = 1;

/// Descriptors of a receive or transmit queue: receive buffers of 1536 bytes, as
/// Linux has them, for six frames of 64 KiB.
pub(crate) const QUEUE_SIZE: u16 = 256;
/// Descriptors of the control queue: drivers use a few at a time.
const CONTROL_QUEUE_SIZE: u16 = 16;

/// What a card's owner can choose.
#[derive(Default)]
pub struct Settings {
    /// The card's address, which is not one of a group.
    pub mac: [u8; 6],
    /// The longest packet without its Ethernet header, which the driver is told.
    pub mtu: Option<u16>,
    /// Most queue pairs, whatever the backend has; at least 1 is used.
    pub queue_pairs: u16,
    /// Most that the guest receives.
    pub receive_rate: Option<Rate>,
    /// Most that the guest sends.
    pub send_rate: Option<Rate>,
    /// Where frames are counted.
    pub counters: Arc<NetCounters>,
}

/// How much may pass in one direction.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Bytes a second, on the average.
    pub bytes: NonZeroU64,
    /// Bytes at once.
    pub burst: NonZeroU64,
}

/// A network card.
pub struct NetDevice {
    card: Arc<Card>,
    queue_sizes: Vec<u16>,
    agreed: Negotiated,
    host: HostSlot,
    clock: Clock,
    registration: Option<Registration>,
}

impl NetDevice {
    /// A card in front of `backend`; `id` is for logs.
    pub fn new(id: impl Into<String>, backend: Box<dyn NetBackend>, settings: Settings) -> Self {
        NetDevice::with_clock(id.into(), backend, settings, Arc::new(Instant::now))
    }

    pub(crate) fn with_clock(
        id: String,
        backend: Box<dyn NetBackend>,
        settings: Settings,
        clock: Clock,
    ) -> Self {
        let info = backend.info().clone();
        let most = settings.queue_pairs.clamp(1, MAX_QUEUE_PAIRS);
        let pairs = info.queue_pairs.clamp(1, most);
        let mut queue_sizes = vec![QUEUE_SIZE; 2 * usize::from(pairs)];
        if pairs > 1 {
            queue_sizes.push(CONTROL_QUEUE_SIZE);
        }
        let now = clock();
        let bucket = |rate: Rate| Bucket::new(rate.bytes, rate.burst, now);
        let card = Card {
            id,
            mac: settings.mac,
            mtu: settings.mtu,
            pairs,
            link_up: AtomicBool::new(info.link_up),
            counters: settings.counters,
            info,
        };
        let mut host = Host::new(backend, card.longest_frame());
        host.receive_limit = settings.receive_rate.map(bucket);
        host.send_limit = settings.send_rate.map(bucket);
        NetDevice {
            card: Arc::new(card),
            queue_sizes,
            agreed: Negotiated::default(),
            host: Arc::new(Mutex::new(Some(host))),
            clock,
            registration: None,
        }
    }

    /// What serves the queues of an activation, for an event loop: all of
    /// [`VirtioDevice::activate`] but joining it. There can be one at a time.
    pub fn subscriber(
        &self,
        memory: GuestMemory,
        queues: Vec<Option<ActiveQueue>>,
        interrupt: Arc<dyn Interrupt>,
    ) -> Result<Subscriber, ActivateError> {
        let agreed = self.agreed;
        let mut queues: Vec<_> = (0..)
            .zip(queues)
            .map(|(index, active)| Some(DeviceQueue::new(index, active?)))
            .collect();
        let mut take = |index: u16| queues.get_mut(usize::from(index)).and_then(Option::take);
        let offered = if agreed.multiqueue {
            self.card.pairs
        } else {
            1
        };
        let control = if agreed.control {
            take(2 * offered).map(Control::new)
        } else {
            None
        };
        let mut pairs = Vec::new();
        for pair in 0..offered {
            match (take(2 * pair), take(2 * pair + 1)) {
                (Some(receive), Some(transmit)) => pairs.push(Pair::new(receive, transmit)),
                // A driver may set up fewer than there are, but not none.
                (receive, _) if pairs.is_empty() => {
                    let index = usize::from(receive.is_some());
                    return Err(ActivateError::missing_queue(index));
                }
                _ => break,
            }
        }
        let lease = Lease::take(&self.host)
            .ok_or_else(|| ActivateError::new("take the backend", "the card is active"))?;
        let setup = Setup {
            guest: Guest {
                card: Arc::clone(&self.card),
                agreed,
                memory,
                interrupt,
            },
            pairs,
            control,
            clock: Arc::clone(&self.clock),
        };
        let frontend = Frontend::start(setup, lease)
            .map_err(|source| ActivateError::new("start the network backend", source))?;
        Ok(Box::new(frontend))
    }

    /// Configuration space: MAC, status, most queue pairs, MTU.
    fn config(&self) -> [u8; 12] {
        let card = &self.card;
        let status = if card.link_up.load(Ordering::Acquire) {
            VIRTIO_NET_S_LINK_UP as u16
        } else {
            0
        };
        let mut config = [0; 12];
        config[..6].copy_from_slice(&card.mac);
        config[6..8].copy_from_slice(&status.to_le_bytes());
        config[8..10].copy_from_slice(&card.pairs.to_le_bytes());
        config[10..].copy_from_slice(&card.mtu.unwrap_or(0).to_le_bytes());
        config
    }
}

impl VirtioDevice for NetDevice {
    fn device_type(&self) -> u32 {
        NETWORK_CARD
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn features(&self) -> u64 {
        features::offered(&self.card.info, self.card.mtu, self.card.pairs)
    }

    fn ack_features(&mut self, acked: u64) {
        self.agreed = features::negotiated(acked);
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        device_model::read_config(&self.config(), offset, data);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let subscriber =
            self.subscriber(activation.memory, activation.queues, activation.interrupt)?;
        self.registration = Some(activation.events.add(subscriber)?);
        Ok(())
    }

    fn deactivate(&mut self) {
        self.registration = None;
    }
}

impl Drop for NetDevice {
    fn drop(&mut self) {
        self.deactivate();
        log::debug!("net {:?}: {:?}", self.card.id, self.card.counters);
    }
}
