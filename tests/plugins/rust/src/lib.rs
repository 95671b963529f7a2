//! Devices of each kind in Rust, for tests of the plugin host: they do as the C ones
//! in `device.c`, and panic or fail in the callback that their configuration names.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use plugin_sdk::{
    Device, Directions, Error, Events, Host, NetBackend, NetInfo, NetSetup, Pieces, Queue, Result,
    VirtioDevice, export_plugin,
};
use serde::Deserialize;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// Panics there.
    panic: String,
    /// Fails there.
    fail: String,
    /// Panics once more while it is dropped.
    worse: Worse,
}

#[derive(Default, Deserialize)]
struct Worse(bool);

impl Drop for Worse {
    fn drop(&mut self) {
        assert!(!self.0, "broken in the end");
    }
}

impl Config {
    fn at(&self, callback: &str) -> Result<()> {
        assert!(self.panic != callback, "broken in {callback}");
        if self.fail == callback {
            return Err(Error::new("the cable is unplugged").context(callback));
        }
        Ok(())
    }
}

struct Echo {
    host: Host,
    config: Config,
}

impl Device for Echo {
    type Config = Config;

    fn create(host: Host, _: &str, config: Config) -> Result<Self> {
        config.at("create")?;
        host.set_timer(1, Duration::from_nanos(1), Duration::ZERO)?;
        Ok(Echo { host, config })
    }

    fn on_timer(&mut self, token: u64) -> Result<()> {
        assert_eq!(token, 1);
        self.config.at("on_timer")
    }

    fn before_boot(&mut self) -> Result<()> {
        let guest = self.host.guest()?;
        self.host.add_env("VCPUS", &guest.vcpus.to_string())?;
        self.host.add_module("virtio_rng")?;
        self.config.at("before_boot")
    }

    fn join_network(&mut self, network: &str) -> Result<()> {
        if network != "{}" {
            return Err(Error::new(format!("unknown network {network}")));
        }
        self.config.at("join_network")
    }
}

impl VirtioDevice for Echo {
    const DEVICE_TYPE: u32 = 42;
    const QUEUE_SIZES: &'static [u16] = &[64, 16];
    const FEATURES: u64 = 5;

    fn read_config(&mut self, offset: u64, data: &mut [u8]) {
        assert!(self.config.panic != "read_config");
        if let (0, Some(first)) = (offset, data.first_mut()) {
            *first = 7;
        }
    }

    fn activate(&mut self) -> Result<()> {
        self.config.at("activate")
    }

    fn queue_ready(&mut self, queue: Queue) -> Result<()> {
        self.config.at("queue_ready")?;
        while let Some(mut chain) = queue.pop()? {
            let mut bytes = vec![0; chain.left().min(4096)];
            chain.read(&mut bytes);
            for byte in &mut bytes {
                *byte = byte.wrapping_add(1);
            }
            // In two steps, as pieces of any cut have to work.
            let (head, tail) = bytes.split_at(bytes.len() / 2);
            chain.write(head);
            chain.write(tail);
        }
        Ok(())
    }
}

struct Cable {
    host: Host,
    config: Config,
    reader: PipeReader,
    writer: PipeWriter,
    wanted: Directions,
}

impl Device for Cable {
    type Config = Config;

    fn create(host: Host, _: &str, config: Config) -> Result<Self> {
        let (reader, writer) = std::io::pipe()?;
        host.add_fd(reader.as_raw_fd(), Events::NONE, 7)?;
        let wanted = Directions::default();
        Ok(Cable {
            host,
            config,
            reader,
            writer,
            wanted,
        })
    }

    fn on_event(&mut self, _: i32, events: Events, token: u64) -> Result<()> {
        assert!(token == 7 && events.read);
        self.config.at("on_event")?;
        self.host.net_ready(0, self.wanted)
    }
}

impl NetBackend for Cable {
    fn describe(&mut self) -> Result<NetInfo> {
        self.config.at("describe")?;
        Ok(NetInfo {
            offloads: 0,
            queue_pairs: 1,
            mtu: None,
            mac: None,
            header: false,
            link_up: true,
            max_frame: 1514,
        })
    }

    fn start(&mut self, setup: NetSetup) -> Result<()> {
        assert_eq!(setup.queue_pairs, 1);
        self.config.at("start")
    }

    fn stop(&mut self) {}

    fn set_interest(&mut self, _: u16, directions: Directions) -> Result<()> {
        self.wanted = directions;
        let events = if directions.receive {
            Events::READ
        } else {
            Events::NONE
        };
        self.host.modify_fd(self.reader.as_raw_fd(), events, 7)
    }

    fn send(&mut self, _: u16, frame: Pieces<'_>) -> Result<()> {
        self.config.at("send")?;
        if frame.len() > 1514 {
            return Err(Error::from_errno(libc::EMSGSIZE));
        }
        frame.write_to(self.writer.as_fd())?;
        Ok(())
    }

    fn receive(&mut self, _: u16, room: Pieces<'_>) -> Result<usize> {
        self.config.at("receive")?;
        if !self.wanted.receive {
            return Err(Error::from_errno(libc::EAGAIN));
        }
        Ok(room.read_from(self.reader.as_fd())?)
    }
}

export_plugin! {
    summary: "Devices of each kind",
    syscalls: ["readv", "writev"],
    paths: ["/dev/null" => plugin_sdk::abi::PATH_READ],
    offer: ["golem.inf.test" => "true"],
    "rust-virtio" => virtio Echo,
    "rust-net" => net Cable,
    "rust-plain" => Echo,
}
