//! Networks of Golem's: cards whose frames go to and from exe-unit, and what the
//! guest is told to do with them. golem-runtime, section 5.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail, ensure};
use runtime_api::request::CreateNetwork;
use runtime_api::response::create_network::Endpoint;
use runtime_api::{Network, NetworkInterface};
use serde_json::{Map, Value, json};
use shem::{DeviceOptions, Devices, HostEntry, Interface, IpPrefix, Route, Vm};

/// The plugin that carries frames, and its driver.
const PLUGIN: &str = "net";
const DRIVER: &str = "net-golem";

/// First bytes of a VM's Ethernet addresses; its IPv4 address follows.
const MAC_PREFIX: [u8; 2] = [0x90, 0x13];

/// Of routes through a VPN's gateway, as upstream's guests have it.
const VPN_METRIC: u32 = 101;
const INET_METRIC: u32 = 0;

/// The cards of a VM.
#[derive(Debug, Default)]
pub struct Cards {
    vpn: Option<Card>,
    inet: Option<Card>,
}

#[derive(Debug)]
struct Card {
    /// Its name in the guest.
    name: &'static str,
    /// Where it takes frames, for exe-unit.
    endpoint: Endpoint,
}

impl Cards {
    /// Adds a card to `devices` for each endpoint of exe-unit's.
    pub fn add(devices: &mut Devices, vpn: Option<&str>, inet: Option<&str>) -> Result<Self> {
        if vpn.is_some() || inet.is_some() {
            devices.load(PLUGIN)?;
        }
        // In this order the guest finds them.
        let inet_name = if vpn.is_some() { "eth1" } else { "eth0" };
        let mut card = |url: Option<&str>, network: &str, name, number| {
            url.map(|url| {
                Card::add(devices, name, url, network, number)
                    .with_context(|| format!("the endpoint {url} of the {network}"))
            })
            .transpose()
        };
        Ok(Cards {
            vpn: card(vpn, "vpn", "eth0", 1)?,
            inet: card(inet, "inet", inet_name, 2)?,
        })
    }

    /// Has the guest join what `request` describes, and tells where it takes frames.
    pub(crate) fn join(&self, vm: &Vm, request: &CreateNetwork) -> Result<Endpoint> {
        let kind = NetworkInterface::try_from(request.interface)
            .map_err(|_| anyhow::anyhow!("unknown network interface {}", request.interface))?;
        let (card, option) = match kind {
            NetworkInterface::Vpn => (&self.vpn, "--vpn-endpoint"),
            NetworkInterface::Inet => (&self.inet, "--inet-endpoint"),
        };
        let Some(card) = card else {
            bail!("there is no such network: the runtime was started without {option}");
        };
        let interface = interface(card.name, kind, &request.networks)?;
        let hosts = hosts(request)?;
        let networks: Vec<_> = request.networks.iter().map(describe).collect();
        vm.join_network(&json!({ "interface": card.name, "networks": networks }))?;
        vm.set_interface(&interface)
            .with_context(|| format!("configure {}", card.name))?;
        if !hosts.is_empty() {
            vm.add_hosts(&hosts).context("add hosts")?;
        }
        Ok(card.endpoint.clone())
    }
}

