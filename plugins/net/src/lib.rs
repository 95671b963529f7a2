//! Networks for guests: Golem's by exe-unit's sockets, a TAP interface, the Internet by
//! passt, and a hub of the VMs of one host.
//!
//! A driver opens what it needs when it is made, and afterwards takes frames between
//! guest memory and descriptors, told by the host's event loop. The manual is in
//! `README.md`.

use plugin_sdk::{abi, export_plugin};

mod cable;
mod datagram;
mod door;
mod endpoint;
pub mod frames;
mod golem;
mod hub;
mod left;
mod link;
mod lost;
mod mac;
mod passt;
mod stream;
mod tap;
#[cfg(test)]
mod testing;

use golem::Golem;
use hub::Hub;
use passt::Passt;
use tap::Tap;

export_plugin! {
    summary: "Networks: Golem's, TAP, passt, a hub",
    syscalls: [
        // Frames.
        "sendmsg", "recvmsg", "sendto", "recvfrom",
        // Peers that come and go.
        "accept4", "setsockopt", "getsockopt",
        // Queues and offloads of a TAP interface.
        "ioctl",
        // passt's end.
        "pidfd_send_signal", "waitid", "ppoll",
    ],
    paths: [
        "/dev/net/tun" => abi::PATH_READ | abi::PATH_WRITE,
        "/usr/bin/passt" => abi::PATH_READ | abi::PATH_EXECUTE,
    ],
    offer: ["golem.runtime.capabilities" => "[\"inet\", \"vpn\"]"],
    "net-golem" => net Golem,
    "net-tap" => net Tap,
    "net-passt" => net Passt,
    "net-hub" => net Hub,
}
