//! `shem image inspect`: what an image is, how it runs, and by which names it is known
//! elsewhere.

use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result};
use gvmi::{ContainerConfig, Contents, Hashes, Image};
use serde_json::json;

use super::report::{STDOUT, mib};
use crate::args::InspectArgs;
use crate::status;

/// Carries the command out.
pub fn run(args: &InspectArgs) -> Result<u8> {
    let image = Image::open(&args.image)?;
    let hashes = Hashes::of(image.file()).with_context(|| args.image.display().to_string())?;
    let contents = image.contents();
    let text = match &args.link {
        Some(url) => hashes.golem_link(url) + "\n",
        None if args.json => serde_json::to_string_pretty(&as_json(contents, &hashes))? + "\n",
        None => as_text(&args.image, contents, &hashes),
    };
    io::stdout().write_all(text.as_bytes()).context(STDOUT)?;
    Ok(status::SUCCESS)
}

/// An image's size, and what is in it, in a line.
pub fn summary(contents: &Contents) -> String {
    format!(
        "{}, {} files, {}",
        mib(contents.file_len),
        contents.superblock.inodes,
        contents.superblock.compressor.name(),
    )
}

fn as_json(contents: &Contents, hashes: &Hashes) -> serde_json::Value {
    json!({
        "size": contents.file_len,
        "sha256": hashes.sha256.hex(),
        "sha3_224": hashes.sha3_224(),
        "squashfs": {
            "size": contents.superblock.bytes_used,
            "compressor": contents.superblock.compressor.name(),
            "block_size": contents.superblock.block_size,
            "inodes": contents.superblock.inodes,
            "created": contents.superblock.mkfs_time,
        },
        "config": contents.config,
    })
}

/// One line a setting; settings that the image does not have are left out.
fn as_text(path: &Path, contents: &Contents, hashes: &Hashes) -> String {
    let mut lines = vec![
        ("Image", path.display().to_string()),
        ("Holds", summary(contents)),
        ("SHA3-224", hashes.sha3_224()),
        ("SHA-256", hashes.sha256.hex()),
    ];
    lines.extend(settings(&contents.config));
    let mut text = String::new();
    for (name, value) in lines {
        text += &line(name, &value);
    }
    text
}

/// What an image says is not trusted to keep a terminal in order.
fn line(name: &str, value: &str) -> String {
    let value: String = value
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    format!("{name:<12} {value}\n")
}

/// What an image says of how it runs and what it was made of.
fn settings(config: &ContainerConfig) -> Vec<(&'static str, String)> {
    let list = |words: &[String]| serde_json::to_string(words).unwrap_or_default();
    let mut lines = Vec::new();
    let mut add = |name, value: Option<String>| lines.extend(value.map(|value| (name, value)));
    add(
        "Entrypoint",
        (!config.entrypoint.is_empty()).then(|| list(&config.entrypoint)),
    );
    add("Cmd", (!config.cmd.is_empty()).then(|| list(&config.cmd)));
    add("User", config.user.clone());
    add("Workdir", config.working_dir.clone());
    for variable in &config.env {
        add("Env", Some(variable.clone()));
    }
    for volume in &config.volumes {
        add("Volume", Some(volume.clone()));
    }
    for port in &config.exposed_ports {
        add("Port", Some(port.clone()));
    }
    for (name, value) in &config.labels {
        add("Label", Some(format!("{name}={value}")));
    }
    add("Stop signal", config.stop_signal.clone());
    for layer in config.root_fs.iter().flat_map(|root| &root.layers) {
        add("Layer", Some(layer.clone()));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_a_line_each_and_those_that_are_not_set_none() {
        let config: ContainerConfig = serde_json::from_str(
            r#"{"Cmd":["sh"],"Env":["A=1","B=2"],"RootFS":{"Type":"layers","Layers":["sha256:ab"]}}"#,
        )
        .unwrap();
        let lines = settings(&config);
        let lines: Vec<_> = lines
            .iter()
            .map(|(name, value)| (*name, &**value))
            .collect();
        assert_eq!(
            lines,
            [
                ("Cmd", "[\"sh\"]"),
                ("Env", "A=1"),
                ("Env", "B=2"),
                ("Layer", "sha256:ab")
            ]
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(line("Env", "A=\x1b[31m"), "Env          A=?[31m\n");
    }
}