impl Card {
    fn add(
        devices: &mut Devices,
        name: &'static str,
        url: &str,
        network: &str,
        number: u8,
    ) -> Result<Self> {
        let mut options = Map::new();
        let [a, b] = MAC_PREFIX;
        let mac = format!("{a:02x}:{b:02x}:00:00:00:{number:02x}");
        options.insert("network".into(), network.into());
        options.insert("mac".into(), mac.into());
        let mut set = |key: &str, value: Value| options.insert(key.into(), value);
        let (scheme, address) = url.split_once("://").context("it is no URL")?;
        // Open until the plugin has made its copy.
        let mut socket = None;
        let endpoint = match scheme {
            "udp" => {
                let bound =
                    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("bind a UDP socket")?;
                let local = bound.local_addr().context("ask a socket for its address")?;
                set("endpoint", url.into());
                set("fd", socket.insert(bound).as_raw_fd().into());
                Endpoint::UdpDatagram(local.to_string())
            }
            // exe-unit connects to where we listen.
            "tcp-listen" => {
                let address: SocketAddr = address.parse().context("it needs ADDRESS:PORT")?;
                set("endpoint", format!("tcp://{address}").into());
                set("listen", true.into());
                Endpoint::TcpStream(address.to_string())
            }
            "tcp-connect" => {
                let address: SocketAddr = address.parse().context("it needs ADDRESS:PORT")?;
                set("endpoint", format!("tcp://{address}").into());
                Endpoint::TcpStream(address.to_string())
            }
            "unix" => {
                set("endpoint", url.into());
                set("listen", true.into());
                Endpoint::UnixStream(address.to_owned())
            }
            _ => bail!("use udp://, tcp-listen://, tcp-connect:// or unix://"),
        };
        devices.add(DRIVER, Some(name), DeviceOptions::Typed(options))?;
        Ok(Card { name, endpoint })
    }
}

fn describe(network: &Network) -> Value {
    json!({
        "addr": network.addr,
        "gateway": network.gateway,
        "mask": network.mask,
        "if_addr": network.if_addr,
    })
}

/// What the guest's interface is to have. Of several networks the last one's
/// address is in the Ethernet address.
fn interface(name: &str, kind: NetworkInterface, networks: &[Network]) -> Result<Interface> {
    ensure!(!networks.is_empty(), "no network is described");
    let mut interface = Interface {
        name: name.into(),
        ..Interface::default()
    };
    for network in networks {
        let address: IpAddr = parse("if_addr", &network.if_addr)?;
        let len = prefix_len(&network.mask, address)?;
        interface.addresses.push(IpPrefix::new(address, len));
        interface.mac = Some(mac(address));
        // exe-unit leaves it out where there is none.
        if network.gateway.trim().is_empty() {
            continue;
        }
        let gateway: IpAddr = parse("gateway", &network.gateway)?;
        let (destination, metric) = match kind {
            NetworkInterface::Vpn => {
                let network: IpAddr = parse("addr", &network.addr)?;
                (IpPrefix::new(network, len).network(), VPN_METRIC)
            }
            NetworkInterface::Inet => (IpPrefix::new(gateway, 0).network(), INET_METRIC),
        };
        interface.routes.push(Route {
            destination,
            gateway: Some(gateway),
            metric,
        });
    }
    Ok(interface)
}

fn hosts(request: &CreateNetwork) -> Result<Vec<HostEntry>> {
    let mut hosts: Vec<_> = request.hosts.iter().collect();
    // A map has no order, and files are better read with one.
    hosts.sort();
    let entry = |(name, address): (&String, &String)| {
        Ok(HostEntry {
            address: parse("address of a host", address)?,
            name: name.clone(),
        })
    };
    hosts.into_iter().map(entry).collect()
}

fn parse(what: &str, text: &str) -> Result<IpAddr> {
    let address = text.trim().parse().ok();
    address.with_context(|| format!("{what} {text:?} is no IP address"))
}

/// From a mask as an address has it, or the number of its bits.
fn prefix_len(mask: &str, of: IpAddr) -> Result<u8> {
    let width = if of.is_ipv4() { 32 } else { 128 };
    let about = || format!("mask {mask:?} is no network mask for {of}");
    if let Ok(len) = mask.trim().parse::<u8>() {
        ensure!(len <= width, about());
        return Ok(len);
    }
    let mask: IpAddr = mask.trim().parse().ok().with_context(about)?;
    ensure!(mask.is_ipv4() == of.is_ipv4(), about());
    let bits = match mask {
        IpAddr::V4(mask) => u128::from(mask.to_bits()) << 96,
        IpAddr::V6(mask) => mask.to_bits(),
    };
    let len = bits.leading_ones();
    ensure!(bits.count_ones() == len, about());
    u8::try_from(len).with_context(about)
}

