//! Where a file is transferred from and to, as requestors write it, and where that is
//! in the volumes of a deployment. golem-runtime, sections 1.5 and 3.2. Pure, but for a
//! look whether the folders are there.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// One end of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A path in the VM, which has to be in a volume.
    Container(String),
    /// A file of this host.
    Local(PathBuf),
    /// What a server gives.
    Http(String),
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Container(path) => write!(f, "container:{path}"),
            Location::Local(path) => write!(f, "{}", path.display()),
            Location::Http(url) => f.write_str(url),
        }
    }
}

impl Location {
    /// Reads `container:/PATH`, `file:///PATH`, `http://…` or a plain path.
    pub fn parse(text: &str) -> Result<Self> {
        const FETCH: &str = "fetch the file yourself and transfer it from file:///PATH";
        if let Some(path) = text.strip_prefix("container:") {
            ensure!(path.starts_with('/'), "write container:/PATH");
            return Ok(Location::Container(decode(path)?));
        }
        if let Some(path) = text.strip_prefix("file:") {
            let path = path.strip_prefix("//").filter(|path| path.starts_with('/'));
            let path = path.context("write file:///PATH")?;
            return Ok(Location::Local(decode(path)?.into()));
        }
        match text.split_once("://") {
            Some(("http", _)) => Ok(Location::Http(text.to_owned())),
            Some(("https", _)) => bail!("https is not spoken here: {FETCH}"),
            Some(("gftp", _)) => bail!("gftp needs Golem's network, which is not here: {FETCH}"),
            Some((scheme, _)) => {
                bail!("unknown scheme {scheme}: use container:/PATH, file:///PATH or http://")
            }
            None => {
                ensure!(!text.is_empty(), "write a path");
                Ok(Location::Local(text.into()))
            }
        }
    }

    /// Whether files can go from here to `to`.
    pub fn check_transfer(&self, to: &Location) -> Result<()> {
        let in_container = |end: &Location| matches!(end, Location::Container(_));
        ensure!(
            in_container(self) || in_container(to),
            "neither end is in the VM: write container:/PATH for one of them"
        );
        ensure!(
            !matches!(to, Location::Http(_)),
            "to: files are fetched from http:// and never sent there"
        );
        Ok(())
    }
}

