//! `--net` of `shem run`: network cards of the plugin `net`, and what the guest is
//! told to do with them. Parsing is pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, bail, ensure};
use shem::{DeviceOptions, Devices, Interface, IpPrefix, Resolver, Route, Vm};

/// The plugin whose drivers these are.
const PLUGIN: &str = "net";

/// What a guest behind passt is told unless said otherwise, as QEMU's users know it.
const PASST_ADDRESS: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 0, 2, 15), 24);
const PASST_GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const PASST_DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);

/// Metric of the first card's gateway; that of the next is one more. Linux takes an
/// IPv6 route of metric 0 for one of 1024.
const FIRST_METRIC: u32 = 100;

/// One `--net`: a card, or that there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetArg {
    None,
    Card(Card),
}

/// A card, and its side of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    kind: Kind,
    /// For the driver.
    options: Vec<(String, String)>,
    addresses: Vec<IpPrefix>,
    gateways: Vec<IpAddr>,
    nameservers: Vec<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Golem,
    Tap,
    Passt,
    Hub,
}

impl Kind {
    fn driver(self) -> &'static str {
        match self {
            Kind::Golem => "net-golem",
            Kind::Tap => "net-tap",
            Kind::Passt => "net-passt",
            Kind::Hub => "net-hub",
        }
    }

    /// The driver's option that the value behind the kind's name is.
    fn main_option(self) -> Option<&'static str> {
        match self {
            Kind::Golem => Some("endpoint"),
            Kind::Tap => Some("name"),
            Kind::Hub => Some("path"),
            Kind::Passt => None,
        }
    }
}

/// `none`, or `golem=URL`, `tap=NAME`, `hub=PATH`, `passt`, each with `,KEY=VALUE…`:
/// `ip=ADDRESS/PREFIX`, `gateway=` and `dns=` for the guest, the rest for the driver.
pub fn net(text: &str) -> Result<NetArg> {
    let mut words = text.split(',');
    let first = words.next().unwrap_or_default();
    let (name, value) = match first.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (first, None),
    };
    let kind = match name {
        "none" => {
            ensure!(text == "none", "none goes alone");
            return Ok(NetArg::None);
        }
        "golem" => Kind::Golem,
        "tap" => Kind::Tap,
        "passt" => Kind::Passt,
        "hub" => Kind::Hub,
        _ => bail!("unknown network {name:?}: use none, passt, tap=NAME, golem=URL or hub=PATH"),
    };
    let mut card = Card {
        kind,
        options: Vec::new(),
        addresses: Vec::new(),
        gateways: Vec::new(),
        nameservers: Vec::new(),
    };
    match (kind.main_option(), value) {
        (Some(option), Some(value)) => card.options.push((option.into(), value.into())),
        (None, None) => {}
        (Some(option), None) => bail!(
            "{name} needs its {option}: write {name}={}",
            option.to_uppercase()
        ),
        (None, Some(_)) => bail!("{name} has no value: write {name}, or {name},KEY=VALUE"),
    }
    for word in words {
        let (key, value) = word
            .split_once('=')
            .with_context(|| format!("{word:?} has no value: write KEY=VALUE"))?;
        match key {
            "address" | "prefix" if kind == Kind::Passt => {
                bail!("{key}: write ip=ADDRESS/PREFIX, which is the guest's too")
            }
            "ip" => card.addresses.push(prefix(value)?),
            "gateway" => card.gateways.push(address(value).context("gateway")?),
            "dns" => card.nameservers.push(address(value).context("dns")?),
            _ => card.options.push((key.into(), value.into())),
        }
    }
    if kind == Kind::Passt {
        card.agree_with_passt();
    }
    Ok(NetArg::Card(card))
}

fn prefix(text: &str) -> Result<IpPrefix> {
    let form = || format!("ip: {text:?}: write an address and its prefix, as in 10.0.0.2/24");
    let (ip, length) = text.split_once('/').with_context(form)?;
    let ip: IpAddr = ip.parse().ok().with_context(form)?;
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    let length = length.parse().ok().filter(|length| *length <= longest);
    Ok(IpPrefix::new(ip, length.with_context(form)?))
}

