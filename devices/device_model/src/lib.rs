//! What a device is, to the machine that carries it and to the transport
//! that presents it: traits and small types only, no device and no KVM.
//!
//! A device author needs three of these: a [`DeviceFactory`] that makes the
//! device from its options, the [`VirtioDevice`] (or [`BusDevice`]) itself, and
//! an event subscriber or a thread that serves the queues once the driver has
//! said DRIVER_OK. Everything the device may touch arrives in [`DeviceEnv`] and
//! [`Activation`]; nothing else of the VMM is reachable.
#![forbid(unsafe_code)]

mod bus;
mod events;
mod factory;
mod memory;
mod streams;
mod threads;
mod virtio;

pub use bus::BusDevice;
pub use events::{EventHandle, Registration, Subscriber};
pub use factory::{DeviceEnv, DeviceFactory, DeviceSpec, NewDevice};
pub use memory::{GuestMemory, Keeper};
pub use streams::{Ask, Incoming, StreamBackend, StreamHost, stream_port};
pub use threads::{ThreadKind, Threads};
pub use virtio::{
    ActivateError, Activation, ActiveQueue, Interrupt, VIRTIO_F_RING_EVENT_IDX, VIRTIO_F_VERSION_1,
    VirtioDevice,
};
