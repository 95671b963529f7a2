//! The options of `shem run` that add devices: `--plugin`, `--device`. Parsing is
//! pure; [`devices`] then loads plugins and makes the devices of theirs.

use anyhow::{Context, Result, ensure};
use shem::{DeviceOptions, Devices};

use crate::args::RunArgs;
use crate::config::DeviceTable;
use crate::net::{self, Card};

/// One `--device`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceArg {
    driver: String,
    id: Option<String>,
    options: Vec<(String, String)>,
}

/// `DRIVER[,id=ID][,KEY=VALUE…]`. Of a key that comes again a list is made.
pub fn device(text: &str) -> Result<DeviceArg> {
    const FORM: &str = "write DRIVER,KEY=VALUE,…, as in virtio-blk,id=data,path=data.img";
    let mut words = text.split(',');
    let driver = words.next().unwrap_or_default();
    ensure!(!driver.is_empty() && !driver.contains('='), FORM);
    let mut device = DeviceArg {
        driver: driver.into(),
        id: None,
        options: Vec::new(),
    };
    for word in words {
        let (key, value) = word
            .split_once('=')
            .with_context(|| format!("{word:?} has no value: {FORM}"))?;
        ensure!(!key.is_empty(), FORM);
        if key == "id" {
            ensure!(device.id.is_none(), "id comes twice");
            device.id = Some(value.into());
        } else {
            device.options.push((key.into(), value.into()));
        }
    }
    Ok(device)
}

/// Loads what `args` and the configuration file's `tables` ask for, the file's first,
/// after the `cards`.
pub fn devices(
    args: &RunArgs,
    cards: &[Card],
    plugins: &[String],
    tables: Vec<DeviceTable>,
) -> Result<Devices> {
    let mut devices = Devices::new(args.cpus(), args.memory());
    let of_tables = tables.iter().filter_map(|table| table.plugin.as_ref());
    for plugin in plugins.iter().chain(of_tables).chain(&args.plugin) {
        devices.load(plugin)?;
    }
    net::add(&mut devices, cards)?;
    for (index, table) in tables.into_iter().enumerate() {
        let options = DeviceOptions::Typed(table.options);
        devices
            .add(&table.driver, table.id.as_deref(), options)
            .with_context(|| format!("[[device]] {} of the configuration", index + 1))?;
    }
    for device in &args.device {
        let options = DeviceOptions::Text(device.options.clone());
        devices.add(&device.driver, device.id.as_deref(), options)?;
    }
    Ok(devices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn driver_id_and_options_are_told_apart() {
        let device = device("net-tap,id=eth0,name=tap0,queues=2,x=a=b").unwrap();
        assert_eq!(device.driver, "net-tap");
        assert_eq!(device.id.as_deref(), Some("eth0"));
        let options: Vec<_> = device
            .options
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(options, [("name", "tap0"), ("queues", "2"), ("x", "a=b")]);
        assert!(super::device("entropy").unwrap().options.is_empty());
    }

    #[test]
    fn what_is_no_device_is_refused_with_the_form() {
        for (text, word) in [
            ("", "DRIVER,KEY=VALUE"),
            ("id=x", "DRIVER,KEY=VALUE"),
            ("net-tap,name", "\"name\" has no value"),
            ("net-tap,=x", "DRIVER,KEY=VALUE"),
            ("net-tap,id=a,id=b", "id comes twice"),
        ] {
            let error = device(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
