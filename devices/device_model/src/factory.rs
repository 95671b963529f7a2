//! How a device comes into being: by driver name, from options that only the
//! driver understands.

use std::any::Any;
use std::sync::Arc;

use crate::{BusDevice, IrqLine, Subscriber, Threads, VirtioDevice};

/// A device as the machine's owner asks for it.
pub struct DeviceSpec {
    /// Chosen by the owner, unique in the machine: `root`, `vsock0`.
    pub id: String,
    /// The driver's name: `virtio-blk`. Found among the registered factories.
    pub driver: String,
    /// The driver's options, unread by anyone else. The driver refuses unknown
    /// keys and names the ones it knows.
    pub options: serde_json::Value,
    /// A live object that options as text cannot carry: a stream port, an
    /// output. The driver says in its documentation which type it takes.
    pub attachment: Option<Box<dyn Any + Send>>,
}

/// What a factory may use while it makes a device.
pub struct DeviceEnv {
    /// Number of vCPUs, for drivers that scale their queues with it.
    pub vcpus: u8,
    /// Interrupt of a device at a fixed place ([`NewDevice::Serial`]), which the
    /// machine reserved for it.
    pub line: Arc<dyn IrqLine>,
    /// For threads that have to start with the device: those of an
    /// [`Activation`](crate::Activation) inherit the confinement of a vCPU, so
    /// that they can never open a file.
    pub threads: Threads,
}

/// Makes devices of one driver. The machine's registry is a list of these.
pub trait DeviceFactory: Sync {
    /// The name by which configurations ask for it.
    fn driver(&self) -> &'static str;

    /// Makes a device. Errors name the option at fault; the caller adds the id.
    fn create(&self, spec: DeviceSpec, env: &DeviceEnv) -> anyhow::Result<NewDevice>;
}

/// A device and the family of bus it goes on.
pub enum NewDevice {
    /// Presented through a virtio transport.
    Virtio(Box<dyn VirtioDevice>),
    /// At the PC's fixed ports for the first serial port: 0x3f8 to 0x3ff, IRQ 4.
    Serial(Box<dyn BusDevice>),
    /// On no bus: nothing that the guest sees, but something for the event loop
    /// to drive as long as the machine runs.
    OffBus(Subscriber),
}
