//! Guests on networks: Golem's datagrams, a TAP of the host, passt, and each other.
//! All traffic stays in network namespaces that the tests make.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread;

use e2e_tests::{
    ECHO, Outcome, Peer, Shem, free_port, guest_programs, image_of_programs, in_own_network, ip,
    long, way_out, web_server, with_each_kernel,
};

with_each_kernel!(
    golems_datagrams_carry_ping_tcp_and_udp,
    a_tap_carries_all_that_linux_sends,
);

/// Bytes through a connection, to and fro.
fn bulk() -> u64 {
    if long() { 1 << 30 } else { 16 << 20 }
}

/// `shem run` with these networks, and the probe in `/probe`.
fn guest(kernel: &str, nets: &[&str], script: &str) -> Shem {
    let probe = format!("{}:/probe:ro", guest_programs().display());
    let mut options = vec!["-v", &probe];
    for net in nets {
        options.extend(["--net", net]);
    }
    Shem::run(kernel, &options, &["sh", "-ec", script])
}

/// What went well in a guest, and said these words in this order.
#[track_caller]
fn assert_said(outcome: &Outcome, words: &[&str]) {
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    let mut rest = &*outcome.stdout;
    for word in words {
        let at = rest.find(word);
        let at = at.unwrap_or_else(|| panic!("{word:?} is not in the rest of {outcome:?}"));
        rest = &rest[at + word.len()..];
    }
}

/// A program of the host that is ended with the test.
struct Running(Child);

impl Running {
    /// Starts it, and returns when it has written the line `ready`.
    fn until(mut child: Child, ready: &str) -> Self {
        let stdout = child.stdout.as_mut().expect("stdout is piped");
        let mut lines = BufReader::new(stdout).lines();
        let line = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains(ready)));
        assert!(line.is_some(), "{ready:?} was not said");
        Running(child)
    }

    fn probe(words: &[&str]) -> Self {
        let mut probe = Command::new(guest_programs().join("net-probe"));
        probe.args(words).stdout(Stdio::piped());
        Running::until(probe.spawn().unwrap(), "ready")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn golems_datagrams_carry_ping_tcp_and_udp(kernel: &str) {
    let kernel = kernel.to_owned();
    in_own_network(move || {
        let local = free_port();
        let inet = Ipv4Addr::new(10, 42, 42, 1);
        let peer = Peer::start(inet, 65_280, local, None);
        let net = format!(
            "golem={},network=inet,local={local},ip=10.42.42.2/24,gateway=10.42.42.1",
            peer.endpoint()
        );
        let script = format!(
            "ping -c 3 10.42.42.1; /probe/net-probe tcp 10.42.42.1:{ECHO} {}; \
             /probe/net-probe udp 10.42.42.1:{ECHO} 300 1400; cat /sys/class/net/eth0/mtu",
            bulk()
        );
        let outcome = guest(&kernel, &[&net], &script).outcome();
        let came_back = format!("{} bytes came back", bulk());
        let words = [
            "3 packets received",
            &came_back,
            "300 datagrams came back",
            "65521",
        ];
        assert_said(&outcome, &words);
        assert!(peer.end().frames > 300);
    });
}

#[test]
fn two_networks_of_golem_have_cards_of_their_own_and_bear_losses() {
    in_own_network(|| {
        let (vpn_local, inet_local) = (free_port(), free_port());
        let vpn = Peer::start(Ipv4Addr::new(192, 168, 0, 1), 1220, vpn_local, Some(40));
        let inet = Peer::start(Ipv4Addr::new(10, 42, 42, 1), 65_280, inet_local, Some(40));
        let vpn_net = format!(
            "golem={},network=vpn,local={vpn_local},ip=192.168.0.2/24",
            vpn.endpoint()
        );
        let inet_net = format!(
            "golem={},network=inet,local={inet_local},ip=10.42.42.2/24,gateway=10.42.42.1",
            inet.endpoint()
        );
        let script = format!(
            "/probe/net-probe tcp 192.168.0.1:{ECHO} 1000000; \
             /probe/net-probe udp 192.168.0.1:{ECHO} 200 1000; \
             /probe/net-probe tcp 10.42.42.1:{ECHO} 1000000; \
             cat /sys/class/net/eth0/mtu /sys/class/net/eth1/mtu; ip route"
        );
        let outcome = guest("tuned", &[&vpn_net, &inet_net], &script).outcome();
        let words = [
            "1000000 bytes came back",
            "200 datagrams came back",
            "1000000 bytes came back",
            "1220\n65521\n",
            "default via 10.42.42.1 dev eth1",
        ];
        assert_said(&outcome, &words);
        for peer in [vpn, inet] {
            let seen = peer.end();
            assert!(seen.lost > 0, "{seen:?}");
        }
    });
}

/// A TAP in this namespace, with addresses of both kinds for the host.
fn make_tap(name: &str, queues: &str) {
    ip(&format!("tuntap add dev {name} mode tap vnet_hdr{queues}"));
    ip(&format!("addr add 10.77.0.1/24 dev {name}"));
    ip(&format!("addr add fd77::1/64 dev {name} nodad"));
    ip(&format!("link set {name} up"));
}

fn a_tap_carries_all_that_linux_sends(kernel: &str) {
    let kernel = kernel.to_owned();
    in_own_network(move || {
        make_tap("tap0", "");
        let _server = Running::probe(&["serve", "7"]);
        let names = name_server("10.77.0.1:53");
        let net = "tap=tap0,ip=10.77.0.2/24,ip=fd77::2/64,gateway=10.77.0.1,dns=10.77.0.1";
        let bulk = bulk();
        let script = format!(
            "ping -c 2 10.77.0.1; ping6 -c 2 fd77::1; nslookup host.test; \
             /probe/net-probe tcp 10.77.0.1:7 {bulk}; /probe/net-probe tcp [fd77::1]:7 1000000; \
             /probe/net-probe udp 10.77.0.1:7 300 1400; /probe/net-probe udp 10.77.0.1:7 20 60000"
        );
        let outcome = guest(&kernel, &[net], &script).outcome();
        let came_back = format!("{bulk} bytes came back");
        let words = [
            "2 packets received",
            "2 packets received",
            "10.77.0.99",
            &came_back,
            "1000000 bytes came back",
            "300 datagrams came back",
            "20 datagrams came back",
        ];
        assert_said(&outcome, &words);
        drop(names);
    });
}

/// Tells everybody that any name is 10.77.0.99 (RFC 1035), until it is dropped.
struct Names(UdpSocket);

fn name_server(address: &str) -> Names {
    let socket = UdpSocket::bind(address).unwrap();
    let for_thread = socket.try_clone().unwrap();
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((len, from)) = for_thread.recv_from(&mut query) {
            if len < 12 {
                return;
            }
            // The header and the question again, and behind it, for type A, an answer.
            let mut answer = query[..len].to_vec();
            let is_a = answer[len - 4..] == [0, 1, 0, 1];
            answer[2..8].copy_from_slice(&[0x84, 0, 0, 1, 0, u8::from(is_a)]);
            if is_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 77, 0, 99]);
            }
            let _ = for_thread.send_to(&answer, from);
        }
    });
    Names(socket)
}