fn address(text: &str) -> Result<IpAddr> {
    text.parse()
        .ok()
        .with_context(|| format!("{text:?} is no IP address"))
}

/// The cards among `args`: `none` allows no others.
pub fn cards(args: &[NetArg]) -> Result<Vec<Card>> {
    let cards: Vec<Card> = args
        .iter()
        .filter_map(|arg| match arg {
            NetArg::None => None,
            NetArg::Card(card) => Some(card.clone()),
        })
        .collect();
    ensure!(
        cards.is_empty() || cards.len() == args.len(),
        "--net none and others exclude each other"
    );
    Ok(cards)
}

/// Whether one of them is passt's.
pub fn passt(cards: &[Card]) -> bool {
    cards.iter().any(|card| card.kind == Kind::Passt)
}

/// Has the first passt take `ports`, in its own syntax.
pub fn publish(cards: &mut [Card], ports: Vec<String>) {
    if let Some(card) = cards.iter_mut().find(|card| card.kind == Kind::Passt) {
        let options = ports.into_iter().map(|port| ("ports".to_owned(), port));
        card.options.extend(options);
    }
}

/// Makes the cards, `eth0` and so on, before any others.
pub fn add(devices: &mut Devices, cards: &[Card]) -> Result<()> {
    if !cards.is_empty() {
        // Unless one with these drivers was named.
        if !devices.knows(Kind::Tap.driver()) {
            devices.load(PLUGIN)?;
        }
    }
    for (index, card) in cards.iter().enumerate() {
        let options = DeviceOptions::Text(card.options.clone());
        devices.add(card.kind.driver(), Some(&name(index)), options)?;
    }
    Ok(())
}

fn name(index: usize) -> String {
    format!("eth{index}")
}

/// Has the guest use the cards: addresses, ways, name servers.
pub fn configure(vm: &Vm, cards: &[Card]) -> Result<()> {
    for (index, card) in cards.iter().enumerate() {
        let interface = card.interface(index);
        vm.set_interface(&interface)
            .with_context(|| format!("configure {}", interface.name))?;
    }
    let nameservers: Vec<_> = cards
        .iter()
        .flat_map(|card| card.nameservers.clone())
        .collect();
    if !nameservers.is_empty() {
        let search = Vec::new();
        vm.set_resolver(&Resolver {
            nameservers,
            search,
        })
        .context("configure the resolver")?;
    }
    Ok(())
}

impl Card {
    /// The guest is configured by us, and passt has to know how.
    fn agree_with_passt(&mut self) {
        let v4 = |address: &IpAddr| address.is_ipv4();
        if !self.addresses.iter().any(|own| v4(&own.address)) {
            let (address, length) = PASST_ADDRESS;
            self.addresses.push(IpPrefix::new(address, length));
        }
        if !self.gateways.iter().any(v4) {
            self.gateways.push(PASST_GATEWAY.into());
        }
        // One of the guest's own choice is asked as it is.
        if self.nameservers.is_empty() {
            self.nameservers.push(PASST_DNS.into());
            self.options.push(("dns".into(), PASST_DNS.to_string()));
        }
        let own = self.addresses.iter().find(|own| v4(&own.address));
        let told = [
            ("address", own.map(|own| own.address.to_string())),
            ("prefix", own.map(|own| own.len.to_string())),
            (
                "gateway",
                self.gateways
                    .iter()
                    .find(|ip| v4(ip))
                    .map(IpAddr::to_string),
            ),
        ];
        for (key, value) in told {
            self.options
                .extend(value.map(|value| (key.to_owned(), value)));
        }
    }

