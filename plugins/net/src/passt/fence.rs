//! What of a guest's frames passt may see. It connects to whatever address a packet
//! names, on some versions the host's loopback addresses too.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

use plugin_sdk::Pieces;

use crate::link::{ETHERNET, Link, Stop};
use crate::stream::Stream;

/// Kinds of frames that passt reads. Behind a VLAN's tag it sees nothing.
const ARP: [u8; 2] = [0x08, 0x06];
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// Where the addresses are in a frame, source and destination.
const IPV4_ADDRESSES: usize = ETHERNET + 12;
const IPV6_ADDRESSES: usize = ETHERNET + 8;
/// What is looked at of a frame: an IPv6 packet's header is the longest.
const HEADERS: usize = ETHERNET + 40;

/// A stream to passt on which there are no frames from or to the host itself.
pub struct Fence(pub Stream);

impl Link for Fence {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.descriptor()
    }

    fn send(&mut self, frame: Pieces<'_>) -> Result<(), Stop> {
        // What was looked at is what goes: the guest may change its memory meanwhile.
        let mut headers = [0; HEADERS];
        let count = frame.copy_to(0, &mut headers);
        let headers = &headers[..count];
        if count >= ETHERNET && !may_pass(headers) {
            let text = "passt takes ARP, IPv4 and IPv6, not of or for the host's own addresses";
            return Err(Stop::Lost(io::Error::other(text)));
        }
        self.0.send_copied(headers, frame)
    }

    fn receive(&mut self, room: Pieces<'_>) -> Result<usize, Stop> {
        self.0.receive(room)
    }

    fn has_rest(&self) -> bool {
        self.0.has_rest()
    }

    fn send_rest(&mut self) -> Result<(), Stop> {
        self.0.send_rest()
    }

    fn has_more(&self) -> bool {
        self.0.has_more()
    }

    fn trouble(&mut self) -> Stop {
        self.0.trouble()
    }
}

/// Whether a frame that begins with `headers` may go.
fn may_pass(headers: &[u8]) -> bool {
    let kind = headers.get(12..ETHERNET);
    if kind == Some(&ARP) {
        true
    } else if kind == Some(&IPV4) {
        let source = address(headers, IPV4_ADDRESSES).map(Ipv4Addr::from_octets);
        let destination = address(headers, IPV4_ADDRESSES + 4).map(Ipv4Addr::from_octets);
        // A guest that asks for its address has none.
        source.is_some_and(|source| source.is_unspecified() || !is_hosts_v4(source))
            && destination.is_some_and(|destination| !is_hosts_v4(destination))
    } else if kind == Some(&IPV6) {
        let source = address(headers, IPV6_ADDRESSES).map(Ipv6Addr::from_octets);
        let destination = address(headers, IPV6_ADDRESSES + 16).map(Ipv6Addr::from_octets);
        // As above, or looks whether its address is somebody's.
        source.is_some_and(|source| source.is_unspecified() || !is_hosts_v6(source))
            && destination.is_some_and(|destination| !is_hosts_v6(destination))
    } else {
        false
    }
}

fn address<const LEN: usize>(headers: &[u8], at: usize) -> Option<[u8; LEN]> {
    headers.get(at..)?.first_chunk().copied()
}

/// 0.0.0.0/8 and 127.0.0.0/8.
fn is_hosts_v4(address: Ipv4Addr) -> bool {
    matches!(address.octets()[0], 0 | 127)
}

/// ::/80: unspecified, loopback, and IPv4 addresses in the clothes of IPv6.
fn is_hosts_v6(address: Ipv6Addr) -> bool {
    address.octets().iter().take(10).all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use plugin_sdk::testing::Frame;

    use super::*;
    use crate::frames::Prefix;

    fn v4(source: &str, destination: &str) -> Vec<u8> {
        let mut frame = vec![7; 60];
        frame[12..14].copy_from_slice(&IPV4);
        for (at, address) in [(26, source), (30, destination)] {
            let address: Ipv4Addr = address.parse().unwrap();
            frame[at..at + 4].copy_from_slice(&address.octets());
        }
        frame
    }

    fn v6(source: &str, destination: &str) -> Vec<u8> {
        let mut frame = vec![7; 80];
        frame[12..14].copy_from_slice(&IPV6);
        for (at, address) in [(22, source), (38, destination)] {
            let address: Ipv6Addr = address.parse().unwrap();
            frame[at..at + 16].copy_from_slice(&address.octets());
        }
        frame
    }

    #[test]
    fn nothing_goes_to_the_hosts_own_addresses_or_comes_from_them() {
        for (source, destination, may) in [
            ("10.0.2.15", "192.0.2.1", true),
            ("10.0.2.15", "10.0.2.2", true),
            ("0.0.0.0", "255.255.255.255", true),
            ("10.0.2.15", "127.0.0.1", false),
            ("10.0.2.15", "127.255.0.1", false),
            ("10.0.2.15", "0.0.0.0", false),
            ("10.0.2.15", "0.1.2.3", false),
            ("0.0.0.0", "127.0.0.1", false),
            ("127.0.0.1", "192.0.2.1", false),
            ("0.0.0.1", "192.0.2.1", false),
        ] {
            let frame = v4(source, destination);
            assert_eq!(may_pass(&frame), may, "{source} to {destination}");
            assert!(!may_pass(&frame[..33]));
        }
        for (source, destination, may) in [
            ("fe80::1", "2001:db8::1", true),
            ("::", "ff02::1:ff00:1", true),
            ("fe80::1", "::1", false),
            ("fe80::1", "::", false),
            ("::", "::1", false),
            ("fe80::1", "::ffff:127.0.0.1", false),
            ("fe80::1", "::127.0.0.1", false),
            ("::1", "2001:db8::1", false),
            ("::ffff:10.0.2.15", "2001:db8::1", false),
        ] {
            let frame = v6(source, destination);
            assert_eq!(may_pass(&frame), may, "{source} to {destination}");
            assert!(!may_pass(&frame[..53]));
        }
    }

    #[test]
    fn no_packet_hides_behind_a_tag() {
        for tag in [[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00]] {
            let mut frame = v4("10.0.2.15", "192.0.2.1");
            frame.splice(12..12, [tag[0], tag[1], 0, 1]);
            assert!(!may_pass(&frame));
        }
    }

    #[test]
    fn what_goes_is_what_was_looked_at_and_the_rest() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut fence = Fence(Stream::new(ours.into(), Prefix::Big32, 1514).unwrap());
        let refused = fence.send(Frame::cut(&v4("10.0.2.15", "127.0.0.1"), &[14]).pieces());
        assert!(matches!(refused, Err(Stop::Lost(_))), "{refused:?}");
        for len in [14, 42, 54, 55, 1514] {
            for cuts in [&[][..], &[1], &[14, 20], &[54], &[60, 3]] {
                let mut bytes: Vec<u8> = (0..len).map(|byte| byte as u8).collect();
                bytes[12..14].copy_from_slice(&ARP);
                fence.send(Frame::cut(&bytes, cuts).pieces()).unwrap();
                fence.send_rest().unwrap();
                let mut got = vec![0; 4 + len];
                theirs.read_exact(&mut got).unwrap();
                assert_eq!(got[..4], (len as u32).to_be_bytes());
                assert_eq!(got[4..], bytes);
            }
        }
    }
}
