//! Driver `net-golem`: Golem's networks, as exe-unit carries them over a local socket.
//!
//! Frames are whole: without offloads, because exe-unit's own network stack verifies
//! each checksum, and without a header.

use std::io::ErrorKind::AddrInUse;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plugin_sdk::{
    Device, Directions, Error, Events, Host, Level, NetBackend, NetInfo, NetSetup, Pieces, Result,
    descriptor,
};
use rustix::io::Errno;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, socket_with,
};
use serde::Deserialize;

use crate::cable::{Cable, LINK};
use crate::datagram::{Datagram, MAX_UDP, Peer};
use crate::door::Door;
use crate::endpoint::{Endpoint, address, local_for};
use crate::frames::{LONGEST_FRAME, Prefix};
use crate::left;
use crate::link::longest_frame;
use crate::lost::Often;
use crate::mac;
use crate::stream::Stream;

/// The longest packet in Golem's private networks.
const VPN_MTU: u16 = 1220;
/// The longest packet on the way to the Internet.
const INET_MTU: u16 = 65_521;
/// How long a connection may take that is made before the VM starts.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Datagrams that are dropped of those who sent them before the socket knew its peer:
/// more than fit into it.
const MAX_EARLY: usize = 1 << 16;
/// Token of a listening socket.
const LISTENER: u64 = LINK + 1;

/// Which of Golem's networks it is.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Network {
    #[default]
    Vpn,
    Inet,
}

/// What the schema says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    endpoint: String,
    #[serde(default)]
    listen: bool,
    local: Option<String>,
    fd: Option<i32>,
    #[serde(default)]
    network: Network,
    mac: Option<String>,
    mtu: Option<u16>,
}

/// A listening socket, of which one connection at a time is the link.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener) => listener.as_fd(),
        }
    }

    fn accept(&self) -> std::io::Result<(OwnedFd, Prefix)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                // Without it a frame waits for the answer to the one before.
                stream.set_nodelay(true)?;
                Ok((stream.into(), Prefix::Big32))
            }
            Listener::Unix(listener) => Ok((listener.accept()?.0.into(), Prefix::Native16)),
        }
    }
}

/// The device.
pub struct Golem {
    host: Host,
    cable: Cable,
    /// Waited for while there is no link.
    listener: Option<(Listener, Door)>,
    /// The name of a listening socket that has one.
    path: Option<PathBuf>,
    /// Those who came to it.
    peers: Often,
    mac: Option<[u8; 6]>,
    mtu: u16,
    longest: usize,
}

impl Golem {
    /// Opens what `config` names.
    fn open(&mut self, config: &Config, endpoint: Endpoint) -> Result<()> {
        match endpoint {
            Endpoint::Udp(peer) => {
                let link = self.udp(config, peer)?;
                self.cable.plug(Box::new(link))
            }
            Endpoint::Tcp(peer) if config.listen => {
                let listener = TcpListener::bind(peer)?;
                let local = listener.local_addr()?;
                listener.set_nonblocking(true)?;
                self.listen(Listener::Tcp(listener), &format!("tcp {local}"))
            }
            Endpoint::Tcp(peer) => {
                let stream = TcpStream::connect_timeout(&peer, CONNECT_LIMIT)?;
                stream.set_nodelay(true)?;
                let link = Stream::new(stream.into(), Prefix::Big32, self.longest)?;
                self.cable.plug(Box::new(link))
            }
            Endpoint::Unix(path) if config.listen => {
                let listener = listen_at(&path)?;
                listener.set_nonblocking(true)?;
                let place = path.display().to_string();
                self.path = Some(path);
                self.listen(Listener::Unix(listener), &place)
            }
            Endpoint::Unix(path) => {
                let link = Stream::new(connect_to(&path)?, Prefix::Native16, self.longest)?;
                self.cable.plug(Box::new(link))
            }
        }
    }

    fn udp(&self, config: &Config, peer: SocketAddr) -> Result<Datagram> {
        let socket = match (config.fd, &config.local) {
            (Some(number), _) => UdpSocket::from(descriptor(number)?),
            (None, Some(local)) => {
                let bound = UdpSocket::bind(address(local)?).map_err(Error::from);
                bound.map_err(|error| error.context(&format!("bind local {local:?}")))?
            }
            (None, None) => UdpSocket::bind(local_for(peer))?,
        };
        // Frames of others are none: nobody else on this host can send one.
        socket.connect(peer)?;
        // Those that came before are anybody's.
        for _ in 0..MAX_EARLY {
            if recv(&socket, &mut [0][..], RecvFlags::DONTWAIT) == Err(Errno::AGAIN) {
                break;
            }
        }
        let local = socket.local_addr()?;
        self.host.log(
            Level::Info,
            &format!("frames go from udp {local} to {peer}"),
        );
        Ok(Datagram::new(socket.into(), Peer::Address, self.longest)?)
    }

    fn listen(&mut self, listener: Listener, place: &str) -> Result<()> {
        let door = Door::open(self.host, listener.as_fd(), LISTENER)?;
        self.host
            .log(Level::Info, &format!("waiting for a peer at {place}"));
        self.listener = Some((listener, door));
        Ok(())
    }

