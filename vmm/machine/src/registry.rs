//! The list of drivers: the only place that names a device.

use device_model::{DeviceEnv, DeviceFactory, DeviceSpec, NewDevice};

/// The driver of the console, which every machine has.
pub const CONSOLE: &str = "serial";

static BUILT_IN: &[&dyn DeviceFactory] = &[
    &device_serial::Factory,
    &device_virtio_blk::Factory,
    &device_virtio_fs::Factory,
    &device_virtio_net::Factory,
    &device_virtio_vsock::Factory,
];

/// Names of the drivers, by which a [`DeviceSpec`] asks for one.
pub fn drivers() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|factory| factory.driver())
}

/// Why a device could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No driver has that name.
    #[error(
        "device {id:?}: there is no driver {driver:?}; the drivers are {}",
        names()
    )]
    UnknownDriver {
        /// The device's id.
        id: String,
        /// The driver asked for.
        driver: String,
    },
    /// The driver refused, and said why.
    #[error("device {id:?}")]
    Create {
        /// The device's id.
        id: String,
        /// The driver's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Makes the device that `spec` asks for.
pub fn create(spec: DeviceSpec, env: &DeviceEnv) -> Result<NewDevice, RegistryError> {
    let id = spec.id.clone();
    let Some(factory) = BUILT_IN
        .iter()
        .find(|factory| factory.driver() == spec.driver)
    else {
        return Err(RegistryError::UnknownDriver {
            id,
            driver: spec.driver,
        });
    };
    factory
        .create(spec, env)
        .map_err(|error| RegistryError::Create {
            id,
            source: error.into(),
        })
}

fn names() -> String {
    drivers().collect::<Vec<_>>().join(", ")
}
