//! Driver `net-tap`: a TAP interface of the host's kernel.
//!
//! Frames go between guest memory and the kernel without a copy of ours, with the
//! virtio-net header, so that checksums and segments are left to whoever is last.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use plugin_sdk::{
    Device, Directions, Error, Events, Host, Level, NetBackend, NetInfo, NetSetup, Pieces, Result,
    abi, descriptor,
};
use serde::Deserialize;

use crate::frames::LONGEST_FRAME;
use crate::lost::Lost;
use crate::mac;

mod tun;

/// Bytes before each frame: `struct virtio_net_hdr_v1`.
const HEADER: usize = abi::NET_HEADER;

/// What the schema says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    name: Option<String>,
    #[serde(default)]
    fd: Vec<i32>,
    queues: Option<u16>,
    mac: Option<String>,
}

/// A queue pair, which has a descriptor of its own.
struct Queue {
    tap: OwnedFd,
    /// What it is waited for, while it is in use.
    watched: Option<Events>,
}

/// The device.
pub struct Tap {
    host: Host,
    queues: Vec<Queue>,
    mac: Option<[u8; 6]>,
    mtu: u16,
    /// The kernel can cut long UDP packets.
    has_uso: bool,
    /// The interface was deleted.
    is_gone: bool,
    /// Frames that the kernel refused.
    refused: Lost,
}

impl Tap {
    /// Takes the first `pairs` queues in use and no others, of which nobody would
    /// take the frames.
    fn use_queues(&mut self, pairs: usize) -> Result<()> {
        for (index, queue) in (0..).zip(&mut self.queues) {
            let (fd, is_used) = (queue.tap.as_raw_fd(), index < pairs);
            if is_used == queue.watched.is_some() {
                continue;
            }
            if is_used {
                tun::set_attached(queue.tap.as_fd(), true)?;
                self.host.add_fd(fd, Events::NONE, index as u64)?;
                queue.watched = Some(Events::NONE);
            } else {
                // Without a queue the descriptor is in error.
                self.host.remove_fd(fd)?;
                queue.watched = None;
                tun::set_attached(queue.tap.as_fd(), false)?;
            }
        }
        Ok(())
    }

    fn watch(&mut self, index: usize, events: Events) -> Result<()> {
        if let Some(queue) = self.queues.get_mut(index)
            && let Some(watched) = &mut queue.watched
            && *watched != events
        {
            let fd = queue.tap.as_raw_fd();
            self.host.modify_fd(fd, events, index as u64)?;
            *watched = events;
        }
        Ok(())
    }

    fn queue(&self, index: u16) -> Result<&Queue> {
        let queue = self.queues.get(usize::from(index));
        queue.ok_or_else(|| Error::from_errno(libc::EINVAL))
    }

    /// The interface was deleted.
    fn end(&mut self) -> Result<()> {
        self.is_gone = true;
        for queue in &mut self.queues {
            if queue.watched.take().is_some() {
                self.host.remove_fd(queue.tap.as_raw_fd())?;
            }
        }
        let text = "the link is down: the interface is not there any more";
        self.host.log(Level::Warn, text);
        self.host.net_link(false)?;
        // What waits to be sent is to be refused.
        for index in 0..self.queues.len() {
            let send = Directions {
                receive: false,
                send: true,
            };
            self.host.net_ready(index as u16, send)?;
        }
        Ok(())
    }
}

/// The interface's descriptors: one for each queue pair.
fn open(config: &Config) -> Result<Vec<OwnedFd>> {
    match (&config.name, config.fd.as_slice()) {
        (Some(name), []) => {
            let queues = config.queues.unwrap_or(1);
            let open = |_| tun::open(name, queues > 1);
            let opened = (0..queues).map(open).collect::<Result<_>>();
            opened.map_err(|error| error.context(&format!("interface {name:?}")))
        }
        (None, numbers @ [_, ..]) => {
            if config.queues.is_some() {
                let text = "queues is for an interface by name: with fd there is one for each";
                return Err(Error::new(text));
            }
            numbers.iter().map(|number| descriptor(*number)).collect()
        }
        _ => Err(Error::new("it needs name, or fd, and not both")),
    }
}

