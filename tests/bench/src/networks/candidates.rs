//! What is measured: two machines on two networks.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{setsockopt, sockopt};
use shem::KERNEL_CMDLINE;

use super::ROWS;
use super::setup::{PORT, Setup};
use crate::compare::Candidate;
use crate::guest;
use crate::rows::{self, Rows};
use crate::run::Running;

/// RAM of each guest.
const MEMORY: &str = "512m";

/// How `shem` starts passt for `--net passt,host_loopback=true`: the guest's addresses
/// are the plugin's, and the host's loopback is at the gateway's.
const PASST: &str = "--foreground --stderr --quiet --fd 0 --address 10.0.2.15 --netmask 24 \
                     --gateway 10.0.2.2 --dns-forward 10.0.2.3 --mtu 65520 --ipv4-only \
                     -t none -u none";

/// Bytes that passt's socket holds of what it sends, where the plugin made it.
const PASST_BUFFER: usize = 2 << 20;

/// A machine with one card.
pub enum Way {
    Shem(Network),
    Qemu(Network),
}

/// What the card is on.
#[derive(Clone, Copy)]
pub enum Network {
    Tap,
    Passt,
    /// With a socket as the plugin makes it.
    WidePasst,
}

/// All of them.
pub const CANDIDATES: &[Candidate<Way>] = &[
    Candidate {
        name: "shem tap",
        way: Way::Shem(Network::Tap),
    },
    Candidate {
        name: "QEMU tap",
        way: Way::Qemu(Network::Tap),
    },
    Candidate {
        name: "shem passt",
        way: Way::Shem(Network::Passt),
    },
    Candidate {
        name: "QEMU passt",
        way: Way::Qemu(Network::Passt),
    },
    Candidate {
        name: "QEMU passt wide",
        way: Way::Qemu(Network::WidePasst),
    },
];

impl Way {
    /// Runs the probe in a new guest.
    pub fn measure(&self, setup: &Setup) -> Result<Rows> {
        match self {
            Way::Shem(network) => shem(setup, *network),
            Way::Qemu(network) => qemu(setup, *network),
        }
    }
}

impl Network {
    /// The guest's address.
    fn address(self) -> &'static str {
        match self {
            Network::Tap => "10.77.0.2/24",
            Network::Passt | Network::WidePasst => "10.0.2.15/24",
        }
    }

    /// The probe's words.
    fn probe(self, setup: &Setup) -> Vec<String> {
        let host = match self {
            Network::Tap => "10.77.0.1",
            Network::Passt | Network::WidePasst => "10.0.2.2",
        };
        let mut words = vec!["bench".into(), format!("{host}:{PORT}")];
        words.extend(setup.amounts.clone());
        words
    }
}

fn shem(setup: &Setup, network: Network) -> Result<Rows> {
    let address = network.address();
    let net = match network {
        Network::Tap => format!("tap=tap0,ip={address}"),
        Network::Passt | Network::WidePasst => "passt,host_loopback=true".into(),
    };
    let options = ["--net", &net];
    let mut shem = setup
        .shem
        .run(&setup.kernel, MEMORY, &options, &setup.image);
    shem.arg("/net-probe").args(network.probe(setup));
    rows::of_guest(shem, ROWS)
}

/// QEMU's machine. The words for its first process come after `--` on the kernel's
/// command line.
fn qemu(setup: &Setup, network: Network) -> Result<Rows> {
    let address = network.address();
    let words = network.probe(setup).join(" ");
    let line = format!("{KERNEL_CMDLINE} -- {address} {words}");
    let mut qemu = guest::microvm(&setup.kernel, &setup.initramfs, MEMORY, &line);
    qemu.args(guest::LIKE_OURS);
    match network {
        Network::Tap => {
            let tap = "tap,id=net,ifname=tap0,script=no,downscript=no,vhost=off";
            qemu.args(["-netdev", tap, "-device", "virtio-net-device,netdev=net"]);
            rows::of_guest(qemu, ROWS)
        }
        Network::Passt | Network::WidePasst => {
            let (passts, qemus) = UnixStream::pair()?;
            if matches!(network, Network::WidePasst) {
                setsockopt(&passts, sockopt::SndBufForce, &PASST_BUFFER)?;
            }
            let _passt = passt(passts.into())?;
            // Only now, so that passt has not inherited it.
            fcntl(&qemus, FcntlArg::F_SETFD(FdFlag::empty()))?;
            let number = qemus.as_raw_fd();
            let stream = format!("stream,id=net,server=off,addr.type=fd,addr.str={number}");
            let card = "virtio-net-device,netdev=net,host_mtu=65520";
            qemu.args(["-netdev", &stream, "-device", card]);
            rows::of_guest(qemu, ROWS)
        }
    }
}

/// A passt at the other end of `socket`, where what comes before it serves waits for it.
fn passt(socket: OwnedFd) -> Result<Running> {
    let mut command = Command::new("passt");
    command
        .args(PASST.split_ascii_whitespace())
        .stdin(socket)
        .stdout(Stdio::null());
    let child = command.spawn().context("start passt")?;
    Ok(Running(child))
}
