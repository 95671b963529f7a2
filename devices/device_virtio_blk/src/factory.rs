//! A disk from the options of a configuration.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, bail, ensure};
use device_model::{DeviceEnv, DeviceFactory, DeviceSpec, NewDevice, read_options};
use serde::Deserialize;

use crate::backend::BlockBackend;
use crate::device::BlockDevice;
use crate::disk::{Disk, SECTOR, SERIAL_LENGTH};
use crate::file::{FileBackend, OpenError};
use crate::qcow2::Qcow2Backend;

/// Makes disks: driver `virtio-blk`. As attachment it takes a `std::fs::File`,
/// which then is the disk, so that what its owner has checked is what the guest
/// gets. Its options:
///
/// | option | | |
/// | --- | --- | --- |
/// | `path` | needed | a regular file or block device; with an attachment only for errors |
/// | `format` | default `raw` | `raw`: its bytes are the disk's; `qcow2`: an image that grows with use, a regular file, without `size`, `direct` and `io_uring` |
/// | `read_only` | default `true` | opened for reading only, and the guest is told so |
/// | `serial` | default the device's id | at most 20 bytes of ASCII; the guest finds it in `/sys/block/vd?/serial` |
/// | `size` | default all | bytes from the start that are the disk |
/// | `direct` | default for what is writable, where possible | past the host's page cache; of a read-only image the cache is shared by all that use it |
/// | `engine` | default `auto` | `io_uring`: many requests at the same time; `threads`: one at a time for each queue; `auto`: `io_uring` for what is raw and writable, where the host permits it, else `threads` |
///
/// Of the size, whole sectors of 512 bytes count.
pub struct Factory;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    path: PathBuf,
    #[serde(default)]
    format: Format,
    #[serde(default = "yes")]
    read_only: bool,
    serial: Option<String>,
    size: Option<u64>,
    direct: Option<bool>,
    #[serde(default)]
    engine: Engine,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Format {
    #[default]
    Raw,
    Qcow2,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Engine {
    #[default]
    Auto,
    Threads,
    IoUring,
}

fn yes() -> bool {
    true
}

impl DeviceFactory for Factory {
    fn driver(&self) -> &'static str {
        "virtio-blk"
    }

    fn create(&self, spec: DeviceSpec, env: &DeviceEnv) -> anyhow::Result<NewDevice> {
        let options: Options = read_options(spec.options)?;
        let serial = match &options.serial {
            Some(serial) => self::serial(serial)?,
            None => default_serial(&spec.id),
        };
        let file = match spec.attachment {
            None => None,
            Some(attachment) => match attachment.downcast::<File>() {
                Ok(file) => Some(*file),
                Err(_) => bail!("its attachment is not a file"),
            },
        };
        let (backend, cache): (Box<dyn BlockBackend>, _) = match options.format {
            Format::Raw => raw(&options, file)?,
            Format::Qcow2 => (Box::new(qcow2(&options, file)?), "through"),
        };
        let disk = Disk::new(backend, serial);
        ensure!(
            disk.sectors() > 0,
            "{} is smaller than a sector of {SECTOR} bytes",
            options.path.display()
        );
        let mut device = BlockDevice::new(spec.id.as_str(), disk, env.vcpus);
        let engine = choose_engine(&mut device, &options, &spec.id)?;
        log::info!(
            "disk {:?}: engine {engine}, {cache} the page cache",
            spec.id
        );
        Ok(NewDevice::Virtio(Box::new(device)))
    }
}

/// A raw disk, and how it goes about the page cache: `past` or `through`.
fn raw(
    options: &Options,
    file: Option<File>,
) -> anyhow::Result<(Box<dyn BlockBackend>, &'static str)> {
    let (path, read_only, size) = (&options.path, options.read_only, options.size);
    let mut backend = match file {
        None => FileBackend::open(path, read_only, size)?,
        Some(file) => FileBackend::from_file(file, path, read_only, size)?,
    };
    match options.direct {
        Some(false) => {}
        Some(true) => backend.use_direct(path)?,
        None if read_only => {}
        None => match backend.use_direct(path) {
            Ok(()) | Err(OpenError::NotDirect { .. }) => {}
            Err(error) => return Err(error.into()),
        },
    }
    let cache = if backend.is_direct() {
        "past"
    } else {
        "through"
    };
    Ok((Box::new(backend), cache))
}

fn qcow2(options: &Options, file: Option<File>) -> anyhow::Result<Qcow2Backend> {
    ensure!(
        options.size.is_none(),
        "leave `size` out: a qcow2 image has its own"
    );
    ensure!(
        options.direct != Some(true),
        "leave `direct` out: a qcow2 image is used through the page cache"
    );
    ensure!(
        options.engine != Engine::IoUring,
        "a qcow2 image has the engine threads, not io_uring"
    );
    Ok(match file {
        None => Qcow2Backend::open(&options.path, options.read_only)?,
        Some(file) => Qcow2Backend::from_file(file, &options.path, options.read_only)?,
    })
}

/// Prepares the engine for the device and says its name.
fn choose_engine(
    device: &mut BlockDevice,
    options: &Options,
    id: &str,
) -> anyhow::Result<&'static str> {
    match options.engine {
        Engine::Threads => Ok("threads"),
        Engine::Auto if options.read_only || options.format == Format::Qcow2 => Ok("threads"),
        Engine::IoUring => {
            device.use_rings().context("engine io_uring")?;
            Ok("io_uring")
        }
        Engine::Auto => match device.use_rings() {
            Ok(()) => Ok("io_uring"),
            Err(error) => {
                log::info!("disk {id:?}: {:#}", anyhow::Error::from(error));
                Ok("threads")
            }
        },
    }
}

fn serial(text: &str) -> anyhow::Result<[u8; SERIAL_LENGTH]> {
    ensure!(
        text.len() <= SERIAL_LENGTH && text.bytes().all(|byte| byte.is_ascii_graphic()),
        "serial {text:?} is not at most {SERIAL_LENGTH} visible ASCII characters"
    );
    Ok(default_serial(text))
}

/// As much of `text` as there is room for, padded with zeros.
fn default_serial(text: &str) -> [u8; SERIAL_LENGTH] {
    let mut serial = [0; SERIAL_LENGTH];
    for (to, from) in serial.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    serial
}
