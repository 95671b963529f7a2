//! What it takes of rtnetlink(7) to set an interface up: requests as bytes, and
//! the kernel's answer to each. It reads no tables and listens to nobody.
//!
//! Structures are those of `linux/netlink.h`, `linux/rtnetlink.h`,
//! `linux/if_link.h` and `linux/if_addr.h`, in the byte order of the machine.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use guest_protocol::{IpPrefix, Route};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

/// How long the kernel may take for an answer, which it gives within the call.
const ANSWER_LIMIT: TimeVal = TimeVal::new(5, 0);

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// Messages and attributes begin at multiples of this (`NLMSG_ALIGN`, `RTA_ALIGN`).
const ALIGNMENT: usize = 4;
/// Room for the answer: a header, an error number, and the request again.
const ANSWER: usize = 1024;

/// A request without its number.
#[derive(Clone, Debug)]
pub struct Request(Vec<u8>);

impl Request {
    /// Changes of the interface with this index, of which it has none yet.
    pub fn link(index: u32) -> Self {
        Self::flags(index, 0, 0)
    }

    /// Brings the interface up, or down.
    pub fn up(index: u32, up: bool) -> Self {
        let flag = libc::IFF_UP.cast_unsigned();
        Self::flags(index, if up { flag } else { 0 }, flag)
    }

    /// `struct ifinfomsg`: of the flags in `change`, those in `flags` are to be set.
    fn flags(index: u32, flags: u32, change: u32) -> Self {
        let mut request = Self::new(libc::RTM_NEWLINK, 0);
        let family = libc::AF_UNSPEC as u8;
        request.0.extend([family, 0, 0, 0]);
        request.0.extend(index.to_ne_bytes());
        request.0.extend(flags.to_ne_bytes());
        request.0.extend(change.to_ne_bytes());
        request
    }

    /// Its Ethernet address.
    pub fn mac(self, mac: [u8; 6]) -> Self {
        self.attribute(libc::IFLA_ADDRESS, &mac)
    }

    /// Its MTU.
    pub fn mtu(self, mtu: u32) -> Self {
        self.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes())
    }

    /// Gives the interface an address, of use at once: nobody is asked whether
    /// it is taken, which for IPv6 would be a wait of a second and more.
    pub fn address(index: u32, address: IpPrefix) -> Self {
        let mut request = Self::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_REPLACE);
        let scope = if address.address.is_loopback() {
            libc::RT_SCOPE_HOST
        } else {
            libc::RT_SCOPE_UNIVERSE
        };
        let (family, flags) = match address.address {
            IpAddr::V4(_) => (libc::AF_INET, 0),
            IpAddr::V6(_) => (libc::AF_INET6, libc::IFA_F_NODAD),
        };
        // struct ifaddrmsg
        request
            .0
            .extend([family as u8, address.len, flags as u8, scope]);
        request.0.extend(index.to_ne_bytes());
        let bytes = octets(address.address);
        let request = request.attribute(libc::IFA_LOCAL, &bytes);
        request.attribute(libc::IFA_ADDRESS, &bytes)
    }

    /// Puts a route through the interface in place of one to the same
    /// destination with the same metric.
    pub fn route(index: u32, route: &Route) -> Self {
        let mut request = Self::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_REPLACE);
        let destination = route.destination;
        let (family, scope) = match (destination.address, route.gateway) {
            (IpAddr::V4(_), None) => (libc::AF_INET, libc::RT_SCOPE_LINK),
            (IpAddr::V4(_), Some(_)) => (libc::AF_INET, libc::RT_SCOPE_UNIVERSE),
            (IpAddr::V6(_), _) => (libc::AF_INET6, libc::RT_SCOPE_UNIVERSE),
        };
        // struct rtmsg
        request.0.extend([family as u8, destination.len, 0, 0]);
        let (table, protocol) = (libc::RT_TABLE_MAIN, libc::RTPROT_BOOT);
        request
            .0
            .extend([table, protocol, scope, libc::RTN_UNICAST]);
        request.0.extend(0_u32.to_ne_bytes());
        let mut request = request
            .attribute(libc::RTA_DST, &octets(destination.address))
            .attribute(libc::RTA_OIF, &index.to_ne_bytes())
            .attribute(libc::RTA_PRIORITY, &route.metric.to_ne_bytes());
        if let Some(gateway) = route.gateway {
            request = request.attribute(libc::RTA_GATEWAY, &octets(gateway));
        }
        request
    }

    /// A header, to be completed when it is sent.
    fn new(kind: u16, flags: libc::c_int) -> Self {
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        Self(bytes)
    }

    /// `struct rtattr`.
    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let len = u16::try_from(4 + value.len()).expect("values are numbers and addresses");
        self.0.extend(len.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(ALIGNMENT), 0);
        self
    }

    /// The whole message with its length and number.
    fn numbered(mut self, number: u32) -> Vec<u8> {
        let len = u32::try_from(self.0.len()).expect("a few attributes");
        self.0[0..4].copy_from_slice(&len.to_ne_bytes());
        self.0[8..12].copy_from_slice(&number.to_ne_bytes());
        self.0
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A way to the kernel.
pub struct Socket {
    socket: OwnedFd,
    number: u32,
}

impl Socket {
    /// Opens it, in the network of this thread.
    pub fn open() -> nix::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &ANSWER_LIMIT)?;
        Ok(Self { socket, number: 0 })
    }

    /// Has the kernel do it; its errors are those that rtnetlink answers.
    pub fn ask(&mut self, request: Request) -> nix::Result<()> {
        self.number = self.number.wrapping_add(1);
        let message = request.numbered(self.number);
        send(self.socket.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answer = [0; ANSWER];
        loop {
            let len = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
            if let Some(outcome) = outcome(answer.get(..len).unwrap_or_default(), self.number) {
                return outcome;
            }
        }
    }
}

