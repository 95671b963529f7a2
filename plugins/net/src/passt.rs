//! Driver `net-passt`: the Internet without root, by a process of passt's, which makes
//! the guest's connections its own.
//!
//! The guest's side has fixed addresses, so that whoever configures the guest knows
//! them without asking: [`ADDRESS`], [`PREFIX`], [`GATEWAY`] and [`DNS`], unless the
//! configuration says otherwise.

use std::cmp::Ordering;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use plugin_sdk::{
    Device, Directions, Error, Events, Host, Level, NetBackend, NetInfo, NetSetup, Pieces, Result,
};
use rustix::net::sockopt;
use serde::Deserialize;

use crate::cable::{Cable, LINK};
use crate::frames::Prefix;
use crate::link::{SOCKET_BUFFER, longest_frame};
use crate::passt::fence::Fence;
use crate::passt::ports::Published;
use crate::passt::process::Process;
use crate::stream::Stream;

mod fence;
mod greeting;
mod ports;
mod process;

/// The guest's address.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
/// Bits of its network.
pub const PREFIX: u8 = 24;
/// Its gateway.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// Its name server, behind which is the host's first one.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// The longest packet: passt's own default, as nothing between it and the guest cuts.
const MTU: u16 = 65520;

/// Lines of its words that go to the log: a guest may cause more.
const MAX_LOGGED: u32 = 256;

/// Tokens of what is waited for beside the link.
const STDERR: u64 = LINK + 1;
const EXIT: u64 = LINK + 2;

/// What the schema says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    ports: Vec<String>,
    address: Ipv4Addr,
    prefix: u8,
    gateway: Ipv4Addr,
    dns: Ipv4Addr,
    ipv6: bool,
    host_loopback: bool,
    mtu: u16,
    program: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            ports: Vec::new(),
            address: ADDRESS,
            prefix: PREFIX,
            gateway: GATEWAY,
            dns: DNS,
            ipv6: false,
            host_loopback: false,
            mtu: MTU,
            program: "passt".into(),
        }
    }
}

impl Config {
    /// passt's command line.
    fn arguments(&self) -> Result<Vec<String>> {
        let mut arguments: Vec<String> = [
            // A process of ours, which ends with its socket and logs to us.
            "--foreground",
            "--stderr",
            "--fd",
            "0",
        ]
        .map(String::from)
        .into();
        for (option, value) in [
            ("--address", self.address.to_string()),
            ("--netmask", self.prefix.to_string()),
            ("--gateway", self.gateway.to_string()),
            ("--dns-forward", self.dns.to_string()),
            ("--mtu", self.mtu.to_string()),
        ] {
            arguments.extend([option.into(), value]);
        }
        if !self.ipv6 {
            arguments.push("--ipv4-only".into());
        }
        if !self.host_loopback {
            arguments.push("--no-map-gw".into());
        }
        let ports = self.ports.iter().map(|text| Published::parse(text));
        let ports = ports.collect::<Result<Vec<_>>>()?;
        let is_other = |port: &Published| port.address.is_some_and(|address| address.is_ipv6());
        if !self.ipv6 && ports.iter().any(is_other) {
            return Err(Error::new("ports: an IPv6 address needs ipv6 to be true"));
        }
        arguments.extend(ports.iter().flat_map(Published::arguments));
        // Said by neither, passt would listen on the ports of the other.
        for (option, is_udp) in [("-t", false), ("-u", true)] {
            if ports.iter().all(|port| port.is_udp != is_udp) {
                arguments.extend([option.into(), "none".into()]);
            }
        }
        Ok(arguments)
    }
}

/// Where its words go.
struct Log {
    host: Host,
    lines: u32,
}

impl Log {
    fn line(&mut self, line: &str) {
        self.lines = self.lines.saturating_add(1);
        match self.lines.cmp(&MAX_LOGGED) {
            Ordering::Less => self.host.log(Level::Debug, &format!("passt: {line}")),
            Ordering::Equal => self.host.log(Level::Debug, "passt: and so on"),
            Ordering::Greater => {}
        }
    }
}

/// The device.
pub struct Passt {
    host: Host,
    /// Dropped before the process, which ends by it.
    cable: Cable,
    /// Until it has ended.
    process: Option<Process>,
    /// It may say more.
    is_heard: bool,
    log: Log,
    mtu: u16,
}

