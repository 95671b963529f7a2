//! Network interfaces: names, and what each is given.
//!
//! Every step may be taken again, and what is there already is no error.

use std::fmt;

use guest_protocol::Interface;
use nix::errno::Errno;
use nix::net::if_::{if_nameindex, if_nametoindex};

use crate::netlink::{Request, Socket};

/// A step that failed.
#[derive(Debug, PartialEq, Eq)]
pub struct Failed {
    /// What the kernel said.
    pub errno: Errno,
    /// Interface, step and reason.
    pub message: String,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Gives an interface its Ethernet address and MTU, brings it up, and gives it
/// addresses and routes, in this order: each needs what comes before.
pub fn set_up(interface: &Interface) -> Result<(), Failed> {
    let name = &interface.name;
    let during = |step: String| {
        move |errno: Errno| Failed {
            errno,
            message: format!("{name}: {step}: {}", errno.desc()),
        }
    };
    let index = index_of(name)?;
    let mut kernel = Socket::open().map_err(during("ask the kernel".into()))?;
    if let Some(mac) = interface.mac {
        let [a, b, c, d, e, f] = mac;
        let step = format!("set the address {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        set_mac(&mut kernel, index, mac).map_err(during(step))?;
    }
    if let Some(mtu) = interface.mtu {
        let request = Request::link(index).mtu(mtu);
        kernel
            .ask(request)
            .map_err(during(format!("set the MTU {mtu}")))?;
    }
    kernel
        .ask(Request::up(index, true))
        .map_err(during("bring it up".into()))?;
    for &address in &interface.addresses {
        kernel
            .ask(Request::address(index, address))
            .map_err(during(format!("add the address {address}")))?;
    }
    for route in &interface.routes {
        let way = match route.gateway {
            Some(gateway) => format!(" via {gateway}"),
            None => String::new(),
        };
        let step = format!("add the route to {}{way}", route.destination);
        kernel
            .ask(Request::route(index, route))
            .map_err(during(step))?;
    }
    Ok(())
}

/// A card that takes no other address while it is up goes down for it.
fn set_mac(kernel: &mut Socket, index: u32, mac: [u8; 6]) -> nix::Result<()> {
    match kernel.ask(Request::link(index).mac(mac)) {
        Err(Errno::EBUSY) => {
            kernel.ask(Request::up(index, false))?;
            kernel.ask(Request::link(index).mac(mac))
        }
        other => other,
    }
}

fn index_of(name: &str) -> Result<u32, Failed> {
    if_nametoindex(name).map_err(|errno| {
        let message = match errno {
            Errno::ENODEV | Errno::ENXIO => format!(
                "{name}: there is no such interface; the guest has {}",
                names().join(", ")
            ),
            _ => format!("{name}: look for the interface: {}", errno.desc()),
        };
        Failed { errno, message }
    })
}

/// What there is, for an error.
fn names() -> Vec<String> {
    let mut names: Vec<String> = if_nameindex().map_or_else(
        |_| Vec::new(),
        |interfaces| {
            let name = |interface: &nix::net::if_::Interface| {
                interface.name().to_string_lossy().into_owned()
            };
            interfaces.iter().map(name).collect()
        },
    );
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests;