/// What an answer says of the request with that number; `None` when it is about
/// another.
fn outcome(answer: &[u8], number: u32) -> Option<nix::Result<()>> {
    let kind = u16::from_ne_bytes(*answer.get(4..)?.first_chunk()?);
    let of = u32::from_ne_bytes(*answer.get(8..)?.first_chunk()?);
    if of != number || libc::c_int::from(kind) != libc::NLMSG_ERROR {
        return None;
    }
    // struct nlmsgerr begins with the error, negative, or 0.
    let error = i32::from_ne_bytes(*answer.get(HEADER..)?.first_chunk()?);
    Some(match error {
        0 => Ok(()),
        error => Err(Errno::from_raw(error.saturating_neg())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes from words of text, as in a dump; numbers of more than one byte
    /// are little-endian, as on every machine that this runs on.
    fn bytes(dump: &str) -> Vec<u8> {
        let words = dump.split_whitespace();
        words
            .map(|word| u8::from_str_radix(word, 16).unwrap())
            .collect()
    }

    fn prefix(address: &str, len: u8) -> IpPrefix {
        IpPrefix::new(address.parse::<IpAddr>().unwrap(), len)
    }

    #[test]
    fn link_requests_are_those_of_ip_link_set() {
        let up = "20 00 00 00  10 00 05 00  07 00 00 00  00 00 00 00 \
                  00 00 00 00  02 00 00 00  01 00 00 00  01 00 00 00";
        assert_eq!(Request::up(2, true).numbered(7), bytes(up));
        let down = "20 00 00 00  10 00 05 00  07 00 00 00  00 00 00 00 \
                    00 00 00 00  02 00 00 00  00 00 00 00  01 00 00 00";
        assert_eq!(Request::up(2, false).numbered(7), bytes(down));
        let mac_and_mtu = "34 00 00 00  10 00 05 00  01 00 00 00  00 00 00 00 \
                           00 00 00 00  03 00 00 00  00 00 00 00  00 00 00 00 \
                           0a 00 01 00  90 13 c0 a8  00 02 00 00 \
                           08 00 04 00  c4 04 00 00";
        let request = Request::link(3).mac([0x90, 0x13, 192, 168, 0, 2]).mtu(1220);
        assert_eq!(request.numbered(1), bytes(mac_and_mtu));
    }

    #[test]
    fn address_requests_are_those_of_ip_address_replace() {
        let v4 = "28 00 00 00  14 00 05 05  01 00 00 00  00 00 00 00 \
                  02 18 00 00  02 00 00 00 \
                  08 00 02 00  c0 a8 00 02  08 00 01 00  c0 a8 00 02";
        let request = Request::address(2, prefix("192.168.0.2", 24));
        assert_eq!(request.numbered(1), bytes(v4));
        // Flag NODAD, and 16 bytes each.
        let v6 = "40 00 00 00  14 00 05 05  01 00 00 00  00 00 00 00 \
                  0a 40 02 00  02 00 00 00 \
                  14 00 02 00  fd 00 00 00 00 00 00 00 00 00 00 00 00 00 00 02 \
                  14 00 01 00  fd 00 00 00 00 00 00 00 00 00 00 00 00 00 00 02";
        let request = Request::address(2, prefix("fd00::2", 64));
        assert_eq!(request.numbered(1), bytes(v6));
        let of_this_host = Request::address(1, prefix("127.0.0.9", 8)).numbered(1);
        assert_eq!(of_this_host[19], libc::RT_SCOPE_HOST);
    }

    #[test]
    fn route_requests_are_those_of_ip_route_replace() {
        let mut route = Route {
            destination: prefix("0.0.0.0", 0),
            gateway: Some("10.42.42.1".parse().unwrap()),
            metric: 101,
        };
        let default = "3c 00 00 00  18 00 05 05  01 00 00 00  00 00 00 00 \
                       02 00 00 00  fe 03 00 01  00 00 00 00 \
                       08 00 01 00  00 00 00 00  08 00 04 00  02 00 00 00 \
                       08 00 06 00  65 00 00 00  08 00 05 00  0a 2a 2a 01";
        assert_eq!(Request::route(2, &route).numbered(1), bytes(default));
        route.gateway = None;
        let at_the_link = Request::route(2, &route).numbered(1);
        assert_eq!(at_the_link.len(), bytes(default).len() - 8);
        assert_eq!(at_the_link[22], libc::RT_SCOPE_LINK);
    }

    #[test]
    fn only_an_answer_to_the_request_counts() {
        let done = bytes("24 00 00 00  02 00 00 00  05 00 00 00  00 00 00 00  00 00 00 00");
        assert_eq!(outcome(&done, 5), Some(Ok(())));
        assert_eq!(outcome(&done, 6), None);
        let refused = bytes("24 00 00 00  02 00 00 00  05 00 00 00  00 00 00 00  ff ff ff ff");
        assert_eq!(outcome(&refused, 5), Some(Err(Errno::EPERM)));
        let other = bytes("24 00 00 00  10 00 00 00  05 00 00 00  00 00 00 00  00 00 00 00");
        assert_eq!(outcome(&other, 5), None);
        for len in 0..done.len() {
            assert_eq!(outcome(&done[..len], 5), None, "cut to {len}");
        }
    }
}