impl Passt {
    fn hear(&mut self) -> Result<()> {
        let Some(process) = &mut self.process else {
            return Ok(());
        };
        let more = process.hear(|line| self.log.line(line));
        if !more && self.is_heard {
            self.is_heard = false;
            self.host.remove_fd(process.stderr().as_raw_fd())?;
        }
        Ok(())
    }

    /// It has ended before us.
    fn bury(&mut self) -> Result<()> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        self.host.remove_fd(process.exit().as_raw_fd())?;
        if self.is_heard {
            self.host.remove_fd(process.stderr().as_raw_fd())?;
        }
        let why = process.ended();
        self.host.log(Level::Error, &why);
        self.cable.unplug(&why)
    }
}

/// Gives passt's end room for what it sends in one go: what does not fit, passt throws
/// away, and the guest has to ask for it again.
fn widen(theirs: &UnixStream) -> rustix::io::Result<()> {
    if sockopt::socket_send_buffer_size(theirs)? >= SOCKET_BUFFER {
        return Ok(());
    }
    // More than the system's limit takes CAP_NET_ADMIN.
    sockopt::set_socket_send_buffer_size_force(theirs, SOCKET_BUFFER)
        .or_else(|_| sockopt::set_socket_send_buffer_size(theirs, SOCKET_BUFFER))
}

impl Device for Passt {
    type Config = Config;
    const SUMMARY: &'static str = "The Internet, without root, by passt";
    const CONFIG_SCHEMA: &'static str = include_str!("passt/schema.json");

    fn create(host: Host, _: &str, config: Config) -> Result<Self> {
        let arguments = config.arguments()?;
        let (ours, theirs) = UnixStream::pair()?;
        widen(&theirs)?;
        let mut process = Process::start(host, &config.program, &arguments, theirs.into())?;
        // From here on it is closed before the process is ended, whatever fails.
        let ours = ours;
        // What it cannot do, as to listen on a port that is taken, it says by ending.
        let mut log = Log { host, lines: 0 };
        let question = greeting::Question {
            guest: config.address,
            gateway: config.gateway,
        };
        question.ask(&ours, &mut process, |line| log.line(line))?;
        let link = Stream::new(ours.into(), Prefix::Big32, longest_frame(config.mtu))?;
        let mut cable = Cable::new(host);
        cable.plug(Box::new(Fence(link)))?;
        host.add_fd(process.stderr().as_raw_fd(), Events::READ, STDERR)?;
        host.add_fd(process.exit().as_raw_fd(), Events::READ, EXIT)?;
        Ok(Passt {
            host,
            cable,
            process: Some(process),
            is_heard: true,
            log,
            mtu: config.mtu,
        })
    }

    fn on_event(&mut self, _: i32, events: Events, token: u64) -> Result<()> {
        match token {
            STDERR => self.hear(),
            EXIT => self.bury(),
            _ => self.cable.on_event(events),
        }
    }
}

impl NetBackend for Passt {
    fn describe(&mut self) -> Result<NetInfo> {
        Ok(NetInfo {
            offloads: 0,
            queue_pairs: 1,
            mtu: Some(self.mtu),
            mac: None,
            header: false,
            link_up: self.cable.is_plugged(),
            max_frame: longest_frame(self.mtu) as u32,
        })
    }

    fn start(&mut self, setup: NetSetup) -> Result<()> {
        self.cable.start(setup)
    }

    fn stop(&mut self) {
        // Frames for the guest stay where they are; what failed here fails at the next
        // start.
        let _ = self.cable.set_interest(Directions::default());
        self.cable.report_lost();
    }

    fn set_interest(&mut self, _: u16, directions: Directions) -> Result<()> {
        self.cable.set_interest(directions)
    }

    fn send(&mut self, _: u16, frame: Pieces<'_>) -> Result<()> {
        self.cable.send(frame)
    }

    fn flush(&mut self, _: u16) -> Result<()> {
        self.cable.flush()
    }

    fn receive(&mut self, _: u16, room: Pieces<'_>) -> Result<usize> {
        self.cable.receive(room)
    }
}

#[cfg(test)]
mod tests;
