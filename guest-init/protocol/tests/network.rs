//! Requests about the network come back as they went, and what no kernel would
//! take is refused.

use std::net::IpAddr;

use guest_protocol::{
    Interface, IpPrefix, MAX_ADDRESSES, MAX_INTERFACE_NAME, MAX_NAMESERVERS, MAX_ROUTES,
    MAX_SEARCH_DOMAINS, MessageError, Open, Request, RequestBody, Resolver, Route, decode, encode,
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(text: &str) -> IpPrefix {
    let (address, len) = text.split_once('/').unwrap();
    IpPrefix::new(ip(address), len.parse().unwrap())
}

fn route(destination: &str, gateway: Option<&str>) -> Route {
    Route {
        destination: prefix(destination),
        gateway: gateway.map(ip),
        metric: 101,
    }
}

fn interface() -> Interface {
    Interface {
        name: "eth0".into(),
        mac: Some([0x90, 0x13, 192, 168, 0, 2]),
        mtu: Some(1220),
        addresses: vec![prefix("192.168.0.2/24"), prefix("fd00::2/64")],
        routes: vec![
            route("192.168.0.0/24", Some("192.168.0.1")),
            route("0.0.0.0/0", Some("192.168.0.1")),
            route("::/0", Some("fe80::1")),
            route("10.0.0.0/8", None),
        ],
    }
}

fn resolver() -> Resolver {
    Resolver {
        nameservers: vec![ip("1.1.1.1"), ip("2606:4700::1111")],
        search: vec!["example.org".into()],
    }
}

/// The encoded request, or why it is none; it comes back as it went.
fn encoded(body: RequestBody) -> Result<Vec<u8>, MessageError> {
    let request = Request { id: 7, body };
    let bytes = encode(&request)?;
    assert_eq!(decode::<Request>(&bytes).as_ref(), Ok(&request));
    Ok(bytes)
}

fn assert_invalid(interface: Interface) {
    let text = format!("{interface:?}");
    let error = encoded(RequestBody::Interface(interface)).expect_err(&text);
    assert!(
        matches!(error, MessageError::Invalid { .. }),
        "{text}: {error}"
    );
}

#[test]
fn interface_and_resolver_come_back_as_they_went() {
    encoded(RequestBody::Interface(interface())).unwrap();
    encoded(RequestBody::Interface(Interface {
        name: "lo".into(),
        ..Interface::default()
    }))
    .unwrap();
    encoded(RequestBody::Resolver(resolver())).unwrap();
    encoded(RequestBody::Resolver(Resolver::default())).unwrap();
}

#[test]
fn new_requests_stand_behind_the_old_ones() {
    // The number of the variant is what the other side goes by.
    for (body, number) in [
        (RequestBody::Shutdown, 3),
        (RequestBody::Interface(interface()), 4),
        (RequestBody::Resolver(resolver()), 5),
    ] {
        assert_eq!(encoded(body).unwrap()[1], number);
    }
    assert_eq!(encode(&Open::Connect { port: 80 }).unwrap(), [8, 80]);
}

#[test]
fn interface_names_are_the_kernels() {
    let longest = "x".repeat(MAX_INTERFACE_NAME);
    for name in ["eth0", "wg-home", "veth1.7", &longest] {
        let name = name.into();
        encoded(RequestBody::Interface(Interface {
            name,
            ..interface()
        }))
        .unwrap();
    }
    for name in ["", ".", "..", "a/b", "eth0:1", "a b", "a\n", "a\0"] {
        let name = name.into();
        assert_invalid(Interface {
            name,
            ..interface()
        });
    }
    let name = "x".repeat(MAX_INTERFACE_NAME + 1);
    assert!(
        encoded(RequestBody::Interface(Interface {
            name,
            ..interface()
        }))
        .is_err()
    );
}

#[test]
fn addresses_that_no_single_host_has_are_refused() {
    for mac in [[0; 6], [0xff; 6], [1, 0, 0x5e, 0, 0, 1]] {
        let mac = Some(mac);
        assert_invalid(Interface { mac, ..interface() });
    }
    for mtu in [0, 67, 65_536, u32::MAX] {
        let mtu = Some(mtu);
        assert_invalid(Interface { mtu, ..interface() });
    }
    for address in [
        "0.0.0.0/8",
        "224.0.0.1/4",
        "::/64",
        "ff02::1/64",
        "10.0.0.1/33",
        "::1/129",
    ] {
        let addresses = vec![prefix(address)];
        assert_invalid(Interface {
            addresses,
            ..interface()
        });
    }
}

#[test]
fn routes_that_lead_nowhere_are_refused() {
    for bad in [
        route("10.0.0.0/33", None),
        route("10.0.0.1/24", None),
        route("fd00::1/64", None),
        route("10.0.0.0/8", Some("fe80::1")),
        route("::/0", Some("10.0.0.1")),
        route("0.0.0.0/0", Some("0.0.0.0")),
        route("0.0.0.0/0", Some("224.0.0.1")),
    ] {
        let routes = vec![bad];
        assert_invalid(Interface {
            routes,
            ..interface()
        });
    }
}

#[test]
fn lists_are_bounded() {
    let addresses = vec![prefix("10.0.0.1/8"); MAX_ADDRESSES + 1];
    let routes = vec![route("10.0.0.0/8", None); MAX_ROUTES + 1];
    let nameservers = vec![ip("10.0.0.1"); MAX_NAMESERVERS + 1];
    let search = vec!["x".to_owned(); MAX_SEARCH_DOMAINS + 1];
    for body in [
        RequestBody::Interface(Interface {
            addresses,
            ..interface()
        }),
        RequestBody::Interface(Interface {
            routes,
            ..interface()
        }),
        RequestBody::Resolver(Resolver {
            nameservers,
            ..resolver()
        }),
        RequestBody::Resolver(Resolver {
            search,
            ..resolver()
        }),
    ] {
        assert!(matches!(encoded(body), Err(MessageError::TooLong { .. })));
    }
}

#[test]
fn search_domain_that_would_be_more_than_one_word_is_refused() {
    for domain in ["", "a b", "a\nnameserver 6.6.6.6", "a#b", "a\0"] {
        let search = vec![domain.to_owned()];
        let body = RequestBody::Resolver(Resolver {
            search,
            ..resolver()
        });
        assert!(
            matches!(encoded(body), Err(MessageError::Invalid { .. })),
            "{domain:?}"
        );
    }
}

#[test]
fn port_zero_is_nobodys() {
    assert!(encode(&Open::Connect { port: 0 }).is_err());
    encode(&Open::Connect { port: u16::MAX }).unwrap();
}