/// Takes the percent signs of a URL's path away.
fn decode(path: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let hex = digits.filter(|two| two.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let code = hex.and_then(|two| u8::from_str_radix(two, 16).ok());
        rest = match (first, code) {
            (b'%', Some(code)) => {
                bytes.push(code);
                &tail[2..]
            }
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    String::from_utf8(bytes).context("not UTF-8 where it is written with %")
}

/// The folders of a deployment that are seen from both sides.
#[derive(Debug, Default)]
pub struct Volumes(Vec<Mounted>);

#[derive(Debug)]
struct Mounted {
    path: String,
    folder: PathBuf,
}

/// What `deploy` tells.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeployResult {
    #[serde(default)]
    vols: Vec<Vol>,
    #[serde(default)]
    start_mode: String,
}

#[derive(Deserialize)]
struct Vol {
    name: String,
    path: String,
}

impl Volumes {
    /// Reads what the runtime's `deploy` said; the folders are in `workdir`.
    pub fn from_deploy(stdout: &[u8], workdir: &Path) -> Result<Self> {
        // As exe-unit does.
        let start = stdout.iter().position(|byte| *byte == b'{');
        let json = start.and_then(|start| stdout.get(start..));
        let json = json.context("the runtime's `deploy` told nothing of the deployment")?;
        let result: DeployResult = serde_json::from_slice(json)
            .context("what the runtime's `deploy` told is no deployment")?;
        ensure!(
            result.start_mode == "blocking",
            "the deployment's startMode is {:?} and not \"blocking\", without which nothing runs",
            result.start_mode
        );
        let mounted = |Vol { name, path }: Vol| {
            let folder = workdir.join(&name);
            ensure!(
                folder.is_dir(),
                "the volume {path} has no folder {} in the work folder",
                folder.display()
            );
            Ok(Mounted { path, folder })
        };
        Ok(Volumes(
            result
                .vols
                .into_iter()
                .map(mounted)
                .collect::<Result<_>>()?,
        ))
    }

    /// Paths in the guest, and their folders.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.0.iter().map(|vol| (&*vol.path, &*vol.folder))
    }

    /// The folder that has a path of the guest, and the rest of the path in it: of
    /// several the one that is longest, as exe-unit has it.
    pub fn resolve<'a>(&'a self, path: &'a str) -> Result<(&'a Path, &'a Path)> {
        ensure!(!path.contains("//"), "invalid path format: [{path}]");
        ensure!(
            path.split('/').all(|part| part != ".."),
            "{path}: leave out .."
        );
        let below = |vol: &'a Mounted| {
            let rest = path.strip_prefix(vol.path.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then_some((vol, rest))
        };
        let found = self.0.iter().filter_map(below);
        let (vol, rest) = found
            .max_by_key(|(vol, _)| vol.path.len())
            .with_context(|| format!("path not found in container: {path}"))?;
        Ok((&vol.folder, Path::new(rest.trim_start_matches('/'))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volumes(paths: &[&str]) -> Volumes {
        let mounted = |path: &&str| Mounted {
            path: (*path).to_owned(),
            folder: Path::new("/w").join(format!("vol{}", path.replace('/', "-"))),
        };
        Volumes(paths.iter().map(mounted).collect())
    }

    #[test]
    fn the_longest_volume_has_the_path() {
        let volumes = volumes(&["/in/dst", "/in", "/out"]);
        for (path, folder, rest) in [
            ("/in/task.json", "/w/vol-in", "task.json"),
            ("/in/dst/a/b", "/w/vol-in-dst", "a/b"),
            ("/in/dstx", "/w/vol-in", "dstx"),
            ("/out", "/w/vol-out", ""),
            ("/out/..x", "/w/vol-out", "..x"),
        ] {
            let expected = (Path::new(folder), Path::new(rest));
            assert_eq!(volumes.resolve(path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn paths_outside_of_volumes_are_not_found() {
        let volumes = volumes(&["/in", "/out"]);
        let refusal = |path: &str| volumes.resolve(path).unwrap_err().to_string();
        for path in ["/outs/x", "/etc/passwd", "/", "/i"] {
            assert_eq!(
                refusal(path),
                format!("path not found in container: {path}")
            );
        }
        assert_eq!(refusal("/in//x"), "invalid path format: [/in//x]");
        assert_eq!(refusal("/in/../etc"), "/in/../etc: leave out ..");
        assert_eq!(refusal("/in/.."), "/in/..: leave out ..");
    }

    #[test]
    fn locations_are_read_as_requestors_write_them() {
        let local = |path: &str| Location::Local(path.into());
        for (text, expected) in [
            ("container:/a/b%20c", Location::Container("/a/b c".into())),
            ("file:///tmp/a%23", local("/tmp/a#")),
            ("in%20.txt", local("in%20.txt")),
            ("/abs/100%", local("/abs/100%")),
            (
                "container:/100%/%zz",
                Location::Container("/100%/%zz".into()),
            ),
            ("http://h:1/x", Location::Http("http://h:1/x".into())),
        ] {
            assert_eq!(Location::parse(text).unwrap(), expected, "{text}");
        }
        for (text, word) in [
            ("", "write a path"),
            ("container:a", "write container:/PATH"),
            ("file:a", "write file:///PATH"),
            ("file://host/a", "write file:///PATH"),
            ("container:/%ff", "not UTF-8"),
            (
                "https://x",
                "https is not spoken here: fetch the file yourself",
            ),
            ("gftp://1/2", "gftp needs Golem's network"),
            ("ftp://x", "unknown scheme ftp"),
        ] {
            let error = Location::parse(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn one_end_is_in_the_vm_and_nothing_is_sent_to_servers() {
        let check = |from: &str, to: &str| {
            let (from, to) = (Location::parse(from).unwrap(), Location::parse(to).unwrap());
            from.check_transfer(&to).map_err(|error| error.to_string())
        };
        check("a", "container:/a").unwrap();
        check("container:/a", "container:/b").unwrap();
        check("http://h/a", "container:/b").unwrap();
        assert!(check("a", "b").unwrap_err().contains("neither end"));
        assert!(
            check("http://h/a", "b")
                .unwrap_err()
                .contains("neither end")
        );
        assert!(
            check("container:/a", "http://h/")
                .unwrap_err()
                .contains("never sent")
        );
    }

    #[test]
    fn deployments_are_read_from_the_first_brace_on() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("vol-1")).unwrap();
        let read = |text: &str| {
            let read = Volumes::from_deploy(text.as_bytes(), dir.path());
            read.map_err(|error| format!("{error:#}"))
        };
        let volumes = read(
            r#"noise {"valid":{"Ok":""},"vols":[{"name":"vol-1","path":"/a"}],"startMode":"blocking"}"#,
        );
        let volumes = volumes.unwrap();
        let found: Vec<_> = volumes.iter().collect();
        assert_eq!(found, [("/a", dir.path().join("vol-1").as_path())]);
        for (text, word) in [
            ("", "told nothing"),
            ("{", "is no deployment"),
            (r#"{"vols":[]}"#, "startMode is \"\""),
            (
                r#"{"vols":[],"startMode":"empty"}"#,
                "startMode is \"empty\"",
            ),
            (
                r#"{"vols":[{"name":"x","path":"/a"}],"startMode":"blocking"}"#,
                "the volume /a has no folder",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }
}
