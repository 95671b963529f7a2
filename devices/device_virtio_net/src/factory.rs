//! A card from the options of a configuration.

use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU64;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use device_model::net::{CountedBackend, NetBackend, NetInfo};
use device_model::{DeviceEnv, DeviceFactory, DeviceSpec, NewDevice, read_options};
use serde::Deserialize;

use crate::ETHERNET;
use crate::device::{NetDevice, Rate, Settings};

/// The shortest MTU that IPv4 allows.
const MIN_MTU: u16 = 68;
/// By default as much may pass at once as in this part of a second.
const BURST_PART: u64 = 10;
/// In the first byte of an address: of a group; and not given by a manufacturer.
const GROUP: u8 = 1;
const LOCAL: u8 = 2;

/// Makes network cards: driver `virtio-net`. As attachment it needs what is behind
/// the card: a `Box<dyn NetBackend>`, or a [`CountedBackend`]. Its options:
///
/// | option | | |
/// | --- | --- | --- |
/// | `mac` | default the backend's, or else a random one | `aa:bb:cc:dd:ee:ff` |
/// | `mtu` | default the backend's | longest packet without its Ethernet header, 68 to what the backend carries |
/// | `rate_limit` | default none | `receive` and `send`: bytes a second to and from the guest, each by default unlimited; `burst`: bytes that may pass at once, by default those of 100 ms, and at least one frame |
pub struct Factory;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    mac: Option<String>,
    mtu: Option<u16>,
    #[serde(default)]
    rate_limit: RateLimit,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RateLimit {
    receive: Option<NonZeroU64>,
    send: Option<NonZeroU64>,
    burst: Option<NonZeroU64>,
}

impl DeviceFactory for Factory {
    fn driver(&self) -> &'static str {
        "virtio-net"
    }

    fn create(&self, spec: DeviceSpec, env: &DeviceEnv) -> anyhow::Result<NewDevice> {
        let options: Options = read_options(spec.options)?;
        let attachment = spec
            .attachment
            .context("it needs a network backend as its attachment")?;
        let (backend, counters) = match attachment.downcast::<CountedBackend>() {
            Ok(counted) => (counted.backend, counted.counters),
            Err(other) => match other.downcast::<Box<dyn NetBackend>>() {
                Ok(backend) => (*backend, Arc::default()),
                Err(_) => bail!("its attachment is not a network backend"),
            },
        };
        let info = backend.info();
        let mac = match &options.mac {
            Some(text) => parse_mac(text).with_context(|| format!("option mac is {text:?}"))?,
            None => info.mac.unwrap_or_else(|| random_mac(&spec.id)),
        };
        let mtu = options.mtu.map(|mtu| check_mtu(mtu, info)).transpose()?;
        let rate = |bytes: NonZeroU64| Rate {
            bytes,
            burst: options.rate_limit.burst.unwrap_or_else(|| {
                let least = NonZeroU64::new(info.max_frame as u64).unwrap_or(NonZeroU64::MIN);
                NonZeroU64::new(bytes.get() / BURST_PART).map_or(least, |burst| burst.max(least))
            }),
        };
        let settings = Settings {
            mac,
            mtu: mtu.or(info.mtu),
            queue_pairs: env.vcpus.into(),
            receive_rate: options.rate_limit.receive.map(rate),
            send_rate: options.rate_limit.send.map(rate),
            counters,
        };
        let device = NetDevice::new(spec.id, backend, settings);
        Ok(NewDevice::Virtio(Box::new(device)))
    }
}

fn parse_mac(text: &str) -> anyhow::Result<[u8; 6]> {
    let mut mac = [0; 6];
    let mut bytes = text.split(':');
    for byte in &mut mac {
        let digits = bytes.next().unwrap_or_default();
        let hexadecimal = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        ensure!(hexadecimal, "it must be six bytes as in 02:00:5e:10:00:01");
        *byte = u8::from_str_radix(digits, 16)?;
    }
    ensure!(
        bytes.next().is_none(),
        "it must be six bytes as in 02:00:5e:10:00:01"
    );
    ensure!(
        mac[0] & GROUP == 0,
        "it is a group's: the first byte must be even"
    );
    ensure!(mac != [0; 6], "it is no address");
    Ok(mac)
}

/// An address of nobody else, with luck: the name keeps apart the cards of a VM.
fn random_mac(id: &str) -> [u8; 6] {
    let [mut first, rest @ .., _, _] = RandomState::new().hash_one(id).to_le_bytes();
    first = first & !GROUP | LOCAL;
    let [a, b, c, d, e] = rest;
    [first, a, b, c, d, e]
}

fn check_mtu(mtu: u16, info: &NetInfo) -> anyhow::Result<u16> {
    let header = if info.header {
        device_model::net::NET_HEADER
    } else {
        0
    };
    let carried = info.max_frame.saturating_sub(header + ETHERNET);
    let most = usize::from(info.mtu.unwrap_or(u16::MAX)).min(carried);
    ensure!(
        mtu >= MIN_MTU && usize::from(mtu) <= most,
        "option mtu is {mtu}, must be from {MIN_MTU} to {most} with this backend"
    );
    Ok(mtu)
}
