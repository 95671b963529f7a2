//! A file system device from the options of a configuration.

use std::sync::Arc;

use anyhow::{Context, bail};
use device_model::{DeviceEnv, DeviceFactory, DeviceSpec, NewDevice};
use serde::Deserialize;

use crate::cache::Cache;
use crate::device::{FileSystemDevice, Tag};
use crate::fs::FileSystem;
use crate::server::ServerOptions;

/// Makes file system devices: driver `virtio-fs`. Its attachment, an
/// `Arc<dyn FileSystem>`, is what the guest gets. Its options:
///
/// | option | | |
/// | --- | --- | --- |
/// | `tag` | needed | the name by which the guest mounts it: 1 to 36 bytes |
/// | `cache` | default `coherent` | what the guest may keep: [`Cache`] |
/// | `read_only` | default `false` | the device refuses every change |
pub struct Factory;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    tag: String,
    cache: Option<String>,
    #[serde(default)]
    read_only: bool,
}

impl DeviceFactory for Factory {
    fn driver(&self) -> &'static str {
        "virtio-fs"
    }

    fn create(&self, spec: DeviceSpec, env: &DeviceEnv) -> anyhow::Result<NewDevice> {
        let options: Options = serde_json::from_value(spec.options).context("options")?;
        let tag = Tag::new(options.tag)?;
        let cache = match options.cache {
            Some(text) => text.parse()?,
            None => Cache::default(),
        };
        let Some(attachment) = spec.attachment else {
            bail!("it has no attachment: the file system to share");
        };
        let Ok(fs) = attachment.downcast::<Arc<dyn FileSystem>>() else {
            bail!("its attachment is not a file system");
        };
        let device = FileSystemDevice::new(
            &spec.id,
            &tag,
            *fs,
            ServerOptions {
                tag: tag.to_string(),
                cache,
                read_only: options.read_only,
            },
            env.vcpus,
            &env.threads,
        )
        .context("start its threads")?;
        Ok(NewDevice::Virtio(Box::new(device)))
    }
}
