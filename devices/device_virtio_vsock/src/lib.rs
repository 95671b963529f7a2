//! A virtio socket device (VIRTIO 1.2 section 5.10): stream connections between
//! the guest and the host, multiplexed in this process without the host
//! kernel's vsock.
//!
//! Every host end of a connection is a Unix stream, whose peer is
//!
//! - the machine's owner in this process, through a
//!   [`device_model::StreamBackend`] given as the device's attachment, or
//! - another program, through Unix sockets in Firecracker's form below the path
//!   in option `uds`: `CONNECT <port>\n` to reach the guest, `<uds>_<port>` to
//!   be reached by it. A listener of the owner comes before a socket.
//!
//! Files, from the guest to the host: `queue` and `buffers` (guest memory),
//! `packet` (wire format), `muxer` with `from_guest`, `to_guest` and
//! `from_host` (the event loop's subscriber), `table` and `connection` with
//! `credit` and `backlog` (state), `socket`, `unix` and `host` (streams).

mod backlog;
mod buffers;
mod connection;
mod credit;
mod device;
mod from_guest;
mod from_host;
mod host;
mod muxer;
mod packet;
mod queue;
mod socket;
mod table;
mod timer;
mod to_guest;
mod unix;
mod warnings;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::Context;
use device_model::{DeviceEnv, DeviceFactory, DeviceSpec, NewDevice, StreamBackend, read_options};
use serde::Deserialize;

pub use crate::device::Vsock;
pub use crate::unix::UnixError;

/// The lowest context id that a guest may have; those below are reserved.
const MIN_CID: u32 = 3;

/// Makes socket devices: driver name `virtio-vsock`.
///
/// Options: `cid`, the guest's context id, 3 to 4294967294, by default 3; and
/// `uds`, the path of the Unix socket to listen at, by default none. Nothing
/// may exist at that path, and at most 96 bytes are left for it; the socket is
/// removed with the device. Attachment: a [`StreamBackend`], or none.
pub struct Factory;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    #[serde(default = "min_cid")]
    cid: u32,
    uds: Option<PathBuf>,
}

fn min_cid() -> u32 {
    MIN_CID
}

impl DeviceFactory for Factory {
    fn driver(&self) -> &'static str {
        "virtio-vsock"
    }

    fn create(&self, spec: DeviceSpec, _env: &DeviceEnv) -> anyhow::Result<NewDevice> {
        let options: Options = read_options(spec.options)?;
        anyhow::ensure!(
            (MIN_CID..u32::MAX).contains(&options.cid),
            "option cid is {}, must be from {MIN_CID} to {}",
            options.cid,
            u32::MAX - 1
        );
        let backend = spec
            .attachment
            .map(|attachment| {
                attachment
                    .downcast::<StreamBackend>()
                    .map(|backend| *backend)
                    .map_err(|_| anyhow::anyhow!("the attachment is not a stream backend"))
            })
            .transpose()?;
        let device = Vsock::new(options.cid, backend, options.uds).context("option uds")?;
        Ok(NewDevice::Virtio(Box::new(device)))
    }
}
