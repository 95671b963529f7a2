//! What a device is, to the machine that carries it and to the transport
//! that presents it: traits and small types, no device and no KVM. What more than
//! one device needs of the system is here too: transfers between files and guest
//! memory ([`guest_io`]) and waits that can be ended ([`Interruptible`]); and what is
//! behind a network card ([`net`]), which a plugin may be.
//!
//! A device author needs three of these: a [`DeviceFactory`] that makes the
//! device from its options, the [`VirtioDevice`] (or [`BusDevice`]) itself, and
//! an event subscriber or a thread that serves the queues once the driver has
//! said DRIVER_OK. Everything the device may touch arrives in [`DeviceEnv`] and
//! [`Activation`]; nothing else of the VMM is reachable.

mod bus;
mod events;
mod factory;
pub mod guest_io;
mod interruptible;
mod irq;
mod memory;
pub mod net;
mod options;
mod streams;
mod threads;
mod virtio;

pub use bus::BusDevice;
pub use events::{EventHandle, Registration, Subscriber};
pub use factory::{DeviceEnv, DeviceFactory, DeviceSpec, NewDevice};
pub use interruptible::Interruptible;
pub use irq::IrqLine;
pub use memory::{GuestMemory, Keeper};
pub use options::read_options;
pub use streams::{Ask, Incoming, StreamBackend, StreamHost, stream_port};
pub use threads::{FileAccess, ThreadKind, Threads};
pub use virtio::{
    ActivateError, Activation, ActiveQueue, Interrupt, VIRTIO_F_RING_EVENT_IDX, VIRTIO_F_VERSION_1,
    VirtioDevice, read_config,
};
