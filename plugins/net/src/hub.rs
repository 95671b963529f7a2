//! Driver `net-hub`: VMs of one host in a network of their own, without root. They meet
//! in a folder, or two of them by a pair of sockets that their owner has made.

use std::path::Path;

use plugin_sdk::{
    Device, Directions, Error, Events, Host, NetBackend, NetInfo, NetSetup, Pieces, Result,
    descriptor,
};
use rustix::net::{SocketType, sockopt};
use serde::Deserialize;

use crate::cable::Cable;
use crate::datagram::{Datagram, Peer};
use crate::hub::mesh::Mesh;
use crate::link::longest_frame;
use crate::mac;

mod folder;
mod mesh;
mod table;

/// Everybody's, unless the configuration says otherwise.
const MTU: u16 = 1500;

/// What the schema says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    path: Option<String>,
    fd: Option<i32>,
    mtu: Option<u16>,
    mac: Option<String>,
}

/// Who is at the other end.
enum Others {
    /// All who have joined a folder.
    Hub(Mesh),
    /// One, by a pair of sockets.
    One(Cable),
}

/// The device.
pub struct Hub {
    others: Others,
    mac: Option<[u8; 6]>,
    mtu: u16,
}

fn pair(host: Host, number: i32, longest: usize) -> Result<Cable> {
    let socket = descriptor(number)?;
    let kind = sockopt::socket_type(&socket)?;
    if kind != SocketType::SEQPACKET && kind != SocketType::DGRAM {
        let text = format!("descriptor {number} must be a SOCK_SEQPACKET or SOCK_DGRAM socket");
        return Err(Error::new(text));
    }
    let mut cable = Cable::new(host);
    cable.plug(Box::new(Datagram::new(socket, Peer::Pair, longest)?))?;
    Ok(cable)
}

impl Device for Hub {
    type Config = Config;
    const SUMMARY: &'static str = "A network of the VMs of this host";
    const CONFIG_SCHEMA: &'static str = include_str!("hub/schema.json");

    fn create(host: Host, _: &str, config: Config) -> Result<Self> {
        let mac = config.mac.as_deref().map(mac::parse).transpose()?;
        let mtu = config.mtu.unwrap_or(MTU);
        let longest = longest_frame(mtu);
        let others = match (&config.path, config.fd) {
            (Some(path), None) => {
                let joined = folder::join(Path::new(path));
                let joined = joined.map_err(|error| error.context(&format!("hub {path:?}")))?;
                Others::Hub(Mesh::new(host, joined, longest)?)
            }
            (None, Some(number)) => Others::One(pair(host, number, longest)?),
            _ => return Err(Error::new("it needs path or fd, and not both")),
        };
        Ok(Hub { others, mac, mtu })
    }

    fn on_event(&mut self, _: i32, events: Events, token: u64) -> Result<()> {
        match &mut self.others {
            Others::Hub(mesh) => mesh.on_event(events, token),
            Others::One(cable) => cable.on_event(events),
        }
    }

    fn on_timer(&mut self, _: u64) -> Result<()> {
        match &self.others {
            Others::Hub(mesh) => mesh.listen_again(),
            Others::One(_) => Ok(()),
        }
    }

    fn before_stop(&mut self) {
        if let Others::Hub(mesh) = &self.others {
            mesh.leave();
        }
    }
}

impl NetBackend for Hub {
    fn describe(&mut self) -> Result<NetInfo> {
        Ok(NetInfo {
            offloads: 0,
            queue_pairs: 1,
            mtu: Some(self.mtu),
            mac: self.mac,
            header: false,
            link_up: match &self.others {
                Others::Hub(_) => true,
                Others::One(cable) => cable.is_plugged(),
            },
            max_frame: longest_frame(self.mtu) as u32,
        })
    }

    fn start(&mut self, _: NetSetup) -> Result<()> {
        self.set_interest(0, Directions::default())
    }

    fn stop(&mut self) {
        // Frames stay where they are; what failed here fails at the next start.
        let _ = self.set_interest(0, Directions::default());
        match &mut self.others {
            Others::Hub(mesh) => mesh.report_lost(),
            Others::One(cable) => cable.report_lost(),
        }
    }

    fn set_interest(&mut self, _: u16, directions: Directions) -> Result<()> {
        match &mut self.others {
            Others::Hub(mesh) => mesh.set_interest(directions),
            Others::One(cable) => cable.set_interest(directions),
        }
    }

    fn send(&mut self, _: u16, frame: Pieces<'_>) -> Result<()> {
        match &mut self.others {
            Others::Hub(mesh) => mesh.send(frame),
            Others::One(cable) => cable.send(frame),
        }
    }

    fn receive(&mut self, _: u16, room: Pieces<'_>) -> Result<usize> {
        match &mut self.others {
            Others::Hub(mesh) => mesh.receive(room),
            Others::One(cable) => cable.receive(room),
        }
    }
}

#[cfg(test)]
mod tests;