impl Device for Tap {
    type Config = Config;
    const SUMMARY: &'static str = "A TAP interface of the host";
    const CONFIG_SCHEMA: &'static str = include_str!("tap/schema.json");

    fn create(host: Host, _: &str, config: Config) -> Result<Self> {
        let mac = config.mac.as_deref().map(mac::parse).transpose()?;
        let taps = open(&config)?;
        for tap in &taps {
            tun::prepare(tap.as_fd())?;
        }
        let first = taps[0].as_fd();
        let name = tun::name(first)?;
        let mtu = tun::mtu(&name)?;
        let has_uso = tun::has_uso(first);
        // Until the guest says otherwise, it takes nothing that is unfinished.
        tun::set_offload(first, 0)?;
        let mut queues = Vec::with_capacity(taps.len());
        for (index, tap) in (0..).zip(taps) {
            // Until the guest says otherwise it uses the first.
            let watched = (index == 0).then_some(Events::NONE);
            match watched {
                Some(events) => host.add_fd(tap.as_raw_fd(), events, index)?,
                None => tun::set_attached(tap.as_fd(), false)?,
            }
            queues.push(Queue { tap, watched });
        }
        let text = format!("frames go to interface {name}, by {} queues", queues.len());
        host.log(Level::Info, &text);
        Ok(Tap {
            host,
            queues,
            mac,
            mtu,
            has_uso,
            is_gone: false,
            refused: Lost::default(),
        })
    }

    fn on_event(&mut self, _: i32, events: Events, token: u64) -> Result<()> {
        if events.hang_up {
            return if self.is_gone { Ok(()) } else { self.end() };
        }
        let ready = Directions {
            receive: events.read,
            send: events.write,
        };
        self.host.net_ready(token as u16, ready)
    }
}

impl NetBackend for Tap {
    fn describe(&mut self) -> Result<NetInfo> {
        let mut offloads = abi::NET_SEND_CHECKSUM
            | abi::NET_SEND_TSO4
            | abi::NET_SEND_TSO6
            | abi::NET_RECEIVE_CHECKSUM
            | abi::NET_RECEIVE_TSO4
            | abi::NET_RECEIVE_TSO6;
        if self.has_uso {
            offloads |= abi::NET_SEND_USO | abi::NET_RECEIVE_USO;
        }
        Ok(NetInfo {
            offloads,
            queue_pairs: self.queues.len() as u16,
            mtu: Some(self.mtu),
            mac: self.mac,
            header: true,
            link_up: true,
            max_frame: (HEADER + LONGEST_FRAME) as u32,
        })
    }

    fn start(&mut self, setup: NetSetup) -> Result<()> {
        if self.is_gone {
            return Ok(());
        }
        self.use_queues(setup.queue_pairs.into())?;
        let flags = tun::offload_flags(setup.offloads);
        tun::set_offload(self.queue(0)?.tap.as_fd(), flags)
    }

    fn stop(&mut self) {
        for index in 0..self.queues.len() {
            // What failed here fails at the next start.
            let _ = self.watch(index, Events::NONE);
        }
        self.refused.report(self.host, "were refused by the kernel");
    }

    fn set_interest(&mut self, queue: u16, directions: Directions) -> Result<()> {
        let events = Events {
            read: directions.receive,
            write: directions.send,
            hang_up: false,
        };
        if self.is_gone && directions.send {
            let receive = false;
            let send = Directions {
                receive,
                send: true,
            };
            return self.host.net_ready(queue, send);
        }
        self.watch(queue.into(), events)
    }

    fn send(&mut self, queue: u16, frame: Pieces<'_>) -> Result<()> {
        match frame.write_to(self.queue(queue)?.tap.as_fd()) {
            Ok(_) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => Err(error.into()),
            // A header that the guest made up, or an interface that is down.
            Err(_) => {
                self.refused.add();
                Ok(())
            }
        }
    }

    fn receive(&mut self, queue: u16, room: Pieces<'_>) -> Result<usize> {
        match room.read_from(self.queue(queue)?.tap.as_fd()) {
            Ok(len) if len > HEADER => Ok(len),
            Ok(_) => Err(Error::from_errno(libc::EMSGSIZE)),
            // Also of an interface that is gone.
            Err(_) => Err(Error::from_errno(libc::EAGAIN)),
        }
    }
}

#[cfg(test)]
mod tests;