    /// Takes a peer when there is none.
    fn accept(&mut self) -> Result<()> {
        let Some((listener, door)) = &mut self.listener else {
            return Ok(());
        };
        if self.cable.is_plugged() {
            return Ok(());
        }
        let (socket, prefix) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) => return door.failed(&error),
        };
        let link = Stream::new(socket, prefix, self.longest)?;
        self.cable.report_lost();
        self.cable.plug(Box::new(link))?;
        // The next one waits in line.
        door.watch(false)?;
        self.peers.add();
        if let Some(count) = self.peers.news() {
            let text = format!("the link is up: a peer has come ({count} so far)");
            self.host.log(Level::Info, &text);
        }
        self.host.net_link(true)
    }

    /// Waits for a peer when there is none.
    fn listen_again(&self) -> Result<()> {
        match &self.listener {
            Some((_, door)) if !self.cable.is_plugged() => door.watch(true),
            _ => Ok(()),
        }
    }

    /// Does something with the cable, which may end its link.
    fn with_cable<T>(&mut self, body: impl FnOnce(&mut Cable) -> Result<T>) -> Result<T> {
        let was_plugged = self.cable.is_plugged();
        let outcome = body(&mut self.cable);
        if was_plugged {
            self.listen_again()?;
        }
        outcome
    }
}

/// A listening socket at `path`, in the place of one that nobody listens at.
fn listen_at(path: &Path) -> Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == AddrInUse => {
            if connect_to(path).err() != Some(Errno::CONNREFUSED) {
                return Err(error.into());
            }
            left::remove(path)?;
            Ok(UnixListener::bind(path)?)
        }
        bound => Ok(bound?),
    }
}

/// A connection to the socket at `path`. One who listens and takes nobody holds it up
/// for [`CONNECT_LIMIT`].
fn connect_to(path: &Path) -> rustix::io::Result<OwnedFd> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::STREAM);
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&socket, Timeout::Send, Some(CONNECT_LIMIT))?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) => Ok(socket),
        Err(Errno::AGAIN) => Err(Errno::TIMEDOUT),
        Err(error) => Err(error),
    }
}

impl Device for Golem {
    type Config = Config;
    const SUMMARY: &'static str = "A network of Golem's, over a socket of exe-unit";
    const CONFIG_SCHEMA: &'static str = include_str!("golem/schema.json");

    fn create(host: Host, _: &str, config: Config) -> Result<Self> {
        let endpoint = Endpoint::parse(&config.endpoint)?;
        let is_udp = matches!(endpoint, Endpoint::Udp(_));
        if is_udp && config.listen {
            return Err(Error::new(
                "listen is for tcp and unix endpoints: a udp one has no connections",
            ));
        }
        if !is_udp && (config.local.is_some() || config.fd.is_some()) {
            return Err(Error::new("local and fd are for udp endpoints"));
        }
        if config.local.is_some() && config.fd.is_some() {
            return Err(Error::new("local and fd are both given: one of them binds"));
        }
        let mac = config.mac.as_deref().map(mac::parse).transpose()?;
        let mtu = config.mtu.unwrap_or(match config.network {
            Network::Vpn => VPN_MTU,
            Network::Inet => INET_MTU,
        });
        let most = if is_udp { MAX_UDP } else { LONGEST_FRAME };
        let mut golem = Golem {
            host,
            cable: Cable::new(host),
            listener: None,
            path: None,
            peers: Often::default(),
            mac,
            mtu,
            longest: longest_frame(mtu).min(most),
        };
        let opened = golem.open(&config, endpoint);
        opened.map_err(|error| error.context(&format!("endpoint {:?}", config.endpoint)))?;
        Ok(golem)
    }

    fn on_event(&mut self, _: i32, events: Events, token: u64) -> Result<()> {
        match token {
            LISTENER => self.accept(),
            _ => self.with_cable(|cable| cable.on_event(events)),
        }
    }

    fn on_timer(&mut self, _: u64) -> Result<()> {
        self.listen_again()
    }

    fn before_stop(&mut self) {
        if let Some(path) = &self.path {
            // If it cannot be removed now, the next one who listens there does it.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl NetBackend for Golem {
    fn describe(&mut self) -> Result<NetInfo> {
        Ok(NetInfo {
            offloads: 0,
            queue_pairs: 1,
            mtu: Some(self.mtu),
            mac: self.mac,
            header: false,
            link_up: self.cable.is_plugged(),
            max_frame: self.longest as u32,
        })
    }

    fn start(&mut self, setup: NetSetup) -> Result<()> {
        self.cable.start(setup)
    }

    fn stop(&mut self) {
        // Frames stay where they are; what failed here fails at the next start.
        let _ = self.cable.set_interest(Directions::default());
        self.cable.report_lost();
    }

    fn set_interest(&mut self, _: u16, directions: Directions) -> Result<()> {
        self.cable.set_interest(directions)
    }

    fn send(&mut self, _: u16, frame: Pieces<'_>) -> Result<()> {
        self.with_cable(|cable| cable.send(frame))
    }

    fn flush(&mut self, _: u16) -> Result<()> {
        self.with_cable(Cable::flush)
    }

    fn receive(&mut self, _: u16, room: Pieces<'_>) -> Result<usize> {
        self.with_cable(|cable| cable.receive(room))
    }
}

#[cfg(test)]
mod tests;
