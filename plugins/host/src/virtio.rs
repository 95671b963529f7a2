//! A plugin's virtio device as `device_model` has them.

// UNSAFETY: calls functions of the plugin.
#![expect(unsafe_code, reason = "calls into plugins")]

use std::sync::Arc;

use device_model::{ActivateError, Activation, Registration, VirtioDevice};
use plugin_abi as abi;

use crate::active::Active;
use crate::device::subscriber;
use crate::failure::{DeviceFailure, FailureKind};
use crate::instance::{Instance, On, garbage, lock, required};

/// Feature bits of device types: the others are the transport's.
const DEVICE_FEATURES: u64 = 0x00ff_ffff | !((1 << 50) - 1);

pub(crate) struct PluginVirtio {
    instance: Arc<Instance>,
    table: abi::VirtioDevice,
    queue_sizes: Vec<u16>,
    registration: Option<Registration>,
}

impl PluginVirtio {
    /// `None` for a device that is none; an error for one that is no sound one.
    pub(crate) fn new(instance: &Arc<Instance>) -> Option<Result<Self, DeviceFailure>> {
        let table = instance.virtio?;
        let made = sound(&table).map(|queue_sizes| PluginVirtio {
            instance: Arc::clone(instance),
            table,
            queue_sizes,
            registration: None,
        });
        Some(made.map_err(|kind| instance.fail(abi::EXT_VIRTIO_DEVICE, kind)))
    }

    /// Calls a function that has no answer; a failure is logged where it happens.
    fn tell(&self, callback: &'static str, body: impl FnOnce(*mut abi::Device)) {
        let _ = self.instance.call_or_fail(callback, On::Machine, |device| {
            body(device);
            0
        });
    }
}

/// The sizes of its queues, if the device is as the header says.
fn sound(table: &abi::VirtioDevice) -> Result<Vec<u16>, FailureKind> {
    required(table.activate.is_some(), "activate")?;
    required(table.queue_ready.is_some(), "queue_ready")?;
    required(table.deactivate.is_some(), "deactivate")?;
    if table.features & !DEVICE_FEATURES != 0 {
        let found = format_args!("features {:#x}", table.features);
        return Err(garbage(found, "bits 0 to 23 and 50 to 63"));
    }
    let count = table.queue_count;
    if count > abi::VIRTIO_QUEUES || (count > 0 && table.queue_sizes.is_null()) {
        let found = format_args!("{count} queues at {:?}", table.queue_sizes);
        return Err(garbage(found, "at most 64 queues, with their sizes"));
    }
    if count == 0 {
        return Ok(Vec::new());
    }
    // SAFETY: not null, and the plugin vouches for as many as it says.
    let sizes = unsafe { std::slice::from_raw_parts(table.queue_sizes, count) };
    let bad = |size: &&u16| !size.is_power_of_two() || **size > abi::VIRTIO_QUEUE_SIZE;
    if let Some(size) = sizes.iter().find(bad) {
        let found = format_args!("a queue of {size}");
        return Err(garbage(found, "powers of two up to 1024"));
    }
    Ok(sizes.to_vec())
}

impl VirtioDevice for PluginVirtio {
    fn device_type(&self) -> u32 {
        self.table.device_type
    }

    fn queue_max_sizes(&self) -> &[u16] {
        &self.queue_sizes
    }

    fn features(&self) -> u64 {
        self.table.features
    }

    fn ack_features(&mut self, acked: u64) {
        if let Some(ack) = self.table.ack_features {
            let acked = acked & DEVICE_FEATURES;
            // SAFETY: `call` gives a device that is not destroyed, alone.
            self.tell("ack_features", |device| unsafe { ack(device, acked) });
        }
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let Some(read) = self.table.read_config {
            self.tell("read_config", |device| {
                // SAFETY: as above; `data` is as long as said.
                unsafe { read(device, offset, data.as_mut_ptr().cast(), data.len()) }
            });
        }
    }

    fn write_config(&mut self, offset: u64, data: &[u8]) {
        if let Some(write) = self.table.write_config {
            self.tell("write_config", |device| {
                // SAFETY: as above.
                unsafe { write(device, offset, data.as_ptr().cast(), data.len()) }
            });
        }
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        let events = activation.events.clone();
        let state = Arc::clone(self.instance.state());
        let (active, kicks) = Active::new(activation, &state.id, &state.breaks);
        // Its regions are mapped for as long as the device has pointers into them.
        let _ = state.memory.set(active.memory.clone());
        *lock(&state.active) = Some(active);
        let activated = self.instance.ask("activate", On::Machine, |device| {
            // There by `sound`.
            let activate = self.table.activate.expect("checked when it was made");
            // SAFETY: as above.
            unsafe { activate(device) }
        });
        if let Err(failure) = activated {
            *lock(&state.active) = None;
            return Err(ActivateError::new("start the plugin's device", failure));
        }
        let served = kicks.into_iter().try_for_each(|(queue, kick)| {
            // The driver may have kicked before anybody was there to hear it.
            kick.write(1)?;
            state
                .waits
                .add_kick(kick, queue)
                .map_err(std::io::Error::from)
        });
        if let Err(error) = served {
            self.deactivate();
            return Err(ActivateError::new("wait for the driver's kicks", error));
        }
        // Not while a lock of the device is held: the loop may be waiting for one.
        let registration = events
            .add(subscriber(&self.instance))
            .inspect_err(|_| self.deactivate())?;
        self.registration = Some(registration);
        Ok(())
    }

    fn deactivate(&mut self) {
        self.registration = None;
        let state = self.instance.state();
        state.waits.remove_kicks();
        if lock(&state.active).is_none() {
            return;
        }
        if let Some(deactivate) = self.table.deactivate {
            // SAFETY: as above.
            self.tell("deactivate", |device| unsafe { deactivate(device) });
        }
        *lock(&state.active) = None;
    }
}

impl Drop for PluginVirtio {
    fn drop(&mut self) {
        self.deactivate();
    }
}
