//! A file system device from the options of a configuration.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use device_model::{DeviceEnv, DeviceFactory, DeviceSpec, NewDevice, read_options};
use serde::Deserialize;

use crate::cache::Cache;
use crate::device::{FileSystemDevice, Tag};
use crate::fs::FileSystem;
use crate::host::{HostFs, HostFsOptions, Ownership};
use crate::server::ServerOptions;

/// Makes file system devices: driver `virtio-fs`. Its options:
///
/// | option | | |
/// | --- | --- | --- |
/// | `tag` | needed | the name by which the guest mounts it: 1 to 36 bytes |
/// | `path` | needed | the host's folder that the guest gets |
/// | `ownership` | default `mapped` | whose its files are: [`Ownership`] |
/// | `uid`, `gid` | default 0 | owner in the guest of files that have no other |
/// | `max_descriptors` | default half of the process's | most that it has open at a time |
/// | `cache` | default `coherent` | what the guest may keep: [`Cache`] |
/// | `read_only` | default `false` | the device refuses every change |
///
/// With an attachment, an `Arc<dyn FileSystem>`, that is what the guest gets,
/// and the options about the folder mean nothing.
pub struct Factory;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    tag: String,
    path: Option<PathBuf>,
    ownership: Option<String>,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    max_descriptors: Option<usize>,
    cache: Option<String>,
    #[serde(default)]
    read_only: bool,
}

impl DeviceFactory for Factory {
    fn driver(&self) -> &'static str {
        "virtio-fs"
    }

    fn create(&self, spec: DeviceSpec, env: &DeviceEnv) -> anyhow::Result<NewDevice> {
        let options: Options = read_options(spec.options)?;
        let tag = Tag::new(options.tag.as_str())?;
        let cache = match &options.cache {
            Some(text) => text.parse()?,
            None => Cache::default(),
        };
        let fs = match spec.attachment {
            None => Arc::new(open(&options)?),
            Some(attachment) => match attachment.downcast::<Arc<dyn FileSystem>>() {
                Ok(fs) => *fs,
                Err(_) => bail!("its attachment is not a file system"),
            },
        };
        let device = FileSystemDevice::new(
            &spec.id,
            &tag,
            fs,
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

/// The folder of the options, and a word when its files cannot be owned as asked.
fn open(options: &Options) -> anyhow::Result<HostFs> {
    let Some(path) = &options.path else {
        bail!("it has no path: the folder to share");
    };
    let (uid, gid) = (options.uid, options.gid);
    let ownership = match options.ownership.as_deref().map(str::parse).transpose()? {
        Some(Ownership::AsIs) => Ownership::AsIs,
        Some(Ownership::Squash { .. }) => Ownership::Squash { uid, gid },
        Some(Ownership::Mapped { .. }) | None => Ownership::Mapped {
            default: (uid, gid),
        },
    };
    let fs = HostFs::open(
        path,
        &HostFsOptions {
            ownership,
            read_only: options.read_only,
            max_descriptors: options.max_descriptors,
        },
    )?;
    if fs.ownership() != ownership {
        log::warn!(
            "shared folder {}: its file system keeps no extended attributes, so that owners cannot \
             be mapped: all files belong to {uid}:{gid}, and chown fails; use a folder elsewhere, \
             or owner=squash, which means the same",
            path.display()
        );
    }
    Ok(fs)
}
