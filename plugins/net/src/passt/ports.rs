//! Published ports: Docker's way to write them into passt's. Pure.

use std::net::IpAddr;

use plugin_sdk::{Error, Result};

/// A published port, or a range of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// TCP otherwise.
    pub is_udp: bool,
    /// Where the host listens; `None`: everywhere.
    pub address: Option<IpAddr>,
    /// First and last port of the host.
    pub host: (u16, u16),
    /// First and last port of the guest, as many.
    pub guest: (u16, u16),
}

impl Published {
    /// Reads `[ADDRESS:]HOST[-LAST]:GUEST[-LAST][/tcp|/udp]`.
    pub fn parse(text: &str) -> Result<Self> {
        Self::read(text).map_err(|error| error.context(&format!("port {text:?}")))
    }

    fn read(text: &str) -> Result<Self> {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let is_udp = match protocol {
            "tcp" => false,
            "udp" => true,
            other => return Err(Error::new(format!("{other:?} must be tcp or udp"))),
        };
        let Some((rest, guest)) = ports.rsplit_once(':') else {
            let text = format!("a port of the host has to be named, as in 8080:{ports}");
            return Err(Error::new(text));
        };
        let (address, host) = match rest.rsplit_once(':') {
            Some((address, host)) => (Some(read_address(address)?), host),
            None => (None, rest),
        };
        let (host, guest) = (range(host)?, range(guest)?);
        if host.1 - host.0 != guest.1 - guest.0 {
            return Err(Error::new("both ranges must have the same length"));
        }
        Ok(Published {
            is_udp,
            address,
            host,
            guest,
        })
    }

    /// The option of passt and its value.
    pub fn arguments(&self) -> [String; 2] {
        let option = if self.is_udp { "-u" } else { "-t" };
        let address = self.address.map(|address| format!("{address}/"));
        let address = address.unwrap_or_default();
        let (host, guest) = (shown(self.host), shown(self.guest));
        [option.into(), format!("{address}{host}:{guest}")]
    }
}

fn read_address(text: &str) -> Result<IpAddr> {
    // An IPv6 address is in brackets, as its colons would be taken for others.
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = match bare {
        Some(bare) => bare.parse().ok().filter(IpAddr::is_ipv6),
        None => text.parse().ok().filter(IpAddr::is_ipv4),
    };
    address.ok_or_else(|| Error::new(format!("{text:?} must be an address, an IPv6 one in []")))
}

fn range(text: &str) -> Result<(u16, u16)> {
    let port = |text: &str| {
        let port = text.parse().ok().filter(|port| *port > 0);
        port.ok_or_else(|| Error::new(format!("{text:?} must be a port, from 1 to 65535")))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(Error::new(format!("{text:?} must go upwards")));
    }
    Ok((first, last))
}

fn shown((first, last): (u16, u16)) -> String {
    if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_as_docker_has_them_become_passts() {
        for (text, option, value) in [
            ("8080:80", "-t", "8080:80"),
            ("8080:80/tcp", "-t", "8080:80"),
            ("127.0.0.1:8080:80/udp", "-u", "127.0.0.1/8080:80"),
            ("[::1]:8080:80", "-t", "::1/8080:80"),
            ("8000-8010:9000-9010", "-t", "8000-8010:9000-9010"),
            ("0.0.0.0:53:53-53/udp", "-u", "0.0.0.0/53:53"),
        ] {
            let published = Published::parse(text).unwrap();
            assert_eq!(published.arguments(), [option, value], "{text}");
        }
    }

    #[test]
    fn what_is_no_port_is_named() {
        for (text, said) in [
            ("80", "as in 8080:80"),
            ("0:80", "\"0\" must be a port"),
            ("80:65536", "\"65536\" must be a port"),
            ("80:80/sctp", "\"sctp\" must be tcp or udp"),
            ("80-90:80-91", "the same length"),
            ("90-80:90-80", "must go upwards"),
            ("::1:80:80", "must be an address"),
            ("localhost:80:80", "must be an address"),
            ("-t none:80", "must be a port"),
            ("", "has to be named"),
        ] {
            let error = Published::parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