impl Drop for Names {
    fn drop(&mut self) {
        let address = self.0.local_addr().unwrap();
        let _ = self.0.send_to(&[], address);
    }
}

#[test]
fn a_server_in_the_guest_is_reached_by_the_host_and_many_queues_carry_iperf() {
    in_own_network(|| {
        make_tap("tap0", " multi_queue");
        let folder = tempfile::tempdir().unwrap();
        let iperf = image_of_programs(folder.path(), &["/usr/bin/iperf3"]);
        let demo = e2e_tests::demo_image();
        let mut shem = Shem::new(&["run", "--cpus", "2", "--net"]);
        shem.command()
            .arg("tap=tap0,queues=2,ip=10.77.0.2/24")
            .args([&iperf, &demo])
            .args(["--", "iperf3", "-s", "-1", "--forceflush"]);
        let child = shem.spawn();
        let mut server = Running::until(child, "Server listening");
        let client = Command::new("iperf3")
            .args([
                "-c",
                "10.77.0.2",
                "-n",
                "32M",
                "-P",
                "2",
                "--bidir",
                "--json",
            ])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&client.stdout);
        assert!(client.status.success(), "{said}");
        let mut rest = String::new();
        server
            .0
            .stdout
            .take()
            .unwrap()
            .read_to_string(&mut rest)
            .unwrap();
        assert!(server.0.wait().unwrap().success(), "{rest}");
    });
}

#[test]
fn passt_leads_to_servers_of_the_host_and_published_ports_into_the_guest() {
    in_own_network(|| {
        let _cable = way_out();
        let _server = Running::probe(&["serve", "7007"]);
        let page: Vec<u8> = (0..3_000_000_u32)
            .map(|at| (at.wrapping_mul(at) >> 7) as u8)
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("page");
        fs::write(&file, &page).unwrap();
        let sum = Command::new("md5sum").arg(&file).output();
        let sum = String::from_utf8(sum.unwrap().stdout).unwrap();
        let port = web_server(page, 1);
        // The host's loopback is at the address of the gateway. A connection's half is
        // closed last: Debian's passt does not bear it while the other end sends.
        let script = format!(
            "gateway=$(ip route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'); \
             wget -qO /tmp/page http://$gateway:{port}/; \
             wc -c < /tmp/page; md5sum < /tmp/page; \
             /probe/net-probe echo $gateway:7007 5000000; \
             /probe/net-probe udp $gateway:7007 50 1000"
        );
        let outcome = guest("tuned", &["passt,host_loopback=true"], &script).outcome();
        let words = [
            "3000000\n",
            sum.split(' ').next().unwrap(),
            "5000000 bytes came back",
            "50 datagrams came back",
        ];
        assert_said(&outcome, &words);

        let probe = format!("{}:/probe:ro", guest_programs().display());
        let options = [
            "-v",
            &probe,
            "--net",
            // Else Debian's passt has no answers of UDP for clients on the loopback.
            "passt,host_loopback=true",
            "-p",
            "127.0.0.1:8080:7",
            "-p",
            "127.0.0.1:8081:7/udp",
        ];
        let child = Shem::run("tuned", &options, &["/probe/net-probe", "serve", "7"]).spawn();
        let _guest = Running::until(child, "ready");
        for (words, said) in [
            (
                ["echo", "127.0.0.1:8080", "5000000"].as_slice(),
                "5000000 bytes came back",
            ),
            (
                &["udp", "127.0.0.1:8081", "50", "1000"],
                "50 datagrams came back",
            ),
        ] {
            let probe = Command::new(guest_programs().join("net-probe"))
                .args(words)
                .output();
            let probe = Outcome::of(probe.unwrap());
            assert_said(&probe, &[said]);
        }
    });
}

