//! `shem plugin`: what plugins there are, and what they say of themselves.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use plugin_host::{NeededPath, Plugin, SearchPath};
use serde_json::{Value, json};

use crate::args::PluginCommand;
use crate::status;

/// Carries the command out.
pub fn run(command: PluginCommand) -> Result<u8> {
    let search = SearchPath::from_environment();
    match command {
        PluginCommand::Ls { json } => list(&search, json),
        PluginCommand::Info { plugin, json } => {
            let plugin = load(&search.find(&plugin)?)?;
            if json {
                return print(&serde_json::to_string_pretty(&describe(&plugin))?);
            }
            print(&text(&plugin))
        }
    }
}

fn load(path: &Path) -> Result<Plugin> {
    Plugin::load(path).with_context(|| format!("plugin {}", path.display()))
}

/// Those that are refused are listed with the reason: they are what somebody looks
/// for here.
fn list(search: &SearchPath, json: bool) -> Result<u8> {
    let found = search.all();
    let loaded = found.iter().map(|path| (path, load(path)));
    if json {
        let sound: Vec<_> = loaded
            .filter_map(|(_, plugin)| plugin.ok())
            .map(|plugin| describe(&plugin))
            .collect();
        return print(&serde_json::to_string_pretty(&sound)?);
    }
    let lines: Vec<_> = loaded
        .map(|(path, plugin)| match plugin {
            Ok(plugin) => {
                let drivers: Vec<_> = plugin.drivers.iter().map(|driver| &*driver.name).collect();
                let (name, version, summary) = (plugin.name, plugin.version, plugin.summary);
                format!(
                    "{name} {version}: {summary} (drivers: {})",
                    drivers.join(", ")
                )
            }
            Err(error) => format!("{}: refused: {}", path.display(), error.root_cause()),
        })
        .collect();
    if lines.is_empty() {
        return Ok(status::SUCCESS);
    }
    print(&lines.join("\n"))
}

fn text(plugin: &Plugin) -> String {
    let (major, minor) = plugin.abi;
    let mut lines = vec![
        format!("{} {}: {}", plugin.name, plugin.version, plugin.summary),
        format!("  file          {}", plugin.path.display()),
        format!("  ABI           {major}.{minor}"),
    ];
    for driver in &plugin.drivers {
        lines.push(format!(
            "  driver        {}: {}",
            driver.name, driver.summary
        ));
    }
    if !plugin.syscalls.is_empty() {
        lines.push(format!("  system calls  {}", plugin.syscalls.join(", ")));
    }
    for path in &plugin.paths {
        let (place, access) = (path.path.display(), access(path).join(", "));
        lines.push(format!("  path          {place} ({access})"));
    }
    for property in &plugin.offer_properties {
        lines.push(format!(
            "  offers        {} = {}",
            property.name, property.value
        ));
    }
    lines.join("\n")
}

fn access(path: &NeededPath) -> Vec<&'static str> {
    let all = [
        (path.read, "read"),
        (path.write, "write"),
        (path.execute, "execute"),
    ];
    let wanted = all.into_iter().filter(|(wanted, _)| *wanted);
    wanted.map(|(_, name)| name).collect()
}

fn describe(plugin: &Plugin) -> Value {
    let drivers: Vec<_> = plugin
        .drivers
        .iter()
        .map(|driver| {
            let schema = driver.schema.as_ref().map(|schema| schema.as_json());
            json!({ "Name": driver.name, "Summary": driver.summary, "ConfigSchema": schema })
        })
        .collect();
    let paths: Vec<_> = plugin
        .paths
        .iter()
        .map(|path| json!({ "Path": path.path, "Access": access(path) }))
        .collect();
    let offer: serde_json::Map<_, _> = plugin
        .offer_properties
        .iter()
        .map(|property| (property.name.clone(), property.value.clone()))
        .collect();
    json!({
        "Name": plugin.name,
        "Version": plugin.version,
        "Summary": plugin.summary,
        "File": plugin.path,
        "Abi": format!("{}.{}", plugin.abi.0, plugin.abi.1),
        "EntrySize": plugin.entry_size,
        "Drivers": drivers,
        "SystemCalls": plugin.syscalls,
        "Paths": paths,
        "OfferProperties": offer,
    })
}

fn print(text: &str) -> Result<u8> {
    writeln!(io::stdout(), "{text}")?;
    Ok(status::SUCCESS)
}