fn mac(address: IpAddr) -> [u8; 6] {
    let last: [u8; 4] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let [.., a, b, c, d] = address.octets();
            [a, b, c, d]
        }
    };
    let ([p, q], [a, b, c, d]) = (MAC_PREFIX, last);
    [p, q, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(addr: &str, gateway: &str, mask: &str, if_addr: &str) -> Network {
        Network {
            addr: addr.into(),
            gateway: gateway.into(),
            mask: mask.into(),
            if_addr: if_addr.into(),
        }
    }

    fn prefix(address: &str, len: u8) -> IpPrefix {
        IpPrefix::new(address.parse::<IpAddr>().unwrap(), len)
    }

    #[test]
    fn vpn_has_a_route_by_its_gateway_and_the_address_in_its_mac() {
        let networks = [network(
            "192.168.0.0",
            "192.168.0.1",
            "255.255.255.0",
            "192.168.0.2",
        )];
        let found = interface("eth0", NetworkInterface::Vpn, &networks).unwrap();
        assert_eq!(found.mac, Some([0x90, 0x13, 192, 168, 0, 2]));
        assert_eq!(found.addresses, [prefix("192.168.0.2", 24)]);
        let route = Route {
            destination: prefix("192.168.0.0", 24),
            gateway: Some("192.168.0.1".parse().unwrap()),
            metric: 101,
        };
        assert_eq!((found.routes, found.mtu), (vec![route], None));
    }

    #[test]
    fn empty_gateway_means_no_route() {
        let networks = [
            network("192.168.0.0", "", "255.255.255.0", "192.168.0.2"),
            network("fd00::", "", "ffff:ffff::", "fd00::7"),
        ];
        let found = interface("eth0", NetworkInterface::Vpn, &networks).unwrap();
        assert!(found.routes.is_empty());
        assert_eq!(
            found.addresses,
            [prefix("192.168.0.2", 24), prefix("fd00::7", 32)]
        );
        assert_eq!(
            found.mac,
            Some([0x90, 0x13, 0, 0, 0, 7]),
            "that of the last"
        );
    }

    #[test]
    fn inet_is_the_way_to_everybody() {
        let networks = [network(
            "10.42.42.1",
            "10.42.42.1",
            "255.255.255.0",
            "10.42.42.2",
        )];
        let found = interface("eth1", NetworkInterface::Inet, &networks).unwrap();
        let route = Route {
            destination: prefix("0.0.0.0", 0),
            gateway: Some("10.42.42.1".parse().unwrap()),
            metric: 0,
        };
        assert_eq!(found.routes, [route]);
    }

    #[test]
    fn what_is_no_network_is_named() {
        for (network, word) in [
            (
                network("x", "192.168.0.1", "24", "192.168.0.2"),
                "addr \"x\"",
            ),
            (
                network("192.168.0.0", "x", "24", "192.168.0.2"),
                "gateway \"x\"",
            ),
            (
                network("192.168.0.0", "", "255.0.255.0", "192.168.0.2"),
                "mask \"255.0.255.0\"",
            ),
            (
                network("192.168.0.0", "", "33", "192.168.0.2"),
                "mask \"33\"",
            ),
            (
                network("192.168.0.0", "", "ffff::", "192.168.0.2"),
                "mask \"ffff::\"",
            ),
            (network("192.168.0.0", "", "24", ""), "if_addr \"\""),
        ] {
            let error = interface("eth0", NetworkInterface::Vpn, &[network]).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        assert!(interface("eth0", NetworkInterface::Vpn, &[]).is_err());
    }

    #[test]
    fn hosts_are_told_in_order_of_their_names() {
        let hosts = [("node-b", "192.168.0.3"), ("node-a", "192.168.0.2")];
        let hosts = hosts.map(|(name, address)| (name.into(), address.into()));
        let request = CreateNetwork {
            hosts: hosts.into(),
            ..CreateNetwork::default()
        };
        let names: Vec<_> = super::hosts(&request)
            .unwrap()
            .into_iter()
            .map(|host| host.name)
            .collect();
        assert_eq!(names, ["node-a", "node-b"]);
    }
}