#[test]
fn passt_carries_ipv6() {
    in_own_network(|| {
        let _cable = way_out();
        ip("addr add 2001:db8::2/64 dev out0 nodad");
        ip("-6 route add default via 2001:db8::1 dev out0");
        let _server = Running::probe(&["serve", "7007"]);
        // Routes and addresses a guest has from passt, when it has asked for a router.
        let configured = "route() { ip -6 route | sed -n 's/default via \\([^ ]*\\).*/\\1/p'; }; \
             until test \"$(route)\"; do usleep 10000; done; \
             until ip -6 addr show dev eth0 | grep -q ' 2001:db8:'; do usleep 10000; done";
        let script = format!(
            "{configured}; router=[$(route)%$(cat /sys/class/net/eth0/ifindex)]; \
             /probe/net-probe echo $router:7007 5000000; \
             /probe/net-probe udp $router:7007 50 1000"
        );
        let net = "passt,host_loopback=true,ipv6=true";
        let outcome = guest("tuned", &[net], &script).outcome();
        let words = ["5000000 bytes came back", "50 datagrams came back"];
        assert_said(&outcome, &words);

        let probe = format!("{}:/probe:ro", guest_programs().display());
        let options = ["-v", &probe, "--net", net, "-p", "[::1]:8080:7"];
        let script = format!("{configured}; exec /probe/net-probe serve 7");
        let child = Shem::run("tuned", &options, &["sh", "-ec", &script]).spawn();
        let _guest = Running::until(child, "ready");
        let probe = Command::new(guest_programs().join("net-probe"))
            .args(["echo", "[::1]:8080", "5000000"])
            .output();
        assert_said(&Outcome::of(probe.unwrap()), &words[..1]);
    });
}

#[test]
fn two_guests_meet_at_a_hub() {
    let folder = tempfile::tempdir().unwrap();
    let net = |number: u8| format!("hub={}/hub,ip=10.9.0.{number}/24", folder.path().display());
    let first = guest("tuned", &[&net(1)], "exec /probe/net-probe serve 7").spawn();
    let _first = Running::until(first, "ready");
    let script = "ping -c 2 10.9.0.1; /probe/net-probe tcp 10.9.0.1:7 4000000; \
                  /probe/net-probe udp 10.9.0.1:7 50 1400";
    let outcome = guest("stock", &[&net(2)], script).outcome();
    let words = [
        "2 packets received",
        "4000000 bytes came back",
        "50 datagrams came back",
    ];
    assert_said(&outcome, &words);
}

#[test]
fn an_endpoint_that_vanishes_takes_the_link_and_not_the_vm() {
    in_own_network(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let net = format!(
            "golem=tcp://{},ip=10.42.42.2/24",
            listener.local_addr().unwrap()
        );
        let script =
            "until test $(cat /sys/class/net/eth0/carrier) = 0; do usleep 10000; done; echo gone";
        let shem = guest(
            "tuned",
            &[&net],
            &format!("echo up $(cat /sys/class/net/eth0/carrier); {script}"),
        );
        let mut child = shem.spawn();
        // It connects before it says anything.
        let (endpoint, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "up 1");
        drop(endpoint);
        assert_eq!(lines.next().unwrap().unwrap(), "gone");
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn what_is_no_network_is_refused_before_anything_boots() {
    let cases: [(&[&str], &[&str]); 5] = [
        (&["host"], &["use none, passt"]),
        (
            &["tap=longer-than-names-are"],
            &["/name", "at most 15 characters"],
        ),
        (&["golem=udp:/x"], &["udp:/x"]),
        (&["golem=tcp://127.0.0.1:1"], &["127.0.0.1:1", "refused"]),
        (&["none", "passt"], &["exclude each other"]),
    ];
    for (nets, words) in cases {
        let nets: Vec<&str> = nets.iter().flat_map(|net| ["--net", net]).collect();
        let outcome = Shem::run("tuned", &nets, &["true"]).outcome();
        // Nothing of shem's own, and no guest that ran.
        assert_eq!((outcome.status, &*outcome.stdout), (Some(125), ""));
        for word in words {
            assert!(outcome.stderr.contains(word), "{word}: {outcome:?}");
        }
    }
}
