//! `shem image build`: an image of what Docker and its relatives have, of a folder or of
//! a tar archive.

use std::fmt::Display;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;

use anyhow::{Context, Error, Result, bail};
use gvmi::{
    BuildError, Builder, Built, ContainerConfig, Draft, Input, Limits, OciImage, OpenOptions, Pass,
    Progress, RootFs, Source, SourceArg,
};
use serde_json::json;

use super::files::not_the_source;
use super::inspect::summary;
use super::report::{Report, Stage};
use super::store;
use crate::args::BuildArgs;
use crate::{status, values};

/// Carries the command out.
pub fn run(args: BuildArgs) -> Result<u8> {
    let report = Report::new(&args.report);
    let built = build(&args, &report)?;
    for warning in &built.warnings {
        report.warning(warning)?;
    }
    let output = args.output.display();
    let object = json!({
        "image": output.to_string(),
        "size": built.contents.file_len,
        "files": built.contents.superblock.inodes,
        "compressor": built.contents.superblock.compressor.name(),
        "peak_memory": peak_memory(),
    });
    report.done(&format!("{output}: {}", summary(&built.contents)), object)?;
    Ok(status::SUCCESS)
}

/// Most bytes of memory that this program had at once; `mksquashfs` has its own.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    kib.checked_mul(1024)
}

fn build(args: &BuildArgs, report: &Report) -> Result<Built> {
    let Some(source) = args.source.to_str() else {
        bail!("the source {:?} is not UTF-8 (rename it)", args.source);
    };
    let options = OpenOptions {
        platform: args.platform.clone(),
        unpacked_limit: args.max_size,
    };
    let source = source.parse::<SourceArg>()?.recognise(args.max_size)?;
    // Before anything is fetched or read that could not be kept.
    Draft::create(&args.output).with_context(|| {
        format!(
            "{}: cannot be written (see that its folder exists and is writable)",
            args.output.display()
        )
    })?;
    if let Some(path) = file_of(&source) {
        not_the_source(path, &args.output)?;
    }
    let image = match &source {
        Source::Dir(dir) => return Ok(builder(args, None)?.pack_dir(dir, &args.output)?),
        Source::Tar(input) => return pack_tar(args, input, report),
        Source::DockerArchive { input, image } => {
            not_a_terminal(input)?;
            OciImage::open_docker_archive(input, image.as_ref(), &options)?
        }
        Source::OciArchive { input, tag } => {
            not_a_terminal(input)?;
            OciImage::open_oci_archive(input, tag.as_deref(), &options)?
        }
        Source::OciDir { dir, tag } => OciImage::open_oci_dir(dir, tag.as_deref(), &options)?,
        Source::Registry(name) => {
            let (cache, image) = store::fetch(name.as_str(), args, report)?;
            let built = pack_layers(args, &source, &image, report);
            return built.inspect_err(|error| store::forget_damaged(&cache, &image, error));
        }
    };
    pack_layers(args, &source, &image, report)
}

fn pack_tar(args: &BuildArgs, input: &Input, report: &Report) -> Result<Built> {
    not_a_terminal(input)?;
    let archive = input
        .open(args.max_size)
        .map_err(|fault| fault.of(input.to_string()))?;
    let builder = builder(args, None)?;
    let mut stages = Stages::new(report);
    let built = builder.pack_archive(&archive, &args.output, &mut |done| stages.set(done));
    built.map_err(|error| of_source(error, input))
}

/// An archive that was forgotten would be waited for.
fn not_a_terminal(input: &Input) -> Result<()> {
    if matches!(input, Input::Stdin) && io::stdin().is_terminal() {
        bail!("the archive is to come on standard input, which is a terminal");
    }
    Ok(())
}

/// The file that a source is in, if it is in one.
fn file_of(source: &Source) -> Option<&Path> {
    match source {
        Source::DockerArchive { input, .. }
        | Source::OciArchive { input, .. }
        | Source::Tar(input) => match input {
            Input::File(path) => Some(path),
            Input::Stdin => None,
        },
        Source::OciDir { .. } | Source::Dir(_) | Source::Registry(_) => None,
    }
}

fn pack_layers(
    args: &BuildArgs,
    source: &Source,
    image: &OciImage,
    report: &Report,
) -> Result<Built> {
    let builder = builder(args, Some(image))?;
    let mut stages = Stages::new(report);
    let built = builder.pack_layers(&image.layers, &args.output, &mut |done| stages.set(done));
    built.map_err(|error| of_source(error, source))
}

