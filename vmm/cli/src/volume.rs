//! `shem volume`: the volumes that have a name.

use std::io::{self, Write};

use anyhow::{Result, bail};
use serde_json::json;
use shem::{NamedKind, NamedVolume, NamedVolumes, Store, VolumeStoreError};

use crate::args::VolumeCommand;
use crate::{status, values};

/// Carries the command out.
pub fn run(command: VolumeCommand) -> Result<u8> {
    let volumes = Store::discover().volumes();
    match command {
        VolumeCommand::Create { name, disk, label } => {
            let kind = disk.map_or(NamedKind::Folder, |size| NamedKind::Disk { size });
            let volume = volumes.create(&name, kind, label)?;
            print(volume.name())
        }
        VolumeCommand::Ls { quiet, json } => list(&volumes, quiet, json),
        VolumeCommand::Rm { names, force } => remove(&volumes, &names, force),
        VolumeCommand::Inspect { names } => {
            let found: Vec<_> = names
                .iter()
                .map(|name| volumes.get(name).map(|volume| describe(&volume)))
                .collect::<Result<_, _>>()?;
            print(&serde_json::to_string_pretty(&found)?)
        }
    }
}

fn list(volumes: &NamedVolumes, quiet: bool, json: bool) -> Result<u8> {
    let found = volumes.list()?;
    if json {
        let sound: Vec<_> = found
            .iter()
            .filter_map(|(_, volume)| volume.as_ref().ok())
            .map(describe)
            .collect();
        return print(&serde_json::to_string_pretty(&sound)?);
    }
    let width = found
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0)
        .max(4);
    let mut lines = Vec::new();
    if !quiet {
        lines.push(format!("{:width$}  KIND", "NAME"));
    }
    for (name, volume) in &found {
        lines.push(match volume {
            _ if quiet => name.clone(),
            Ok(volume) => format!("{name:width$}  {}", kind(volume.kind())),
            Err(error) => format!("{name:width$}  damaged: {error}"),
        });
    }
    if lines.is_empty() {
        return Ok(status::SUCCESS);
    }
    print(&lines.join("\n"))
}

/// Removes all that can be removed, and fails when one could not.
fn remove(volumes: &NamedVolumes, names: &[String], force: bool) -> Result<u8> {
    let mut failed = Vec::new();
    for name in names {
        match volumes.remove(name) {
            Ok(()) => {
                print(name)?;
            }
            Err(VolumeStoreError::Missing(_)) if force => {}
            Err(error) => failed.push(format!("{:#}", anyhow::Error::from(error))),
        }
    }
    if !failed.is_empty() {
        bail!(failed.join("; "));
    }
    Ok(status::SUCCESS)
}

fn kind(kind: NamedKind) -> String {
    match kind {
        NamedKind::Folder => "folder".into(),
        NamedKind::Disk { size } => format!("disk of {}", values::show_size(size)),
    }
}

fn describe(volume: &NamedVolume) -> serde_json::Value {
    let (kind, size) = match volume.kind() {
        NamedKind::Folder => ("folder", None),
        NamedKind::Disk { size } => ("disk", Some(size)),
    };
    json!({
        "Name": volume.name(),
        "Kind": kind,
        "Size": size,
        "Mountpoint": volume.path(),
        "Created": volume.created(),
        "Labels": volume.labels(),
    })
}

fn print(text: &str) -> Result<u8> {
    writeln!(io::stdout(), "{text}")?;
    Ok(status::SUCCESS)
}
