//! An entropy source: the guest has `/dev/hwrng`, filled from the host's generator.
//! VIRTIO 1.2 section 5.4.

use std::fs::File;
use std::io::Read;

use plugin_sdk::{Device, Host, Queue, Result, VirtioDevice, abi, export_plugin};
use serde::Deserialize;

/// The most that one request gets: a driver asks for far less, and what is written
/// is made here, while every device of the VM waits.
const MAX_REQUEST: usize = 4096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    #[serde(default = "urandom")]
    source: String,
}

fn urandom() -> String {
    "/dev/urandom".into()
}

struct Entropy {
    host: Host,
    source: File,
}

impl Device for Entropy {
    type Config = Config;
    const CONFIG_SCHEMA: &'static str = r#"{
        "type": "object",
        "properties": {
            "source": { "type": "string", "minLength": 1, "description": "file to read from" }
        },
        "additionalProperties": false
    }"#;

    fn create(host: Host, _: &str, config: Config) -> Result<Self> {
        let open = File::open(&config.source).map_err(plugin_sdk::Error::from);
        let source = open.map_err(|error| error.context(&config.source))?;
        Ok(Entropy { host, source })
    }

    fn before_boot(&mut self) -> Result<()> {
        self.host.add_module("virtio_rng")
    }
}

impl VirtioDevice for Entropy {
    const DEVICE_TYPE: u32 = 4;
    const QUEUE_SIZES: &'static [u16] = &[64];

    fn queue_ready(&mut self, queue: Queue) -> Result<()> {
        while let Some(mut chain) = queue.pop()? {
            let mut bytes = vec![0; chain.room().min(MAX_REQUEST)];
            self.source.read_exact(&mut bytes)?;
            chain.write(&bytes);
        }
        Ok(())
    }
}

export_plugin! {
    summary: "Random numbers for the guest",
    paths: ["/dev/urandom" => abi::PATH_READ],
    "entropy" => virtio Entropy,
}

#[cfg(test)]
mod tests {
    use plugin_sdk::testing::MockHost;

    use super::*;

    fn device(mock: &MockHost) -> Entropy {
        let source = urandom();
        Entropy::create(mock.host(), "rng0", Config { source }).unwrap()
    }

    #[test]
    fn every_request_is_filled_up_to_the_cap() {
        let mock = MockHost::new();
        for room in [0, 1, 64, 100_000] {
            mock.offer(&[], room);
        }
        device(&mock).queue_ready(mock.queue()).unwrap();
        let lens: Vec<_> = mock.completed().iter().map(Vec::len).collect();
        assert_eq!(lens, [0, 1, 64, MAX_REQUEST]);
    }

    #[test]
    fn no_two_requests_get_the_same() {
        let mock = MockHost::new();
        mock.offer(&[], 32);
        mock.offer(&[], 32);
        device(&mock).queue_ready(mock.queue()).unwrap();
        let got = mock.completed();
        assert_ne!(got[0], got[1]);
    }

    #[test]
    fn a_source_that_is_not_there_is_named() {
        let mock = MockHost::new();
        let source = "/nowhere".to_owned();
        let error = Entropy::create(mock.host(), "rng0", Config { source })
            .err()
            .unwrap();
        assert!(error.to_string().starts_with("/nowhere: "), "{error}");
    }
}
