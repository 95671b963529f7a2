//! `shem image`: makes images and shows what they hold.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::path::Path;

use anyhow::{Result, bail};
use gvmi::{Builder, ContainerConfig, Contents, Image};
use serde_json::json;

use crate::args::{BuildArgs, InspectArgs};
use crate::{status, values};

/// `shem image build`.
pub fn build(args: BuildArgs) -> Result<u8> {
    let builder = Builder {
        config: config(&args)?,
        compression: args.comp,
        ..Builder::default()
    };
    let built = if args.source == Path::new("-") {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            bail!("the tar archive is to come on standard input, which is a terminal");
        }
        builder.pack_tar(stdin.lock(), &args.output)?
    } else {
        builder.pack(&args.source, &args.output)?
    };
    for warning in &built.warnings {
        eprintln!("shem: warning: {warning}");
    }
    eprintln!("{}: {}", args.output.display(), summary(&built.contents));
    Ok(status::SUCCESS)
}

/// What the image is to say of how it runs.
fn config(args: &BuildArgs) -> Result<ContainerConfig> {
    let words = |text: &Option<String>| text.as_deref().map_or(Ok(Vec::new()), values::words);
    let env: BTreeMap<&String, &String> =
        args.env.iter().map(|(name, value)| (name, value)).collect();
    Ok(ContainerConfig {
        env: env
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect(),
        user: args.user.clone(),
        working_dir: args.workdir.clone(),
        entrypoint: words(&args.entrypoint)?,
        cmd: words(&args.cmd)?,
        labels: args.label.iter().cloned().collect(),
        volumes: args.volume.iter().cloned().collect(),
        ..ContainerConfig::default()
    })
}

/// `shem image inspect`.
pub fn inspect(args: &InspectArgs) -> Result<u8> {
    let image = Image::open(&args.image)?;
    let text = if args.json {
        let mut text = serde_json::to_string_pretty(&as_json(image.contents()))?;
        text.push('\n');
        text
    } else {
        let contents = image.contents();
        as_text(&args.image, &summary(contents), &contents.config)
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(status::SUCCESS)
}

fn summary(contents: &Contents) -> String {
    format!(
        "{:.1} MiB, {} files, {}",
        contents.file_len as f64 / f64::from(1 << 20),
        contents.superblock.inodes,
        contents.superblock.compressor.name(),
    )
}

fn as_json(contents: &Contents) -> serde_json::Value {
    json!({
        "size": contents.file_len,
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
fn as_text(path: &Path, holds: &str, config: &ContainerConfig) -> String {
    let list = |words: &[String]| serde_json::to_string(words).unwrap_or_default();
    let mut lines = vec![
        ("Image", path.display().to_string()),
        ("Holds", holds.to_owned()),
    ];
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
    let mut text = String::new();
    for (name, value) in lines {
        // What an image says is not trusted to keep a terminal in order.
        let value: String = value
            .chars()
            .map(|c| if c.is_control() { '?' } else { c })
            .collect();
        let _ = writeln!(text, "{name:<12} {value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Cli, Command, ImageCommand};
    use crate::deferred::Deferred;

    fn build_args(line: &[&str]) -> BuildArgs {
        let line = ["shem", "image", "build"].iter().chain(line);
        match Cli::try_parse_from(line).unwrap().command {
            Command::Image(Deferred(ImageCommand::Build(args))) => args,
            other => panic!("not build: {other:?}"),
        }
    }

    #[test]
    fn options_become_the_image_s_configuration() {
        let args = build_args(&[
            "root",
            "-o",
            "a.gvmi",
            "-e",
            "A=1",
            "-e",
            "A=2",
            "-u",
            "app",
            "-w",
            "/srv",
            "--entrypoint",
            "/bin/app",
            "--cmd",
            "[\"-v\", \"x\"]",
            "-l",
            "note=x",
            "--volume",
            "/data",
            "--comp",
            "zstd:19",
        ]);
        assert_eq!(args.comp.to_string(), "zstd:19");
        let config = config(&args).unwrap();
        assert_eq!(config.env, ["A=2"]);
        assert_eq!(config.user.as_deref(), Some("app"));
        assert_eq!(config.working_dir.as_deref(), Some("/srv"));
        assert_eq!(config.entrypoint, ["/bin/app"]);
        assert_eq!(config.cmd, ["-v", "x"]);
        assert_eq!(config.labels["note"], "x");
        assert!(config.volumes.contains("/data"));
    }

    #[test]
    fn broken_json_command_is_refused() {
        let args = build_args(&["root", "-o", "a.gvmi", "--cmd", "[\"sh\""]);
        assert!(format!("{:#}", config(&args).unwrap_err()).starts_with("not a JSON list"));
    }

    #[test]
    fn inspection_shows_what_is_set_and_no_control_characters() {
        let config = ContainerConfig {
            cmd: vec!["sh".to_owned()],
            env: vec!["A=\x1b[31m".to_owned()],
            ..ContainerConfig::default()
        };
        assert_eq!(
            as_text(Path::new("a.gvmi"), "1.0 MiB", &config),
            "Image        a.gvmi\nHolds        1.0 MiB\nCmd          [\"sh\"]\nEnv          A=?[31m\n"
        );
    }
}