    /// The guest's side of it; the first card's gateway is asked first.
    fn interface(&self, index: usize) -> Interface {
        let everybody = |gateway: &IpAddr| match gateway {
            IpAddr::V4(_) => IpPrefix::new(Ipv4Addr::UNSPECIFIED, 0),
            IpAddr::V6(_) => IpPrefix::new(Ipv6Addr::UNSPECIFIED, 0),
        };
        let routes = self.gateways.iter().map(|gateway| Route {
            destination: everybody(gateway),
            gateway: Some(*gateway),
            metric: FIRST_METRIC + index as u32,
        });
        Interface {
            name: name(index),
            addresses: self.addresses.clone(),
            routes: routes.collect(),
            ..Interface::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(text: &str) -> Card {
        match net(text).unwrap() {
            NetArg::Card(card) => card,
            NetArg::None => panic!("no card: {text}"),
        }
    }

    #[test]
    fn guest_and_driver_get_what_is_theirs() {
        let card = card(
            "tap=tap0,ip=10.1.0.2/24,ip=fd00::2/64,gateway=10.1.0.1,gateway=fd00::1,dns=10.1.0.1,queues=2",
        );
        assert_eq!(card.kind.driver(), "net-tap");
        let options = [("name", "tap0"), ("queues", "2")].map(|(k, v)| (k.into(), v.into()));
        assert_eq!(card.options, options);
        let interface = card.interface(1);
        assert_eq!((&*interface.name, interface.addresses.len()), ("eth1", 2));
        assert!(card.interface(0).routes[0].metric < interface.routes[0].metric);
        let routes: Vec<_> = interface
            .routes
            .iter()
            .map(|route| (route.destination.to_string(), route.gateway, route.metric))
            .collect();
        let via = |text: &str| Some(text.parse().unwrap());
        let expected = [
            ("0.0.0.0/0".into(), via("10.1.0.1"), FIRST_METRIC + 1),
            ("::/0".into(), via("fd00::1"), FIRST_METRIC + 1),
        ];
        assert_eq!(routes, expected);
        assert_eq!(card.nameservers, ["10.1.0.1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn passt_and_the_guest_are_told_the_same() {
        let told = |text: &str| {
            let card = card(text);
            let option = |key: &str| {
                let found = card.options.iter().find(|(known, _)| known == key);
                found.map(|(_, value)| value.clone()).unwrap()
            };
            let own = IpPrefix::new(
                option("address").parse::<IpAddr>().unwrap(),
                option("prefix").parse().unwrap(),
            );
            assert_eq!(card.addresses, [own]);
            assert_eq!(card.gateways[0].to_string(), option("gateway"));
            own.to_string()
        };
        assert_eq!(told("passt"), "10.0.2.15/24");
        let dns = |text: &str| {
            let card = card(text);
            let told = card.options.iter().any(|(key, _)| key == "dns");
            (card.nameservers[0].to_string(), told)
        };
        assert_eq!(dns("passt"), ("10.0.2.3".into(), true));
        assert_eq!(dns("passt,dns=1.1.1.1"), ("1.1.1.1".into(), false));
        assert_eq!(
            told("passt,ip=10.5.0.9/16,gateway=10.5.0.1,dns=10.5.0.1"),
            "10.5.0.9/16"
        );
    }

    #[test]
    fn none_stands_alone() {
        assert_eq!(cards(&[]).unwrap(), []);
        assert_eq!(cards(&[NetArg::None]).unwrap(), []);
        let both = [NetArg::None, NetArg::Card(card("passt"))];
        assert!(cards(&both).is_err());
        assert_eq!(cards(&both[1..]).unwrap().len(), 1);
    }

    #[test]
    fn what_is_no_network_is_refused_with_what_would_be() {
        for (text, word) in [
            ("", "use none, passt"),
            ("host", "use none, passt"),
            ("none,ip=1.2.3.4/5", "goes alone"),
            ("tap", "tap=NAME"),
            ("passt=x", "no value"),
            ("tap=t,ip=10.0.0.1", "as in 10.0.0.2/24"),
            ("tap=t,ip=10.0.0.1/33", "as in 10.0.0.2/24"),
            ("tap=t,ip=x/8", "as in 10.0.0.2/24"),
            ("tap=t,gateway=here", "gateway"),
            ("tap=t,dns=here", "dns"),
            ("tap=t,queues", "\"queues\" has no value"),
            ("passt,address=10.0.0.4", "write ip="),
        ] {
            let error = format!("{:#}", net(text).unwrap_err());
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
