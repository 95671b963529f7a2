//! `--publish`: ports of this host that lead to ports of the VM, in Docker's
//! syntax. Parsing is pure; [`listen`] then takes the ports.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};
use shem::PortForward;

/// Where a port of this host is open when nothing is said: at all its IPv4
/// addresses.
const ANYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// How ports are written.
const FORM: &str = "write HOST_PORT:PORT, as in 8080:80 or 127.0.0.1:8080:80";

/// Ports of the VM that are reached at ports of this host, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The address of this host.
    pub host: IpAddr,
    /// Its ports, as many as the VM's; `None` is any that are free.
    pub host_ports: Option<RangeInclusive<u16>>,
    /// Ports of the VM, none of them 0.
    pub ports: RangeInclusive<u16>,
    /// Of both.
    pub protocol: Protocol,
}

/// What is spoken at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Publish {
    /// As the driver of passt takes it.
    fn for_passt(&self) -> String {
        match self.host {
            IpAddr::V4(host) if host.is_unspecified() => self.to_string(),
            IpAddr::V4(host) => format!("{host}:{self}"),
            IpAddr::V6(host) => format!("[{host}]:{self}"),
        }
    }

    /// Pairs of an address of this host, whose port is 0 for any, and a port of
    /// the VM.
    pub fn pairs(&self) -> impl Iterator<Item = (SocketAddr, u16)> {
        let first = self.host_ports.as_ref().map(|ports| *ports.start());
        self.ports.clone().zip(0..).map(move |(port, at)| {
            // Both ranges are as long as each other.
            let host_port = first.map_or(0, |first| first + at);
            (SocketAddr::new(self.host, host_port), port)
        })
    }
}

impl FromStr for Publish {
    type Err = Error;

    /// `[[HOST_IP:][HOST_PORT[-LAST]]:]PORT[-LAST][/PROTOCOL]`
    fn from_str(text: &str) -> Result<Self> {
        let (rest, protocol) = match text.split_once('/') {
            Some((rest, protocol)) => (rest, protocol.parse()?),
            None => (text, Protocol::Tcp),
        };
        let (front, port) = rest.rsplit_once(':').unwrap_or(("", rest));
        let (host, host_port) = match front.rsplit_once(':') {
            // The colons of an IPv6 address are inside of brackets.
            Some((host, port)) if !port.ends_with(']') => (address(host)?, port),
            _ => (ANYWHERE, front),
        };
        let ports = range(port)?;
        ensure!(*ports.start() != 0, "a port of the VM is 1 to 65535");
        let host_ports = match host_port {
            "" | "0" => None,
            port => Some(range(port)?),
        };
        if let Some(host_ports) = &host_ports {
            let (here, there) = (host_ports.len(), ports.len());
            ensure!(*host_ports.start() != 0, "a range of ports begins at 1");
            ensure!(
                here == there,
                "{host_port} and {port} are not as many ports: {here} and {there}"
            );
        }
        Ok(Publish {
            host,
            host_ports,
            ports,
            protocol,
        })
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |f: &mut fmt::Formatter<'_>, ports: &RangeInclusive<u16>| {
            write!(f, "{}", ports.start())?;
            match ports.len() {
                1 => Ok(()),
                _ => write!(f, "-{}", ports.end()),
            }
        };
        if let Some(ports) = &self.host_ports {
            show(f, ports)?;
            f.write_str(":")?;
        }
        show(f, &self.ports)?;
        f.write_str(match self.protocol {
            Protocol::Tcp => "/tcp",
            Protocol::Udp => "/udp",
        })
    }
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            _ => bail!("unknown protocol {text:?}: use tcp or udp"),
        }
    }
}

/// An address of this host, an IPv6 one in brackets.
fn address(text: &str) -> Result<IpAddr> {
    if text.is_empty() {
        return Ok(ANYWHERE);
    }
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let parsed = match bare {
        Some(bare) => bare.parse().ok().map(IpAddr::V6),
        None => text.parse().ok().map(IpAddr::V4),
    };
    parsed.with_context(|| {
        format!("{text:?} is not an address of this host, as 127.0.0.1 or [::1]; {FORM}")
    })
}

/// `FIRST[-LAST]`.
fn range(text: &str) -> Result<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| -> Result<u16> {
        // Not `+80`, which the standard library takes.
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let port = text.parse().ok().filter(|_| digits);
        port.with_context(|| format!("{text:?} is not a port, 1 to 65535; {FORM}"))
    };
    let (first, last) = (port(first)?, port(last)?);
    ensure!(first <= last, "the range {text} ends before it begins");
    Ok(first..=last)
}

/// Those for passt, as it takes them, where the VM `has_passt`: all whose port of
/// this host is said. The others are the agent's, which knows TCP alone.
pub fn split(published: &[Publish], has_passt: bool) -> Result<(Vec<String>, Vec<Publish>)> {
    let (mut by_passt, mut by_agent) = (Vec::new(), Vec::new());
    for publish in published {
        if has_passt && publish.host_ports.is_some() {
            by_passt.push(publish.for_passt());
            continue;
        }
        let needs = match has_passt {
            true => "its port of this host",
            false => "--net passt",
        };
        ensure!(
            publish.protocol == Protocol::Tcp,
            "--publish {publish}: udp needs {needs}"
        );
        by_agent.push(publish.clone());
    }
    Ok((by_passt, by_agent))
}

