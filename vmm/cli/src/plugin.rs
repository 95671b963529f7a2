//! `shem plugin`: what plugins there are, what they say of themselves, whether they
//! keep the rules, and new ones.

mod check;
mod new;

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use plugin_host::{LoadError, NeededPath, Plugin, SearchPath};
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
        PluginCommand::New(args) => new::run(&args),
        PluginCommand::Check(args) => check::run(&search.find(&args.plugin)?, args),
    }
}

fn load(path: &Path) -> Result<Plugin> {
    Plugin::load(path).with_context(|| format!("plugin {}", path.display()))
}

/// Those that are refused are listed with the reason: they are what somebody looks
/// for here.
fn list(search: &SearchPath, json: bool) -> Result<u8> {
    let found = search.all();
    let loaded = found.iter().map(|path| (path, Plugin::load(path)));
    if json {
        let all: Vec<_> = loaded
            .map(|(path, plugin)| match plugin {
                Ok(plugin) => describe(&plugin),
                Err(error) => json!({ "File": path, "Refused": reason(error) }),
            })
            .collect();
        return print(&serde_json::to_string_pretty(&all)?);
    }
    for (path, plugin) in loaded {
        let line = match plugin {
            Ok(plugin) => {
                let drivers: Vec<_> = plugin.drivers.iter().map(|driver| &*driver.name).collect();
                format!("{} (drivers: {})", title(&plugin), drivers.join(", "))
            }
            Err(error) => format!("{}: refused: {}", path.display(), reason(error)),
        };
        print(&line)?;
    }
    Ok(status::SUCCESS)
}

/// An error with its causes.
fn reason(error: LoadError) -> String {
    format!("{:#}", anyhow::Error::new(error))
}

/// Name, version and summary, of which a plugin may have but the first.
fn title(plugin: &Plugin) -> String {
    let name = format!("{} {}", plugin.name, plugin.version);
    titled(name.trim_end().to_owned(), &plugin.summary)
}

fn titled(name: String, summary: &str) -> String {
    if summary.is_empty() {
        return name;
    }
    format!("{name}: {summary}")
}

fn text(plugin: &Plugin) -> String {
    let (major, minor) = plugin.abi;
    let mut lines = vec![
        title(plugin),
        format!("  file          {}", plugin.path.display()),
        format!("  ABI           {major}.{minor}"),
    ];
    for driver in &plugin.drivers {
        let about = titled(driver.name.clone(), &driver.summary);
        lines.push(format!("  driver        {about}"));
        let schema = driver.schema.as_ref().map(|schema| schema.as_json());
        lines.extend(schema.into_iter().flat_map(options));
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

/// A line for each option of a driver's configuration.
fn options(schema: &Value) -> Vec<String> {
    let properties = schema["properties"].as_object();
    let line = |(name, about): (&String, &Value)| {
        let kind = about["type"].as_str().unwrap_or("string");
        let default = match &about["default"] {
            Value::Null => String::new(),
            value => format!(", default {value}"),
        };
        let what = about["description"].as_str();
        let what = what.map_or(String::new(), |what| format!(": {what}"));
        format!("    {name} ({kind}{default}){what}")
    };
    properties.into_iter().flatten().map(line).collect()
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
