//! What a guest's network is to be: an interface with its addresses and routes,
//! and how names are resolved.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::error::MessageError;
use crate::limits::{
    MAX_ADDRESSES, MAX_HOST_ENTRY_NAME, MAX_INTERFACE_NAME, MAX_MTU, MAX_NAMESERVERS, MAX_ROUTES,
    MAX_SEARCH_DOMAINS, MIN_MTU,
};
use crate::message::{check_len, check_text};

/// A network interface of the guest and what it is to have. What it has beside
/// is left as it is, so the same request twice is as good as once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The kernel's name of it, such as `eth0`: 1 to [`MAX_INTERFACE_NAME`]
    /// bytes without white space, `/` and `:`.
    pub name: String,
    /// Its Ethernet address, that of one station; `None` leaves it.
    pub mac: Option<[u8; 6]>,
    /// Bytes of the largest packet, [`MIN_MTU`] to [`MAX_MTU`]; `None` leaves
    /// it. Below 1280 Linux takes IPv6 off the interface.
    pub mtu: Option<u32>,
    /// Its own addresses, each with the length of its network's prefix; at most
    /// [`MAX_ADDRESSES`].
    pub addresses: Vec<IpPrefix>,
    /// Ways that lead through it, at most [`MAX_ROUTES`].
    pub routes: Vec<Route>,
}

/// An address, and how many of its first bits are its network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpPrefix {
    /// The address.
    pub address: IpAddr,
    /// At most 32, or 128 for IPv6.
    pub len: u8,
}

/// Where packets go by way of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Whom they are for, all of whose bits are in the prefix: 0.0.0.0/0 and
    /// ::/0 are everybody.
    pub destination: IpPrefix,
    /// Who takes them on, of the destination's family; `None` when the
    /// destination itself is at the interface.
    pub gateway: Option<IpAddr>,
    /// Of several routes to a destination that with the smallest counts; to
    /// Linux a 0 for IPv6 is 1024.
    pub metric: u32,
}

/// How names are resolved: the content of `/etc/resolv.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolver {
    /// Who is asked, in this order; at most [`MAX_NAMESERVERS`], of which
    /// C libraries take three.
    pub nameservers: Vec<IpAddr>,
    /// Domains in which short names are looked for; at most [`MAX_SEARCH_DOMAINS`].
    pub search: Vec<String>,
}

impl IpPrefix {
    /// An address with the length of its prefix.
    pub fn new(address: impl Into<IpAddr>, len: u8) -> Self {
        Self {
            address: address.into(),
            len,
        }
    }

    /// The network that the address is in: the bits of the prefix, and no others.
    pub fn network(self) -> Self {
        let cut = |bits: u128, width: u8| {
            let rest = u32::from(width.saturating_sub(self.len));
            bits.checked_shr(rest)
                .and_then(|bits| bits.checked_shl(rest))
                .unwrap_or(0)
        };
        let address = match self.address {
            IpAddr::V4(address) => {
                let bits = cut(address.to_bits().into(), 32);
                IpAddr::V4(u32::try_from(bits).expect("32 bits at most").into())
            }
            IpAddr::V6(address) => IpAddr::V6(cut(address.to_bits(), 128).into()),
        };
        Self { address, ..self }
    }

    fn check(self, what: &'static str) -> Result<(), MessageError> {
        let width = if self.address.is_ipv4() { 32 } else { 128 };
        if self.len > width {
            return Err(MessageError::Invalid { what });
        }
        Ok(())
    }
}

impl fmt::Display for IpPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

impl Interface {
    pub(crate) fn check(&self) -> Result<(), MessageError> {
        check_interface_name(&self.name)?;
        let group_bit = |mac: [u8; 6]| mac[0] & 1 != 0;
        if self.mac.is_some_and(|mac| mac == [0; 6] || group_bit(mac)) {
            return Err(MessageError::Invalid {
                what: "Ethernet address",
            });
        }
        if self
            .mtu
            .is_some_and(|mtu| !(MIN_MTU..=MAX_MTU).contains(&mtu))
        {
            return Err(MessageError::Invalid { what: "MTU" });
        }
        check_len("number of addresses", self.addresses.len(), MAX_ADDRESSES)?;
        for address in &self.addresses {
            let what = "address of an interface";
            address.check(what)?;
            if !is_of_one_host(address.address) {
                return Err(MessageError::Invalid { what });
            }
        }
        check_len("number of routes", self.routes.len(), MAX_ROUTES)?;
        self.routes.iter().try_for_each(Route::check)
    }
}

impl Route {
    fn check(&self) -> Result<(), MessageError> {
        self.destination.check("destination of a route")?;
        if self.destination.network() != self.destination {
            return Err(MessageError::Invalid {
                what: "destination of a route, which has bits beyond its prefix,",
            });
        }
        let fits = |gateway: IpAddr| {
            gateway.is_ipv4() == self.destination.address.is_ipv4() && is_of_one_host(gateway)
        };
        if !self.gateway.is_none_or(fits) {
            return Err(MessageError::Invalid {
                what: "gateway of a route",
            });
        }
        Ok(())
    }
}

impl Resolver {
    pub(crate) fn check(&self) -> Result<(), MessageError> {
        let count = self.nameservers.len();
        check_len("number of name servers", count, MAX_NAMESERVERS)?;
        check_len(
            "number of search domains",
            self.search.len(),
            MAX_SEARCH_DOMAINS,
        )?;
        for domain in &self.search {
            let what = "search domain";
            check_text(what, domain.as_bytes(), MAX_HOST_ENTRY_NAME)?;
            if domain.is_empty() || domain.contains(|c: char| c.is_whitespace() || c == '#') {
                return Err(MessageError::Invalid { what });
            }
        }
        Ok(())
    }
}

/// The kernel's rule (`dev_valid_name`).
fn check_interface_name(name: &str) -> Result<(), MessageError> {
    let what = "interface name";
    check_text(what, name.as_bytes(), MAX_INTERFACE_NAME)?;
    let taken = |c: char| c.is_whitespace() || c == '/' || c == ':';
    if matches!(name, "" | "." | "..") || name.contains(taken) {
        return Err(MessageError::Invalid { what });
    }
    Ok(())
}

fn is_of_one_host(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> IpPrefix {
        let (address, len) = text.split_once('/').unwrap();
        IpPrefix {
            address: address.parse().unwrap(),
            len: len.parse().unwrap(),
        }
    }

    #[test]
    fn network_of_an_address_is_its_prefix() {
        for (address, network) in [
            ("192.168.7.9/24", "192.168.7.0/24"),
            ("192.168.7.9/32", "192.168.7.9/32"),
            ("192.168.7.9/0", "0.0.0.0/0"),
            ("255.255.255.255/1", "128.0.0.0/1"),
            ("fd00:1:2::9/48", "fd00:1:2::/48"),
            ("fd00::9/128", "fd00::9/128"),
            ("fd00::9/0", "::/0"),
        ] {
            assert_eq!(prefix(address).network().to_string(), network);
        }
    }
}
