//! `--config FILE`: a VM described in TOML. What the command line says comes
//! before it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::args::RunArgs;
use crate::{mounts, net, values};

/// A configuration file is no bigger: it is read as a whole.
const MAX_CONFIG: u64 = 1 << 20;

/// What the file may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The images, the first one on top. Relative paths start at the file's folder.
    #[serde(default)]
    images: Vec<PathBuf>,
    /// What to run in them.
    #[serde(default)]
    command: Vec<String>,
    /// Variables of the command, as `--env` takes them.
    #[serde(default)]
    env: Vec<String>,
    /// Volumes, networks and ports, as `--volume`, `--net` and `--publish` take them.
    #[serde(default)]
    volumes: Vec<String>,
    #[serde(default)]
    net: Vec<String>,
    #[serde(default)]
    publish: Vec<String>,
    /// Plugins by name or path; a relative path starts at the file's folder.
    #[serde(default)]
    pub plugins: Vec<String>,
    #[serde(default)]
    machine: MachineTable,
    #[serde(default)]
    boot: BootTable,
    /// Devices beside those that every VM has.
    #[serde(default, rename = "device")]
    pub devices: Vec<DeviceTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MachineTable {
    cpus: Option<u8>,
    memory: Option<String>,
    hostname: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BootTable {
    kernel: Option<String>,
}

/// One device; what is not named here is for its driver.
#[derive(Debug, Deserialize)]
pub struct DeviceTable {
    pub driver: String,
    pub id: Option<String>,
    pub plugin: Option<String>,
    #[serde(flatten)]
    pub options: Map<String, Value>,
}

impl Config {
    /// Reads the file, and fills in what `args` leave open.
    pub fn read_into(path: &Path, args: &mut RunArgs) -> Result<Self> {
        let file = || format!("configuration {}", path.display());
        let length = fs::metadata(path).with_context(file)?.len();
        ensure!(
            length <= MAX_CONFIG,
            "{}: longer than {MAX_CONFIG} bytes",
            file()
        );
        let text = fs::read_to_string(path).with_context(file)?;
        let mut config: Config = toml::from_str(&text).with_context(file)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        config.anchor(folder);
        config.fill(args).with_context(file)?;
        Ok(config)
    }

    /// Has relative paths start at `folder`.
    fn anchor(&mut self, folder: &Path) {
        for image in &mut self.images {
            *image = folder.join(&*image);
        }
        // Still text, as both parts were; and still a path, not a name.
        let anchored = |path: &mut String| {
            let place = Path::new(".").join(folder).join(&*path);
            *path = place.to_string_lossy().into_owned();
        };
        let of_devices = self.devices.iter_mut();
        let plugins = of_devices.filter_map(|device| device.plugin.as_mut());
        let plugins = self.plugins.iter_mut().chain(plugins);
        plugins
            .filter(|plugin| plugin.contains('/'))
            .for_each(anchored);
        let volumes = self.volumes.iter_mut();
        volumes
            .filter(|volume| volume.starts_with('.'))
            .for_each(anchored);
    }

    fn fill(&mut self, args: &mut RunArgs) -> Result<()> {
        let cpus = self.machine.cpus;
        ensure!(
            cpus.is_none_or(|cpus| (1..=shem::MAX_VCPUS).contains(&cpus)),
            "machine.cpus: a VM has 1 to {}",
            shem::MAX_VCPUS
        );
        args.cpus = args.cpus.or(cpus);
        if let (None, Some(text)) = (args.memory, &self.machine.memory) {
            args.memory = Some(values::size(text).context("machine.memory")?);
        }
        if let (None, Some(name)) = (&args.hostname, &self.machine.hostname) {
            args.hostname = Some(values::hostname(name).context("machine.hostname")?);
        }
        if args.kernel.is_none() {
            args.kernel = self.boot.kernel.take();
        }
        if args.images.is_empty() {
            args.images = std::mem::take(&mut self.images);
        }
        if args.command.is_empty() {
            let command = std::mem::take(&mut self.command);
            args.command = command.into_iter().map(Into::into).collect();
        }
        // Of a variable that comes again the last counts: the command line's.
        let env = std::mem::take(&mut self.env).into_iter().map(Into::into);
        args.env.splice(..0, env);
        args.volume
            .extend(each("volumes", &self.volumes, mounts::volume)?);
        args.publish
            .extend(each("publish", &self.publish, str::parse)?);
        if args.net.is_empty() {
            args.net = each("net", &self.net, net::net)?;
        }
        ensure!(
            !args.images.is_empty(),
            "no image: set images, or name one on the command line"
        );
        Ok(())
    }
}

fn each<T>(key: &str, texts: &[String], parse: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    let at = |text: &String| parse(text).with_context(|| format!("{key}: {text:?}"));
    texts.iter().map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::run_args;

    fn read(text: &str, line: &[&str]) -> Result<(Config, RunArgs), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vm.toml");
        fs::write(&path, text).unwrap();
        let mut args = run_args(&[&["--config", "vm.toml"], line].concat()).unwrap();
        let config = Config::read_into(&path, &mut args);
        let config = config.map_err(|error| format!("{error:#}"))?;
        Ok((config, args))
    }

    const FILE: &str = r#"
        images = ["app.gvmi", "/base.gvmi"]
        command = ["serve", "--port=80"]
        plugins = ["net", "./libx.so"]
        env = ["MODE=file"]
        volumes = ["./data:/data"]
        net = ["passt"]
        publish = ["8080:80"]
        [machine]
        cpus = 2
        memory = "1g"
        hostname = "box"
        [boot]
        kernel = "stock"
        [[device]]
        driver = "net-tap"
        id = "eth0"
        name = "tap0"
        queues = 2
    "#;

    #[test]
    fn file_says_what_the_command_line_leaves_open() {
        let (config, args) = read(FILE, &[]).unwrap();
        assert_eq!((args.cpus(), args.memory()), (2, 1 << 30));
        assert_eq!(args.hostname.as_deref(), Some("box"));
        assert_eq!(args.kernel.as_deref(), Some("stock"));
        assert!(args.images[0].is_absolute() && args.images[0].ends_with("app.gvmi"));
        assert_eq!(args.images[1], Path::new("/base.gvmi"));
        assert_eq!(args.command, ["serve", "--port=80"]);
        assert_eq!(args.env, ["MODE=file"]);
        assert_eq!(
            (args.volume.len(), args.net.len(), args.publish.len()),
            (1, 1, 1)
        );
        assert!(!config.volumes[0].starts_with("./data"), "{config:?}");
        assert!(config.volumes[0].ends_with("/./data:/data"), "{config:?}");
        assert_eq!(config.plugins[0], "net");
        assert!(
            config.plugins[1].ends_with("/./libx.so"),
            "{:?}",
            config.plugins
        );
        let device = &config.devices[0];
        assert_eq!(
            (&*device.driver, device.id.as_deref()),
            ("net-tap", Some("eth0"))
        );
        let options = serde_json::json!({ "name": "tap0", "queues": 2 });
        assert_eq!(Value::Object(device.options.clone()), options);
    }

    #[test]
    fn what_the_readme_shows_is_a_configuration() {
        let readme = include_str!("../../../README.md");
        let (_, rest) = readme.split_once("```toml\n").unwrap();
        let (text, _) = rest.split_once("```").unwrap();
        let (config, args) = read(text, &[]).unwrap();
        assert_eq!((args.cpus(), config.devices.len()), (2, 1));
    }

    #[test]
    fn command_line_comes_before_the_file() {
        let line = [
            "--cpus",
            "3",
            "-m",
            "64m",
            "--kernel",
            "tuned",
            "-e",
            "MODE=line",
            "-p",
            "1:2",
            "--net",
            "none",
            "x.gvmi",
            "--",
            "sh",
        ];
        let (_, args) = read(FILE, &line).unwrap();
        assert_eq!((args.cpus(), args.memory()), (3, 64 << 20));
        assert_eq!(args.kernel.as_deref(), Some("tuned"));
        assert_eq!(args.env, ["MODE=file", "MODE=line"]);
        assert_eq!(args.net, [net::NetArg::None]);
        assert_eq!(args.publish.len(), 2);
        assert_eq!(args.images, [Path::new("x.gvmi")]);
        assert_eq!(args.command, ["sh"]);
    }

    #[test]
    fn what_the_file_has_wrong_is_named_with_its_place() {
        for (text, word) in [
            ("machine = 5", "line 1"),
            ("[machine]\ncpu = 1", "unknown field `cpu`"),
            ("[machine]\ncpus = 0", "machine.cpus"),
            ("[machine]\nmemory = \"lots\"", "machine.memory"),
            ("[machine]\nhostname = \"a b\"", "machine.hostname"),
            ("[[device]]\nid = \"x\"", "missing field `driver`"),
            ("net = [\"host\"]", "net: \"host\""),
            ("publish = [\"x\"]", "publish: \"x\""),
            ("volumes = [\"x\"]", "volumes: \"x\""),
            ("", "no image"),
        ] {
            let error = read(text, &[]).unwrap_err();
            assert!(error.contains("vm.toml") && error.contains(word), "{error}");
        }
    }
}
