//! What a guest's network is told, as far as it goes without a card: its loopback
//! interface, name servers, names of hosts.

use e2e_tests::{builder, demo_image, output, with_each_kernel};
use shem::{ClientError, HostEntry, Image, Interface, IpPrefix, Resolver, Route, Vm};

with_each_kernel!(
    interface_gets_addresses_of_both_kinds_that_are_of_use_at_once,
    interface_that_is_not_there_is_an_error_that_names_those_that_are,
    name_servers_replace_the_images,
    hosts_have_one_line_however_often_they_are_told,
    sockets_have_buffers_for_long_ways,
);

fn boot(kernel: &str) -> Vm {
    let image = Image::open(demo_image()).unwrap();
    builder(kernel).layer(image).boot().unwrap()
}

fn prefix(address: &str, len: u8) -> IpPrefix {
    IpPrefix::new(address.parse::<std::net::IpAddr>().unwrap(), len)
}

fn interface_gets_addresses_of_both_kinds_that_are_of_use_at_once(kernel: &str) {
    let vm = boot(kernel);
    let before = output(&vm, &["ip", "addr", "show", "lo"]);
    for address in ["127.0.0.1/8", "::1/128"] {
        assert!(before.contains(address), "{before}");
    }
    let lo = Interface {
        name: "lo".into(),
        mtu: Some(9000),
        addresses: vec![prefix("10.9.8.7", 24), prefix("fd00::7", 64)],
        routes: vec![Route {
            destination: prefix("172.16.0.0", 12),
            gateway: Some("10.9.8.1".parse().unwrap()),
            metric: 101,
        }],
        ..Interface::default()
    };
    for _ in 0..2 {
        vm.set_interface(&lo).unwrap();
    }
    let after = output(&vm, &["ip", "addr", "show", "lo"]);
    for part in ["127.0.0.1/8", "10.9.8.7/24", "fd00::7/64", "mtu 9000"] {
        assert_eq!(after.matches(part).count(), 1, "{part} in {after}");
    }
    assert!(!after.contains("tentative"), "{after}");
    let route = "172.16.0.0/12 via 10.9.8.1 dev lo  metric 101";
    let routes = output(&vm, &["ip", "route", "list"]);
    assert!(routes.contains(route), "{routes}");
    for address in ["10.9.8.7", "[fd00::7]"] {
        let script = format!("httpd -p {address}:80 -h /etc && wget -qO- http://{address}/passwd");
        let page = output(&vm, &["sh", "-c", &script]);
        assert!(page.starts_with("root:"), "{page}");
    }
}

fn interface_that_is_not_there_is_an_error_that_names_those_that_are(kernel: &str) {
    let vm = boot(kernel);
    let error = vm.set_interface(&Interface {
        name: "eth7".into(),
        ..Interface::default()
    });
    let Err(ClientError::Failed(failure)) = error else {
        panic!("{error:?}");
    };
    assert_eq!(failure.errno, libc::ENODEV);
    let text = "eth7: there is no such interface; the guest has ";
    assert!(failure.message.starts_with(text), "{}", failure.message);
    assert!(failure.message.contains("lo"), "{}", failure.message);
}

fn name_servers_replace_the_images(kernel: &str) {
    let vm = boot(kernel);
    let link =
        "mkdir -p /run/r && echo nameserver 9.9.9.9 > /run/r/c && ln -sf /run/r/c /etc/resolv.conf";
    output(&vm, &["sh", "-c", link]);
    let resolver = Resolver {
        nameservers: vec!["10.0.2.3".parse().unwrap(), "fd00::3".parse().unwrap()],
        search: vec!["example.org".into()],
    };
    for _ in 0..2 {
        vm.set_resolver(&resolver).unwrap();
    }
    let text = output(&vm, &["cat", "/etc/resolv.conf"]);
    assert_eq!(
        text,
        "nameserver 10.0.2.3\nnameserver fd00::3\nsearch example.org\n"
    );
    assert_eq!(output(&vm, &["cat", "/run/r/c"]), "nameserver 9.9.9.9\n");
}

fn hosts_have_one_line_however_often_they_are_told(kernel: &str) {
    let vm = boot(kernel);
    let entries = [HostEntry {
        address: "127.0.0.1".parse().unwrap(),
        name: "node-1".into(),
    }];
    for _ in 0..2 {
        vm.add_hosts(&entries).unwrap();
    }
    assert_eq!(output(&vm, &["grep", "-c", "node-1", "/etc/hosts"]), "1\n");
    let reached = output(&vm, &["ping", "-c", "1", "node-1"]);
    assert!(reached.contains("127.0.0.1"), "{reached}");
}

fn sockets_have_buffers_for_long_ways(kernel: &str) {
    let vm = boot(kernel);
    for (setting, bytes) in [
        ("rmem_default", "1048576\n"),
        ("wmem_default", "1048576\n"),
        ("rmem_max", "2097152\n"),
        ("wmem_max", "2097152\n"),
    ] {
        let file = format!("/proc/sys/net/core/{setting}");
        assert_eq!(output(&vm, &["cat", &file]), bytes, "{setting}");
    }
}
