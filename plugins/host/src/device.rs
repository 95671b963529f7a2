//! A device of a plugin, from its configuration to what becomes of it.

use std::sync::Arc;

use device_model::net::NetBackend;
use device_model::{NewDevice, Subscriber};
use event_manager::{EventOps, Events, MutEventSubscriber};
use serde_json::Value;

use crate::failure::{DeviceFailure, FailureKind};
use crate::guest::{GuestAdditions, GuestFacts};
use crate::instance::{CallStats, Instance, Making, lock};
use crate::load::{Driver, Plugin};
use crate::net::PluginNet;
use crate::schema::ConfigError;
use crate::virtio::PluginVirtio;

/// Why a device was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// The configuration does not fit the driver's schema.
    #[error("device {id:?}: the configuration of driver {driver:?}")]
    Config {
        /// The device's id.
        id: String,
        /// The driver.
        driver: String,
        /// What does not fit.
        source: ConfigError,
    },
    /// The plugin refused or broke the ABI.
    #[error(transparent)]
    Failed(#[from] DeviceFailure),
}

/// A device that exists. Dropped, with what was made of it, it is destroyed.
#[derive(Clone)]
pub struct PluginDevice(Arc<Instance>);

impl PluginDevice {
    /// Checks `config`, and has `driver` of `plugin` make a device of it.
    pub fn create(
        plugin: &Plugin,
        driver: &Driver,
        id: &str,
        config: &Value,
        facts: GuestFacts,
    ) -> Result<Self, CreateError> {
        let unfit = |source| CreateError::Config {
            id: id.to_owned(),
            driver: driver.name.clone(),
            source,
        };
        if !config.is_object() {
            let found = config.to_string();
            let (path, expected) = (String::new(), "object".into());
            return Err(unfit(ConfigError {
                path,
                expected,
                found,
            }));
        }
        if let Some(schema) = &driver.schema {
            schema.check(config).map_err(unfit)?;
        }
        let instance = Instance::make(Making {
            plugin: &plugin.name,
            id,
            config: &config.to_string(),
            facts,
            create: driver.create,
        })?;
        Ok(PluginDevice(Arc::new(instance)))
    }

    /// The device's id.
    pub fn id(&self) -> &str {
        &self.0.state().id
    }

    /// Every device is made and nothing runs. What the device wants of the guest.
    pub fn before_boot(&self) -> Result<GuestAdditions, DeviceFailure> {
        self.0.before_boot()?;
        Ok(lock(&self.0.state().additions).clone())
    }

    /// The guest's agent answers. An error ends the VM.
    pub fn agent_ready(&self) -> Result<(), DeviceFailure> {
        self.0.agent_ready()
    }

    /// The VM joins the network that the JSON object `network` describes. An error
    /// refuses that and nothing else, unless the device has failed.
    pub fn join_network(&self, network: &Value) -> Result<(), DeviceFailure> {
        self.0.join_network(&network.to_string())
    }

    /// The VM is about to stop.
    pub fn before_stop(&self) {
        self.0.before_stop();
    }

    /// Why the device is not called any more, if so.
    pub fn failure(&self) -> Option<&DeviceFailure> {
        self.0.failure()
    }

    /// A function of the host that it called where that is not allowed, the first
    /// one. In debug builds that is a failure as well.
    pub fn misuse(&self) -> Option<&FailureKind> {
        self.0.misuse()
    }

    /// How long its callbacks took.
    pub fn stats(&self) -> CallStats {
        self.0.stats()
    }

    /// Whether it is something that a network card's frontend needs.
    pub fn is_net_backend(&self) -> bool {
        self.0.net.is_some()
    }

    /// The device as a network backend, if it is one. To be called once.
    pub fn net_backend(&self) -> Option<Result<Box<dyn NetBackend>, DeviceFailure>> {
        let net = PluginNet::new(&self.0)?;
        Some(net.map(|net| Box::new(net) as Box<dyn NetBackend>))
    }

    /// The device as the machine takes it: a virtio device, or one that the guest
    /// does not see. To be called once, and not for a network backend.
    pub fn into_new_device(self) -> Result<NewDevice, DeviceFailure> {
        if let Some(device) = PluginVirtio::new(&self.0) {
            return Ok(NewDevice::Virtio(Box::new(device?)));
        }
        Ok(NewDevice::OffBus(subscriber(&self.0)))
    }
}

/// What serves the device on an event loop.
pub(crate) fn subscriber(instance: &Arc<Instance>) -> Subscriber {
    Box::new(OnLoop(Arc::clone(instance)))
}

struct OnLoop(Arc<Instance>);

impl MutEventSubscriber for OnLoop {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if self.0.process().is_err() {
            // The reason is logged. Left there it would wake the loop for ever.
            let _ = ops.remove(Events::new_raw(events.fd(), events.event_set()));
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        use std::os::fd::AsRawFd;
        let waits = self.0.state().waits.descriptor().as_raw_fd();
        let events = Events::new_raw(waits, vmm_sys_util::epoll::EventSet::IN);
        if let Err(error) = ops.add(events) {
            log::error!(
                "device {:?} cannot join the event loop: {error}",
                self.0.state().id
            );
        }
    }
}
