//! Interfaces of a network namespace that only the test's thread is in. Without
//! root there is none to be had.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::thread;

use guest_protocol::{IpPrefix, Route};
use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use super::*;

/// Runs the test in a namespace with nothing but `lo`, which is down.
fn in_a_new_network(test: impl FnOnce() + Send + 'static) {
    if !geteuid().is_root() {
        return;
    }
    let test = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test();
    });
    test.join().unwrap();
}

fn prefix(address: &str, len: u8) -> IpPrefix {
    IpPrefix::new(address.parse::<IpAddr>().unwrap(), len)
}

fn route(destination: IpPrefix, gateway: Option<&str>, metric: u32) -> Route {
    let gateway = gateway.map(|gateway| gateway.parse().unwrap());
    Route {
        destination,
        gateway,
        metric,
    }
}

fn loopback() -> Interface {
    Interface {
        name: "lo".into(),
        mac: Some([0x90, 0x13, 192, 168, 0, 2]),
        mtu: Some(9000),
        addresses: vec![
            prefix("192.168.0.2", 24),
            prefix("192.168.0.3", 24),
            prefix("fd00::2", 64),
        ],
        routes: vec![
            route(prefix("0.0.0.0", 0), Some("192.168.0.1"), 101),
            route(prefix("10.0.0.0", 8), None, 0),
            route(prefix("fd01::", 64), None, 7),
        ],
    }
}

/// This thread's table of that name.
fn table(name: &str) -> String {
    fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap()
}

#[test]
fn interface_gets_everything_and_the_same_again_is_no_error() {
    in_a_new_network(|| {
        for _ in 0..2 {
            set_up(&loopback()).unwrap();
        }
        let mac = getifaddrs().unwrap().find_map(|found| {
            let address = found.address?;
            address.as_link_addr()?.addr()
        });
        assert_eq!(mac, Some([0x90, 0x13, 192, 168, 0, 2]));
        // Of use at once: binding fails while an address is being asked about.
        for address in ["192.168.0.2:0", "192.168.0.3:0", "[fd00::2]:0", "[::1]:0"] {
            UdpSocket::bind(address).unwrap();
        }
        let lines = table("route");
        let (default, on_link) = (
            "lo\t00000000\t0100A8C0\t0003\t0\t0\t101",
            "lo\t0000000A\t00000000\t0001",
        );
        for line in [default, on_link] {
            assert_eq!(lines.matches(line).count(), 1, "{lines}");
        }
        let lines = table("ipv6_route");
        let mut fields = lines
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>());
        let on_link = fields.find(|fields| fields[0] == format!("fd01{}", "0".repeat(28)));
        assert_eq!(
            (on_link.as_ref().unwrap()[1], on_link.unwrap()[5]),
            ("40", "00000007")
        );
        let mtu = fs::read_to_string("/proc/sys/net/ipv6/conf/lo/mtu").unwrap();
        assert_eq!(mtu.trim(), "9000");
    });
}

#[test]
fn what_is_not_named_is_left_alone() {
    in_a_new_network(|| {
        set_up(&loopback()).unwrap();
        let name = "lo".to_owned();
        set_up(&Interface {
            name,
            ..Interface::default()
        })
        .unwrap();
        UdpSocket::bind("192.168.0.2:0").unwrap();
        assert!(table("route").contains("0100A8C0"));
    });
}

#[test]
fn errors_name_interface_step_and_reason() {
    in_a_new_network(|| {
        let missing = Interface {
            name: "eth7".into(),
            ..loopback()
        };
        assert_eq!(
            set_up(&missing).unwrap_err(),
            Failed {
                errno: Errno::ENODEV,
                message: "eth7: there is no such interface; the guest has lo".into()
            }
        );
        let unreachable = Interface {
            routes: vec![route(prefix("0.0.0.0", 0), Some("172.16.0.1"), 0)],
            ..loopback()
        };
        assert_eq!(
            set_up(&unreachable).unwrap_err(),
            Failed {
                errno: Errno::ENETUNREACH,
                message: "lo: add the route to 0.0.0.0/0 via 172.16.0.1: Network is unreachable"
                    .into()
            }
        );
    });
}
