//! Golem's networks as exe-unit brings them: endpoints at the start, addresses later,
//! frames by datagrams. All traffic stays in network namespaces that the tests make.

use std::net::{Ipv4Addr, SocketAddr};

use e2e_tests::{
    Activity, Answer, ECHO, Peer, PeerSocket, demo_image, guest_programs, in_own_network,
};
use tempfile::TempDir;

const VPN: u64 = 0;
const INET: u64 = 1;

/// Field of an endpoint that takes datagrams.
const UDP: u64 = 3;

const VPN_NETWORK: [&str; 4] = ["192.168.0.0", "192.168.0.1", "255.255.255.0", "192.168.0.2"];
const INET_NETWORK: [&str; 4] = ["10.42.42.1", "10.42.42.1", "255.255.255.0", "10.42.42.2"];

/// An activity whose guests find the probe in a volume.
fn activity() -> (TempDir, Activity) {
    let dir = TempDir::new().unwrap();
    let activity = Activity::new(dir.path(), &[&demo_image()]);
    let told = activity.deployed(&["--volume-override", r#"{"/probe":{"host":{}}}"#]);
    let probe = activity.volume(&told, "/probe").join("net-probe");
    std::fs::copy(guest_programs().join("net-probe"), probe).unwrap();
    (dir, activity)
}

#[track_caller]
fn udp(answer: Answer) -> SocketAddr {
    match answer {
        Answer::Network(UDP, address) => {
            let address: SocketAddr = address.parse().unwrap();
            assert!(address.ip().is_loopback(), "{address}");
            address
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_networks_are_joined_and_carry_frames() {
    in_own_network(|| {
        let (_dir, activity) = activity();
        let (vpn, inet) = (PeerSocket::bind(), PeerSocket::bind());
        let options = [
            "--vpn-endpoint",
            &vpn.endpoint(),
            "--inet-endpoint",
            &inet.endpoint(),
        ];
        let mut runtime = activity.start(&options, &[]).spawn();
        runtime.hello();
        // As exe-unit does: the Internet first.
        let hosts = [("node-1", "192.168.0.1"), ("node-2", "192.168.0.2")];
        let inet_at = udp(runtime.join(INET, &[INET_NETWORK], &[]));
        let vpn_at = udp(runtime.join(VPN, &[VPN_NETWORK], &hosts));
        assert_ne!(inet_at, vpn_at);
        let inet = inet.start(Ipv4Addr::new(10, 42, 42, 1), 65_280, inet_at, None);
        let vpn = vpn.start(Ipv4Addr::new(192, 168, 0, 1), 1220, vpn_at, Some(40));
        let cards = runtime.output("cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu /sys/class/net/eth1/address /sys/class/net/eth1/mtu");
        assert_eq!(cards, "90:13:c0:a8:00:02\n1220\n90:13:0a:2a:2a:02\n65521\n");
        let routes = runtime.output("ip route");
        assert!(
            routes.contains("default via 10.42.42.1 dev eth1"),
            "{routes}"
        );
        assert!(
            routes.contains("192.168.0.0/24 via 192.168.0.1 dev eth0  metric 101"),
            "{routes}"
        );
        assert!(
            runtime
                .output("cat /etc/hosts")
                .contains("192.168.0.1\tnode-1")
        );
        assert!(
            runtime
                .output("ping -c 2 node-1")
                .contains("2 packets received")
        );
        let said = runtime.output(&format!(
            "/probe/net-probe tcp 10.42.42.1:{ECHO} 4000000; /probe/net-probe udp 10.42.42.1:{ECHO} 200 1400; \
             /probe/net-probe tcp 192.168.0.1:{ECHO} 200000"
        ));
        for word in [
            "4000000 bytes came back",
            "200 datagrams came back",
            "200000 bytes came back",
        ] {
            assert!(said.contains(word), "{said}");
        }
        // The same again is as good, and another address comes beside the first.
        let more = ["192.168.7.0", "", "255.255.255.0", "192.168.7.9"];
        assert_eq!(udp(runtime.join(VPN, &[VPN_NETWORK, more], &hosts)), vpn_at);
        let addresses = runtime.output("ip addr show eth0");
        for word in ["192.168.0.2/24", "192.168.7.9/24", "90:13:c0:a8:07:09"] {
            assert!(addresses.contains(word), "{addresses}");
        }
        assert!(inet.end().frames > 200);
        let seen = vpn.end();
        assert!(seen.frames > 100 && seen.lost > 0, "{seen:?}");
        let id = runtime.ask(12, &[]);
        assert_eq!(runtime.answer(id), Answer::Shutdown);
        let mib = |name: &str| runtime.counters[&format!("golem.usage.network.{name}-mib")];
        assert!(
            mib("in") > 4.0 && mib("out") > 4.0,
            "{} {}",
            mib("in"),
            mib("out")
        );
        assert_eq!(runtime.close().code(), Some(0));
    });
}

#[test]
fn internet_alone_is_the_first_card() {
    in_own_network(|| {
        let (_dir, activity) = activity();
        let inet = PeerSocket::bind();
        let mut runtime = activity
            .start(&["--inet-endpoint", &inet.endpoint()], &[])
            .spawn();
        runtime.hello();
        let at = udp(runtime.join(INET, &[INET_NETWORK], &[]));
        let _inet: Peer = inet.start(Ipv4Addr::new(10, 42, 42, 1), 65_280, at, None);
        assert!(
            runtime
                .output("ping -c 2 10.42.42.1")
                .contains("2 packets received")
        );
        assert!(
            runtime
                .output("ip route")
                .contains("default via 10.42.42.1 dev eth0")
        );
        let refused = runtime.join(VPN, &[VPN_NETWORK], &[]);
        assert!(
            matches!(&refused, Answer::Error(0, text) if text.contains("--vpn-endpoint")),
            "{refused:?}"
        );
        let nonsense = ["10.42.42.1", "x", "255.255.255.0", "10.42.42.2"];
        let refused = runtime.join(INET, &[nonsense], &[]);
        assert!(
            matches!(&refused, Answer::Error(0, text) if text.contains("gateway \"x\"")),
            "{refused:?}"
        );
        runtime.shut_down();
    });
}

#[test]
fn vpn_without_a_gateway_has_no_route_by_one() {
    in_own_network(|| {
        let (_dir, activity) = activity();
        let vpn = PeerSocket::bind();
        let mut runtime = activity
            .start(&["--vpn-endpoint", &vpn.endpoint()], &[])
            .spawn();
        runtime.hello();
        let network = ["192.168.0.0", "", "255.255.255.0", "192.168.0.2"];
        let at = udp(runtime.join(VPN, &[network], &[]));
        let _vpn = vpn.start(Ipv4Addr::new(192, 168, 0, 1), 1220, at, None);
        assert!(
            runtime
                .output("ping -c 2 192.168.0.1")
                .contains("2 packets received")
        );
        assert!(!runtime.output("ip route").contains("via"));
        runtime.shut_down();
    });
}

#[test]
fn endpoints_of_other_kinds_are_told_and_wrong_ones_refused() {
    in_own_network(|| {
        let (dir, activity) = activity();
        let path = dir.path().join("frames.sock");
        let url = format!("unix://{}", path.display());
        let mut runtime = activity.start(&["--vpn-endpoint", &url], &[]).spawn();
        runtime.hello();
        let told = runtime.join(VPN, &[VPN_NETWORK], &[]);
        assert_eq!(told, Answer::Network(1, path.display().to_string()));
        let mut peer = std::os::unix::net::UnixStream::connect(&path).unwrap();
        // The guest asks for the gateway's Ethernet address: a frame after two bytes
        // of length, in the machine's order.
        let pid = runtime.run("/bin/ping", &["-c", "1", "-W", "1", "192.168.0.1"]);
        let frame = arp_request(&mut peer);
        assert_eq!(frame[6..12], [0x90, 0x13, 192, 168, 0, 2]);
        runtime.ended(pid);
        runtime.shut_down();
        assert!(!path.exists(), "the socket goes with the VM");
        for url in [
            "nonsense",
            "ftp://127.0.0.1:1",
            "udp://nowhere",
            "tcp-connect://127.0.0.1:1",
        ] {
            let outcome = activity.start(&["--vpn-endpoint", url], &[]).outcome();
            assert_eq!(
                (outcome.status, &*outcome.stdout),
                (Some(1), ""),
                "{outcome:?}"
            );
            assert!(outcome.stderr.contains(url), "{outcome:?}");
        }
    });
}

/// Reads frames until one asks who has an address.
fn arp_request(peer: &mut impl std::io::Read) -> Vec<u8> {
    loop {
        let mut len = [0; 2];
        peer.read_exact(&mut len).unwrap();
        let mut frame = vec![0; usize::from(u16::from_ne_bytes(len))];
        peer.read_exact(&mut frame).unwrap();
        if frame[12..14] == [0x08, 0x06] {
            return frame;
        }
    }
}
