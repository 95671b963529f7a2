//! Where a link's other side is: URLs as exe-unit passes them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use plugin_sdk::{Error, Result};

/// Transports, as an error shows them.
const KNOWN: &str = "udp://ADDRESS:PORT, tcp://ADDRESS:PORT or unix:///PATH";

/// A transport and an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A frame in each datagram.
    Udp(SocketAddr),
    /// A stream, lengths as QEMU writes them.
    Tcp(SocketAddr),
    /// A stream, lengths as exe-unit writes them there.
    Unix(PathBuf),
}

impl Endpoint {
    /// Reads a URL. Host names are looked up.
    pub fn parse(url: &str) -> Result<Self> {
        let unknown = || Error::new(format!("endpoint {url:?} must be {KNOWN}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(unknown)?;
        match scheme {
            "udp" => address(rest).map(Endpoint::Udp),
            "tcp" => address(rest).map(Endpoint::Tcp),
            "unix" if rest.starts_with('/') => Ok(Endpoint::Unix(rest.into())),
            _ => return Err(unknown()),
        }
        .map_err(|error| error.context(&format!("endpoint {url:?}")))
    }
}

/// Reads `HOST:PORT`, of which the first address counts.
pub fn address(text: &str) -> Result<SocketAddr> {
    let wrong = |error| Error::from(error).context(&format!("{text:?} must be ADDRESS:PORT"));
    let mut found = text.to_socket_addrs().map_err(wrong)?;
    let first = found.next();
    first.ok_or_else(|| Error::new(format!("{text:?} has no address")))
}

/// Where a socket is bound that reaches `peer`: to this host alone, if that is
/// where the peer is.
pub fn local_for(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(peer) if peer.ip().is_loopback() => (Ipv4Addr::LOCALHOST, 0).into(),
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(peer) if peer.ip().is_loopback() => (Ipv6Addr::LOCALHOST, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_transport_and_an_address() {
        let address = "127.0.0.1:1234".parse().unwrap();
        for (url, expected) in [
            ("udp://127.0.0.1:1234", Endpoint::Udp(address)),
            ("tcp://127.0.0.1:1234", Endpoint::Tcp(address)),
            ("tcp://[::1]:5", Endpoint::Tcp("[::1]:5".parse().unwrap())),
            ("unix:///run/x", Endpoint::Unix("/run/x".into())),
        ] {
            assert_eq!(Endpoint::parse(url).unwrap(), expected);
        }
        for url in [
            "",
            "127.0.0.1:1234",
            "udp:127.0.0.1:1234",
            "http://127.0.0.1:80",
            "unix://relative",
            "unix://",
        ] {
            let error = Endpoint::parse(url).unwrap_err().to_string();
            assert!(error.ends_with(KNOWN), "{error}");
        }
        for url in ["udp://127.0.0.1", "tcp://127.0.0.1:70000"] {
            let error = Endpoint::parse(url).unwrap_err().to_string();
            assert!(error.contains("must be ADDRESS:PORT"), "{error}");
        }
    }

    #[test]
    fn what_talks_to_this_host_alone_is_open_to_it_alone() {
        let local = |peer: &str| local_for(peer.parse().unwrap()).to_string();
        assert_eq!(local("127.0.0.1:9"), "127.0.0.1:0");
        assert_eq!(local("[::1]:9"), "[::1]:0");
        assert_eq!(local("192.0.2.1:9"), "0.0.0.0:0");
        assert_eq!(local("[2001:db8::1]:9"), "[::]:0");
    }
}