/// Takes the ports of this host, and tells which those are that it chose.
pub fn listen(published: &[Publish]) -> Result<Vec<PortForward>> {
    let mut taken = Vec::new();
    for publish in published {
        for (host, port) in publish.pairs() {
            let forward =
                PortForward::bind(host, port).with_context(|| format!("--publish {publish}"))?;
            if publish.host_ports.is_none() {
                note!("shem: port {port} of the VM is {}", forward.host());
            }
            taken.push(forward);
        }
    }
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Publish {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error:#}"))
    }

    fn publish(
        host: &str,
        host_ports: Option<RangeInclusive<u16>>,
        ports: RangeInclusive<u16>,
    ) -> Publish {
        Publish {
            host: host.parse().unwrap(),
            host_ports,
            ports,
            protocol: Protocol::Tcp,
        }
    }

    #[test]
    fn ports_are_read_as_docker_does() {
        for (text, expected) in [
            ("8080:80", publish("0.0.0.0", Some(8080..=8080), 80..=80)),
            (
                "8080:80/tcp",
                publish("0.0.0.0", Some(8080..=8080), 80..=80),
            ),
            (
                "8080:80/TCP",
                publish("0.0.0.0", Some(8080..=8080), 80..=80),
            ),
            ("127.0.0.1:1:2", publish("127.0.0.1", Some(1..=1), 2..=2)),
            ("[::1]:1:2", publish("::1", Some(1..=1), 2..=2)),
            ("[::]:1-2:3-4", publish("::", Some(1..=2), 3..=4)),
            (
                "8000-8002:80-82",
                publish("0.0.0.0", Some(8000..=8002), 80..=82),
            ),
            ("80", publish("0.0.0.0", None, 80..=80)),
            ("80-82", publish("0.0.0.0", None, 80..=82)),
            (":80", publish("0.0.0.0", None, 80..=80)),
            ("0:80", publish("0.0.0.0", None, 80..=80)),
            ("127.0.0.1::80", publish("127.0.0.1", None, 80..=80)),
            ("[::1]::80", publish("::1", None, 80..=80)),
            (
                "65535:65535",
                publish("0.0.0.0", Some(65535..=65535), 65535..=65535),
            ),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!(parse("53:53/udp").protocol, Protocol::Udp);
    }

    #[test]
    fn what_is_no_port_is_refused_with_the_form() {
        for (text, words) in [
            ("", "\"\" is not a port"),
            (":", "\"\" is not a port"),
            ("8080:", "\"\" is not a port"),
            ("http", "\"http\" is not a port"),
            ("8080:http", "write HOST_PORT:PORT"),
            ("65536:80", "\"65536\" is not a port"),
            ("+80:80", "\"+80\" is not a port"),
            ("-1:80", "\"\" is not a port"),
            (" 80", "\" 80\" is not a port"),
            ("8080:0", "1 to 65535"),
            ("80-:80", "\"\" is not a port"),
            ("82-80:82-80", "the range 82-80 ends before it begins"),
            (
                "8000-8001:80",
                "8000-8001 and 80 are not as many ports: 2 and 1",
            ),
            (
                "8000:80-81",
                "8000 and 80-81 are not as many ports: 1 and 2",
            ),
            ("0-1:80-81", "a range of ports begins at 1"),
            ("80/sctp", "unknown protocol \"sctp\": use tcp or udp"),
            ("80/", "unknown protocol \"\""),
            (
                "localhost:80:80",
                "\"localhost\" is not an address of this host",
            ),
            ("::1:80:80", "\"::1\" is not an address"),
            ("[::1]:80", "\"[::1]\" is not a port"),
            ("[127.0.0.1]:80:80", "is not an address"),
            ("1.2.3:80:80", "is not an address"),
            ("1:2:3:4", "\"1:2\" is not an address"),
        ] {
            let error = text.parse::<Publish>().expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn ranges_go_side_by_side_and_chosen_ports_one_by_one() {
        let pairs = |text: &str| -> Vec<String> {
            let pairs = parse(text).pairs().collect::<Vec<_>>();
            let show = |(host, port)| format!("{host} {port}");
            pairs.into_iter().map(show).collect()
        };
        let both = ["0.0.0.0:65534 1", "0.0.0.0:65535 2"];
        assert_eq!(pairs("65534-65535:1-2"), both);
        assert_eq!(pairs("[::1]::7-8"), ["[::1]:0 7", "[::1]:0 8"]);
    }

    #[test]
    fn passt_takes_ports_that_are_said_and_the_agent_tcp_alone() {
        let all = ["80", "127.0.0.1:8080:80", "[::1]:1-2:3-4", "5353:53/udp"].map(parse);
        let (by_passt, by_agent) = split(&all, true).unwrap();
        let told = ["127.0.0.1:8080:80/tcp", "[::1]:1-2:3-4/tcp", "5353:53/udp"];
        assert_eq!(by_passt, told);
        assert_eq!(by_agent, all[..1]);
        let (by_passt, by_agent) = split(&all[..3], false).unwrap();
        assert_eq!((by_passt.len(), by_agent.len()), (0, 3));
        for (text, has_passt, words) in [
            ("5353-5354:53-54/udp", false, "udp needs --net passt"),
            ("53/udp", true, "udp needs its port of this host"),
        ] {
            let error = split(&[parse(text)], has_passt).unwrap_err().to_string();
            assert_eq!(error, format!("--publish {text}: {words}"));
        }
    }

    #[test]
    fn port_that_is_taken_is_named() {
        let taken = listen(&[parse("127.0.0.1::80")]).unwrap();
        let port = taken.first().unwrap().host().port();
        let text = format!("127.0.0.1:{port}:80");
        let error = format!("{:#}", listen(&[parse(&text)]).unwrap_err());
        let words = format!("--publish {port}:80/tcp: listen at 127.0.0.1:{port}: Address");
        assert!(error.starts_with(&words), "{error}");
    }
}