/// What is wrong with a source is told with its name.
fn of_source(error: BuildError, source: &impl Display) -> Error {
    match error {
        BuildError::Layer { .. } | BuildError::Tar(_) => {
            Error::from(error).context(source.to_string())
        }
        error => error.into(),
    }
}

/// The two times that layers are read: one after the other is told of.
struct Stages<'a> {
    report: &'a Report,
    now: Option<(Pass, Stage)>,
}

impl<'a> Stages<'a> {
    fn new(report: &'a Report) -> Self {
        Stages { report, now: None }
    }

    fn set(&mut self, progress: Progress) {
        if self
            .now
            .as_ref()
            .is_none_or(|(pass, _)| *pass != progress.pass)
        {
            // The one before leaves the terminal first.
            self.now = None;
            let name = match progress.pass {
                Pass::Index => "check",
                Pass::Pack => "pack",
            };
            self.now = Some((progress.pass, self.report.stage(name)));
        }
        if let Some((_, stage)) = &mut self.now {
            stage.set(progress.done, progress.total);
        }
    }
}

fn builder(args: &BuildArgs, image: Option<&OciImage>) -> Result<Builder> {
    let config = image.map(|image| ContainerConfig {
        root_fs: root_fs(image),
        ..image.config.clone()
    });
    Ok(Builder {
        config: configured(config.unwrap_or_default(), args)?,
        compression: args.comp,
        processors: args.jobs,
        limits: Limits {
            max_entries: args.max_entries,
            max_size: args.max_size,
        },
    })
}

/// The layers, where all of them have a name that does not depend on where they are.
fn root_fs(image: &OciImage) -> Option<RootFs> {
    let names = image.layers.iter().map(|layer| layer.diff_id);
    let layers = names.map(|name| name.map(|name| name.to_string()));
    Some(RootFs {
        layers: layers.collect::<Option<_>>()?,
    })
}

/// What the image is to say of how it runs: what its source says, and on top what the
/// command line does. As in a Dockerfile, another ENTRYPOINT makes CMD void.
fn configured(mut config: ContainerConfig, args: &BuildArgs) -> Result<ContainerConfig> {
    for (name, value) in &args.env {
        let prefix = format!("{name}=");
        let variable = format!("{prefix}{value}");
        match config.env.iter_mut().find(|old| old.starts_with(&prefix)) {
            Some(old) => *old = variable,
            None => config.env.push(variable),
        }
    }
    if args.user.is_some() {
        config.user.clone_from(&args.user);
    }
    if args.workdir.is_some() {
        config.working_dir.clone_from(&args.workdir);
    }
    if let Some(entrypoint) = &args.entrypoint {
        config.entrypoint = values::words(entrypoint)?;
        config.cmd.clear();
    }
    if let Some(cmd) = &args.cmd {
        config.cmd = values::words(cmd)?;
    }
    config.labels.extend(args.label.iter().cloned());
    config.volumes.extend(args.volume.iter().cloned());
    Ok(config)
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
            Command::Image(Deferred(ImageCommand::Build(args))) => *args,
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
        let config = configured(ContainerConfig::default(), &args).unwrap();
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
        assert!(
            format!(
                "{:#}",
                configured(ContainerConfig::default(), &args).unwrap_err()
            )
            .starts_with("not a JSON list")
        );
    }

    #[test]
    fn what_the_source_says_stays_where_nothing_else_is_said() {
        let source = || ContainerConfig {
            env: vec!["A=old".to_owned(), "B=2".to_owned()],
            user: Some("app".to_owned()),
            entrypoint: vec!["/e".to_owned()],
            cmd: vec!["c".to_owned()],
            ..ContainerConfig::default()
        };
        let args = build_args(&["root", "-o", "a.gvmi", "-e", "A=1"]);
        let config = configured(source(), &args).unwrap();
        assert_eq!(config.env, ["A=1", "B=2"]);
        assert_eq!(config.user.as_deref(), Some("app"));
        assert_eq!(config.cmd, ["c"]);
        let args = build_args(&["root", "-o", "a.gvmi", "--entrypoint", "/f"]);
        let config = configured(source(), &args).unwrap();
        assert_eq!(config.entrypoint, ["/f"]);
        assert_eq!(config.cmd, [""; 0]);
    }
}
